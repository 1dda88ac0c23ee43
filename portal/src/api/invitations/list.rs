use axum::Json;
use portal_api::{Invitation, List};

use crate::{
    api::{call::ApiCall, invitations::shown, problem::Problem},
    tenants::invitation,
};

/// List open invitations
///
/// Those that have neither been answered nor taken back, and have not expired. There are at most 100.
#[utoipa::path(
    get, path = "/invitations", operation_id = "invitations.list", tag = "invitations", responses((status = OK, body = List<Invitation>)))]
pub(super) async fn list_invitations(mut call: ApiCall) -> Result<Json<List<Invitation>>, Problem> {
    let tenant = call.tenant()?;
    let invitations = invitation::pending(&mut call.tx, &call.actor, tenant, call.now).await?;
    Ok(Json(List { items: invitations.into_iter().map(shown).collect(), next: None }))
}
