//! Setting a new password by a link that was sent by mail.

use std::time::Duration;

use calendar::Timestamp;

use super::{
    letter, password, store,
    throttle::{self, Throttle},
};
use crate::{
    app::App,
    audit::{self, Entry},
    db::Tx,
    error::{Error, Kind, Result},
    random, text,
};

/// How long the link works.
pub const LINK_LIFETIME: Duration = Duration::from_secs(3600);

/// Sends a link to the address if it has an account. The answer does not tell whether it has.
pub async fn request(app: &App, email: &str, ip: Option<&str>, now: Timestamp) -> Result<()> {
    let email = text::email("email", email)?;
    throttle::take(app, &Throttle::mails_from(ip), now).await?;
    throttle::take(app, &Throttle::mails_to(&email), now).await?;
    let mut tx = app.begin().await?;
    if let Some(stored) = store::user_by_email(&mut tx, &email).await? {
        let (token, digest) = random::token()?;
        store::insert_email_token(&mut tx, &digest, stored.user.id, "reset_password", now.plus(LINK_LIFETIME)).await?;
        letter::reset(app, &mut tx, &stored.user, &token, now).await?;
    }
    app.commit(tx).await
}

/// Whether a link still works, to say so before somebody thinks of a password.
pub async fn is_live(tx: &mut Tx, token: &str, now: Timestamp) -> Result<bool> {
    Ok(store::email_token(tx, &random::token_digest(token), "reset_password", now).await?.is_some())
}

/// Sets the password, ends every session and voids every other link. The address counts as verified: its owner opened the link. REST tokens go on to work,
/// as with a change of the password.
pub async fn reset(app: &App, token: &str, new: &str, ip: Option<String>, now: Timestamp) -> Result<()> {
    let expired = || Error::new(Kind::NotFound, "This link has expired or was used already. Please ask for another one.");
    let digest = random::token_digest(token);
    // The transaction that reads the account ends before the slow hashing starts.
    let mut tx = app.begin().await?;
    let id = store::email_token(&mut tx, &digest, "reset_password", now).await?.ok_or_else(expired)?;
    let user = store::user_by_id(&mut tx, id).await?.ok_or_else(expired)?.user;
    tx.commit().await?;
    password::check("password", new, &user.email)?;
    let hash = password::hash(new).await?;
    let mut tx = app.begin().await?;
    store::lock_user(&mut tx, id).await?;
    store::use_email_token(&mut tx, &digest, "reset_password", now).await?.ok_or_else(expired)?;
    store::set_password(&mut tx, id, &hash).await?;
    store::set_verified(&mut tx, id, now).await?;
    store::void_email_tokens(&mut tx, id, now).await?;
    store::delete_sessions_but(&mut tx, id, &[]).await?;
    let entry = Entry { action: "user.password_reset", target: id.to_string(), ..Entry::default() };
    audit::record(&mut tx, &user.actor(ip), entry, now).await?;
    app.commit(tx).await
}
