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

use tokio::sync::{Notify, Semaphore};

use crate::policy::services::GroupSpec;

/// The bounds of one group of addresses, over all cores.
#[derive(Debug)]
pub struct GroupLimits {
    max_connections: u32,
    max_waiting: u32,
    waiting: AtomicU32,
    addresses: Mutex<HashMap<SocketAddr, Weak<AddressLimits>>>,
    wanted: Arc<Notify>,
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
            waiting: AtomicU32::new(0),
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

    /// Takes a place among those who wait; `None` when all are taken.
    pub fn enter(self: &Arc<Self>, address: &Arc<AddressLimits>, starving: bool) -> Option<Place> {
        let enter = |waiting: u32| (waiting < self.max_waiting).then_some(waiting + 1);
        self.waiting.fetch_update(Relaxed, Relaxed, enter).ok()?;
        address.waiting.fetch_add(1, Relaxed);
        address.starving.fetch_add(u32::from(starving), Relaxed);
        address.wanted.notify_waiters();
        Some(Place { group: self.clone(), address: address.clone(), starving })
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
    starving: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.group.waiting.fetch_sub(1, Relaxed);
        self.address.waiting.fetch_sub(1, Relaxed);
        self.address.starving.fetch_sub(u32::from(self.starving), Relaxed);
    }
}
