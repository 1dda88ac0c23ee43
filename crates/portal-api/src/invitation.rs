//! Invitations to an organization.

use calendar::Timestamp;
use ids::InvitationId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a member of an organization may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// Sees everything of the organization.
    Viewer,
    /// Changes applications, keys and subscriptions too.
    Developer,
    /// Changes members and billing too.
    Owner,
}

/// An invitation that has not been answered yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// Who is invited.
    pub email: String,
    /// As what.
    pub role: MemberRole,
    /// The name of who invited.
    pub invited_by: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// From when on it cannot be accepted.
    pub expires_at: Timestamp,
}

/// Asks to invite somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateInvitation {
    /// The address.
    #[schema(min_length = 3, max_length = 254)]
    pub email: String,
    /// The role that the person will have.
    pub role: MemberRole,
}
