//! What the cores share of an upstream: how many connections there may be, and how many calls may wait for one. It is touched when a connection is
//! made or waited for, never by a call that finds one.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use ids::NamespaceId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::policy::services::GroupSpec;

/// Where as many wait as may, a namespace that has less than this part of them waiting is let in beyond, up to twice as many in all (SEMANTICS N2): no
/// other can fill the places before it. And this part of the connections is kept for when one namespace has all others: of it, none has more than this
/// part again.
const PART_OF_ONE: u32 = 8;
/// Of fewer connections than these, none are kept: one namespace could take those, too.
const MIN_TO_KEEP: u32 = 2 * PART_OF_ONE;

/// The bounds of one group of addresses, over all cores.
#[derive(Debug)]
pub struct GroupLimits {
    max_connections: u32,
    max_waiting: u32,
    waiting: Mutex<Waiting>,
    /// Kept connections that are in use, of each namespace.
    kept: Mutex<Counts>,
    addresses: Mutex<HashMap<SocketAddr, Weak<AddressLimits>>>,
    wanted: Arc<Notify>,
}

/// How many calls wait, in all and of each namespace.
#[derive(Debug, Default)]
struct Waiting {
    all: u32,
    of: Counts,
}

/// A figure of each namespace that is not zero.
#[derive(Debug, Default)]
struct Counts(HashMap<NamespaceId, u32>);

/// The bounds of one address, over all cores.
#[derive(Debug)]
pub struct AddressLimits {
    /// A permit for each connection that may still be made, but for those that are kept.
    pub permits: Arc<Semaphore>,
    /// For those that are kept.
    kept: Arc<Semaphore>,
    /// Calls that wait for a permit.
    waiting: AtomicU32,
    /// Of those, calls on cores that have no connection at all.
    starving: AtomicU32,
    wanted: Arc<Notify>,
}

/// All bounds by group.
#[derive(Debug, Default)]
pub struct AllLimits {
    groups: Mutex<HashMap<GroupSpec, Weak<GroupLimits>>>,
    /// Told whenever a call waits for a connection that another core may be holding idle.
    pub wanted: Arc<Notify>,
}

impl AllLimits {
    /// The bounds of a group; the same for every core.
    pub fn of(&self, spec: &GroupSpec, default_connections: u32, default_waiting: u32) -> Arc<GroupLimits> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(limits) = groups.get(spec).and_then(Weak::upgrade) {
            return limits;
        }
        groups.retain(|_, limits| limits.strong_count() > 0);
        let limits = Arc::new(GroupLimits {
            max_connections: spec.max_connections.unwrap_or(default_connections).max(1),
            max_waiting: spec.max_waiting.unwrap_or(default_waiting),
            waiting: Mutex::default(),
            kept: Mutex::default(),
            addresses: Mutex::default(),
            wanted: self.wanted.clone(),
        });
        groups.insert(spec.clone(), Arc::downgrade(&limits));
        limits
    }
}

impl GroupLimits {
    /// The bounds of an address; the same for every core.
    pub fn address(&self, address: SocketAddr) -> Arc<AddressLimits> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(limits) = addresses.get(&address).and_then(Weak::upgrade) {
            return limits;
        }
        addresses.retain(|_, limits| limits.strong_count() > 0);
        let kept = self.max_kept();
        let limits = Arc::new(AddressLimits {
            permits: Arc::new(Semaphore::new((self.max_connections - kept) as usize)),
            kept: Arc::new(Semaphore::new(kept as usize)),
            waiting: AtomicU32::new(0),
            starving: AtomicU32::new(0),
            wanted: self.wanted.clone(),
        });
        addresses.insert(address, Arc::downgrade(&limits));
        limits
    }

    fn max_kept(&self) -> u32 {
        if self.max_connections < MIN_TO_KEEP { 0 } else { self.max_connections / PART_OF_ONE }
    }

    /// One of the connections that are kept, where the others are all in use, and no call of the namespace waits: so that none is overtaken, and one that is
    /// at the limit of its upstream does not make a connection for each of its calls.
    pub fn keep_one(self: &Arc<Self>, address: &AddressLimits, namespace: NamespaceId) -> Option<Permit> {
        if address.permits.available_permits() > 0 || self.waiting.lock().unwrap_or_else(PoisonError::into_inner).of.of(namespace) > 0 {
            return None;
        }
        let permit = address.kept.clone().try_acquire_owned().ok()?;
        let most_of_one = (self.max_kept() / PART_OF_ONE).max(1);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.of(namespace) < most_of_one).then(|| kept.add(namespace))?;
        Some(Permit { _permit: permit, kept: Some((self.clone(), namespace)) })
    }

    /// Takes a place among those who wait for a call of a namespace; `None` when all are taken.
    pub fn enter(self: &Arc<Self>, address: &Arc<AddressLimits>, namespace: NamespaceId, starving: bool) -> Option<Place> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take(namespace, self.max_waiting).then_some(())?;
        address.waiting.fetch_add(1, Relaxed);
        address.starving.fetch_add(u32::from(starving), Relaxed);
        address.wanted.notify_waiters();
        Some(Place { group: self.clone(), address: address.clone(), namespace, starving })
    }
}

impl Waiting {
    fn take(&mut self, namespace: NamespaceId, most: u32) -> bool {
        let own = self.of.of(namespace);
        let is_free = self.all < most || own < (most / PART_OF_ONE).max(1) && self.all < most.saturating_mul(2) && most > 0;
        if is_free {
            self.all += 1;
            self.of.add(namespace);
        }
        is_free
    }

    fn give_back(&mut self, namespace: NamespaceId) {
        self.all -= 1;
        self.of.give_back(namespace);
    }
}

impl Counts {
    fn of(&self, namespace: NamespaceId) -> u32 {
        self.0.get(&namespace).copied().unwrap_or(0)
    }

    fn add(&mut self, namespace: NamespaceId) {
        *self.0.entry(namespace).or_default() += 1;
    }

    fn give_back(&mut self, namespace: NamespaceId) {
        if let Some(own) = self.0.get_mut(&namespace) {
            *own -= 1;
            if *own == 0 {
                self.0.remove(&namespace);
            }
        }
    }
}

impl AddressLimits {
    /// How many calls wait for a permit, on all cores.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    /// Whether a call waits on a core that has no connection, so that nothing on its own core can help it.
    pub fn is_starving(&self) -> bool {
        self.starving.load(Relaxed) > 0
    }
}

/// That a connection may be open.
#[derive(Debug)]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
    /// It is one of those that are kept, in use by a namespace.
    kept: Option<(Arc<GroupLimits>, NamespaceId)>,
}

impl Permit {
    /// Whether it is one of those that are kept: for one exchange, so that no other namespace comes to have it.
    pub fn is_kept(&self) -> bool {
        self.kept.is_some()
    }
}

impl From<OwnedSemaphorePermit> for Permit {
    fn from(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: permit, kept: None }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((group, namespace)) = &self.kept {
            group.kept.lock().unwrap_or_else(PoisonError::into_inner).give_back(*namespace);
        }
    }
}

/// A place among those who wait for a connection.
#[derive(Debug)]
pub struct Place {
    group: Arc<GroupLimits>,
    address: Arc<AddressLimits>,
    namespace: NamespaceId,
    starving: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.group.waiting.lock().unwrap_or_else(PoisonError::into_inner).give_back(self.namespace);
        self.address.waiting.fetch_sub(1, Relaxed);
        self.address.starving.fetch_sub(u32::from(self.starving), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use ids::Uuid;

    use super::*;

    #[test]
    fn one_namespace_cannot_take_the_places_of_the_others() {
        let mut waiting = Waiting::default();
        let namespace = |n| NamespaceId::from_uuid(Uuid::from_u128(n));
        let mut take = |n| waiting.take(namespace(n), 16);
        assert_eq!((0..40).filter(|_| take(0)).count(), 16, "one that is alone has all places");
        assert_eq!((0..40).filter(|_| take(1)).count(), 2, "another has its part beyond them");
        assert_eq!((2..40).filter(|n| take(*n)).count(), 14, "up to twice as many in all");
        waiting.give_back(namespace(0));
        assert!(!waiting.take(namespace(0), 16) && waiting.take(namespace(99), 16));
        (0..15).for_each(|_| waiting.give_back(namespace(0)));
        assert_eq!((waiting.all, waiting.of.0.len()), (17, 16), "who has none waiting is forgotten");
        assert!(!Waiting::default().take(namespace(0), 0), "nobody may wait");
    }
}
