//! All entries as the feed told them, and the index made from them. It belongs to the one task that follows the feed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use gateway_control::{
    policy::{EntryBody, EntryId, EntryKind, Generation, PolicyEntry, Settings},
    status::BadEntry,
};
use ids::{ApiKeyId, PlanVersionId, ServiceId, SubscriptionId, Uuid};

use super::{
    entries::{CompiledKey, CompiledPlan, CompiledRoute, CompiledSubscription, Reason},
    index::{Index, KeyName, SubscriptionName},
    router::Router,
    services::CompiledService,
    table::Table,
};

/// The most bad entries that are kept for the status.
const MAX_BAD_ENTRIES: usize = 100;

/// All entries that are in force, their compiled form, and changes that are not in force yet.
///
/// Of keys and subscriptions, of which there are many, only the compiled form is kept, in the index itself; it says all that the entry said.
#[derive(Debug)]
pub struct PolicyStore {
    /// Entries of the few kinds: settings, services, routes, plan versions.
    few: HashMap<EntryId, PolicyEntry>,
    index: Index,
    routes: HashMap<Uuid, Arc<CompiledRoute>>,
    services: HashMap<ServiceId, Arc<CompiledService>>,
    plans: HashMap<PlanVersionId, Arc<CompiledPlan>>,
    keys: Table<KeyName>,
    subscriptions: Table<SubscriptionName>,
    pending: Pending,
    /// The epoch of a snapshot that is being received.
    snapshot: Option<Uuid>,
    /// Entries of the snapshot that could not be read.
    kept: HashSet<EntryId>,
    bad: BTreeMap<String, String>,
}

/// What was received and is not in force yet.
#[derive(Debug, Default)]
struct Pending {
    few: Vec<PolicyEntry>,
    subscriptions: Vec<(SubscriptionId, Option<CompiledSubscription>)>,
    keys: Vec<(ApiKeyId, Option<CompiledKey>)>,
}

/// What a commit changed.
#[derive(Debug)]
pub struct Committed {
    /// The policy that is in force now.
    pub index: Arc<Index>,
    /// The change against the policy before; `None` where a snapshot replaced all of it.
    pub changes: Option<Vec<Change>>,
}

/// One entry in force, as the cache keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An entry of the few kinds.
    Few(PolicyEntry),
    /// A subscription.
    Subscription(CompiledSubscription),
    /// A key.
    Key(CompiledKey),
    /// Something is gone.
    Gone(EntryId),
}

/// The compiled form of an entry of the few kinds, on its way into the index.
enum Compiled {
    Settings(Settings),
    Service(Arc<CompiledService>),
    Route(Arc<CompiledRoute>),
    Plan(Arc<CompiledPlan>),
}

impl Default for PolicyStore {
    fn default() -> Self {
        Self {
            few: HashMap::new(),
            index: Index::empty(),
            routes: HashMap::new(),
            services: HashMap::new(),
            plans: HashMap::new(),
            keys: Table::default(),
            subscriptions: Table::default(),
            pending: Pending::default(),
            snapshot: None,
            kept: HashSet::new(),
            bad: BTreeMap::new(),
        }
    }
}

impl PolicyStore {
    /// A snapshot begins: the entries to come replace everything once it is complete.
    pub fn begin_snapshot(&mut self, epoch: Uuid) {
        self.pending = Pending::default();
        self.kept.clear();
        self.snapshot = Some(epoch);
    }

    /// The changes since the generation that was named begin.
    pub fn begin_resume(&mut self) {
        self.pending = Pending::default();
        self.kept.clear();
        self.snapshot = None;
    }

    /// Takes an entry; it is in force after [`Self::commit`].
    pub fn receive(&mut self, entry: PolicyEntry) {
        let id = entry.id;
        match (id.kind, &entry.body) {
            (_, Some(body)) if identity_of(body) != (id.kind, id.id) => self.refuse(id, "its body is of another entity"),
            (EntryKind::ApiKey, None) => self.pending.keys.push((ApiKeyId::from_uuid(id.id), None)),
            (EntryKind::Subscription, None) => self.pending.subscriptions.push((SubscriptionId::from_uuid(id.id), None)),
            (_, Some(EntryBody::ApiKey(key))) => self.receive_key(CompiledKey::compile(key)),
            (_, Some(EntryBody::Subscription(subscription))) => match CompiledSubscription::compile(subscription) {
                Ok(subscription) => self.receive_subscription(subscription),
                Err(reason) => self.refuse(id, &reason),
            },
            _ => self.pending.few.push(entry),
        }
    }

    /// Takes a subscription from the cache.
    pub fn receive_subscription(&mut self, subscription: CompiledSubscription) {
        self.pending.subscriptions.push((subscription.id, Some(subscription)));
    }

    /// Takes a key from the cache.
    pub fn receive_key(&mut self, key: CompiledKey) {
        self.pending.keys.push((key.id, Some(key)));
    }

    /// Notes an entry that could not even be read.
    pub fn note_bad(&mut self, entry: impl ToString, reason: impl ToString) {
        if self.bad.len() < MAX_BAD_ENTRIES {
            self.bad.insert(entry.to_string(), reason.to_string());
        }
    }

    /// Notes an entry that could not be read and keeps what is in force of it, even if a snapshot that is being received does not name it otherwise.
    pub fn keep(&mut self, id: EntryId, reason: impl ToString) {
        self.note_bad(name_of(id), reason);
        self.kept.insert(id);
    }

    /// Puts all received entries in force together.
    pub fn commit(&mut self, generation: Generation) -> Committed {
        let mut pending = std::mem::take(&mut self.pending);
        let snapshot = self.snapshot.take();
        if let Some(epoch) = snapshot {
            self.take_out_unnamed(&mut pending, generation);
            self.index.epoch = epoch;
        }
        let mut changes = snapshot.is_none().then(Vec::new);
        // What others refer to goes first, so that a reference inside one batch is found.
        pending.few.sort_by_key(|entry| entry.id.kind);
        let rules = !pending.few.is_empty() || !pending.subscriptions.is_empty();
        let mut dirty = Dirty::default();
        for entry in pending.few {
            self.apply(entry, &mut dirty, &mut changes);
        }
        self.put_subscriptions(pending.subscriptions, &mut changes);
        self.put_keys(pending.keys, &mut changes);
        if dirty.routes {
            self.index.router = Arc::new(Router::new(self.routes.values()));
        }
        if dirty.services {
            self.index.services = Arc::new(self.services.clone());
        }
        if dirty.plans {
            self.index.plans = Arc::new(self.plans.clone());
        }
        self.index.generation = generation;
        self.index.version += 1;
        self.index.rules += u64::from(rules);
        Committed { index: Arc::new(self.index.clone()), changes }
    }

    /// The entries of the few kinds that are in force, for the cache.
    pub fn few(&self) -> impl Iterator<Item = &PolicyEntry> {
        self.few.values()
    }

    /// The policy in force. It shares everything large with the index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// What is in force and the snapshot does not name is gone.
    fn take_out_unnamed(&mut self, pending: &mut Pending, generation: Generation) {
        let kept = std::mem::take(&mut self.kept);
        let is_kept = |kind, id| kept.contains(&EntryId { kind, id });
        let few: HashSet<EntryId> = pending.few.iter().map(|entry| entry.id).chain(kept.iter().copied()).collect();
        let gone = self.few.keys().filter(|id| !few.contains(id)).map(|id| PolicyEntry { generation, id: *id, body: None });
        pending.few.extend(gone);
        let mut keys: Vec<_> = pending.keys.iter().map(|(id, _)| *id).collect();
        keys.sort_unstable();
        let gone = self.keys.iter().map(|name| name.id).filter(|id| keys.binary_search(id).is_err());
        pending.keys.extend(gone.filter(|id| !is_kept(EntryKind::ApiKey, id.uuid())).map(|id| (id, None)));
        let mut subscriptions: Vec<_> = pending.subscriptions.iter().map(|(id, _)| *id).collect();
        subscriptions.sort_unstable();
        let gone = self.subscriptions.iter().map(|name| name.id).filter(|id| subscriptions.binary_search(id).is_err());
        pending.subscriptions.extend(gone.filter(|id| !is_kept(EntryKind::Subscription, id.uuid())).map(|id| (id, None)));
    }

    fn put_keys(&mut self, keys: Vec<(ApiKeyId, Option<CompiledKey>)>, changes: &mut Option<Vec<Change>>) {
        let (mut moved, mut put, mut names) = (Vec::new(), Vec::with_capacity(keys.len()), Vec::with_capacity(keys.len()));
        for (id, key) in last_of_each(keys) {
            let entry = EntryId { kind: EntryKind::ApiKey, id: id.uuid() };
            self.note_good(entry);
            let old = self.keys.get(&id).and_then(|name| name.find(&self.index.keys));
            moved.extend(old.filter(|old| key.as_ref().is_none_or(|key| key.digest != old.digest)).map(|old| (old.digest, None)));
            names.push((id, key.as_ref().map(KeyName::of)));
            if let Some(changes) = changes {
                changes.push(key.clone().map_or(Change::Gone(entry), Change::Key));
            }
            put.extend(key.map(|key| (key.digest, Some(key))));
        }
        // A key may take the place that another one leaves.
        moved.append(&mut put);
        self.index.keys.change(moved);
        self.keys.change(names);
    }

    fn put_subscriptions(&mut self, subscriptions: Vec<(SubscriptionId, Option<CompiledSubscription>)>, changes: &mut Option<Vec<Change>>) {
        let (mut moved, mut put, mut names) = (Vec::new(), Vec::new(), Vec::new());
        let known = |(id, subscription): (SubscriptionId, Option<CompiledSubscription>)| {
            let unknown = subscription.as_ref().map(|subscription| subscription.plan_version).filter(|plan| !self.plans.contains_key(plan));
            unknown.map_or(Ok((id, subscription)), |plan| Err((id, format!("{plan} is not known"))))
        };
        let (good, bad): (Vec<_>, Vec<_>) = subscriptions.into_iter().map(known).partition(Result::is_ok);
        for (id, reason) in bad.into_iter().filter_map(Result::err) {
            self.refuse(EntryId { kind: EntryKind::Subscription, id: id.uuid() }, &reason);
        }
        for (id, subscription) in last_of_each(good.into_iter().filter_map(Result::ok).collect()) {
            let entry = EntryId { kind: EntryKind::Subscription, id: id.uuid() };
            self.note_good(entry);
            let old = self.subscriptions.get(&id).map(|name| name.application);
            let stays = |application: &_| subscription.as_ref().is_some_and(|subscription| subscription.application == *application);
            moved.extend(old.filter(|old| !stays(old)).map(|application| ((application, id), None)));
            names.push((id, subscription.as_ref().map(|subscription| SubscriptionName { id, application: subscription.application })));
            if let Some(changes) = changes {
                changes.push(subscription.clone().map_or(Change::Gone(entry), Change::Subscription));
            }
            put.extend(subscription.map(|subscription| ((subscription.application, id), Some(subscription))));
        }
        moved.append(&mut put);
        self.index.subscriptions.change(moved);
        self.subscriptions.change(names);
    }

    fn refuse(&mut self, id: EntryId, reason: &str) {
        let name = name_of(id);
        tracing::warn!(entry = name, reason, "a policy entry cannot be used; the last good one stays in force");
        self.note_bad(name, reason);
        self.kept.insert(id);
    }

    fn note_good(&mut self, id: EntryId) {
        if !self.bad.is_empty() {
            self.bad.remove(&name_of(id));
        }
    }

    /// The epoch and generation in force.
    pub fn position(&self) -> (Uuid, Generation) {
        (self.index.epoch, self.index.generation)
    }

    /// Entries that could not be used.
    pub fn bad_entries(&self) -> Vec<BadEntry> {
        self.bad.iter().map(|(entry, reason)| BadEntry { entry: entry.clone(), reason: reason.clone() }).collect()
    }

    fn apply(&mut self, entry: PolicyEntry, dirty: &mut Dirty, changes: &mut Option<Vec<Change>>) {
        let id = entry.id;
        let Some(body) = &entry.body else {
            self.note_good(id);
            if self.few.remove(&id).is_some() {
                self.take_out(id, dirty);
                changes.iter_mut().for_each(|changes| changes.push(Change::Gone(id)));
            }
            return;
        };
        match self.compile(body) {
            Ok(compiled) => {
                self.note_good(id);
                self.put_in(compiled, dirty);
                changes.iter_mut().for_each(|changes| changes.push(Change::Few(entry.clone())));
                self.few.insert(id, entry);
            }
            Err(reason) => self.refuse(id, &reason),
        }
    }

    fn compile(&self, body: &EntryBody) -> Result<Compiled, Reason> {
        Ok(match body {
            EntryBody::Settings(settings) => Compiled::Settings(settings.clone()),
            EntryBody::Service(service) => Compiled::Service(Arc::new(CompiledService::compile(service)?)),
            EntryBody::Route(route) if !self.services.contains_key(&route.service) => {
                return Err(format!("{} is not known", route.service));
            }
            EntryBody::Route(route) => Compiled::Route(Arc::new(CompiledRoute::compile(route)?)),
            EntryBody::PlanVersion(plan) => Compiled::Plan(Arc::new(CompiledPlan::compile(plan)?)),
            EntryBody::Subscription(_) | EntryBody::ApiKey(_) => return Err("it is of another kind than its id says".to_owned()),
        })
    }

    fn take_out(&mut self, id: EntryId, dirty: &mut Dirty) {
        match id.kind {
            EntryKind::Service => dirty.services |= self.services.remove(&ServiceId::from_uuid(id.id)).is_some(),
            EntryKind::Route => dirty.routes |= self.routes.remove(&id.id).is_some(),
            EntryKind::PlanVersion => dirty.plans |= self.plans.remove(&PlanVersionId::from_uuid(id.id)).is_some(),
            EntryKind::Settings | EntryKind::Subscription | EntryKind::ApiKey => (),
        }
    }

    fn put_in(&mut self, compiled: Compiled, dirty: &mut Dirty) {
        match compiled {
            Compiled::Settings(settings) => self.index.settings = Arc::new(settings),
            // What was told again and is the same stays the same object: what was resolved by it holds on.
            Compiled::Service(service) if self.services.get(&service.id) == Some(&service) => (),
            Compiled::Plan(plan) if self.plans.get(&plan.id) == Some(&plan) => (),
            Compiled::Service(service) => {
                dirty.services = true;
                self.services.insert(service.id, service);
            }
            Compiled::Route(route) => {
                dirty.routes = true;
                self.routes.insert(route.id.uuid(), route);
            }
            Compiled::Plan(plan) => {
                dirty.plans = true;
                self.plans.insert(plan.id, plan);
            }
        }
    }
}

/// Which of the smaller maps a commit changes.
#[derive(Debug, Default)]
struct Dirty {
    routes: bool,
    services: bool,
    plans: bool,
}

/// The last change to each id.
fn last_of_each<I: Ord + Copy, T>(mut changes: Vec<(I, T)>) -> impl Iterator<Item = (I, T)> {
    changes.sort_by_key(|(id, _)| *id);
    let mut changes = changes.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut last = changes.next()?;
        while let Some(later) = changes.next_if(|(id, _)| *id == last.0) {
            last = later;
        }
        Some(last)
    })
}

fn identity_of(body: &EntryBody) -> (EntryKind, Uuid) {
    match body {
        EntryBody::Settings(_) => (EntryKind::Settings, Uuid::nil()),
        EntryBody::Service(service) => (EntryKind::Service, service.id.uuid()),
        EntryBody::Route(route) => (EntryKind::Route, route.id.uuid()),
        EntryBody::PlanVersion(plan) => (EntryKind::PlanVersion, plan.id.uuid()),
        EntryBody::Subscription(subscription) => (EntryKind::Subscription, subscription.id.uuid()),
        EntryBody::ApiKey(key) => (EntryKind::ApiKey, key.id.uuid()),
    }
}

/// The entry's id as people see it.
fn name_of(id: EntryId) -> String {
    match id.kind {
        EntryKind::Settings => "settings".to_owned(),
        EntryKind::Service => ServiceId::from_uuid(id.id).to_string(),
        EntryKind::Route => ids::RouteId::from_uuid(id.id).to_string(),
        EntryKind::PlanVersion => PlanVersionId::from_uuid(id.id).to_string(),
        EntryKind::Subscription => SubscriptionId::from_uuid(id.id).to_string(),
        EntryKind::ApiKey => ids::ApiKeyId::from_uuid(id.id).to_string(),
    }
}
