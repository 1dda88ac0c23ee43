use axum::{Json, http::StatusCode};
use portal_api::{CorrectUsage, Correction};

use super::{input_of, shown};
use crate::{
    api::{call::ApiCall, extract, problem::Problem},
    billing::correction,
};

/// Correct usage
///
/// Adds units to a period, or takes them off. An open period is rated with them; a closed one gets a line on the next invoice, or a credit note. The same
/// idempotency key makes the same correction once.
#[utoipa::path(
    post, path = "/corrections", operation_id = "corrections.create", tag = "operator",
    request_body = CorrectUsage, responses((status = CREATED, body = Correction)))]
pub(super) async fn create_correction(
    mut call: ApiCall,
    extract::Json(body): extract::Json<CorrectUsage>,
) -> Result<(StatusCode, Json<Correction>), Problem> {
    call.actor.require(crate::identity::Permission::Operate)?;
    let made = correction::correct(&mut call.tx, &call.actor, &input_of(body)?, call.now).await?;
    call.commit().await?;
    Ok((StatusCode::CREATED, Json(shown(made))))
}
