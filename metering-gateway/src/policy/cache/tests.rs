use std::{fs, os::unix::fs::PermissionsExt as _};

use gateway_control::{
    credential::KeyDigest,
    policy::{ApiKey, BillableRule, EntryBody, EntryId, EntryKind, PlanVersion, PolicyEntry, Settings, Subscription, SubscriptionState},
    usage::Mode,
};
use ids::{ApiKeyId, ApplicationId, NamespaceId, PlanVersionId, SubscriptionId};

use super::*;
use crate::policy::store::Committed;

const EPOCH: Uuid = Uuid::from_u128(7);

fn entry(kind: EntryKind, id: u128, body: Option<EntryBody>) -> PolicyEntry {
    PolicyEntry { generation: Generation(1), id: EntryId { kind, id: Uuid::from_u128(id) }, body }
}

fn key(id: u128, digest: u8, expires: Option<i64>) -> PolicyEntry {
    let key = ApiKey {
        id: ApiKeyId::from_uuid(Uuid::from_u128(id)),
        digest: KeyDigest([digest; 32]),
        namespace: NamespaceId::from_uuid(Uuid::from_u128(11)),
        application: ApplicationId::from_uuid(Uuid::from_u128(12)),
        mode: if digest.is_multiple_of(2) { Mode::Live } else { Mode::Test },
        expires_at: expires.map(Timestamp::from_seconds),
    };
    entry(EntryKind::ApiKey, id, Some(EntryBody::ApiKey(key)))
}

fn plan(id: u128) -> PolicyEntry {
    let plan = PlanVersion {
        id: PlanVersionId::from_uuid(Uuid::from_u128(id)),
        plan: "pro".into(),
        products: Vec::new(),
        rate_limits: Vec::new(),
        quotas: Vec::new(),
        cadence: calendar::Cadence::Month,
        billable: BillableRule::default(),
    };
    entry(EntryKind::PlanVersion, id, Some(EntryBody::PlanVersion(plan)))
}

fn subscription(id: u128, plan: u128, state: SubscriptionState) -> PolicyEntry {
    let subscription = Subscription {
        id: SubscriptionId::from_uuid(Uuid::from_u128(id)),
        namespace: NamespaceId::from_uuid(Uuid::from_u128(11)),
        application: ApplicationId::from_uuid(Uuid::from_u128(12)),
        plan_version: PlanVersionId::from_uuid(Uuid::from_u128(plan)),
        state,
        anchor_date: "2025-01-31".into(),
        time_zone: "Europe/Oslo".into(),
    };
    entry(EntryKind::Subscription, id, Some(EntryBody::Subscription(subscription)))
}

fn settings(origin: &str) -> PolicyEntry {
    let settings = Settings { cors_origins: vec![origin.into()], upgrade_url: "http://b".into() };
    entry(EntryKind::Settings, 0, Some(EntryBody::Settings(settings)))
}

/// Everything that is in force, to compare.
fn in_force(store: &PolicyStore) -> (u64, Uuid, Vec<String>) {
    let index = store.index();
    let few = store.few().map(|entry| format!("{:?}", entry.body));
    let subscriptions = index.subscriptions.iter().map(|subscription| format!("{subscription:?}"));
    let mut all: Vec<_> = few.chain(subscriptions).chain(index.keys.iter().map(|key| format!("{key:?}"))).collect();
    all.sort_unstable();
    (index.generation.0, index.epoch, all)
}

fn snapshot(store: &PolicyStore) -> Snapshot {
    Snapshot { few: store.few().cloned().collect(), index: store.index().clone() }
}

/// A store with a policy, written as a snapshot, then changed twice.
fn written(cache: &PolicyCache) -> Vec<(u64, Uuid, Vec<String>)> {
    cache.write_confirmed(Timestamp::from_seconds(1_700_000_000)).expect("written");
    let mut writer = CacheWriter::start(cache.clone(), Default::default()).expect("a thread");
    let mut store = PolicyStore::default();
    store.begin_snapshot(EPOCH);
    let first = [settings("http://a"), key(1, 2, None), key(2, 3, Some(5)), plan(4), subscription(6, 4, SubscriptionState::Active)];
    first.into_iter().for_each(|entry| store.receive(entry));
    let committed = store.commit(Generation(3));
    assert!(committed.changes.is_none(), "a snapshot replaces all");
    writer.snapshot(snapshot(&store));
    let mut states = vec![in_force(&store)];
    let second = vec![key(1, 9, Some(7)), entry(EntryKind::ApiKey, 2, None), settings("http://c")];
    let third = vec![key(3, 2, None), subscription(6, 4, SubscriptionState::Paused), entry(EntryKind::PlanVersion, 99, None)];
    for (generation, entries) in [(5, second), (6, third)] {
        entries.into_iter().for_each(|entry| store.receive(entry));
        let Committed { changes, .. } = store.commit(Generation(generation));
        assert!(writer.change(Generation(generation), changes.expect("changes")), "so few do not outgrow the snapshot");
        states.push(in_force(&store));
    }
    states
}

fn read(cache: &PolicyCache) -> io::Result<Option<(Cached, PolicyStore)>> {
    let mut store = PolicyStore::default();
    let cached = cache.read(&mut store, |reason| panic!("{reason}"))?;
    Ok(cached.map(|cached| (cached, store)))
}

#[test]
fn a_file_that_was_cut_off_is_the_policy_of_an_earlier_generation() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = PolicyCache::new(folder.path());
    assert!(read(&cache).expect("no file is no error").is_none());
    let states = written(&cache);
    let (cached, store) = read(&cache).expect("readable").expect("there");
    assert_eq!(cached, Cached { generation: Generation(6), confirmed_at: Timestamp::from_seconds(1_700_000_000) });
    assert_eq!(in_force(&store), states[2]);
    let whole = fs::read(&cache.policy).expect("the file");
    let mut seen = Vec::new();
    for cut in 0..whole.len() {
        fs::write(&cache.policy, &whole[..cut]).expect("written");
        match read(&cache) {
            Ok(read) => {
                let (cached, store) = read.expect("the file is there");
                let state = states.iter().find(|state| state.0 == cached.generation.0).expect("a generation that was written");
                assert_eq!(&in_force(&store), state, "cut at {cut}");
                seen.push(cached.generation.0);
            }
            Err(error) => assert!(seen.is_empty(), "cut at {cut}: {error}"),
        }
    }
    seen.dedup();
    assert_eq!(seen, [3, 5], "each generation but the last is met");
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        fs::write(&cache.policy, &damaged).expect("written");
        if let Ok(Some((cached, store))) = read(&cache) {
            let state = states.iter().find(|state| state.0 == cached.generation.0).expect("a generation that was written");
            assert_eq!(&in_force(&store), state, "damaged at {at}");
        }
    }
}

#[test]
fn a_snapshot_is_due_first_and_when_the_changes_outgrow_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = PolicyCache::new(folder.path());
    let mut writer = CacheWriter::start(cache.clone(), Default::default()).expect("a thread");
    let changes = || vec![Change::Gone(EntryId { kind: EntryKind::ApiKey, id: Uuid::nil() }); 1_000];
    assert!(!writer.change(Generation(1), changes()), "there is no snapshot yet");
    let mut store = PolicyStore::default();
    store.begin_snapshot(EPOCH);
    store.commit(Generation(1));
    writer.snapshot(snapshot(&store));
    let appended = (2..1_000).take_while(|generation| writer.change(Generation(*generation), changes())).count();
    assert!((10..100).contains(&appended), "{appended} changes were appended");
}

#[test]
fn the_file_is_its_owners_alone_whatever_an_earlier_attempt_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = PolicyCache::new(folder.path());
    let beside = cache.policy.with_extension("new");
    fs::write(&beside, "left over").expect("written");
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o644)).expect("set");
    written(&cache);
    assert_eq!(fs::metadata(&cache.policy).expect("the file").permissions().mode() & 0o777, 0o600);
}

/// Golden: files of these versions are read for ever.
#[test]
fn files_of_every_version_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = PolicyCache::new(folder.path());
    cache.write_confirmed(Timestamp::from_seconds(1_700_000_000)).expect("written");
    fs::write(&cache.first_version, include_str!("golden/policy.v1.ndjson")).expect("written");
    let (cached, store) = read(&cache).expect("readable").expect("there");
    assert_eq!((cached.generation, store.index().keys.count(), store.few().count()), (Generation(3), 1, 1));
    fs::write(&cache.policy, include_bytes!("golden/policy.v2")).expect("written");
    let (_, store) = read(&cache).expect("readable").expect("there");
    let other = tempfile::tempdir().expect("a folder");
    assert_eq!(in_force(&store), written(&PolicyCache::new(other.path()))[2]);
}
