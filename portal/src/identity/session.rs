//! Sessions in Postgres. The cookie holds a random token; the table holds its digest.

use calendar::Timestamp;
use ids::{TenantId, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Actor, ActorKind, Permission, Role, store};
use crate::{
    audit::{self, Entry},
    db::Tx,
    error::{Error, Kind, Result},
    random,
};

/// How long a session may go unrecorded before its last use is written again.
const TOUCH_INTERVAL_SECONDS: i64 = 300;

/// A message for the next page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flash {
    /// `success`, `info`, `warning` or `error`.
    pub kind: String,
    /// Whole sentences.
    pub text: String,
    /// What was made: its name and its page.
    #[serde(default)]
    pub link: Option<(String, String)>,
}

/// A signed-in browser.
#[derive(Debug, Clone)]
pub struct Session {
    /// The digest of the cookie's token: the session's key in the table.
    pub digest: Vec<u8>,
    /// Who signed in.
    pub user_id: UserId,
    /// That person's name.
    pub user_name: String,
    /// That person's address.
    pub user_email: String,
    /// Whether the address is verified.
    pub verified: bool,
    /// Whether the person is of the platform team.
    pub is_operator: bool,
    /// The tenant whose pages the person looks at.
    pub tenant_id: Option<TenantId>,
    /// Secret from which the form token is made.
    pub csrf_secret: Vec<u8>,
    /// When the person signed in.
    pub created_at: Timestamp,
    /// When it was last written to be in use.
    pub last_seen_at: Timestamp,
    /// Whether a message waited for the next page when the session was loaded.
    pub has_flash: bool,
    /// The tenants that the person is a member of, by name.
    pub tenants: Vec<SessionTenant>,
}

/// A tenant in the switcher.
#[derive(Debug, Clone)]
pub struct SessionTenant {
    /// The tenant.
    pub id: TenantId,
    /// Its name.
    pub name: String,
    /// The person's role in it.
    pub role: Role,
    /// Whether its usage was generated.
    pub is_demo: bool,
}

/// What a new session is about.
#[derive(Debug)]
pub struct NewSession {
    /// Who signed in.
    pub user_id: UserId,
    /// From where.
    pub ip: Option<String>,
    /// With what; cut to 300 characters.
    pub user_agent: Option<String>,
    /// When it ends without further use.
    pub expires_at: Timestamp,
}

impl Session {
    /// The form token of this session: it proves that a form came from a page that the session was shown.
    pub fn csrf_token(&self) -> String {
        hex::encode(Sha256::new().chain_update(b"csrf:").chain_update(&self.csrf_secret).finalize())
    }

    /// Whether a form's token is this session's, compared in constant time.
    pub fn accepts_csrf(&self, token: &str) -> bool {
        self.csrf_token().as_bytes().ct_eq(token.as_bytes()).into()
    }

    /// The person as an actor.
    pub fn actor(&self, ip: Option<String>) -> Actor {
        Actor {
            kind: ActorKind::User(self.user_id),
            is_operator: self.is_operator,
            is_verified: self.verified,
            memberships: self.tenants.iter().map(|tenant| (tenant.id, tenant.role)).collect(),
            ip,
        }
    }

    /// The tenant whose pages are shown: the chosen one while the person is a member of it, else the first.
    pub fn tenant(&self) -> Option<&SessionTenant> {
        self.tenants.iter().find(|tenant| Some(tenant.id) == self.tenant_id).or(self.tenants.first())
    }

    /// Whether [`touch`] is due.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now.seconds() - self.last_seen_at.seconds() >= TOUCH_INTERVAL_SECONDS
    }
}

/// Opens a session and returns the cookie's token, which is not stored. Whoever calls has checked the person's password.
pub async fn create(tx: &mut Tx, input: NewSession, now: Timestamp) -> Result<String> {
    let (token, digest) = random::token()?;
    let mut csrf_secret = vec![0; 32];
    random::fill(&mut csrf_secret)?;
    store::insert_session(tx, &digest, &csrf_secret, &input, now).await?;
    Ok(token)
}

/// The session of a cookie, unless it has ended.
pub async fn load(tx: &mut Tx, token: &str, now: Timestamp) -> Result<Option<Session>> {
    store::session_by_digest(tx, &random::token_digest(token), now).await
}

/// Records that the session is in use and moves its end.
pub async fn touch(tx: &mut Tx, session: &Session, expires_at: Timestamp, now: Timestamp) -> Result<()> {
    store::touch_session(tx, &session.digest, expires_at, now).await
}

/// Ends a session.
pub async fn delete(tx: &mut Tx, session: &Session) -> Result<()> {
    store::delete_session(tx, &session.digest).await
}

/// Leaves a message for the next page.
pub async fn set_flash(tx: &mut Tx, session: &Session, flash: &Flash) -> Result<()> {
    store::set_flash(tx, &session.digest, Some(flash)).await
}

/// Takes the message that the last page left.
pub async fn take_flash(tx: &mut Tx, session: &Session) -> Result<Option<Flash>> {
    store::take_flash(tx, &session.digest).await
}

/// Looks at another tenant's pages from here on.
pub async fn switch_tenant(tx: &mut Tx, session: &Session, tenant_id: TenantId) -> Result<()> {
    if !session.tenants.iter().any(|tenant| tenant.id == tenant_id) {
        return Err(Error::new(Kind::NotFound, "This organization does not exist."));
    }
    store::set_session_tenant(tx, &session.digest, tenant_id).await
}

/// A session in its person's list.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    /// The digest of its token.
    pub digest: Vec<u8>,
    /// When the person signed in.
    pub created_at: Timestamp,
    /// Roughly when it was used last.
    pub last_seen_at: Timestamp,
    /// The browser.
    pub user_agent: Option<String>,
    /// From where the person signed in.
    pub ip: Option<String>,
}

impl SessionInfo {
    /// The name by which a form means this session.
    pub fn handle(&self) -> String {
        hex::encode(&self.digest)
    }
}

/// The person's sessions, the one used last first.
pub async fn list(tx: &mut Tx, actor: &Actor, now: Timestamp) -> Result<Vec<SessionInfo>> {
    actor.require(Permission::SignedIn)?;
    store::sessions_of(tx, actor.user_id().ok_or_else(Error::forbidden)?, now).await
}

/// Ends one of the person's sessions by its [`SessionInfo::handle`].
pub async fn revoke(tx: &mut Tx, actor: &Actor, handle: &str, now: Timestamp) -> Result<()> {
    actor.require(Permission::SignedIn)?;
    let user = actor.user_id().ok_or_else(Error::forbidden)?;
    let digest = hex::decode(handle).map_err(|_| Error::not_found("This session"))?;
    if !store::delete_session_of(tx, user, &digest).await? {
        return Err(Error::not_found("This session"));
    }
    let entry = Entry { action: "session.revoked", target: user.to_string(), ..Entry::default() };
    audit::record(tx, actor, entry, now).await
}

/// Ends the person's sessions but this one.
pub async fn revoke_others(tx: &mut Tx, actor: &Actor, kept: &Session, now: Timestamp) -> Result<u64> {
    actor.require(Permission::SignedIn)?;
    let ended = store::delete_sessions_but(tx, kept.user_id, &kept.digest).await?;
    let entry = Entry { action: "session.others_revoked", target: kept.user_id.to_string(), ..Entry::default() };
    audit::record(tx, actor, entry, now).await?;
    Ok(ended)
}

/// Looks at the pages of an organization that the person has created or joined in this very transaction.
pub async fn enter_new_tenant(tx: &mut Tx, session: &Session, tenant_id: TenantId) -> Result<()> {
    store::set_session_tenant(tx, &session.digest, tenant_id).await
}
