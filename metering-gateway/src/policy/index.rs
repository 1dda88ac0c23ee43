//! The policy in force: an immutable index that cores read without a lock. A change makes a new index, which shares all parts that did not change.

use std::{collections::HashMap, sync::Arc};

use gateway_control::{
    credential::KeyDigest,
    policy::{Generation, Settings},
};
use ids::{ApiKeyId, ApplicationId, PlanVersionId, ServiceId, SubscriptionId, Uuid};

use super::{
    entries::{CompiledKey, CompiledPlan, CompiledSubscription},
    router::Router,
    services::CompiledService,
    table::{Record, Table},
};

/// The policy in force.
#[derive(Debug, Clone)]
pub struct Index {
    /// Rises by one with every index of this process.
    pub version: u64,
    /// Rises whenever anything but keys changes, so that a core can tell whether what it resolved before still holds.
    pub rules: u64,
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
    /// Subscriptions by their application.
    pub subscriptions: Table<CompiledSubscription>,
    /// API keys by their digest.
    pub keys: Table<CompiledKey>,
}

impl Index {
    /// Knows nothing.
    pub fn empty() -> Self {
        Self {
            version: 0,
            rules: 0,
            epoch: Uuid::nil(),
            generation: Generation::default(),
            settings: Arc::new(Settings { cors_origins: Vec::new(), upgrade_url: String::new() }),
            router: Arc::default(),
            services: Arc::default(),
            plans: Arc::default(),
            subscriptions: Table::default(),
            keys: Table::default(),
        }
    }

    /// The subscriptions of an application.
    pub fn subscriptions_of(&self, application: ApplicationId) -> impl Iterator<Item = &CompiledSubscription> {
        let from = (application, SubscriptionId::from_uuid(Uuid::nil()));
        self.subscriptions.from(&from).iter().take_while(move |subscription| subscription.application == application)
    }
}

impl Record for CompiledKey {
    type Key = KeyDigest;

    fn key(&self) -> KeyDigest {
        self.digest
    }

    /// SHA-256 has spread digests well, and callers cannot choose which are stored.
    fn position(digest: &KeyDigest) -> u64 {
        digest.0.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
    }
}

impl Record for CompiledSubscription {
    type Key = (ApplicationId, SubscriptionId);

    fn key(&self) -> Self::Key {
        (self.application, self.id)
    }

    /// All subscriptions of an application stand together.
    fn position((application, _): &Self::Key) -> u64 {
        spread(application.uuid())
    }
}

/// Where a key stands in [`Index::keys`]: changes name it by its id.
#[derive(Debug, Clone, Copy)]
pub struct KeyName {
    /// The key.
    pub id: ApiKeyId,
    /// Its position among the keys.
    pub position: u64,
}

impl KeyName {
    /// The name of a key.
    pub fn of(key: &CompiledKey) -> Self {
        Self { id: key.id, position: CompiledKey::position(&key.digest) }
    }

    /// The key.
    pub fn find(self, keys: &Table<CompiledKey>) -> Option<&CompiledKey> {
        let mut first = [0; 32];
        first[..8].copy_from_slice(&self.position.to_be_bytes());
        let mut near = keys.from(&KeyDigest(first)).iter().take_while(|key| CompiledKey::position(&key.digest) == self.position);
        near.find(|key| key.id == self.id)
    }
}

impl Record for KeyName {
    type Key = ApiKeyId;

    fn key(&self) -> ApiKeyId {
        self.id
    }

    fn position(id: &ApiKeyId) -> u64 {
        spread(id.uuid())
    }
}

/// Where a subscription stands in [`Index::subscriptions`]: changes name it by its id.
#[derive(Debug, Clone, Copy)]
pub struct SubscriptionName {
    /// The subscription.
    pub id: SubscriptionId,
    /// Its application.
    pub application: ApplicationId,
}

impl Record for SubscriptionName {
    type Key = SubscriptionId;

    fn key(&self) -> SubscriptionId {
        self.id
    }

    fn position(id: &SubscriptionId) -> u64 {
        spread(id.uuid())
    }
}

/// Spreads ids, whose first bits are a time (UUIDv7), over all numbers: the finalizer of SplitMix64 over both halves.
fn spread(id: Uuid) -> u64 {
    let (high, low) = id.as_u64_pair();
    let mut mixed = high.rotate_left(32) ^ low;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_spread_over_parts() {
        // As the portal makes them, and as tests like to.
        for id in [|number: u128| (0x0190_0000_0000 + number) << 80 | 7 << 76, |number| number] {
            let mut crowd = [0; 64];
            (0..6_400).for_each(|number| crowd[(spread(Uuid::from_u128(id(number))) >> 58) as usize] += 1);
            assert!(crowd.iter().all(|count| (50..200).contains(count)), "{crowd:?}");
        }
    }
}
