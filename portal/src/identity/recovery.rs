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

/// Sets the password, ends every session and voids every other link. The address counts as verified: its owner opened the link.
pub async fn reset(tx: &mut Tx, token: &str, new: &str, ip: Option<String>, now: Timestamp) -> Result<()> {
    let expired = || Error::new(Kind::NotFound, "This link has expired or was used already. Please ask for another one.");
    let digest = random::token_digest(token);
    let id = store::email_token(tx, &digest, "reset_password", now).await?.ok_or_else(expired)?;
    let user = store::user_by_id(tx, id).await?.ok_or_else(expired)?.user;
    password::check("password", new, &user.email)?;
    let hash = password::hash(new).await?;
    store::use_email_token(tx, &digest, "reset_password", now).await?.ok_or_else(expired)?;
    store::set_password(tx, id, &hash).await?;
    store::set_verified(tx, id, now).await?;
    store::void_email_tokens(tx, id, now).await?;
    store::delete_sessions_but(tx, id, &[]).await?;
    let entry = Entry { action: "user.password_reset", target: id.to_string(), ..Entry::default() };
    audit::record(tx, &user.actor(ip), entry, now).await
}
