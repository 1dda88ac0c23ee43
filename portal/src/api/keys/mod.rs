//! `/api/v1/applications/{application}/keys`.

use calendar::Timestamp;
use portal_api::{KeyMode, KeyStatus};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    applications::api_key::{ApiKey, Mode, Status},
};

mod create;
mod list;
mod revoke;
mod rotate;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list::list_keys, create::create_key))
        .routes(routes!(revoke::revoke_key))
        .routes(routes!(rotate::rotate_key))
}

fn shown(key: ApiKey, now: Timestamp) -> portal_api::ApiKey {
    let status = match key.status(now) {
        Status::Active => KeyStatus::Active,
        Status::Rotating => KeyStatus::Rotating,
        Status::Expired => KeyStatus::Expired,
        Status::Revoked => KeyStatus::Revoked,
    };
    portal_api::ApiKey {
        id: key.id,
        application: key.application,
        name: key.name,
        mode: match key.mode {
            Mode::Live => KeyMode::Live,
            Mode::Test => KeyMode::Test,
        },
        status,
        hint: key.hint,
        created_at: key.created_at,
        expires_at: key.expires_at,
        revoked_at: key.revoked_at,
        replaces: key.replaces,
        last_used_at: key.last_used_at,
    }
}
