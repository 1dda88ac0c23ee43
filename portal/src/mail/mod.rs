//! Mails that the portal sends. A mail is written in the transaction of the change that causes it, and a job sends it by SMTP.
//!
//! With the development mailbox no mail leaves, and the page `/dev/mailbox` shows them all. Once a mail has left, its text is removed from the
//! database, because mails hold links that open accounts.

mod smtp;
mod store;

use std::time::Duration;

use calendar::Timestamp;
use ids::MailId;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    db::Tx,
    error::{Error, Result},
    jobs::{self, Job},
};

/// A mail to be sent.
#[derive(Clone)]
pub struct Mail {
    /// The recipient's address.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// The body as plain text.
    pub text: String,
    /// The body as HTML.
    pub html: String,
}

/// A mail as it is kept.
#[derive(Clone)]
pub struct Stored {
    /// Its id.
    pub id: MailId,
    /// The mail; its bodies are empty once it has left.
    pub mail: Mail,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it left.
    pub sent_at: Option<Timestamp>,
}

/// Writes a mail and has it sent.
pub async fn send(tx: &mut Tx, mail: Mail, now: Timestamp) -> Result<MailId> {
    let id = MailId::new();
    store::insert(tx, id, &mail, now).await?;
    jobs::enqueue(tx, &Send { mail: id }, now).await?;
    Ok(id)
}

/// The newest mails, for the development mailbox.
pub async fn newest(tx: &mut Tx, limit: i64) -> Result<Vec<Stored>> {
    store::newest(tx, limit).await
}

/// One mail, for the development mailbox.
pub async fn get(tx: &mut Tx, id: MailId) -> Result<Stored> {
    store::get(tx, id).await?.ok_or_else(|| Error::not_found("This mail"))
}

/// Sends one mail.
#[derive(Debug, Serialize, Deserialize)]
pub struct Send {
    mail: MailId,
}

impl Job for Send {
    const KIND: &'static str = "mail.send";

    async fn run(self, app: &App, now: Timestamp) -> Result<()> {
        if app.config.mail.dev_mailbox {
            return Ok(());
        }
        let Some(smtp_url) = &app.config.mail.smtp_url else {
            tracing::warn!(mail = %self.mail, "a mail was not sent: SMTP_URL is not set");
            return Ok(());
        };
        let mut tx = app.begin().await?;
        let stored = store::get(&mut tx, self.mail).await?;
        tx.commit().await?;
        let Some(stored) = stored.filter(|stored| stored.sent_at.is_none()) else {
            return Ok(());
        };
        smtp::send(smtp_url, &app.config.mail.from, &stored.mail, self.mail).await?;
        let mut tx = app.begin().await?;
        store::sent(&mut tx, self.mail, now).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Removes mails of more than 30 days ago.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct RemoveOld {}

impl Job for RemoveOld {
    const KIND: &'static str = "mail.remove_old";

    async fn run(self, app: &App, now: Timestamp) -> Result<()> {
        let mut tx = app.begin().await?;
        store::remove_before(&mut tx, now.minus(Duration::from_secs(30 * 86_400))).await?;
        tx.commit().await?;
        Ok(())
    }
}
