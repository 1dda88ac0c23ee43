use axum::Json;
use portal_api::{Correction, CorrectionQuery, List};

use super::shown;
use crate::{
    api::{call::ApiCall, extract::Query, problem::Problem},
    identity::Permission,
    usage::corrections,
};

/// List corrections
///
/// The newest first.
#[utoipa::path(
    get, path = "/corrections", operation_id = "corrections.list", tag = "operator",
    params(CorrectionQuery), responses((status = OK, body = List<Correction>)))]
pub(super) async fn list_corrections(mut call: ApiCall, Query(query): Query<CorrectionQuery>) -> Result<Json<List<Correction>>, Problem> {
    call.actor.require(Permission::Operate)?;
    let (limit, offset) = (i64::from(query.limit.unwrap_or(50)), i64::from(query.after.unwrap_or(0)));
    let made = corrections::list(&mut call.tx, &call.actor, query.tenant, query.subscription, limit, offset).await?;
    let next = (i64::try_from(made.len()).unwrap_or(0) >= limit).then(|| (offset + limit).to_string());
    Ok(Json(List { items: made.into_iter().map(shown).collect(), next }))
}
