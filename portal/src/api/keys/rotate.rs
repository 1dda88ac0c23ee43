use std::time::Duration;

use axum::{Json, http::StatusCode};
use ids::{ApiKeyId, ApplicationId};
use portal_api::{CreatedKey, RotateKey};

use crate::{
    api::{
        call::ApiCall,
        extract::{self, Path},
        keys::shown,
        problem::Problem,
    },
    applications::api_key::{self, Of},
};

/// Rotate an API key
///
/// Creates a key in the place of this one, which goes on to work for the overlap. The answer holds the new key's text.
#[utoipa::path(
    post, path = "/applications/{application}/keys/{key}/rotate", operation_id = "keys.rotate", tag = "keys",
    params(("application" = ApplicationId, Path), ("key" = ApiKeyId, Path)), request_body = RotateKey,
    responses((status = CREATED, body = CreatedKey)))]
pub(super) async fn rotate_key(
    mut call: ApiCall,
    Path((application, key)): Path<(ApplicationId, ApiKeyId)>,
    extract::Json(body): extract::Json<RotateKey>,
) -> Result<(StatusCode, Json<CreatedKey>), Problem> {
    let of = Of { tenant: call.tenant()?, application };
    let (now, overlap) = (call.now, Duration::from_secs(body.overlap_seconds.into()));
    let (key, secret) = api_key::rotate(&mut call.tx, &call.actor, of, key, overlap, now).await?;
    call.commit().await?;
    Ok((StatusCode::CREATED, Json(CreatedKey { key: shown(key, now), secret: secret.reveal().to_owned() })))
}
