//! The policy in force: an immutable index that cores read without a lock. A change makes a new index, which shares all parts that did not change.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher},
    sync::Arc,
};

use gateway_control::{
    credential::KeyDigest,
    policy::{Generation, Settings},
};
use ids::{ApplicationId, PlanVersionId, ServiceId, Uuid};

use super::{
    entries::{CompiledKey, CompiledPlan, CompiledService, CompiledSubscription},
    router::Router,
};

/// How many parts a large map is cut into: changing an entry copies one part.
const SHARDS: usize = 256;

/// The policy in force.
#[derive(Debug, Clone)]
pub struct Index {
    /// Rises by one with every index of this process, so that a core can tell whether what it resolved before still holds.
    pub version: u64,
    /// The epoch of the generation.
    pub epoch: Uuid,
    /// Everything up to this generation is in force.
    pub generation: Generation,
    /// What holds for the whole installation.
    pub settings: Arc<Settings>,
    /// Routes by method and path.
    pub router: Arc<Router>,
    /// Backends.
    pub services: Arc<HashMap<ServiceId, Arc<CompiledService>>>,
    /// Plan versions.
    pub plans: Arc<HashMap<PlanVersionId, Arc<CompiledPlan>>>,
    /// The subscriptions of each application.
    pub subscriptions: Shards<ApplicationId, Arc<[Arc<CompiledSubscription>]>, foldhash::fast::FixedState>,
    /// API keys by their digest.
    pub keys: Shards<KeyDigest, Arc<CompiledKey>, BuildHasherDefault<DigestHasher>>,
}

impl Index {
    /// Knows nothing.
    pub fn empty() -> Self {
        Self {
            version: 0,
            epoch: Uuid::nil(),
            generation: Generation::default(),
            settings: Arc::new(Settings { cors_origins: Vec::new(), upgrade_url: String::new() }),
            router: Arc::default(),
            services: Arc::default(),
            plans: Arc::default(),
            subscriptions: Shards::default(),
            keys: Shards::default(),
        }
    }
}

/// A map in parts that are shared between indexes until they change.
#[derive(Debug, Clone)]
pub struct Shards<K, V, S> {
    parts: Arc<[Arc<HashMap<K, V, S>>]>,
    hasher: S,
}

impl<K, V, S: Default + Clone> Default for Shards<K, V, S> {
    fn default() -> Self {
        Self { parts: (0..SHARDS).map(|_| Arc::new(HashMap::with_hasher(S::default()))).collect(), hasher: S::default() }
    }
}

impl<K: Hash + Eq + Clone, V: Clone, S: BuildHasher + Default + Clone> Shards<K, V, S> {
    /// Looks an entry up.
    #[inline]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.parts[self.part_of(key)].get(key)
    }

    /// How many entries there are.
    pub fn count(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// Puts entries in (`Some`) and takes entries out (`None`). Parts that are not touched stay shared.
    pub fn change(&mut self, changes: impl IntoIterator<Item = (K, Option<V>)>) {
        let mut by_part: HashMap<usize, Vec<(K, Option<V>)>> = HashMap::new();
        for (key, value) in changes {
            by_part.entry(self.part_of(&key)).or_default().push((key, value));
        }
        if by_part.is_empty() {
            return;
        }
        let mut parts = self.parts.to_vec();
        for (at, changes) in by_part {
            let part = Arc::make_mut(&mut parts[at]);
            for (key, value) in changes {
                match value {
                    Some(value) => _ = part.insert(key, value),
                    None => _ = part.remove(&key),
                }
            }
        }
        self.parts = parts.into();
    }

    fn part_of(&self, key: &K) -> usize {
        // The low bits choose the bucket inside a part, so the part is chosen by others.
        (self.hasher.hash_one(key) >> 40) as usize % SHARDS
    }
}

/// Hashes a digest by taking eight of its bytes: SHA-256 has mixed them well, and callers cannot choose which digests are stored.
#[derive(Debug, Default, Clone, Copy)]
pub struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// The length that precedes an array's bytes carries nothing.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_do_not_change_stay_shared() {
        let mut before: Shards<u64, u64, foldhash::fast::FixedState> = Shards::default();
        before.change((0..10_000).map(|n| (n, Some(n * 2))));
        let mut after = before.clone();
        after.change([(7, Some(1)), (8, None), (10_001, Some(3))]);
        assert_eq!((after.get(&7), after.get(&8), after.get(&9), after.get(&10_001)), (Some(&1), None, Some(&18), Some(&3)));
        assert_eq!((before.get(&7), before.get(&8), before.get(&10_001)), (Some(&14), Some(&16), None));
        let shared = before.parts.iter().zip(after.parts.iter()).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert!(shared >= SHARDS - 3, "{shared} of {SHARDS} parts are shared");
        assert_eq!(after.count(), 10_000);
    }

    #[test]
    fn digests_spread_over_parts() {
        let mut keys: Shards<KeyDigest, (), BuildHasherDefault<DigestHasher>> = Shards::default();
        keys.change((0..10_000_u32).map(|n| (KeyDigest::of(&n.to_le_bytes()), Some(()))));
        assert!(keys.parts.iter().all(|part| (10..100).contains(&part.len())), "a part is crowded or empty");
    }
}
