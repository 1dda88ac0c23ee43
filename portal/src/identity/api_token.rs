//! Tokens for the REST API. A token acts as its user; one that names a tenant sees that tenant only, and never operates the installation.

use std::time::Duration;

use calendar::Timestamp;
use gateway_control::credential::{Credential, CredentialKind};
use ids::{ApiTokenId, TenantId, UserId};
use serde_json::json;

use super::{Actor, ActorKind, Permission, Role, store};
use crate::{
    audit::{self, Entry},
    db::Tx,
    error::{Error, Result},
    random,
};

/// How long a token may go unrecorded before its last use is written again.
const TOUCH_INTERVAL: Duration = Duration::from_secs(300);
/// A person has at most so many live tokens.
pub const MAX_LIVE: usize = 50;

/// A token as lists show it.
#[derive(Debug, Clone)]
pub struct ApiToken {
    /// Its id.
    pub id: ApiTokenId,
    /// Whom it acts as.
    pub user_id: UserId,
    /// The one tenant that it sees; all of the user's, and the installation for an operator, if `None`.
    pub tenant_id: Option<TenantId>,
    /// What its user called it.
    pub name: String,
    /// The last four characters.
    pub hint: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Roughly when it was used last.
    pub last_used_at: Option<Timestamp>,
}

/// What a new token is about.
#[derive(Debug, Clone)]
pub struct NewApiToken {
    /// 1 to 100 characters.
    pub name: String,
    /// The one tenant that it may see.
    pub tenant_id: Option<TenantId>,
    /// When it ends. A token that is made with another token ends with that one at the latest.
    pub expires_at: Option<Timestamp>,
}

/// What a token that came with a request stands for.
#[derive(Debug)]
pub struct Authenticated {
    /// Whom it acts as, with the rights that the token leaves it.
    pub actor: Actor,
    /// The one tenant that it sees.
    pub tenant: Option<TenantId>,
    /// Whether [`touch`] is due.
    pub stale: bool,
    /// The token.
    pub id: ApiTokenId,
}

impl ApiToken {
    /// Whether it is accepted.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// Makes a token and returns its text, which is not stored.
pub async fn create(tx: &mut Tx, actor: &Actor, input: NewApiToken, now: Timestamp) -> Result<(ApiToken, Credential)> {
    actor.require(input.tenant_id.map_or(Permission::SignedIn, Permission::View))?;
    let user_id = actor.user_id().ok_or_else(Error::forbidden)?;
    let name = crate::text::name("name", &input.name)?;
    if input.expires_at.is_some_and(|end| end <= now) {
        return Err(Error::invalid("expires_at", "Choose a time in the future, or leave it empty."));
    }
    store::lock_user(tx, user_id).await?;
    let tokens = store::api_tokens(tx, user_id).await?;
    let live = tokens.iter().filter(|token| token.is_live(now)).count();
    if live >= MAX_LIVE {
        return Err(Error::conflict(format!("You have {MAX_LIVE} live tokens. Revoke one before you create another.")));
    }
    let limit = match actor.kind {
        ActorKind::ApiToken(id, _) => tokens.iter().find(|token| token.id == id).ok_or_else(Error::forbidden)?.expires_at,
        _ => None,
    };
    let credential = Credential::generate(CredentialKind::Rest, random::fill)?;
    let token = ApiToken {
        id: ApiTokenId::new(),
        user_id,
        tenant_id: input.tenant_id,
        name,
        hint: credential.hint().to_owned(),
        created_at: now,
        expires_at: earlier(input.expires_at, limit),
        revoked_at: None,
        last_used_at: None,
    };
    store::insert_api_token(tx, &token, &credential.digest().0).await?;
    let after = json!({ "name": token.name, "expires_at": token.expires_at, "user": user_id });
    let entry =
        Entry { tenant: token.tenant_id, action: "api_token.created", target: token.id.to_string(), after: Some(after), before: None };
    audit::record(tx, actor, entry, now).await?;
    Ok((token, credential))
}

/// The earlier of two ends; `None` is never.
fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}

/// The actor's own tokens, newest first; with `tenant`, those of that tenant only.
pub async fn list(tx: &mut Tx, actor: &Actor, tenant: Option<TenantId>) -> Result<Vec<ApiToken>> {
    actor.require(Permission::SignedIn)?;
    let user_id = actor.user_id().ok_or_else(Error::forbidden)?;
    let mut tokens = store::api_tokens(tx, user_id).await?;
    tokens.retain(|token| tenant.is_none() || token.tenant_id == tenant);
    Ok(tokens)
}

/// Revokes one of the actor's own tokens. Revoking it again changes nothing. A token that sees one tenant revokes tokens of that tenant only.
pub async fn revoke(tx: &mut Tx, actor: &Actor, tenant: Option<TenantId>, id: ApiTokenId, now: Timestamp) -> Result<()> {
    actor.require(Permission::SignedIn)?;
    let user_id = actor.user_id().ok_or_else(Error::forbidden)?;
    let tokens = store::api_tokens(tx, user_id).await?;
    let token = tokens
        .into_iter()
        .find(|token| token.id == id && (tenant.is_none() || token.tenant_id == tenant))
        .ok_or_else(|| Error::not_found("This token"))?;
    if store::revoke_api_token(tx, user_id, id, now).await? {
        let before = json!({ "name": token.name });
        let entry =
            Entry { tenant: token.tenant_id, action: "api_token.revoked", target: id.to_string(), before: Some(before), after: None };
        audit::record(tx, actor, entry, now).await?;
    }
    Ok(())
}

/// Revokes all of the actor's own live tokens, whatever they see; returns how many there were.
pub async fn revoke_all(tx: &mut Tx, actor: &Actor, now: Timestamp) -> Result<usize> {
    actor.require(Permission::SignedIn)?;
    let user_id = actor.user_id().ok_or_else(Error::forbidden)?;
    let tokens = list(tx, actor, None).await?;
    let mut revoked = 0;
    for token in tokens.into_iter().filter(|token| token.is_live(now)) {
        if store::revoke_api_token(tx, user_id, token.id, now).await? {
            let before = json!({ "name": token.name });
            let target = token.id.to_string();
            let entry = Entry { tenant: token.tenant_id, action: "api_token.revoked", target, before: Some(before), after: None };
            audit::record(tx, actor, entry, now).await?;
            revoked += 1;
        }
    }
    Ok(revoked)
}

/// Whom a token's text stands for; `None` if it is malformed, unknown, expired or revoked.
pub async fn authenticate(tx: &mut Tx, text: &str, ip: Option<String>, now: Timestamp) -> Result<Option<Authenticated>> {
    let Some(credential) = Credential::parse(text).filter(|credential| credential.kind() == CredentialKind::Rest) else {
        return Ok(None);
    };
    let Some(found) = store::api_token_by_digest(tx, &credential.digest().0, now).await? else {
        return Ok(None);
    };
    let memberships: Vec<(TenantId, Role)> = store::memberships(tx, found.user_id)
        .await?
        .into_iter()
        .filter(|(tenant, _)| found.tenant_id.is_none_or(|only| only == *tenant))
        .collect();
    let actor = Actor {
        kind: ActorKind::ApiToken(found.id, found.user_id),
        is_operator: found.is_operator && found.tenant_id.is_none(),
        is_verified: found.is_verified,
        memberships,
        ip,
    };
    let stale = found.last_used_at.is_none_or(|last| now.since(last) >= TOUCH_INTERVAL);
    Ok(Some(Authenticated { actor, tenant: found.tenant_id, stale, id: found.id }))
}

/// Records that the token was used.
pub async fn touch(tx: &mut Tx, id: ApiTokenId, now: Timestamp) -> Result<()> {
    store::touch_api_token(tx, id, now).await
}
