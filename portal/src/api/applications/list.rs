use axum::Json;
use ids::ApplicationId;
use portal_api::{Application, List, PageQuery};

use crate::{
    api::{applications::shown, call::ApiCall, extract::Query, problem::Problem},
    applications,
    error::Error,
};

/// List applications
///
/// Those that are not archived, newest first.
#[utoipa::path(
    get, path = "/applications", operation_id = "applications.list", tag = "applications",
    params(PageQuery), responses((status = OK, body = List<Application>)))]
pub(super) async fn list_applications(mut call: ApiCall, Query(page): Query<PageQuery>) -> Result<Json<List<Application>>, Problem> {
    let tenant = call.tenant()?;
    let after = page.after::<ApplicationId>().map_err(|error| Error::invalid("after", error.to_string()))?;
    let found = applications::list(&mut call.tx, &call.actor, tenant, after, page.limit() + 1).await?;
    let items = found.into_iter().map(shown).collect();
    Ok(Json(List::cut(items, page.limit(), |item: &Application| item.id.to_string())))
}
