//! One mail by SMTP.

use std::time::Duration;

use ids::MailId;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, MultiPart},
};

use super::Mail;
use crate::error::{Error, Result};

pub(super) async fn send(smtp_url: &str, from: &str, mail: &Mail, id: MailId) -> Result<()> {
    let from: Mailbox = from.parse().map_err(|error| Error::internal(anyhow::anyhow!("MAIL_FROM is not a mailbox: {error}")))?;
    let to: Mailbox = mail.to.parse().map_err(|error| Error::internal(anyhow::anyhow!("the recipient is not a mailbox: {error}")))?;
    // The same id with every attempt, so that servers may recognize a mail that was sent twice.
    let message_id = format!("<{id}@{}>", from.email.domain());
    let message = Message::builder()
        .from(from)
        .to(to)
        .subject(mail.subject.clone())
        .message_id(Some(message_id))
        .multipart(MultiPart::alternative_plain_html(mail.text.clone(), mail.html.clone()))
        .map_err(Error::internal)?;
    let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(smtp_url)
        .map_err(|error| Error::internal(anyhow::anyhow!("SMTP_URL cannot be used: {error}")))?
        .timeout(Some(Duration::from_secs(20)))
        .build();
    transport.send(message).await.map_err(Error::internal)?;
    Ok(())
}
