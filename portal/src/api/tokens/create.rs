use axum::{Json, http::StatusCode};
use portal_api::{CreateToken, CreatedToken};

use crate::{
    api::{call::ApiCall, extract, problem::Problem, tokens::shown},
    error::Error,
    identity::api_token::{self, NewApiToken},
};

/// Create a REST token
///
/// The answer holds the token's text, which is not stored and cannot be shown again.
#[utoipa::path(
    post, path = "/tokens", operation_id = "tokens.create", tag = "tokens",
    request_body = CreateToken, responses((status = CREATED, body = CreatedToken)))]
pub(super) async fn create_token(
    mut call: ApiCall,
    extract::Json(body): extract::Json<CreateToken>,
) -> Result<(StatusCode, Json<CreatedToken>), Problem> {
    let tenant_id = match (call.token_tenant, body.tenant) {
        (Some(bound), Some(named)) if bound != named => return Err(Error::not_found("This organization").into()),
        (bound, named) => bound.or(named),
    };
    let input = NewApiToken { name: body.name, tenant_id, expires_at: body.expires_at };
    let (token, secret) = api_token::create(&mut call.tx, &call.actor, input, call.now).await?;
    call.commit().await?;
    Ok((StatusCode::CREATED, Json(CreatedToken { token: shown(token), secret: secret.reveal().to_owned() })))
}
