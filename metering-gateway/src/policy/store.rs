//! All entries as the feed told them, and the index made from them. It belongs to the one task that follows the feed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use gateway_control::{
    credential::KeyDigest,
    policy::{ApiKey, EntryBody, EntryId, EntryKind, Generation, PolicyEntry, Settings},
    status::BadEntry,
};
use ids::{ApplicationId, PlanVersionId, ServiceId, SubscriptionId, Uuid};

use super::{
    entries::{CompiledKey, CompiledPlan, CompiledRoute, CompiledService, CompiledSubscription, Reason},
    index::Index,
    router::Router,
};

/// The most bad entries that are kept for the status.
const MAX_BAD_ENTRIES: usize = 100;

/// All entries that are in force, their compiled form, and changes that are not in force yet.
#[derive(Debug)]
pub struct PolicyStore {
    entries: HashMap<EntryId, PolicyEntry>,
    index: Index,
    routes: HashMap<Uuid, Arc<CompiledRoute>>,
    services: HashMap<ServiceId, Arc<CompiledService>>,
    plans: HashMap<PlanVersionId, Arc<CompiledPlan>>,
    pending: Vec<PolicyEntry>,
    /// The epoch of a snapshot that is being received.
    snapshot: Option<Uuid>,
    /// Entries of the snapshot that could not be read.
    kept: HashSet<EntryId>,
    bad: BTreeMap<String, String>,
}

/// An entry's compiled form, on its way into the index.
enum Compiled {
    Settings(Settings),
    Service(Arc<CompiledService>),
    Route(Arc<CompiledRoute>),
    Plan(Arc<CompiledPlan>),
    Subscription(Arc<CompiledSubscription>),
    Key(KeyDigest, Arc<CompiledKey>),
}

impl Default for PolicyStore {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            index: Index::empty(),
            routes: HashMap::new(),
            services: HashMap::new(),
            plans: HashMap::new(),
            pending: Vec::new(),
            snapshot: None,
            kept: HashSet::new(),
            bad: BTreeMap::new(),
        }
    }
}

impl PolicyStore {
    /// A snapshot begins: the entries to come replace everything once it is complete.
    pub fn begin_snapshot(&mut self, epoch: Uuid) {
        self.pending.clear();
        self.kept.clear();
        self.snapshot = Some(epoch);
    }

    /// The changes since the generation that was named begin.
    pub fn begin_resume(&mut self) {
        self.pending.clear();
        self.kept.clear();
        self.snapshot = None;
    }

    /// Takes an entry; it is in force after [`Self::commit`].
    pub fn receive(&mut self, entry: PolicyEntry) {
        self.pending.push(entry);
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

    /// Puts all received entries in force together and returns the new index.
    pub fn commit(&mut self, generation: Generation) -> Arc<Index> {
        let mut pending = std::mem::take(&mut self.pending);
        if let Some(epoch) = self.snapshot.take() {
            let named: HashSet<EntryId> = pending.iter().map(|entry| entry.id).chain(self.kept.drain()).collect();
            let gone: Vec<_> = self.entries.keys().filter(|id| !named.contains(id)).copied().collect();
            pending.extend(gone.into_iter().map(|id| PolicyEntry { generation, id, body: None }));
            self.index.epoch = epoch;
        }
        // What others refer to goes first, so that a reference inside one batch is found.
        pending.sort_by_key(|entry| entry.id.kind);
        let mut batch = Batch::default();
        for entry in pending {
            self.apply(entry, &mut batch);
        }
        self.finish(batch, generation)
    }

    /// The entries in force, for the cache.
    pub fn entries(&self) -> impl Iterator<Item = &PolicyEntry> {
        self.entries.values()
    }

    /// The epoch and generation in force.
    pub fn position(&self) -> (Uuid, Generation) {
        (self.index.epoch, self.index.generation)
    }

    /// Entries that could not be used.
    pub fn bad_entries(&self) -> Vec<BadEntry> {
        self.bad.iter().map(|(entry, reason)| BadEntry { entry: entry.clone(), reason: reason.clone() }).collect()
    }

    fn apply(&mut self, entry: PolicyEntry, batch: &mut Batch) {
        let name = name_of(entry.id);
        let Some(body) = &entry.body else {
            self.bad.remove(&name);
            if let Some(old) = self.entries.remove(&entry.id) {
                self.take_out(&old, batch);
            }
            return;
        };
        match self.compile(entry.id, body) {
            Ok(compiled) => {
                self.bad.remove(&name);
                if let Some(old) = self.entries.insert(entry.id, entry) {
                    self.take_out(&old, batch);
                }
                self.put_in(compiled, batch);
            }
            Err(reason) => {
                tracing::warn!(entry = name, reason, "a policy entry cannot be used; the last good one stays in force");
                self.note_bad(name, reason);
            }
        }
    }

    fn compile(&self, id: EntryId, body: &EntryBody) -> Result<Compiled, Reason> {
        let (kind, entity) = identity_of(body);
        if (kind, entity) != (id.kind, id.id) {
            return Err("its body is of another entity".to_owned());
        }
        Ok(match body {
            EntryBody::Settings(settings) => Compiled::Settings(settings.clone()),
            EntryBody::Service(service) => Compiled::Service(Arc::new(CompiledService::compile(service)?)),
            EntryBody::Route(route) if !self.services.contains_key(&route.service) => {
                return Err(format!("{} is not known", route.service));
            }
            EntryBody::Route(route) => Compiled::Route(Arc::new(CompiledRoute::compile(route)?)),
            EntryBody::PlanVersion(plan) => Compiled::Plan(Arc::new(CompiledPlan::compile(plan)?)),
            EntryBody::Subscription(subscription) if !self.plans.contains_key(&subscription.plan_version) => {
                return Err(format!("{} is not known", subscription.plan_version));
            }
            EntryBody::Subscription(subscription) => Compiled::Subscription(Arc::new(CompiledSubscription::compile(subscription)?)),
            EntryBody::ApiKey(key) => Compiled::Key(key.digest, Arc::new(CompiledKey::compile(key))),
        })
    }

    fn take_out(&mut self, old: &PolicyEntry, batch: &mut Batch) {
        match &old.body {
            Some(EntryBody::Settings(_)) | None => (),
            Some(EntryBody::Service(service)) => _ = self.services.remove(&service.id),
            Some(EntryBody::Route(route)) => {
                self.routes.remove(&route.id.uuid());
                batch.routes = true;
            }
            Some(EntryBody::PlanVersion(plan)) => _ = self.plans.remove(&plan.id),
            Some(EntryBody::Subscription(subscription)) => {
                _ = batch.subscriptions.insert((subscription.application, subscription.id), None)
            }
            Some(EntryBody::ApiKey(ApiKey { digest, .. })) => batch.keys.push((*digest, None)),
        }
    }

    fn put_in(&mut self, compiled: Compiled, batch: &mut Batch) {
        match compiled {
            Compiled::Settings(settings) => self.index.settings = Arc::new(settings),
            Compiled::Service(service) => _ = self.services.insert(service.id, service),
            Compiled::Route(route) => {
                self.routes.insert(route.id.uuid(), route);
                batch.routes = true;
            }
            Compiled::Plan(plan) => _ = self.plans.insert(plan.id, plan),
            Compiled::Subscription(subscription) => {
                batch.subscriptions.insert((subscription.application, subscription.id), Some(subscription));
            }
            Compiled::Key(digest, key) => batch.keys.push((digest, Some(key))),
        }
    }

    fn finish(&mut self, batch: Batch, generation: Generation) -> Arc<Index> {
        if batch.routes {
            self.index.router = Arc::new(Router::new(self.routes.values()));
        }
        if *self.index.services != self.services {
            self.index.services = Arc::new(self.services.clone());
        }
        if *self.index.plans != self.plans {
            self.index.plans = Arc::new(self.plans.clone());
        }
        self.index.keys.change(batch.keys);
        let mut by_application: HashMap<ApplicationId, Vec<Arc<CompiledSubscription>>> = HashMap::new();
        for ((application, id), subscription) in batch.subscriptions {
            let list = by_application
                .entry(application)
                .or_insert_with(|| self.index.subscriptions.get(&application).map(|list| list.to_vec()).unwrap_or_default());
            list.retain(|known| known.id != id);
            list.extend(subscription);
        }
        let changes = by_application.into_iter().map(|(application, list)| (application, (!list.is_empty()).then(|| list.into())));
        self.index.subscriptions.change(changes);
        self.index.generation = generation;
        self.index.version += 1;
        Arc::new(self.index.clone())
    }
}

/// What the entries of one commit change in the larger maps.
#[derive(Default)]
struct Batch {
    routes: bool,
    subscriptions: BTreeMap<(ApplicationId, SubscriptionId), Option<Arc<CompiledSubscription>>>,
    keys: Vec<(KeyDigest, Option<Arc<CompiledKey>>)>,
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
