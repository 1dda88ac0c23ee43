//! `/api/v1/invitations`: who was invited to the organization and has not answered yet.

use portal_api::MemberRole;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::App, identity::Role, tenants::Invitation};

mod create;
mod list;
mod revoke;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list::list_invitations, create::create_invitation)).routes(routes!(revoke::revoke_invitation))
}

fn shown(invitation: Invitation) -> portal_api::Invitation {
    portal_api::Invitation {
        id: invitation.id,
        email: invitation.email,
        role: match invitation.role {
            Role::Viewer => MemberRole::Viewer,
            Role::Developer => MemberRole::Developer,
            Role::Owner => MemberRole::Owner,
        },
        invited_by: invitation.invited_by,
        created_at: invitation.created_at,
        expires_at: invitation.expires_at,
    }
}
