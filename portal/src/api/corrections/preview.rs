use axum::Json;
use portal_api::{CorrectUsage, CorrectionEffect};

use super::{input_of, shown_outcome};
use crate::{
    api::{call::ApiCall, extract, problem::Problem},
    billing::correction,
};

/// Preview a correction
///
/// What it would do to the period's cost, and what would become of it. Nothing is changed.
#[utoipa::path(
    post, path = "/corrections/preview", operation_id = "corrections.preview", tag = "operator",
    request_body = CorrectUsage, responses((status = OK, body = CorrectionEffect)))]
pub(super) async fn preview_correction(
    mut call: ApiCall,
    extract::Json(body): extract::Json<CorrectUsage>,
) -> Result<Json<CorrectionEffect>, Problem> {
    call.actor.require(crate::identity::Permission::Operate)?;
    let effect = correction::preview(&mut call.tx, &call.actor, &input_of(body)?, call.now).await?;
    Ok(Json(CorrectionEffect {
        period_start: effect.period.from,
        period_end: effect.period.to,
        units_before: effect.units_before.to_string(),
        units_after: effect.units_after.to_string(),
        cost_before: effect.before,
        cost_after: effect.after,
        outcome: shown_outcome(effect.outcome),
        lines: effect.lines.into_iter().map(|late| late.charge.line).collect(),
    }))
}
