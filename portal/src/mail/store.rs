//! All SQL of this domain.

use calendar::Timestamp;
use ids::MailId;

use super::{Mail, Stored};
use crate::{db::Tx, error::Result};

pub(super) async fn insert(tx: &mut Tx, id: MailId, mail: &Mail, now: Timestamp) -> Result<()> {
    sqlx::query!(
        "INSERT INTO mails (id, recipient, subject, text, html, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        id.uuid(),
        mail.to,
        mail.subject,
        mail.text,
        mail.html,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn get(tx: &mut Tx, id: MailId) -> Result<Option<Stored>> {
    let row = sqlx::query!("SELECT recipient, subject, text, html, created_at, sent_at FROM mails WHERE id = $1", id.uuid())
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(|row| Stored {
        id,
        mail: Mail { to: row.recipient, subject: row.subject, text: row.text, html: row.html },
        created_at: row.created_at,
        sent_at: row.sent_at,
    }))
}

pub(super) async fn newest(tx: &mut Tx, limit: i64) -> Result<Vec<Stored>> {
    let rows = sqlx::query!(
        "SELECT id, recipient, subject, text, html, created_at, sent_at FROM mails ORDER BY created_at DESC, id DESC LIMIT $1",
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Stored {
            id: MailId::from_uuid(row.id),
            mail: Mail { to: row.recipient, subject: row.subject, text: row.text, html: row.html },
            created_at: row.created_at,
            sent_at: row.sent_at,
        })
        .collect())
}

pub(super) async fn sent(tx: &mut Tx, id: MailId, now: Timestamp) -> Result<()> {
    sqlx::query!("UPDATE mails SET sent_at = $2, text = '', html = '' WHERE id = $1", id.uuid(), now).execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn remove_before(tx: &mut Tx, before: Timestamp) -> Result<()> {
    sqlx::query!("DELETE FROM mails WHERE created_at < $1", before).execute(&mut **tx).await?;
    Ok(())
}
