use axum::http::StatusCode;
use ids::InvitationId;

use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    tenants::invitation,
};

/// Take an invitation back
///
/// The link of its mail stops working.
#[utoipa::path(
    delete, path = "/invitations/{invitation}", operation_id = "invitations.revoke", tag = "invitations",
    params(("invitation" = InvitationId, Path)), responses((status = NO_CONTENT)))]
pub(super) async fn revoke_invitation(mut call: ApiCall, Path(id): Path<InvitationId>) -> Result<StatusCode, Problem> {
    let tenant = call.tenant()?;
    invitation::revoke(&mut call.tx, &call.actor, tenant, id, call.now).await?;
    call.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
