//! Signing up and verifying the address.
//!
//! Whether an address has an account is not told: signing up with a taken address gives the same answer, and its owner a mail. Somebody who
//! signed up but never verified does not block the address: signing up again replaces name and password. Verifying therefore takes both the link and
//! the password: the link alone would let whoever signed up last with somebody's address have it verified by its owner, and then sign in.

use std::time::Duration;

use calendar::Timestamp;
use ids::UserId;
use serde_json::json;

use super::{
    letter, password,
    session::{self, NewSession},
    store,
    throttle::{self, Throttle},
    user::User,
};
use crate::{
    app::App,
    audit::{self, Entry},
    db::Tx,
    error::{Error, Kind, Result},
    random, text,
};

/// How long the link of a verification mail works.
pub const LINK_LIFETIME: Duration = Duration::from_secs(48 * 3600);

/// What somebody enters to sign up.
#[derive(Clone)]
pub struct SignUp {
    /// 1 to 100 characters.
    pub name: String,
    /// The address.
    pub email: String,
    /// At least ten characters.
    pub password: String,
}

/// Signs up and sends a mail.
pub async fn sign_up(app: &App, input: SignUp, ip: Option<String>, now: Timestamp) -> Result<()> {
    let name = text::name("name", &input.name);
    let email = text::email("email", &input.email);
    let checked = password::check("password", &input.password, &input.email);
    let (Ok(name), Ok(email), Ok(())) = (&name, &email, &checked) else {
        let fields = [name.err(), email.err(), checked.err()].into_iter().flatten().flat_map(|error| error.fields);
        return Err(Error { fields: fields.collect(), ..Error::new(Kind::Invalid, "Please correct the marked fields.") });
    };
    throttle::take(app, &Throttle::sign_up_from(ip.as_deref()), now).await?;
    throttle::take(app, &Throttle::mails_to(email), now).await?;
    let hash = password::hash(&input.password).await?;
    let mut tx = app.begin().await?;
    let user = User { id: UserId::new(), email: email.clone(), name: name.clone(), is_operator: false, verified_at: None, created_at: now };
    if store::insert_user(&mut tx, &user, &hash).await? {
        signed_up(app, &mut tx, &user, ip, now).await?;
    } else if let Some(stored) = locked_by_email(&mut tx, email).await? {
        if stored.user.verified_at.is_some() {
            letter::already_signed_up(app, &mut tx, &stored.user, now).await?;
        } else {
            let user = User { name: name.clone(), ..stored.user };
            store::set_name(&mut tx, user.id, &user.name).await?;
            store::set_password(&mut tx, user.id, &hash).await?;
            store::void_email_tokens(&mut tx, user.id, now).await?;
            store::delete_sessions_but(&mut tx, user.id, &[]).await?;
            signed_up(app, &mut tx, &user, ip, now).await?;
        }
    }
    app.commit(tx).await
}

/// The account of an address as it stands once nobody else changes it: it must not be verified between the look and the new password.
async fn locked_by_email(tx: &mut Tx, email: &str) -> Result<Option<store::StoredUser>> {
    let Some(found) = store::user_by_email(tx, email).await? else {
        return Ok(None);
    };
    store::lock_user(tx, found.user.id).await?;
    store::user_by_id(tx, found.user.id).await
}

async fn signed_up(app: &App, tx: &mut Tx, user: &User, ip: Option<String>, now: Timestamp) -> Result<()> {
    let after = json!({ "email": user.email, "name": user.name });
    let entry = Entry { action: "user.signed_up", target: user.id.to_string(), after: Some(after), ..Entry::default() };
    audit::record(tx, &user.actor(ip), entry, now).await?;
    send_link(app, tx, user, now).await
}

async fn send_link(app: &App, tx: &mut Tx, user: &User, now: Timestamp) -> Result<()> {
    let (token, digest) = random::token()?;
    store::insert_email_token(tx, &digest, user.id, "verify_email", now.plus(LINK_LIFETIME)).await?;
    letter::verify(app, tx, user, &token, now).await
}

/// Sends another verification mail to somebody who is signed in and has not verified yet. Whoever calls has the session.
pub async fn resend(app: &App, user_id: UserId, ip: Option<&str>, now: Timestamp) -> Result<()> {
    let mut tx = app.begin().await?;
    let Some(stored) = store::user_by_id(&mut tx, user_id).await? else {
        return Err(Error::not_found("This user"));
    };
    if stored.user.verified_at.is_some() {
        return Ok(());
    }
    throttle::take(app, &Throttle::mails_from(ip), now).await?;
    throttle::take(app, &Throttle::mails_to(&stored.user.email), now).await?;
    send_link(app, &mut tx, &stored.user, now).await?;
    app.commit(tx).await
}

/// What somebody enters on the page of a verification mail's link.
#[derive(Clone)]
pub struct Verify {
    /// The link's token.
    pub token: String,
    /// The password chosen at sign-up.
    pub password: String,
    /// From where.
    pub ip: Option<String>,
    /// With what.
    pub user_agent: Option<String>,
}

/// Verifies the address to which the link was sent, signs its owner in and returns the cookie's token. Wrong passwords count as failed sign-ins.
pub async fn verify(app: &App, input: Verify, now: Timestamp) -> Result<String> {
    let expired = || Error::new(Kind::NotFound, "This link has expired or was used already. Sign in to have another one sent.");
    let wrong = || Error::new(Kind::Unauthenticated, "The password is not the one that was chosen last with this address.");
    let digest = random::token_digest(&input.token);
    let from_address = Throttle::sign_in_from(input.ip.as_deref());
    throttle::take(app, &from_address, now).await?;
    // The transaction that reads the account ends before the slow hashing starts, so that guesses do not hold connections.
    let mut tx = app.begin().await?;
    let id = store::email_token(&mut tx, &digest, "verify_email", now).await?.ok_or_else(expired)?;
    let stored = store::user_by_id(&mut tx, id).await?.ok_or_else(expired)?;
    tx.commit().await?;
    let of_account = Throttle::sign_in_of_account(&stored.user.email);
    throttle::take(app, &of_account, now).await?;
    if !password::verify(&input.password, Some(stored.password_hash.clone())).await? {
        return Err(wrong());
    }
    throttle::give_back(app, &from_address, now).await?;
    throttle::give_back(app, &of_account, now).await?;
    let mut tx = app.begin().await?;
    store::lock_user(&mut tx, id).await?;
    // Somebody may have signed up again with the address while the password was checked.
    let user = store::user_by_id(&mut tx, id).await?.ok_or_else(expired)?;
    if user.password_hash != stored.password_hash {
        return Err(wrong());
    }
    store::use_email_token(&mut tx, &digest, "verify_email", now).await?.ok_or_else(expired)?;
    store::set_verified(&mut tx, id, now).await?;
    let entry = Entry { action: "user.verified", target: id.to_string(), ..Entry::default() };
    audit::record(&mut tx, &user.user.actor(input.ip.clone()), entry, now).await?;
    let expires_at = app.config.session_end(now, now);
    let new = NewSession { user_id: id, ip: input.ip, user_agent: input.user_agent, expires_at };
    let token = session::create(&mut tx, new, now).await?;
    app.commit(tx).await?;
    Ok(token)
}
