use axum::Json;
use portal_api::{ApiToken, List};

use crate::{
    api::{call::ApiCall, problem::Problem, tokens::shown},
    identity::api_token,
};

/// List REST tokens
///
/// The tokens of the caller; with a token that is bound to an organization, those of that organization.
#[utoipa::path(get, path = "/tokens", operation_id = "tokens.list", tag = "tokens", responses((status = OK, body = List<ApiToken>)))]
pub(super) async fn list_tokens(mut call: ApiCall) -> Result<Json<List<ApiToken>>, Problem> {
    let tokens = api_token::list(&mut call.tx, &call.actor, call.token_tenant).await?;
    Ok(Json(List { items: tokens.into_iter().map(shown).collect(), next: None }))
}
