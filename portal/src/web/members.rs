//! An organization's members, and those who are invited.

use askama::Template;
use axum::{
    Router,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use ids::{InvitationId, UserId};
use serde::Deserialize;

use super::{
    call::Call,
    failure::{Failure, status_of},
    form::Posted,
    segment::Segment,
    shell::Shell,
};
use crate::{
    app::App,
    error::{Error, Result},
    identity::{Permission, Role},
    tenants::{self, Invitation, Member, NewInvitation, invitation},
};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/settings/members", get(members))
        .route("/settings/members/{user}/role", post(change_role))
        .route("/settings/members/{user}/remove", post(remove_member))
        .route("/settings/invitations", post(invite))
        .route("/settings/invitations/{invitation}/revoke", post(revoke_invitation))
}

#[derive(Template)]
#[template(path = "pages/settings/members.html")]
struct MembersPage {
    shell: Shell,
    members: Vec<Member>,
    invitations: Vec<Invitation>,
    me: UserId,
    may_change: bool,
    email: String,
    error: Error,
}

async fn members(call: Call) -> Result<Html<String>, Failure> {
    Ok(Html(members_page(call, String::new(), super::no_error()).await?.render()?))
}

async fn members_page(mut call: Call, email: String, error: Error) -> Result<MembersPage> {
    let members = tenants::members(&mut call.tx, &call.actor, call.tenant).await?;
    let invitations = invitation::pending(&mut call.tx, &call.actor, call.tenant, call.now).await?;
    let may_change = call.actor.require(Permission::Own(call.tenant)).is_ok();
    let shell = call.shell("Members", "settings").await?;
    Ok(MembersPage { shell, members, invitations, me: call.session.user_id, may_change, email, error })
}

#[derive(Deserialize)]
struct InvitationForm {
    email: String,
    role: String,
}

async fn invite(Posted(mut call, input): Posted<Call, InvitationForm>) -> Result<Response, Failure> {
    let new = NewInvitation { email: input.email.clone(), role: role(&input.role)? };
    match invitation::invite(&call.app, &mut call.tx, &call.actor, call.tenant, new, call.now).await {
        Ok(invitation) => {
            let text = format!("An invitation is on its way to {}.", invitation.email);
            Ok(call.commit_and_go("/settings/members", "success", text).await?.into_response())
        }
        Err(error) if super::belongs_on_form(&error) => {
            let page = members_page(call.start_over().await?, input.email, error).await?;
            Ok((status_of(page.error.kind), Html(page.render()?)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn revoke_invitation(
    Segment(id): Segment<InvitationId>,
    Posted(mut call, confirmed): Posted<Call, super::Confirmed>,
) -> Result<Redirect, Failure> {
    confirmed.require()?;
    invitation::revoke(&mut call.tx, &call.actor, call.tenant, id, call.now).await?;
    Ok(call.commit_and_go("/settings/members", "success", "The invitation is taken back.").await?)
}

#[derive(Deserialize)]
struct NewRole {
    role: String,
}

async fn change_role(Segment(user): Segment<UserId>, Posted(mut call, input): Posted<Call, NewRole>) -> Result<Redirect, Failure> {
    let role = role(&input.role)?;
    match tenants::change_role(&mut call.tx, &call.actor, call.tenant, user, role, call.now).await {
        Ok(()) => Ok(call.commit_and_go("/settings/members", "success", "The role is changed.").await?),
        Err(error) if super::belongs_on_form(&error) => Ok(call.commit_and_go("/settings/members", "error", error.public).await?),
        Err(error) => Err(error.into()),
    }
}

async fn remove_member(
    Segment(user): Segment<UserId>,
    Posted(mut call, confirmed): Posted<Call, super::Confirmed>,
) -> Result<Redirect, Failure> {
    confirmed.require()?;
    let leaves = user == call.session.user_id;
    match tenants::remove_member(&mut call.tx, &call.actor, call.tenant, user, call.now).await {
        Ok(()) if leaves => Ok(call.commit_and_go("/", "success", "You have left the organization.").await?),
        Ok(()) => Ok(call.commit_and_go("/settings/members", "success", "The member is removed.").await?),
        Err(error) if super::belongs_on_form(&error) => Ok(call.commit_and_go("/settings/members", "error", error.public).await?),
        Err(error) => Err(error.into()),
    }
}

fn role(text: &str) -> Result<Role> {
    Role::parse(text).map_err(|_| Error::invalid("role", "Choose owner, developer or viewer."))
}
