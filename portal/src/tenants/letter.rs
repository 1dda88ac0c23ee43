//! The mails of this domain.

use askama::Template;
use calendar::Timestamp;

use super::invitation::Offer;
use crate::{
    app::App,
    db::Tx,
    error::{Error, Result},
    mail::{self, Mail},
};

#[derive(Template)]
#[template(path = "emails/invitation.html")]
struct Html<'a> {
    organization: &'a str,
    inviter: &'a str,
    role: &'a str,
    link: &'a str,
}

#[derive(Template)]
#[template(path = "emails/invitation.txt")]
struct Text<'a> {
    organization: &'a str,
    inviter: &'a str,
    role: &'a str,
    link: &'a str,
}

/// The mail is the same whether the address has an account or not.
pub(super) async fn invitation(app: &App, tx: &mut Tx, offer: &Offer, token: &str, now: Timestamp) -> Result<()> {
    let mut url = app.config.public_url.join("/invitation").map_err(Error::internal)?;
    url.query_pairs_mut().append_pair("token", token);
    let (organization, role) = (offer.tenant_name.as_str(), offer.invitation.role.as_str());
    let inviter = offer.invitation.invited_by.as_deref().unwrap_or("An owner");
    let html = Html { organization, inviter, role, link: url.as_str() }.render()?;
    let text = Text { organization, inviter, role, link: url.as_str() }.render()?;
    let subject = format!("You are invited to {organization}");
    mail::send(tx, Mail { to: offer.invitation.email.clone(), subject, text, html }, now).await?;
    Ok(())
}
