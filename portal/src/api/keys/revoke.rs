use axum::http::StatusCode;
use ids::{ApiKeyId, ApplicationId};

use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    applications::api_key::{self, Of},
};

/// Revoke an API key
///
/// Gateways refuse it within a second. Revoking it again changes nothing.
#[utoipa::path(
    delete, path = "/applications/{application}/keys/{key}", operation_id = "keys.revoke", tag = "keys",
    params(("application" = ApplicationId, Path), ("key" = ApiKeyId, Path)), responses((status = NO_CONTENT)))]
pub(super) async fn revoke_key(
    mut call: ApiCall,
    Path((application, key)): Path<(ApplicationId, ApiKeyId)>,
) -> Result<StatusCode, Problem> {
    let of = Of { tenant: call.tenant()?, application };
    api_key::revoke(&mut call.tx, &call.actor, of, key, call.now).await?;
    call.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
