//! Signing in.

use calendar::Timestamp;

use super::{
    password,
    session::{self, NewSession},
    store,
    throttle::{self, Throttle},
};
use crate::{
    app::App,
    error::{Error, Kind, Result},
};

/// What somebody enters to sign in.
#[derive(Clone)]
pub struct SignIn {
    /// The address.
    pub email: String,
    /// The password.
    pub password: String,
    /// From where.
    pub ip: Option<String>,
    /// With what.
    pub user_agent: Option<String>,
}

/// Signs in and returns the cookie's token. An unknown account and a wrong password give the same answer after the same work.
pub async fn sign_in(app: &App, input: SignIn, now: Timestamp) -> Result<String> {
    let of_account = Throttle::sign_in_of_account(&input.email);
    let from_address = Throttle::sign_in_from(input.ip.as_deref());
    throttle::take(app, &from_address, now).await?;
    throttle::take(app, &of_account, now).await?;
    // The transaction that reads the account ends before the slow hashing starts, so that guesses do not hold connections.
    let mut tx = app.begin().await?;
    let stored = store::user_by_email(&mut tx, input.email.trim()).await?;
    tx.commit().await?;
    let (user, hash) = stored.map(|stored| (stored.user, stored.password_hash)).unzip();
    let right = password::verify(&input.password, hash.clone()).await?;
    let (Some(user), true) = (user, right) else {
        return Err(Error::new(Kind::Unauthenticated, "The e-mail address or the password is wrong."));
    };
    throttle::give_back(app, &from_address, now).await?;
    throttle::give_back(app, &of_account, now).await?;
    let mut tx = app.begin().await?;
    // The password may have been changed while it was checked.
    let unchanged = store::user_by_id(&mut tx, user.id).await?.is_some_and(|stored| Some(stored.password_hash) == hash);
    if !unchanged {
        return Err(Error::new(Kind::Unauthenticated, "The e-mail address or the password is wrong."));
    }
    let expires_at = app.config.session_end(now, now);
    let new = NewSession { user_id: user.id, ip: input.ip, user_agent: input.user_agent, expires_at };
    let token = session::create(&mut tx, new, now).await?;
    app.commit(tx).await?;
    Ok(token)
}
