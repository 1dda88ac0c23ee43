//! What the gateway knows of keys, plans and routes, and how it stays up to date (SEMANTICS P1 to P4).
//!
//! [`sync`] follows the portal's feed into a [`store::PolicyStore`], which makes [`index::Index`]es; cores read the newest one through
//! [`PolicyInForce`] without a lock. [`cache`] keeps the last good policy on disk.

pub mod cache;
pub mod entries;
pub mod index;
pub mod options;
pub mod router;
pub mod services;
pub mod store;
pub mod sync;
pub mod table;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use calendar::Timestamp;
use gateway_control::{policy::Generation, status::BadEntry};
use index::Index;

/// The policy that calls are judged by, and how fresh it is. Shared by all cores and the task that follows the feed.
#[derive(Debug)]
pub struct PolicyInForce {
    index: ArcSwap<Index>,
    /// When the portal last confirmed it, in microseconds; `i64::MIN` before there is any policy.
    confirmed_at: AtomicI64,
    connected: AtomicBool,
    bad_entries: Mutex<Vec<BadEntry>>,
    /// What the disk has of it.
    pub cached: Arc<CacheState>,
}

/// What the disk has of the policy, for a start without the portal.
#[derive(Debug, Default)]
pub struct CacheState {
    generation: AtomicU64,
    error: Mutex<Option<String>>,
}

impl CacheState {
    /// A generation is on the disk.
    pub fn written(&self, generation: Generation) {
        self.generation.store(generation.0, Ordering::Release);
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// It could not be written.
    pub fn failed(&self, error: String) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// The last generation on the disk, and why a later one is not.
    pub fn now(&self) -> (Generation, Option<String>) {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (Generation(self.generation.load(Ordering::Acquire)), error)
    }
}

impl Default for PolicyInForce {
    fn default() -> Self {
        Self {
            index: ArcSwap::from_pointee(Index::empty()),
            confirmed_at: AtomicI64::new(i64::MIN),
            connected: AtomicBool::new(false),
            bad_entries: Mutex::default(),
            cached: Arc::default(),
        }
    }
}

impl PolicyInForce {
    /// The newest index, to be read through an `arc_swap::Cache` on the path.
    pub fn index(&self) -> &ArcSwap<Index> {
        &self.index
    }

    /// Puts an index in force.
    pub fn publish(&self, index: Arc<Index>, bad_entries: Vec<BadEntry>) {
        *self.bad_entries.lock().unwrap_or_else(PoisonError::into_inner) = bad_entries;
        self.index.store(index);
    }

    /// The portal has said at this instant that the policy is up to date.
    pub fn confirm(&self, at: Timestamp) {
        self.confirmed_at.store(at.micros(), Ordering::Release);
    }

    /// When the portal last confirmed the policy; `None` before there is any.
    pub fn confirmed_at(&self) -> Option<Timestamp> {
        let micros = self.confirmed_at.load(Ordering::Acquire);
        (micros != i64::MIN).then(|| Timestamp::from_micros(micros))
    }

    /// Whether calls may be judged by it.
    pub fn is_usable(&self, now: Timestamp, max_age: Duration) -> bool {
        self.confirmed_at().is_some_and(|at| now.since(at) <= max_age)
    }

    /// Notes whether the feed is being followed.
    pub fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Release);
    }

    /// Whether the feed is being followed.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Entries that could not be used.
    pub fn bad_entries(&self) -> Vec<BadEntry> {
        self.bad_entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
