//! `GET /control/v1/policy` against a real Postgres and the real publisher (SEMANTICS P1, P2, P6, N2).

use std::{collections::BTreeMap, time::Duration};

use gateway_control::policy::{EntryBody, EntryId, EntryKind, PolicyEvent};
use ids::{ApiKeyId, NamespaceId, Uuid};
use portal::{
    gateways,
    identity::Actor,
    policy::{facts::SettingsFacts, publish},
};
use sqlx::{Connection, PgPool};

use crate::{
    support::Portal,
    world::{self, World, gateway, insert_key, start_publishing},
};

fn kinds(entries: &[gateway_control::policy::PolicyEntry]) -> Vec<EntryKind> {
    let mut kinds: Vec<_> = entries.iter().map(|entry| entry.id.kind).collect();
    kinds.sort();
    kinds
}

#[sqlx::test(migrations = "../migrations")]
async fn a_snapshot_holds_everything_once_and_changes_follow(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 100).await;
    let gateway = gateway(&portal, "one", None).await;
    start_publishing(&portal);
    let mut watch = gateway.watch(&portal, "").await;
    assert!(matches!(watch.next_news().await, Some(PolicyEvent::Snapshot { format: 1, .. })));
    // The publisher may still be at its first round: what it adds comes as a change.
    let mut known = BTreeMap::new();
    while known.len() < 6 {
        let (entries, _) = watch.until_synced().await;
        known.extend(entries.into_iter().map(|entry| (entry.id, entry)));
    }
    assert_eq!(
        kinds(&known.values().cloned().collect::<Vec<_>>()),
        [EntryKind::Settings, EntryKind::Service, EntryKind::Route, EntryKind::PlanVersion, EntryKind::Subscription, EntryKind::ApiKey]
    );
    let settings = &known[&EntryId { kind: EntryKind::Settings, id: Uuid::nil() }];
    let Some(EntryBody::Settings(settings)) = &settings.body else { panic!("settings without a body") };
    assert_eq!(settings.cors_origins, ["http://127.0.0.1:8080"]);
    assert_eq!(settings.upgrade_url, "http://127.0.0.1:8080/pricing");

    // A revoked key is a tombstone, in force within a second.
    let started = std::time::Instant::now();
    let mut tx = portal.app.begin().await.unwrap();
    sqlx::query("UPDATE api_keys SET revoked_at = now() WHERE id = $1").bind(world.key.uuid()).execute(&mut *tx).await.unwrap();
    portal.app.commit(tx).await.unwrap();
    let (entries, _) = watch.until_synced().await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].id, EntryId { kind: EntryKind::ApiKey, id: world.key.uuid() });
    assert_eq!(entries[0].body, None);

    // The product is taken back: its route and its service go.
    sqlx::query("UPDATE api_products SET published_at = NULL").execute(&portal.app.pool).await.unwrap();
    let (entries, _) = watch.until_synced().await;
    assert_eq!(kinds(&entries), [EntryKind::Service, EntryKind::Route]);
    assert!(entries.iter().all(|entry| entry.body.is_none()));
    // What gateways do not see makes no entry.
    sqlx::query("UPDATE api_keys SET last_used_at = now(), name = 'renamed'").execute(&portal.app.pool).await.unwrap();
    sqlx::query("UPDATE subscriptions SET state = 'canceled'").execute(&portal.app.pool).await.unwrap();
    let (entries, _) = watch.until_synced().await;
    assert_eq!(kinds(&entries), [EntryKind::Subscription]);
    assert_eq!(entries[0].body, None);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_plan_change_is_one_entry_and_drafts_are_none(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 100).await;
    for _ in 0..50 {
        world.add_key(&portal, ApiKeyId::new()).await;
    }
    let gateway = gateway(&portal, "one", None).await;
    start_publishing(&portal);
    let mut watch = gateway.watch(&portal, "").await;
    let mut seen = 0;
    while seen < 56 {
        seen += watch.until_synced().await.0.len();
    }
    sqlx::query("UPDATE plan_versions SET rate_limits = '[{\"requests\": 9, \"per_seconds\": 1, \"scope\": \"subscription\"}]'")
        .execute(&portal.app.pool)
        .await
        .unwrap();
    let (entries, _) = watch.until_synced().await;
    assert_eq!(kinds(&entries), [EntryKind::PlanVersion], "one entry, however many keys it concerns");
    // A draft version and a bad row: neither reaches a gateway, and what comes after them does.
    sqlx::query(
        "INSERT INTO plan_versions (id, plan_id, version, currency, cadence, rate_limits, quotas, billable, created_at)
         VALUES ($1, $2, 2, 'EUR', 'month', '[]', '[]', '{}', now())",
    )
    .bind(Uuid::from_u128(1))
    .bind(world.plan.uuid())
    .execute(&portal.app.pool)
    .await
    .unwrap();
    sqlx::query("UPDATE services SET upstream_url = 'no address'").execute(&portal.app.pool).await.unwrap();
    sqlx::query("UPDATE routes SET retired_at = now()").execute(&portal.app.pool).await.unwrap();
    let (entries, _) = watch.until_synced().await;
    assert_eq!(kinds(&entries), [EntryKind::Route]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_gateway_resumes_where_it_was_and_starts_anew_from_what_is_unknown(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 100).await;
    let gateway = gateway(&portal, "one", None).await;
    publish_all(&portal).await;
    start_publishing(&portal);
    let mut watch = gateway.watch(&portal, "").await;
    let Some(PolicyEvent::Snapshot { epoch, .. }) = watch.next_news().await else { panic!("no snapshot") };
    let (_, generation) = watch.until_synced().await;
    drop(watch);
    sqlx::query("UPDATE api_keys SET revoked_at = now() WHERE id = $1").bind(world.key.uuid()).execute(&portal.app.pool).await.unwrap();
    let mut watch = gateway.watch(&portal, &format!("?epoch={epoch}&generation={generation}&version=1")).await;
    assert!(matches!(watch.next_news().await, Some(PolicyEvent::Resume { .. })));
    let mut entries = Vec::new();
    while entries.is_empty() {
        entries.extend(watch.until_synced().await.0);
    }
    assert_eq!(entries.len(), 1, "only what changed: {entries:?}");
    // A generation that does not exist yet, and an epoch of another database, get a snapshot. It leaves out what is gone.
    for query in [format!("?epoch={epoch}&generation={}", generation + 1000), format!("?epoch={}&generation=1", Uuid::from_u128(7))] {
        let mut watch = gateway.watch(&portal, &query).await;
        assert!(matches!(watch.next_news().await, Some(PolicyEvent::Snapshot { .. })), "{query}");
        let (entries, _) = watch.until_synced().await;
        assert!(entries.iter().all(|entry| entry.body.is_some() && entry.id.kind != EntryKind::ApiKey), "{entries:?}");
        assert_eq!(entries.len(), 5);
    }
    // A restored database ends the stream, so that the gateway comes again.
    let mut watch = gateway.watch(&portal, "").await;
    watch.until_synced().await;
    sqlx::query("UPDATE policy_state SET epoch = gen_random_uuid()").execute(&portal.app.pool).await.unwrap();
    assert_eq!(watch.next_news().await, None);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_scoped_gateway_sees_its_namespaces_only(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 100).await;
    let other = portal.tenant("Other", &[]).await;
    sqlx::query("INSERT INTO applications (tenant_id, id, name, created_at) VALUES ($1, $2, 'Shop', now())")
        .bind(other.uuid())
        .bind(world.application.uuid())
        .execute(&portal.app.pool)
        .await
        .unwrap();
    let foreign = ApiKeyId::new();
    insert_key(&portal.app.pool, other, world.application, foreign).await;
    let scoped = gateway(&portal, "scoped", Some(vec![NamespaceId::of(other)])).await;
    publish_all(&portal).await;
    start_publishing(&portal);
    let mut watch = scoped.watch(&portal, "").await;
    let (entries, _) = watch.until_synced().await;
    let keys: Vec<_> = entries.iter().filter(|entry| entry.id.kind == EntryKind::ApiKey).map(|entry| entry.id.id).collect();
    assert_eq!(keys, [foreign.uuid()]);
    assert!(entries.iter().all(|entry| entry.id.kind != EntryKind::Subscription));
    // A change of another namespace moves the generation and nothing else; a deleted key of its own is a tombstone.
    sqlx::query("UPDATE api_keys SET revoked_at = now() WHERE id = $1").bind(world.key.uuid()).execute(&portal.app.pool).await.unwrap();
    let (entries, _) = watch.until_synced().await;
    assert_eq!(entries, []);
    sqlx::query("DELETE FROM api_keys WHERE id = $1").bind(foreign.uuid()).execute(&portal.app.pool).await.unwrap();
    let (entries, _) = watch.until_synced().await;
    assert_eq!((entries[0].id.id, &entries[0].body), (foreign.uuid(), &None));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_revoked_gateway_is_cut_off_and_strangers_get_nothing(pool: PgPool) {
    let portal = Portal::new(pool);
    let one = gateway(&portal, "one", None).await;
    publish_all(&portal).await;
    let mut watch = one.watch(&portal, "").await;
    watch.until_synced().await;
    let mut tx = portal.app.begin().await.unwrap();
    gateways::revoke(&mut tx, &Actor::system(), one.id, portal.now()).await.unwrap();
    tx.commit().await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(3), async { while watch.next().await.is_some() {} });
    ended.await.expect("the stream ends within three seconds");
    for credential in [one.credential.as_str(), "", "tk_gway_garbage", "tk_live_07ELSZgnu18FMTahov29GNUbipw3AHOV0NjM5q"] {
        let stranger = world::TestGateway { credential: credential.into(), ..one.clone() };
        for (path, body) in [("/control/v1/usage", "{}"), ("/control/v1/leases", "{}"), ("/control/v1/status", "{}")] {
            let (status, problem) = stranger.post_bytes(&portal, path, body.into(), None).await;
            assert_eq!(
                (status, problem["type"].as_str()),
                (401, Some("urn:tollkeeper:problem:unauthenticated")),
                "{path} with {credential}"
            );
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_rotated_credential_overlaps_as_long_as_asked(pool: PgPool) {
    let portal = Portal::new(pool);
    let one = gateway(&portal, "one", None).await;
    let mut tx = portal.app.begin().await.unwrap();
    let issued = gateways::rotate(&mut tx, &Actor::system(), one.id, Duration::from_secs(60), portal.now()).await.unwrap();
    tx.commit().await.unwrap();
    let allowed = async |credential: &str| {
        let mut tx = portal.app.begin().await.unwrap();
        gateways::authenticate(&mut tx, credential, portal.now()).await.is_ok()
    };
    assert!(allowed(&one.credential).await && allowed(issued.credential.reveal()).await);
    portal.clock.advance(Duration::from_secs(60));
    assert!(!allowed(&one.credential).await && allowed(issued.credential.reveal()).await);
}

/// P2: writers race, some hold their transaction open long after later ones have committed, some roll back, and two publishers take turns. A watcher
/// that follows all the time ends with exactly what the tables hold, and no change waits for somebody else's open transaction.
#[sqlx::test(migrations = "../migrations")]
async fn no_change_is_skipped_or_held_back(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 100).await;
    publish_all(&portal).await;
    let gateway = gateway(&portal, "one", None).await;
    start_publishing(&portal);
    // A second process: it stands by.
    let second = Portal::new(portal.app.pool.clone());
    start_publishing(&second);
    let mut watch = gateway.watch(&portal, "").await;
    let (entries, _) = watch.until_synced().await;
    let mut known: BTreeMap<_, _> = entries.into_iter().filter(|entry| entry.body.is_some()).map(|entry| (entry.id, entry.body)).collect();

    // A long transaction takes the lowest number in the outbox and commits last.
    let mut long = portal.app.begin().await.unwrap();
    let late = ApiKeyId::new();
    sqlx::query("UPDATE api_keys SET mode = 'test' WHERE id = $1").bind(world.key.uuid()).execute(&mut *long).await.unwrap();
    insert_on(&mut long, &world, late).await;

    let mut writers = Vec::new();
    for writer in 0..4_u32 {
        let (pool, world) = (portal.app.pool.clone(), world.clone());
        writers.push(tokio::spawn(async move {
            for step in 0..25_u32 {
                let mut tx = pool.begin().await.unwrap();
                let id = ApiKeyId::new();
                insert_on(&mut tx, &world, id).await;
                match (writer + step) % 5 {
                    0 => tx.rollback().await.unwrap(),
                    1 => {
                        tokio::time::sleep(Duration::from_millis(7)).await;
                        tx.commit().await.unwrap();
                        sqlx::query("UPDATE api_keys SET revoked_at = now() WHERE id = $1").bind(id.uuid()).execute(&pool).await.unwrap();
                    }
                    2 => {
                        tx.commit().await.unwrap();
                        sqlx::query("DELETE FROM api_keys WHERE id = $1").bind(id.uuid()).execute(&pool).await.unwrap();
                    }
                    _ => tx.commit().await.unwrap(),
                }
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    // The writers' changes arrive although the long transaction is open.
    follow_until(&mut watch, &mut known, &portal, "the long transaction is open").await;
    assert!(!known.contains_key(&EntryId { kind: EntryKind::ApiKey, id: late.uuid() }));
    long.commit().await.unwrap();
    follow_until(&mut watch, &mut known, &portal, "everything is committed").await;
    assert!(known.contains_key(&EntryId { kind: EntryKind::ApiKey, id: late.uuid() }));
    let Some(EntryBody::ApiKey(key)) = &known[&EntryId { kind: EntryKind::ApiKey, id: world.key.uuid() }] else { panic!("no key") };
    assert_eq!(key.mode, gateway_control::usage::Mode::Test);

    // The leader goes; the one that stood by takes over.
    portal.app.shutdown.cancel();
    let mut watch = gateway.watch(&second, "").await;
    let (entries, _) = watch.until_synced().await;
    let mut known: BTreeMap<_, _> = entries.into_iter().filter(|entry| entry.body.is_some()).map(|entry| (entry.id, entry.body)).collect();
    world.add_key(&second, ApiKeyId::new()).await;
    follow_until(&mut watch, &mut known, &second, "the second process leads").await;
}

async fn insert_on(tx: &mut portal::db::Tx, world: &World, id: ApiKeyId) {
    sqlx::query(
        "INSERT INTO api_keys (tenant_id, id, application_id, name, mode, digest, hint, created_at)
         VALUES ($1, $2, $3, 'key', 'live', sha256($4), 'abcd', now())",
    )
    .bind(world.tenant.uuid())
    .bind(id.uuid())
    .bind(world.application.uuid())
    .bind(id.bytes().to_vec())
    .execute(&mut **tx)
    .await
    .unwrap();
}

/// Applies changes until the live keys are those of the table.
async fn follow_until(watch: &mut world::Watch, known: &mut BTreeMap<EntryId, Option<EntryBody>>, portal: &Portal, when: &str) {
    let wanted: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM api_keys WHERE revoked_at IS NULL ORDER BY id").fetch_all(&portal.app.pool).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let have: Vec<Uuid> = known.keys().filter(|id| id.kind == EntryKind::ApiKey).map(|id| id.id).collect();
        let modes_agree = modes_agree(known, portal).await;
        if have == wanted && modes_agree {
            return;
        }
        let Ok((entries, _)) = tokio::time::timeout_at(deadline, watch.until_synced()).await else {
            panic!("{when}: {} keys are known and {} are there; modes agree: {modes_agree}", have.len(), wanted.len());
        };
        for entry in entries {
            match entry.body {
                Some(body) => known.insert(entry.id, Some(body)),
                None => known.remove(&entry.id),
            };
        }
    }
}

async fn modes_agree(known: &BTreeMap<EntryId, Option<EntryBody>>, portal: &Portal) -> bool {
    let test_keys: i64 = sqlx::query_scalar("SELECT count(*) FROM api_keys WHERE mode = 'test' AND revoked_at IS NULL")
        .fetch_one(&portal.app.pool)
        .await
        .unwrap();
    let known =
        known.values().filter(|body| matches!(body, Some(EntryBody::ApiKey(key)) if key.mode == gateway_control::usage::Mode::Test));
    i64::try_from(known.count()).unwrap() == test_keys
}

/// Two rounds at once, without the leader's lock, still number every entry once: the second waits for the first.
#[sqlx::test(migrations = "../migrations")]
async fn even_two_publishers_take_turns(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 100).await;
    for _ in 0..200 {
        world.add_key(&portal, ApiKeyId::new()).await;
    }
    let rounds = (0..4).map(|_| {
        let pool = portal.app.pool.clone();
        tokio::spawn(async move {
            let mut connection = pool.acquire().await.unwrap().detach();
            while publish::round(&mut connection, &settings(), 10).await.unwrap().is_some() {}
            connection.close().await.unwrap();
        })
    });
    for round in rounds.collect::<Vec<_>>() {
        round.await.unwrap();
    }
    let (entries, newest, state): (i64, i64, i64) =
        sqlx::query_as("SELECT count(*), max(e.generation), max(s.generation) FROM policy_entries e, policy_state s")
            .fetch_one(&portal.app.pool)
            .await
            .unwrap();
    assert_eq!((entries, newest, state), (205, 205, 205));
}

fn settings() -> SettingsFacts {
    SettingsFacts { portal_origin: "http://127.0.0.1:8080".into(), upgrade_url: "http://127.0.0.1:8080/pricing".into() }
}

/// Publishes all that is committed, settings included, so that a test starts from a known place.
async fn publish_all(portal: &Portal) {
    sqlx::query("INSERT INTO policy_outbox (kind, entity_id) VALUES ('settings', $1)")
        .bind(Uuid::nil())
        .execute(&portal.app.pool)
        .await
        .unwrap();
    let mut connection = portal.app.pool.acquire().await.unwrap();
    while publish::round(&mut connection, &settings(), 1000).await.unwrap().is_some() {}
}
