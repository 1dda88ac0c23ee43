use axum::Json;
use portal_api::{Reconciliation, ReconciliationQuery};

use super::{shown, shown_stream};
use crate::{
    api::{call::ApiCall, extract::Query, problem::Problem},
    reconciliation::{self, MAX_PAGE},
};

/// Show the reconciliation
///
/// What was answered, recorded, accepted, rolled up and invoiced, and each place where one is not the next.
#[utoipa::path(
    get, path = "/reconciliation", operation_id = "reconciliation.get", tag = "operator",
    params(ReconciliationQuery), responses((status = OK, body = Reconciliation)))]
pub(super) async fn get_reconciliation(
    mut call: ApiCall,
    Query(query): Query<ReconciliationQuery>,
) -> Result<Json<Reconciliation>, Problem> {
    let limit = query.limit.map_or(MAX_PAGE, i64::from);
    let offset = query.after.map_or(0, i64::from);
    let overview = reconciliation::overview(&mut call.tx, &call.actor).await?;
    let differences = reconciliation::differences(&mut call.tx, &call.actor, query.resolved, limit, offset).await?;
    Ok(Json(Reconciliation {
        open: u64::try_from(overview.open()).unwrap_or(0),
        passed_at: overview.progress.passed_at,
        compared_through: overview.progress.full_started_at,
        differences: differences.into_iter().map(shown).collect(),
        streams: overview.streams.into_iter().map(shown_stream).collect(),
    }))
}
