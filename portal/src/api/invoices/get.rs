use axum::Json;
use ids::InvoiceId;
use portal_api::Invoice;

use crate::{
    api::{call::ApiCall, extract::Path, invoices, problem::Problem},
    billing::invoice,
};

/// Get an invoice
///
/// With its lines, each with its whole computation.
#[utoipa::path(
    get, path = "/invoices/{invoice}", operation_id = "invoices.get", tag = "invoices",
    params(("invoice" = InvoiceId, Path)), responses((status = OK, body = Invoice)))]
pub(super) async fn get_invoice(mut call: ApiCall, Path(id): Path<InvoiceId>) -> Result<Json<Invoice>, Problem> {
    let tenant = call.tenant()?;
    let (invoice, lines) = invoice::get(&mut call.tx, &call.actor, tenant, id).await?;
    call.commit().await?;
    Ok(Json(invoices::shown(invoice, Some(lines))))
}
