//! `/api/v1/tokens`: the caller's own REST tokens.

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::App, identity::api_token};

mod create;
mod list;
mod revoke;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list::list_tokens, create::create_token)).routes(routes!(revoke::revoke_token))
}

fn shown(token: api_token::ApiToken) -> portal_api::ApiToken {
    portal_api::ApiToken {
        id: token.id,
        name: token.name,
        tenant: token.tenant_id,
        hint: token.hint,
        created_at: token.created_at,
        expires_at: token.expires_at,
        revoked_at: token.revoked_at,
        last_used_at: token.last_used_at,
    }
}
