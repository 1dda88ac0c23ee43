//! Applications.

use calendar::Timestamp;
use ids::ApplicationId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A registered client program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Application {
    /// Its id.
    pub id: ApplicationId,
    /// Its name.
    pub name: String,
    /// What it is, in a few words.
    pub description: String,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// Registers an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApplication {
    /// 1 to 100 characters; no other application of the organization may have it.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// At most 500 characters.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub description: String,
}
