//! What somebody is invited to: the page of a mail's link, and the list of one's own invitations.

use askama::Template;
use axum::{
    Router,
    extract::Query,
    response::{Html, Redirect},
    routing::get,
};
use ids::{InvitationId, TenantId};
use serde::Deserialize;

use super::{
    call::{UserCall, Visit},
    failure::Failure,
    form::Posted,
    shell::Shell,
};
use crate::{
    app::App,
    error::{Error, Kind},
    identity::session,
    tenants::{
        Offer,
        invitation::{self, Answer},
    },
};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/invitation", get(of_link)).route("/invitations", get(list).post(answer))
}

#[derive(Template)]
#[template(path = "pages/account/invitation.html")]
struct InvitationPage {
    shell: Shell,
    offer: Offer,
    /// The address that is signed in; empty if nobody is.
    signed_in_as: String,
    /// Whether that is the invited address, verified.
    is_mine: bool,
    token: String,
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    token: String,
}

/// Says what the link invites to. Whether the invited address has an account is not told.
async fn of_link(mut visit: Visit, Query(link): Query<Link>) -> Result<Html<String>, Failure> {
    let gone = || Error::new(Kind::NotFound, "This invitation has expired, was answered or was taken back. Ask for another one.");
    let offer = invitation::of_link(&mut visit.tx, &link.token, visit.now).await?.ok_or_else(gone)?;
    let (signed_in_as, verified) =
        visit.session.as_ref().map_or_else(Default::default, |session| (session.user_email.clone(), session.verified));
    let is_mine = verified && signed_in_as.to_lowercase() == offer.invitation.email.to_lowercase();
    let shell = visit.shell(format!("Invitation to {}", offer.tenant_name), "").await?;
    Ok(Html(InvitationPage { shell, offer, signed_in_as, is_mine, token: link.token }.render()?))
}

#[derive(Template)]
#[template(path = "pages/account/invitations.html")]
struct ListPage {
    shell: Shell,
    offers: Vec<Offer>,
}

async fn list(mut call: UserCall) -> Result<Html<String>, Failure> {
    let offers = invitation::of_person(&mut call.tx, &call.actor, call.now).await?;
    let shell = call.shell("Invitations", "").await?;
    Ok(Html(ListPage { shell, offers }.render()?))
}

#[derive(Deserialize)]
struct AnswerForm {
    tenant: String,
    invitation: String,
    answer: String,
}

async fn answer(Posted(mut call, input): Posted<UserCall, AnswerForm>) -> Result<Redirect, Failure> {
    let unknown = |_| Error::not_found("This invitation");
    let tenant: TenantId = input.tenant.parse().map_err(unknown)?;
    let id: InvitationId = input.invitation.parse().map_err(unknown)?;
    let answer = match input.answer.as_str() {
        "accept" => Answer::Accept,
        "decline" => Answer::Decline,
        _ => return Err(Error::invalid("answer", "Accept or decline.").into()),
    };
    match invitation::answer(&mut call.tx, &call.actor, tenant, id, answer, call.now).await {
        Ok(()) if answer == Answer::Accept => {
            session::enter_new_tenant(&mut call.tx, &call.session, tenant).await?;
            Ok(call.commit_and_go("/overview", "success", "Welcome. You are a member of this organization now.").await?)
        }
        Ok(()) => Ok(call.commit_and_go("/", "success", "The invitation is declined.").await?),
        Err(error) if super::belongs_on_form(&error) => {
            Ok(call.start_over().await?.commit_and_go("/invitations", "error", error.public).await?)
        }
        Err(error) => Err(error.into()),
    }
}
