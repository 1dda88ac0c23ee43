//! Metering gateways as the portal knows them: their credentials, the namespaces that they serve, the journals that they write, and what they last
//! said of themselves. See `README.md` for the invariants.

mod report;
mod report_store;
mod store;

use std::time::Duration;

use calendar::Timestamp;
use gateway_control::{
    credential::{Credential, CredentialKind, KeyDigest, kind_of},
    status::GatewayStatus,
};
use ids::{GatewayId, JournalId, NamespaceId};

use crate::{
    audit::{self, Entry},
    db::{Tx, on_constraint},
    error::{Error, Kind, Result},
    identity::{Actor, Permission},
    random,
};

/// The longest name of a gateway, in characters.
pub const MAX_NAME_CHARS: usize = 100;
/// The most namespaces that one gateway may be scoped to.
pub const MAX_NAMESPACES: usize = 10_000;
/// The longest time that an old credential may stay valid after a rotation.
pub const MAX_OVERLAP: Duration = Duration::from_secs(7 * 86_400);
/// How long an old credential stays valid after a rotation unless the operator says otherwise.
pub const DEFAULT_OVERLAP: Duration = Duration::from_secs(86_400);
/// A gateway that has been silent for longer is shown as away.
pub const LIVE_WITHIN: Duration = Duration::from_secs(15);
/// The most bad entries and alerts that are kept of a status.
const MAX_REPORTED: usize = 100;
/// The longest text that is kept of a status.
const MAX_REPORTED_CHARS: usize = 500;
/// The most journals that a gateway may bind: a folder that was lost needs a new one, which is rare.
const MAX_JOURNALS: i64 = 1000;

/// A gateway.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Its id.
    pub id: GatewayId,
    /// Its name, unique in the installation.
    pub name: String,
    /// The last four characters of its credential.
    pub hint: String,
    /// The namespaces that it serves; `None` for all.
    pub namespaces: Option<Vec<NamespaceId>>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When its credential was revoked for good.
    pub revoked_at: Option<Timestamp>,
    /// Until when the credential before the last rotation works.
    pub previous_until: Option<Timestamp>,
    /// Its processes, by when they were last heard of, newest first.
    pub instances: Vec<Instance>,
}

/// A process of a gateway, known by its journal. Replicas share the gateway's credential and have a journal each.
#[derive(Debug, Clone)]
pub struct Instance {
    /// The journal that it writes.
    pub journal: JournalId,
    /// When it spoke for the journal first.
    pub bound_at: Timestamp,
    /// When it last reported.
    pub last_seen_at: Option<Timestamp>,
    /// What it last said of itself.
    pub status: Option<GatewayStatus>,
}

impl Instance {
    /// Whether it reported within the last seconds.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.last_seen_at.is_some_and(|seen| now.since(seen) <= LIVE_WITHIN)
    }
}

impl Gateway {
    /// Whether any of its processes reported within the last seconds.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.instances.iter().any(|instance| instance.is_live(now))
    }

    /// When any of its processes last reported.
    pub fn last_seen_at(&self) -> Option<Timestamp> {
        self.instances.iter().filter_map(|instance| instance.last_seen_at).max()
    }
}

/// A new gateway.
#[derive(Debug, Clone)]
pub struct CreateGateway {
    /// Its name.
    pub name: String,
    /// The namespaces that it serves; `None` for all.
    pub namespaces: Option<Vec<NamespaceId>>,
}

/// A gateway with a credential that is shown this once and stored as a digest only.
#[derive(Debug)]
pub struct Issued {
    /// The gateway.
    pub gateway: Gateway,
    /// Its new credential.
    pub credential: Credential,
}

/// A gateway that has proven who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// Which gateway.
    pub id: GatewayId,
    /// The digest of the credential that it showed.
    pub digest: KeyDigest,
    /// The namespaces that it serves; `None` for all.
    pub namespaces: Option<Vec<NamespaceId>>,
}

impl Authenticated {
    /// Whether it serves a namespace.
    pub fn serves(&self, namespace: NamespaceId) -> bool {
        self.namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(&namespace))
    }
}

/// Registers a gateway and issues its credential.
pub async fn create(tx: &mut Tx, actor: &Actor, input: CreateGateway, now: Timestamp) -> Result<Issued> {
    actor.require(Permission::Operate)?;
    let name = input.name.trim().to_owned();
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS {
        return Err(Error::invalid("name", "Give the gateway a name of 1 to 100 characters."));
    }
    let namespaces = checked_namespaces(tx, input.namespaces).await?;
    let credential = Credential::generate(CredentialKind::Gateway, random::fill)?;
    let gateway = Gateway {
        id: GatewayId::new(),
        name,
        hint: credential.hint().to_owned(),
        namespaces,
        created_at: now,
        revoked_at: None,
        previous_until: None,
        instances: Vec::new(),
    };
    store::insert(tx, &gateway, &credential.digest())
        .await
        .map_err(on_constraint("gateways_name_key", || Error::invalid("name", "Another gateway has this name. Choose a different one.")))?;
    let after = serde_json::json!({ "name": gateway.name, "namespaces": gateway.namespaces });
    let entry = Entry { action: "gateway.created", target: gateway.id.to_string(), after: Some(after), ..Entry::default() };
    audit::record(tx, actor, entry, now).await?;
    Ok(Issued { gateway, credential })
}

async fn checked_namespaces(tx: &mut Tx, namespaces: Option<Vec<NamespaceId>>) -> Result<Option<Vec<NamespaceId>>> {
    let Some(mut namespaces) = namespaces else { return Ok(None) };
    namespaces.sort_unstable();
    namespaces.dedup();
    if namespaces.is_empty() || namespaces.len() > MAX_NAMESPACES {
        return Err(Error::invalid("namespaces", "Name 1 to 10000 namespaces, or none at all to serve every namespace."));
    }
    match store::first_unknown_namespace(tx, &namespaces).await? {
        Some(unknown) => Err(Error::invalid("namespaces", format!("The namespace {unknown} does not exist."))),
        None => Ok(Some(namespaces)),
    }
}

/// Reads what an operator wrote: names or ids of namespaces, between commas, blanks or line ends. Nothing means every namespace.
pub async fn read_namespaces(tx: &mut Tx, actor: &Actor, text: &str) -> Result<Option<Vec<NamespaceId>>> {
    actor.require(Permission::Operate)?;
    let words: Vec<&str> =
        text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()).take(MAX_NAMESPACES + 1).collect();
    if words.is_empty() {
        return Ok(None);
    }
    let named = store::namespaces_by_name(tx, &words).await?;
    let namespaces = words.iter().map(|word| {
        let unknown = || Error::invalid("namespaces", format!("There is no namespace `{word}`."));
        named.get(*word).copied().or_else(|| word.parse().ok()).ok_or_else(unknown)
    });
    Ok(Some(namespaces.collect::<Result<_>>()?))
}

/// The names of namespaces, for people.
pub async fn namespace_names(tx: &mut Tx, actor: &Actor, namespaces: &[NamespaceId]) -> Result<Vec<String>> {
    actor.require(Permission::Operate)?;
    store::namespace_names(tx, namespaces).await
}

/// Issues a new credential. The one that it replaces works for `overlap` more, so that the gateway can be restarted without an outage; zero ends it
/// at once.
pub async fn rotate(tx: &mut Tx, actor: &Actor, id: GatewayId, overlap: Duration, now: Timestamp) -> Result<Issued> {
    actor.require(Permission::Operate)?;
    if overlap > MAX_OVERLAP {
        return Err(Error::invalid("overlap_seconds", "The old credential may stay valid for at most 604800 seconds (seven days)."));
    }
    let gateway = locked(tx, id).await?;
    if gateway.revoked_at.is_some() {
        return Err(Error::conflict("This gateway is revoked. Register a new one."));
    }
    let credential = Credential::generate(CredentialKind::Gateway, random::fill)?;
    let previous_until = (!overlap.is_zero()).then(|| now.plus(overlap));
    store::rotate(tx, id, &credential.digest(), credential.hint(), previous_until).await?;
    let after = serde_json::json!({ "hint": credential.hint(), "previous_until": previous_until });
    let before = serde_json::json!({ "hint": gateway.hint });
    let entry = Entry {
        action: "gateway.credential_rotated",
        target: id.to_string(),
        before: Some(before),
        after: Some(after),
        ..Entry::default()
    };
    audit::record(tx, actor, entry, now).await?;
    Ok(Issued { gateway: Gateway { hint: credential.hint().to_owned(), previous_until, ..gateway }, credential })
}

/// Ends a gateway's credentials for good: its feed stops within about a second, and nothing that it sends is taken any more.
pub async fn revoke(tx: &mut Tx, actor: &Actor, id: GatewayId, now: Timestamp) -> Result<Gateway> {
    actor.require(Permission::Operate)?;
    let gateway = locked(tx, id).await?;
    if gateway.revoked_at.is_some() {
        return Ok(gateway);
    }
    store::revoke(tx, id, now).await?;
    let entry = Entry { action: "gateway.revoked", target: id.to_string(), ..Entry::default() };
    audit::record(tx, actor, entry, now).await?;
    Ok(Gateway { revoked_at: Some(now), previous_until: None, ..gateway })
}

/// All gateways by name, the revoked ones last.
pub async fn list(tx: &mut Tx, actor: &Actor) -> Result<Vec<Gateway>> {
    actor.require(Permission::Operate)?;
    store::list(tx).await
}

/// One gateway.
pub async fn get(tx: &mut Tx, actor: &Actor, id: GatewayId) -> Result<Gateway> {
    actor.require(Permission::Operate)?;
    store::get(tx, id).await?.ok_or_else(|| Error::not_found("This gateway"))
}

async fn locked(tx: &mut Tx, id: GatewayId) -> Result<Gateway> {
    store::get_for_update(tx, id).await?.ok_or_else(|| Error::not_found("This gateway"))
}

/// The gateway of a bearer credential. Garbage is refused by its checksum, without a look-up.
pub async fn authenticate(tx: &mut Tx, bearer: &str, now: Timestamp) -> Result<Authenticated> {
    let refused = || Error::new(Kind::Unauthenticated, "This is not the credential of a gateway, or it was revoked or rotated.");
    if kind_of(bearer.as_bytes()) != Some(CredentialKind::Gateway) {
        return Err(refused());
    }
    let digest = KeyDigest::of(bearer.as_bytes());
    store::by_digest(tx, &digest, now).await?.ok_or_else(refused)
}

/// Whether a gateway that has proven itself before still may, with the same scope.
pub async fn is_still(tx: &mut Tx, gateway: &Authenticated, now: Timestamp) -> Result<bool> {
    Ok(store::by_digest(tx, &gateway.digest, now).await?.as_ref() == Some(gateway))
}

/// Binds a journal to the gateway that speaks for it first. Another gateway's journal is refused, and so is a gateway that binds without end.
pub async fn bind_journal(tx: &mut Tx, gateway: &Authenticated, journal: JournalId, now: Timestamp) -> Result<()> {
    if let Some(owner) = store::journal_owner(tx, journal).await? {
        return own(gateway, owner);
    }
    if store::count_journals(tx, gateway.id).await? >= MAX_JOURNALS {
        return Err(Error::conflict("This gateway has bound 1000 journals. Give it a lasting journal folder, or register a new gateway."));
    }
    store::insert_journal(tx, journal, gateway.id, now).await?;
    match store::journal_owner(tx, journal).await? {
        Some(owner) => own(gateway, owner),
        None => Err(Error::internal(anyhow::anyhow!("journal {journal} was bound and is not there"))),
    }
}

fn own(gateway: &Authenticated, owner: GatewayId) -> Result<()> {
    if owner == gateway.id {
        return Ok(());
    }
    tracing::error!(gateway = %gateway.id, %owner, "a gateway spoke for another gateway's journal");
    Err(Error::new(Kind::Forbidden, "This journal belongs to another gateway."))
}

/// Takes what a gateway says of itself.
pub async fn record_status(tx: &mut Tx, gateway: &Authenticated, mut status: GatewayStatus, now: Timestamp) -> Result<()> {
    report::check(&status)?;
    bind_journal(tx, gateway, status.journal_id, now).await?;
    let segments = std::mem::take(&mut status.segments);
    let streams = std::mem::take(&mut status.streams);
    report_store::set_streams(tx, status.journal_id, &streams, now).await?;
    report_store::add_segments(tx, status.journal_id, &segments, now).await?;
    status.bad_entries.truncate(MAX_REPORTED);
    status.alerts.truncate(MAX_REPORTED);
    let texts = status.bad_entries.iter_mut().flat_map(|bad| [&mut bad.entry, &mut bad.reason]).chain(&mut status.alerts);
    for text in texts.chain([&mut status.version]) {
        // `jsonb` cannot hold U+0000, and pages show sentences, not novels.
        *text = text.chars().filter(|c| *c != '\0').take(MAX_REPORTED_CHARS).collect();
    }
    store::set_status(tx, &status, now).await
}
