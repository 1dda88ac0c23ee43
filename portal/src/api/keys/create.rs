use axum::{Json, http::StatusCode};
use ids::ApplicationId;
use portal_api::{CreateKey, CreatedKey, KeyMode};

use crate::{
    api::{
        call::ApiCall,
        extract::{self, Path},
        keys::shown,
        problem::Problem,
    },
    applications::api_key::{self, Mode, NewApiKey, Of},
};

/// Create an API key
///
/// The answer holds the key's text, which is not stored and cannot be shown again.
#[utoipa::path(
    post, path = "/applications/{application}/keys", operation_id = "keys.create", tag = "keys",
    params(("application" = ApplicationId, Path)), request_body = CreateKey, responses((status = CREATED, body = CreatedKey)))]
pub(super) async fn create_key(
    mut call: ApiCall,
    Path(application): Path<ApplicationId>,
    extract::Json(body): extract::Json<CreateKey>,
) -> Result<(StatusCode, Json<CreatedKey>), Problem> {
    let of = Of { tenant: call.tenant()?, application };
    let mode = match body.mode {
        KeyMode::Live => Mode::Live,
        KeyMode::Test => Mode::Test,
    };
    let input = NewApiKey { name: body.name, mode, expires_at: body.expires_at };
    let now = call.now;
    let (key, secret) = api_key::create(&mut call.tx, &call.actor, of, input, now).await?;
    call.commit().await?;
    Ok((StatusCode::CREATED, Json(CreatedKey { key: shown(key, now), secret: secret.reveal().to_owned() })))
}
