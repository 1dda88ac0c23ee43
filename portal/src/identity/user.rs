//! Users: what they may change themselves, and how operators and seeds make them.

use calendar::Timestamp;
use ids::UserId;
use serde_json::json;

use super::{
    Actor, ActorKind, Permission, password,
    session::Session,
    store,
    throttle::{self, Throttle},
};
use crate::{
    app::App,
    audit::{self, Entry},
    db::Tx,
    error::{Error, Result},
    text,
};

/// A person who may sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its address, by which it signs in.
    pub email: String,
    /// Its name.
    pub name: String,
    /// Whether it is of the platform team.
    pub is_operator: bool,
    /// When its address was verified.
    pub verified_at: Option<Timestamp>,
    /// When it signed up.
    pub created_at: Timestamp,
}

/// A user that is made without signing up.
#[derive(Clone)]
pub struct NewUser {
    /// Its address; it counts as verified.
    pub email: String,
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
    /// Whether it is of the platform team.
    pub is_operator: bool,
}

impl User {
    /// The person as an actor without tenants, for what it does by a link or a form before it is signed in.
    pub(super) fn actor(&self, ip: Option<String>) -> Actor {
        Actor { kind: ActorKind::User(self.id), is_operator: false, is_verified: self.verified_at.is_some(), memberships: Vec::new(), ip }
    }
}

/// Makes a user with a verified address; refused where the address is taken.
pub async fn create(tx: &mut Tx, actor: &Actor, input: NewUser, now: Timestamp) -> Result<User> {
    actor.require(Permission::Operate)?;
    let email = text::email("email", &input.email)?;
    let name = text::name("name", &input.name)?;
    password::check("password", &input.password, &email)?;
    let hash = password::hash(&input.password).await?;
    let user = User { id: UserId::new(), email, name, is_operator: input.is_operator, verified_at: Some(now), created_at: now };
    if !store::insert_user(tx, &user, &hash).await? {
        return Err(Error::conflict("Somebody has this e-mail address already."));
    }
    let after = json!({ "email": user.email, "name": user.name, "is_operator": user.is_operator });
    audit::record(tx, actor, Entry { action: "user.created", target: user.id.to_string(), after: Some(after), ..Entry::default() }, now)
        .await?;
    Ok(user)
}

/// The user with this address. For operations that have asked the actor's permission.
pub async fn by_email(tx: &mut Tx, email: &str) -> Result<Option<User>> {
    Ok(store::user_by_email(tx, email.trim()).await?.map(|stored| stored.user))
}

/// The person behind the actor.
pub async fn myself(tx: &mut Tx, actor: &Actor) -> Result<User> {
    actor.require(Permission::SignedIn)?;
    let id = actor.user_id().ok_or_else(Error::forbidden)?;
    store::user_by_id(tx, id).await?.map(|stored| stored.user).ok_or_else(|| Error::not_found("This user"))
}

/// Changes one's own name.
pub async fn rename(tx: &mut Tx, actor: &Actor, name: &str, now: Timestamp) -> Result<()> {
    actor.require(Permission::SignedIn)?;
    let id = actor.user_id().ok_or_else(Error::forbidden)?;
    let name = text::name("name", name)?;
    let stored = store::user_by_id(tx, id).await?.ok_or_else(|| Error::not_found("This user"))?;
    store::set_name(tx, id, &name).await?;
    let (before, after) = (Some(json!({ "name": stored.user.name })), Some(json!({ "name": name })));
    audit::record(tx, actor, Entry { action: "user.renamed", target: id.to_string(), before, after, tenant: None }, now).await
}

/// Changes one's own password, and ends every other session. Wrong guesses of the current one count as failed sign-ins. REST tokens go on to work: programs
/// hold them, and their owner revokes them with [`super::api_token::revoke_all`].
pub async fn change_password(app: &App, actor: &Actor, session: &Session, (current, new): (&str, &str), now: Timestamp) -> Result<()> {
    actor.require(Permission::SignedIn)?;
    let wrong = || Error::invalid("current_password", "This is not your password.");
    let guesses = Throttle::sign_in_of_account(&session.user_email);
    throttle::take(app, &guesses, now).await?;
    // The transaction that reads the account ends before the slow hashing starts, so that guesses do not hold connections.
    let mut tx = app.begin().await?;
    let stored = store::user_by_id(&mut tx, session.user_id).await?.ok_or_else(|| Error::not_found("This user"))?;
    tx.commit().await?;
    if !password::verify(current, Some(stored.password_hash.clone())).await? {
        return Err(wrong());
    }
    throttle::give_back(app, &guesses, now).await?;
    password::check("new_password", new, &stored.user.email)?;
    let hash = password::hash(new).await?;
    let mut tx = app.begin().await?;
    store::lock_user(&mut tx, session.user_id).await?;
    // It may have been changed while it was checked.
    let unchanged = store::user_by_id(&mut tx, session.user_id).await?.is_some_and(|user| user.password_hash == stored.password_hash);
    if !unchanged {
        return Err(wrong());
    }
    store::set_password(&mut tx, session.user_id, &hash).await?;
    store::delete_sessions_but(&mut tx, session.user_id, &session.digest).await?;
    store::void_email_tokens(&mut tx, session.user_id, now).await?;
    let entry = Entry { action: "user.password_changed", target: session.user_id.to_string(), ..Entry::default() };
    audit::record(&mut tx, actor, entry, now).await?;
    app.commit(tx).await
}
