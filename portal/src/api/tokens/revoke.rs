use axum::http::StatusCode;
use ids::ApiTokenId;

use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    identity::api_token,
};

/// Revoke a REST token
///
/// From the next request on it is refused. Revoking it again changes nothing.
#[utoipa::path(
    delete, path = "/tokens/{token}", operation_id = "tokens.revoke", tag = "tokens",
    params(("token" = ApiTokenId, Path)), responses((status = NO_CONTENT)))]
pub(super) async fn revoke_token(mut call: ApiCall, Path(token): Path<ApiTokenId>) -> Result<StatusCode, Problem> {
    api_token::revoke(&mut call.tx, &call.actor, call.token_tenant, token, call.now).await?;
    call.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
