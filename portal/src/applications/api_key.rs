//! API keys: issued, rotated, revoked. The text is shown once; only its digest is stored.

use std::{collections::BTreeMap, time::Duration};

use calendar::Timestamp;
use gateway_control::credential::{Credential, CredentialKind};
use ids::{ApiKeyId, ApplicationId, TenantId, UserId};
use serde_json::json;

use super::store;
use crate::{
    audit::{self, Entry},
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
    random, text,
};

/// An application has at most so many live keys.
const MAX_LIVE: usize = 100;
/// The longest that a rotated key may go on to work.
pub const MAX_OVERLAP: Duration = Duration::from_secs(30 * 86_400);
/// How long a key of the API reference works.
pub const TRY_IT_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// A person has at most so many live keys of the API reference; the oldest gives way.
const MAX_TRY_IT: usize = 5;

/// Whether calls reach the real upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Real upstreams, billed.
    Live,
    /// Sandbox upstreams, never billed.
    Test,
}

impl Mode {
    /// The name in Postgres and in forms.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// Reads [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Live, Self::Test].into_iter().find(|mode| mode.as_str() == text)
    }

    const fn kind(self) -> CredentialKind {
        match self {
            Self::Live => CredentialKind::Live,
            Self::Test => CredentialKind::Test,
        }
    }
}

/// What a key was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An application's own.
    Application,
    /// The console of the API reference, for a quarter of an hour.
    TryIt,
}

impl Purpose {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::TryIt => "try_it",
        }
    }
}

/// A key as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its id.
    pub id: ApiKeyId,
    /// The application that it identifies.
    pub application: ApplicationId,
    /// Its name.
    pub name: String,
    /// Whether calls reach the real upstreams.
    pub mode: Mode,
    /// The last four characters.
    pub hint: String,
    /// Who made it, while that person exists.
    pub created_by: Option<UserId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// The key that it replaced.
    pub replaces: Option<ApiKeyId>,
    /// Roughly when it was used last.
    pub last_used_at: Option<Timestamp>,
    /// Whether another key has replaced it.
    pub is_replaced: bool,
}

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It works.
    Active,
    /// It works until its replacement's overlap ends.
    Rotating,
    /// Its time has passed.
    Expired,
    /// It was revoked.
    Revoked,
}

impl Status {
    /// The name in REST and on pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Rotating => "rotating",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl ApiKey {
    /// Where it stands.
    pub fn status(&self, now: Timestamp) -> Status {
        if self.revoked_at.is_some() {
            Status::Revoked
        } else if self.expires_at.is_some_and(|end| end <= now) {
            Status::Expired
        } else if self.is_replaced {
            Status::Rotating
        } else {
            Status::Active
        }
    }

    /// Whether it is accepted.
    pub fn is_live(&self, now: Timestamp) -> bool {
        matches!(self.status(now), Status::Active | Status::Rotating)
    }
}

/// What a new key is.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// 1 to 100 characters.
    pub name: String,
    /// Whether calls reach the real upstreams.
    pub mode: Mode,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// Where an application stands.
#[derive(Debug, Clone, Copy)]
pub struct Of {
    /// The tenant.
    pub tenant: TenantId,
    /// Its application.
    pub application: ApplicationId,
}

/// Issues a key and returns its text, which is not stored.
pub async fn create(tx: &mut Tx, actor: &Actor, of: Of, input: NewApiKey, now: Timestamp) -> Result<(ApiKey, Credential)> {
    actor.require(Permission::Develop(of.tenant))?;
    let name = text::name("name", &input.name)?;
    if input.expires_at.is_some_and(|end| end <= now) {
        return Err(Error::invalid("expires_at", "Choose a time in the future, or leave it empty."));
    }
    super::live(tx, of.tenant, of.application).await?;
    require_room(tx, of, now).await?;
    let (key, secret) = issue(tx, actor, of, NewApiKey { name, ..input }, (Purpose::Application, None), now).await?;
    let after = json!({ "name": key.name, "mode": key.mode.as_str(), "application": key.application, "expires_at": key.expires_at });
    record(tx, actor, &key, ("api_key.created", None, Some(after)), now).await?;
    Ok((key, secret))
}

/// The keys of an application, newest first, without those of the API reference.
pub async fn list(tx: &mut Tx, actor: &Actor, of: Of) -> Result<Vec<ApiKey>> {
    actor.require(Permission::View(of.tenant))?;
    store::get(tx, of.tenant, of.application).await?.ok_or_else(super::not_found)?;
    store::keys(tx, of).await
}

/// How many keys of each application work.
pub async fn live_counts(tx: &mut Tx, actor: &Actor, tenant: TenantId, now: Timestamp) -> Result<BTreeMap<ApplicationId, usize>> {
    actor.require(Permission::View(tenant))?;
    store::live_key_counts(tx, tenant, now).await
}

/// Revokes a key. Revoking it again changes nothing.
pub async fn revoke(tx: &mut Tx, actor: &Actor, of: Of, id: ApiKeyId, now: Timestamp) -> Result<()> {
    actor.require(Permission::Develop(of.tenant))?;
    let key = find(tx, of, id).await?;
    if store::revoke_key(tx, of.tenant, id, now).await? {
        record(tx, actor, &key, ("api_key.revoked", Some(json!({ "name": key.name, "hint": key.hint })), None), now).await?;
    }
    Ok(())
}

/// Issues a key in the place of another, which goes on to work for `overlap`. The new key lasts as long as the old one was meant to last.
pub async fn rotate(tx: &mut Tx, actor: &Actor, of: Of, id: ApiKeyId, overlap: Duration, now: Timestamp) -> Result<(ApiKey, Credential)> {
    actor.require(Permission::Develop(of.tenant))?;
    if overlap > MAX_OVERLAP {
        return Err(Error::invalid("overlap_seconds", "The old key may go on to work for at most 30 days."));
    }
    super::live(tx, of.tenant, of.application).await?;
    let old = find(tx, of, id).await?;
    if old.status(now) != Status::Active {
        let why = if old.is_replaced {
            "The key was rotated already; rotate the one that replaced it."
        } else {
            "The key no longer works; create a new one."
        };
        return Err(Error::conflict(why));
    }
    require_room(tx, of, now).await?;
    let expires_at = old.expires_at.map(|end| now.plus(end.since(old.created_at)));
    let input = NewApiKey { name: old.name.clone(), mode: old.mode, expires_at };
    let (key, secret) = issue(tx, actor, of, input, (Purpose::Application, Some(id)), now).await?;
    let old_ends = old.expires_at.map_or(now.plus(overlap), |end| end.min(now.plus(overlap)));
    store::set_key_expiry(tx, of.tenant, id, old_ends).await?;
    let (before, after) = (json!({ "key": id, "expires_at": old.expires_at }), json!({ "key": key.id, "old_expires_at": old_ends }));
    record(tx, actor, &key, ("api_key.rotated", Some(before), Some(after)), now).await?;
    Ok((key, secret))
}

/// Mints a key for the console of the API reference: for a quarter of an hour, hidden from lists. A person has at most a few of them at a time; the
/// oldest is revoked.
pub async fn mint_try_it(tx: &mut Tx, actor: &Actor, of: Of, mode: Mode, now: Timestamp) -> Result<(ApiKey, Credential)> {
    actor.require(Permission::Develop(of.tenant))?;
    let user = actor.user_id().ok_or_else(Error::forbidden)?;
    super::live(tx, of.tenant, of.application).await?;
    let live = store::live_try_it_keys(tx, of.tenant, user, now).await?;
    for oldest in live.iter().skip(MAX_TRY_IT - 1) {
        store::revoke_key(tx, of.tenant, *oldest, now).await?;
    }
    let input = NewApiKey { name: "API reference".to_owned(), mode, expires_at: Some(now.plus(TRY_IT_LIFETIME)) };
    let (key, secret) = issue(tx, actor, of, input, (Purpose::TryIt, None), now).await?;
    let after = json!({ "mode": mode.as_str(), "application": of.application, "expires_at": key.expires_at });
    record(tx, actor, &key, ("api_key.try_it_minted", None, Some(after)), now).await?;
    Ok((key, secret))
}

async fn issue(
    tx: &mut Tx,
    actor: &Actor,
    of: Of,
    input: NewApiKey,
    (purpose, replaces): (Purpose, Option<ApiKeyId>),
    now: Timestamp,
) -> Result<(ApiKey, Credential)> {
    let secret = Credential::generate(input.mode.kind(), random::fill)?;
    let key = ApiKey {
        tenant: of.tenant,
        id: ApiKeyId::new(),
        application: of.application,
        name: input.name,
        mode: input.mode,
        hint: secret.hint().to_owned(),
        created_by: actor.user_id(),
        created_at: now,
        expires_at: input.expires_at,
        revoked_at: None,
        replaces,
        last_used_at: None,
        is_replaced: false,
    };
    store::insert_key(tx, &key, purpose, &secret.digest().0).await?;
    Ok((key, secret))
}

async fn require_room(tx: &mut Tx, of: Of, now: Timestamp) -> Result<()> {
    let live = store::keys(tx, of).await?.iter().filter(|key| key.is_live(now)).count();
    if live >= MAX_LIVE {
        return Err(Error::conflict(format!("The application has {MAX_LIVE} live keys, which is the most. Revoke one first.")));
    }
    Ok(())
}

async fn find(tx: &mut Tx, of: Of, id: ApiKeyId) -> Result<ApiKey> {
    store::keys(tx, of).await?.into_iter().find(|key| key.id == id).ok_or_else(|| Error::not_found("This API key"))
}

type Change = (&'static str, Option<serde_json::Value>, Option<serde_json::Value>);

async fn record(tx: &mut Tx, actor: &Actor, key: &ApiKey, (action, before, after): Change, now: Timestamp) -> Result<()> {
    let entry = Entry { tenant: Some(key.tenant), action, target: key.id.to_string(), before, after };
    audit::record(tx, actor, entry, now).await
}
