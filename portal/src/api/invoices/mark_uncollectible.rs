use axum::Json;
use ids::{InvoiceId, TenantId};
use portal_api::{EndInvoice, Invoice};

use crate::{
    api::{
        call::ApiCall,
        extract::{self, Path},
        invoices,
        problem::Problem,
    },
    billing::invoice,
};

/// Give an invoice up
///
/// One that is past due. It can still be paid later. For operators.
#[utoipa::path(
    post, path = "/tenants/{tenant}/invoices/{invoice}/mark-uncollectible", operation_id = "invoices.mark_uncollectible", tag = "operator",
    params(("tenant" = TenantId, Path), ("invoice" = InvoiceId, Path)), request_body = EndInvoice,
    responses((status = OK, body = Invoice), (status = 409, description = "The invoice cannot be given up in its state.", body = portal_api::Problem, content_type = "application/problem+json")))]
pub(super) async fn mark_invoice_uncollectible(
    mut call: ApiCall,
    Path((tenant, id)): Path<(TenantId, InvoiceId)>,
    extract::Json(body): extract::Json<EndInvoice>,
) -> Result<Json<Invoice>, Problem> {
    let ended = invoice::mark_uncollectible(&mut call.tx, &call.actor, tenant, id, &body.reason, call.now).await?;
    call.commit().await?;
    Ok(Json(invoices::shown(ended, None)))
}
