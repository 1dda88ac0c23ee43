use axum::Json;
use ids::ApplicationId;
use portal_api::{ApiKey, List};

use crate::{
    api::{call::ApiCall, extract::Path, keys::shown, problem::Problem},
    applications::api_key::{self, Of},
};

/// List API keys
///
/// All keys of the application, newest first. Their texts are not stored.
#[utoipa::path(
    get, path = "/applications/{application}/keys", operation_id = "keys.list", tag = "keys",
    params(("application" = ApplicationId, Path)), responses((status = OK, body = List<ApiKey>)))]
pub(super) async fn list_keys(mut call: ApiCall, Path(application): Path<ApplicationId>) -> Result<Json<List<ApiKey>>, Problem> {
    let of = Of { tenant: call.tenant()?, application };
    let keys = api_key::list(&mut call.tx, &call.actor, of).await?;
    Ok(Json(List { items: keys.into_iter().map(|key| shown(key, call.now)).collect(), next: None }))
}
