//! API keys.

use calendar::Timestamp;
use ids::{ApiKeyId, ApplicationId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An API key. Its text is shown once, when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// The application that it identifies.
    pub application: ApplicationId,
    /// Its name.
    pub name: String,
    /// Whether calls reach the real upstreams.
    pub mode: KeyMode,
    /// Where it stands.
    pub status: KeyStatus,
    /// The last four characters of its text.
    pub hint: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// The key that it replaced.
    pub replaces: Option<ApiKeyId>,
    /// Roughly when it was used last.
    pub last_used_at: Option<Timestamp>,
}

/// Whether calls reach the real upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyMode {
    /// The real upstreams; calls are billed.
    Live,
    /// Sandbox upstreams; calls are never billed.
    Test,
}

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyStatus {
    /// It works.
    Active,
    /// It works until its replacement's overlap ends.
    Rotating,
    /// Its time has passed.
    Expired,
    /// It was revoked.
    Revoked,
}

/// Asks for a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// Whether calls reach the real upstreams.
    pub mode: KeyMode,
    /// When it ends; never if absent.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// Asks for a key in the place of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// For how long the old key goes on to work; at most 30 days.
    #[schema(maximum = 2_592_000)]
    pub overlap_seconds: u32,
}

/// A key just made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    /// The key.
    pub key: ApiKey,
    /// Its text. It is not stored: keep it safe.
    pub secret: String,
}
