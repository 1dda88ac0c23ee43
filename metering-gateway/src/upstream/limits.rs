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
use tokio::sync::{Notify, Semaphore};

use crate::policy::services::GroupSpec;

/// Where as many wait as may, a namespace that has less than this part of them waiting is let in beyond, up to twice as many in all (SEMANTICS N2): no
/// other can fill the places before it.
const PART_OF_ONE: u32 = 8;

/// The bounds of one group of addresses, over all cores.
#[derive(Debug)]
pub struct GroupLimits {
    max_connections: u32,
    max_waiting: u32,
    waiting: Mutex<Waiting>,
    addresses: Mutex<HashMap<SocketAddr, Weak<AddressLimits>>>,
    wanted: Arc<Notify>,
}

/// How many calls wait, in all and of each namespace that has any.
#[derive(Debug, Default)]
struct Waiting {
    all: u32,
    of: HashMap<NamespaceId, u32>,
}

/// The bounds of one address, over all cores.
#[derive(Debug)]
pub struct AddressLimits {
    /// A permit for each connection that may still be made.
    pub permits: Arc<Semaphore>,
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
        let limits = Arc::new(AddressLimits {
            permits: Arc::new(Semaphore::new(self.max_connections as usize)),
            waiting: AtomicU32::new(0),
            starving: AtomicU32::new(0),
            wanted: self.wanted.clone(),
        });
        addresses.insert(address, Arc::downgrade(&limits));
        limits
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
        let own = self.of.get(&namespace).copied().unwrap_or(0);
        let is_free = self.all < most || own < (most / PART_OF_ONE).max(1) && self.all < most.saturating_mul(2) && most > 0;
        if is_free {
            self.all += 1;
            self.of.insert(namespace, own + 1);
        }
        is_free
    }

    fn give_back(&mut self, namespace: NamespaceId) {
        self.all -= 1;
        if let Some(own) = self.of.get_mut(&namespace) {
            *own -= 1;
            if *own == 0 {
                self.of.remove(&namespace);
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
        assert_eq!((waiting.all, waiting.of.len()), (17, 16), "who has none waiting is forgotten");
        assert!(!Waiting::default().take(namespace(0), 0), "nobody may wait");
    }
}
