use axum::Json;
use portal_api::{Invoice, InvoiceQuery, List, PageQuery};

use crate::{
    api::{call::ApiCall, extract::Query, invoices, problem::Problem},
    billing::{InvoiceFilter, invoice},
};

/// List invoices
///
/// The newest period first, without lines.
#[utoipa::path(
    get, path = "/invoices", operation_id = "invoices.list", tag = "invoices",
    params(InvoiceQuery), responses((status = OK, body = List<Invoice>)))]
pub(super) async fn list_invoices(mut call: ApiCall, Query(query): Query<InvoiceQuery>) -> Result<Json<List<Invoice>>, Problem> {
    let tenant = call.tenant()?;
    let limit = i64::try_from(PageQuery { limit: query.limit, after: None }.limit()).unwrap_or(invoice::MAX_PAGE);
    let offset = i64::from(query.after.unwrap_or(0));
    let filter = InvoiceFilter { tenant: Some(tenant), subscription: query.subscription, state: query.state.map(invoices::state_of) };
    let page = invoice::list(&mut call.tx, &call.actor, filter, limit, offset).await?;
    call.commit().await?;
    let next = (offset + limit < page.total).then(|| (offset + limit).to_string());
    Ok(Json(List { items: page.invoices.into_iter().map(|invoice| invoices::shown(invoice, None)).collect(), next }))
}
