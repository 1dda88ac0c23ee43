//! The mails of this domain.

use askama::Template;
use calendar::Timestamp;

use super::user::User;
use crate::{
    app::App,
    db::Tx,
    error::{Error, Result},
    mail::{self, Mail},
};

macro_rules! letter {
    ($html:ident: $html_path:literal, $text:ident: $text_path:literal) => {
        #[derive(Template)]
        #[template(path = $html_path)]
        struct $html<'a> {
            link: &'a str,
        }
        #[derive(Template)]
        #[template(path = $text_path)]
        struct $text<'a> {
            link: &'a str,
        }
    };
}
letter!(VerifyHtml: "emails/verify.html", VerifyText: "emails/verify.txt");
letter!(ResetHtml: "emails/reset.html", ResetText: "emails/reset.txt");
letter!(AlreadyHtml: "emails/already_signed_up.html", AlreadyText: "emails/already_signed_up.txt");

pub(super) async fn verify(app: &App, tx: &mut Tx, user: &User, token: &str, now: Timestamp) -> Result<()> {
    let link = link(app, "/verify", token)?;
    let (html, text) = (VerifyHtml { link: &link }.render()?, VerifyText { link: &link }.render()?);
    send(tx, user, "Verify your e-mail address", html, text, now).await
}

pub(super) async fn reset(app: &App, tx: &mut Tx, user: &User, token: &str, now: Timestamp) -> Result<()> {
    let link = link(app, "/reset/new", token)?;
    let (html, text) = (ResetHtml { link: &link }.render()?, ResetText { link: &link }.render()?);
    send(tx, user, "Set a new password", html, text, now).await
}

pub(super) async fn already_signed_up(app: &App, tx: &mut Tx, user: &User, now: Timestamp) -> Result<()> {
    let link = app.config.public_url.join("/sign-in").map_err(Error::internal)?.to_string();
    let (html, text) = (AlreadyHtml { link: &link }.render()?, AlreadyText { link: &link }.render()?);
    send(tx, user, "You have an account already", html, text, now).await
}

fn link(app: &App, path: &str, token: &str) -> Result<String> {
    let mut url = app.config.public_url.join(path).map_err(Error::internal)?;
    url.query_pairs_mut().append_pair("token", token);
    Ok(url.into())
}

async fn send(tx: &mut Tx, user: &User, subject: &str, html: String, text: String, now: Timestamp) -> Result<()> {
    mail::send(tx, Mail { to: user.email.clone(), subject: subject.to_owned(), text, html }, now).await?;
    Ok(())
}
