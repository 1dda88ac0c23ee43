//! The development mailbox: every mail that the portal would send. It exists only where the configuration asks for it.

use askama::Template;
use axum::{Router, extract::Path, response::Html, routing::get};
use ids::MailId;

use super::{call::Visit, failure::Failure, shell::Shell};
use crate::{
    app::App,
    error::{Error, Result},
    mail::{self, Stored},
};

/// How many mails the list shows.
const SHOWN: i64 = 100;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/dev/mailbox", get(list)).route("/dev/mailbox/{mail}", get(show))
}

#[derive(Template)]
#[template(path = "pages/account/mailbox.html")]
struct MailboxPage {
    shell: Shell,
    mails: Vec<Stored>,
}

#[derive(Template)]
#[template(path = "pages/account/mail.html")]
struct MailPage {
    shell: Shell,
    stored: Stored,
    parts: Vec<Part>,
}

/// A part of a text: a link, or what stands between links.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    text: String,
    is_link: bool,
}

fn require_mailbox(visit: &Visit) -> Result<()> {
    if visit.app.config.mail.dev_mailbox { Ok(()) } else { Err(Error::not_found("This page")) }
}

async fn list(mut visit: Visit) -> Result<Html<String>, Failure> {
    require_mailbox(&visit)?;
    let mails = mail::newest(&mut visit.tx, SHOWN).await?;
    let shell = visit.shell("Development mailbox", "").await?;
    Ok(Html(MailboxPage { shell, mails }.render()?))
}

async fn show(mut visit: Visit, id: Result<Path<MailId>, axum::extract::rejection::PathRejection>) -> Result<Html<String>, Failure> {
    require_mailbox(&visit)?;
    let Path(id) = id.map_err(|_| Error::not_found("This mail"))?;
    let stored = mail::get(&mut visit.tx, id).await?;
    let shell = visit.shell(stored.mail.subject.clone(), "").await?;
    let parts = parts(&stored.mail.text);
    Ok(Html(MailPage { shell, stored, parts }.render()?))
}

/// Cuts a text at its links.
fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(start) = ["http://", "https://"].iter().filter_map(|scheme| rest.find(scheme)).min() {
        let (before, from) = rest.split_at(start);
        let (link, after) = from.split_at(from.find(char::is_whitespace).unwrap_or(from.len()));
        parts.push(Part { text: before.to_owned(), is_link: false });
        parts.push(Part { text: link.to_owned(), is_link: true });
        rest = after;
    }
    parts.push(Part { text: rest.to_owned(), is_link: false });
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_cut_out_of_texts() {
        let text = "Open\nhttp://127.0.0.1:1/verify?token=ab\nor https://b.example";
        let parts = parts(text);
        let links: Vec<&str> = parts.iter().filter(|part| part.is_link).map(|part| part.text.as_str()).collect();
        assert_eq!(links, ["http://127.0.0.1:1/verify?token=ab", "https://b.example"]);
        assert_eq!(parts.iter().map(|part| part.text.as_str()).collect::<String>(), text);
    }
}
