use axum::Json;
use ids::{InvoiceId, TenantId};
use portal_api::{Invoice, MarkPaid};

use crate::{
    api::{
        call::ApiCall,
        extract::{self, Path},
        invoices,
        problem::Problem,
    },
    billing::invoice,
};

/// Mark an invoice as paid
///
/// For operators, where no payment provider does it.
#[utoipa::path(
    post, path = "/tenants/{tenant}/invoices/{invoice}/mark-paid", operation_id = "invoices.mark_paid", tag = "operator",
    params(("tenant" = TenantId, Path), ("invoice" = InvoiceId, Path)), request_body = MarkPaid,
    responses((status = OK, body = Invoice), (status = 409, description = "The invoice cannot be paid in its state.", body = portal_api::Problem, content_type = "application/problem+json")))]
pub(super) async fn mark_invoice_paid(
    mut call: ApiCall,
    Path((tenant, id)): Path<(TenantId, InvoiceId)>,
    extract::Json(body): extract::Json<MarkPaid>,
) -> Result<Json<Invoice>, Problem> {
    let paid = invoice::mark_paid(&mut call.tx, &call.actor, tenant, id, &body.reference, call.now).await?;
    call.commit().await?;
    Ok(Json(invoices::shown(paid, None)))
}
