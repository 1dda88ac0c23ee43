//! REST tokens.

use calendar::Timestamp;
use ids::{ApiTokenId, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A token for this API. Its text is shown once, when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiToken {
    /// Its id.
    pub id: ApiTokenId,
    /// What its person called it.
    pub name: String,
    /// The one organization that it sees; all of its person's if absent.
    pub tenant: Option<TenantId>,
    /// The last four characters of its text.
    pub hint: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Roughly when it was used last.
    pub last_used_at: Option<Timestamp>,
}

/// Asks for a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// The one organization that it may see.
    #[serde(default)]
    pub tenant: Option<TenantId>,
    /// When it ends; never if absent.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// A token just made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// The token.
    pub token: ApiToken,
    /// Its text. It is not stored: keep it safe.
    pub secret: String,
}
