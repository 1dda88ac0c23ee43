use axum::{Json, http::StatusCode};
use portal_api::{CreateInvitation, Invitation, MemberRole};

use crate::{
    api::{call::ApiCall, extract, invitations::shown, problem::Problem},
    identity::Role,
    tenants::{NewInvitation, invitation},
};

/// Invite somebody
///
/// Sends a mail with a link that works for seven days. The person signs in or signs up with the address, and accepts or declines. An open invitation of
/// the same address is replaced. The answer is the same whether the address has an account or not.
#[utoipa::path(
    post, path = "/invitations", operation_id = "invitations.create", tag = "invitations",
    request_body = CreateInvitation, responses((status = CREATED, body = Invitation)))]
pub(super) async fn create_invitation(
    mut call: ApiCall,
    extract::Json(body): extract::Json<CreateInvitation>,
) -> Result<(StatusCode, Json<Invitation>), Problem> {
    let tenant = call.tenant()?;
    let role = match body.role {
        MemberRole::Viewer => Role::Viewer,
        MemberRole::Developer => Role::Developer,
        MemberRole::Owner => Role::Owner,
    };
    let input = NewInvitation { email: body.email, role };
    let invitation = invitation::invite(&call.app, &mut call.tx, &call.actor, tenant, input, call.now).await?;
    call.commit().await?;
    Ok((StatusCode::CREATED, Json(shown(invitation))))
}
