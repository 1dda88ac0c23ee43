//! `POST /control/v1/leases` (SEMANTICS Q2 to Q6).

use std::collections::BTreeMap;

use gateway_control::{
    lease::{LeaseExchange, LeaseGrant, LeaseGrants, LeaseWant, QuotaSlot},
    units::Micros,
};
use ids::{JournalId, NamespaceId, SubscriptionId, TenantId};
use portal::entitlements;
use proptest::{
    prelude::{Strategy, any},
    strategy::ValueTree,
    test_runner::TestRunner,
};
use sqlx::PgPool;

use crate::{
    support::Portal,
    world::{TestGateway, World, batch, gateway},
};

const LEASES: &str = "/control/v1/leases";

fn slot(world: &World) -> QuotaSlot {
    QuotaSlot {
        namespace: world.namespace(),
        subscription: world.subscription,
        meter: world.meter,
        period_start: "2026-03-01T00:00:00Z".parse().unwrap(),
    }
}

fn ask(journal: JournalId, exchange: u64, slot: QuotaSlot, want: i64, give_back: i64) -> LeaseExchange {
    let give_back = Micros::units(give_back);
    let want = LeaseWant { slot, want: Micros::units(want), needed: Micros(0), give_back, held: Micros(0), declared: None };
    LeaseExchange { format: gateway_control::FORMAT, journal_id: journal, exchange, slots: vec![want], run: None, ledger_epoch: None }
}

async fn exchange(portal: &Portal, gateway: &TestGateway, ask: &LeaseExchange) -> LeaseGrant {
    let (status, answer) = gateway.post(portal, LEASES, ask).await;
    assert_eq!(status, 200, "{answer}");
    let grants: LeaseGrants = serde_json::from_value(answer).unwrap();
    assert_eq!(grants.exchange, ask.exchange);
    grants.grants[0]
}

#[sqlx::test(migrations = "../migrations")]
async fn the_same_exchange_gets_the_same_answer_and_an_older_one_none(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 100).await;
    let one = gateway(&portal, "one", None).await;
    let first = exchange(&portal, &one, &ask(one.journal, 7, slot(&world), 10, 0)).await;
    assert_eq!((first.granted, first.limit, first.used), (Micros::units(10), Micros::units(100), Micros(0)));
    assert_eq!(exchange(&portal, &one, &ask(one.journal, 7, slot(&world), 10, 0)).await, first);
    let granted: String = sqlx::query_scalar("SELECT granted::text FROM quota_leases").fetch_one(&portal.app.pool).await.unwrap();
    assert_eq!(granted, "10", "the second answer granted nothing more");
    let (status, problem) = one.post(&portal, LEASES, &ask(one.journal, 6, slot(&world), 10, 0)).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains('7'), "it says where to go on: {problem}");
    // Another gateway cannot speak for this journal, nor for a namespace that it does not serve.
    let two = gateway(&portal, "two", Some(vec![NamespaceId::of(portal.tenant("Other", &[]).await)])).await;
    assert_eq!(two.post(&portal, LEASES, &ask(two.journal, 1, slot(&world), 1, 0)).await.0, 403);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_last_unit_is_reached_when_others_give_back(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 10).await;
    let (one, two) = (gateway(&portal, "one", None).await, gateway(&portal, "two", None).await);
    // Each takes what it gets, until nothing is free.
    let mut held = [0, 0];
    for number in 1..=20 {
        for (index, gateway) in [&one, &two].into_iter().enumerate() {
            held[index] += exchange(&portal, gateway, &ask(gateway.journal, number, slot(&world), 5, 0)).await.granted.0;
        }
    }
    assert_eq!(held[0] + held[1], Micros::units(10).0, "down to the last unit");
    let empty = exchange(&portal, &one, &ask(one.journal, 21, slot(&world), 1, 0)).await;
    assert_eq!(empty.granted, Micros(0));
    assert_eq!(empty.elsewhere.0, held[1]);
    assert!(!empty.used_up(), "what the other holds may come back");
    let give_back = i64::try_from(held[1] / 1_000_000).unwrap();
    exchange(&portal, &two, &ask(two.journal, 21, slot(&world), 0, give_back)).await;
    let mut got = held[0];
    for number in 22..40 {
        got += exchange(&portal, &one, &ask(one.journal, number, slot(&world), 5, 0)).await.granted.0;
    }
    assert_eq!(got, Micros::units(10).0);
    let end = exchange(&portal, &one, &ask(one.journal, 40, slot(&world), 1, 0)).await;
    assert!(end.used_up(), "{end:?}");
    // Nothing can be given back twice.
    exchange(&portal, &two, &ask(two.journal, 22, slot(&world), 0, give_back)).await;
    assert!(exchange(&portal, &one, &ask(one.journal, 41, slot(&world), 1, 0)).await.used_up());
    // Nor does that hide what is granted afterwards.
    exchange(&portal, &one, &ask(one.journal, 42, slot(&world), 0, 1)).await;
    assert_eq!(exchange(&portal, &two, &ask(two.journal, 23, slot(&world), 1, 0)).await.granted, Micros::units(1));
    let full = exchange(&portal, &one, &ask(one.journal, 43, slot(&world), 1, 0)).await;
    assert_eq!((full.granted, full.elsewhere), (Micros(0), Micros::units(1)));
}

#[sqlx::test(migrations = "../migrations")]
async fn usage_proves_leases_and_lapsed_ones_stay_spent_until_then(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 8).await;
    let (one, two) = (gateway(&portal, "one", None).await, gateway(&portal, "two", None).await);
    let lease = exchange(&portal, &one, &ask(one.journal, 1, slot(&world), 4, 0)).await;
    assert_eq!((lease.granted, lease.lasts_ms), (Micros::units(4), 60_000));
    // The gateway dies. Its lease ends, and what it held may have been spent: nobody is granted it.
    portal.clock.advance(std::time::Duration::from_secs(120));
    let mut got = 0;
    for number in 1..10 {
        got += exchange(&portal, &two, &ask(two.journal, number, slot(&world), 8, 0)).await.granted.0;
    }
    assert_eq!(got, Micros::units(4).0);
    let answer = exchange(&portal, &two, &ask(two.journal, 10, slot(&world), 1, 0)).await;
    assert_eq!((answer.granted, answer.elsewhere), (Micros(0), Micros::units(4)));
    assert!(!answer.used_up());
    // Its journal arrives: three calls were made, one of them not billable. The rest it gives back.
    let rows = vec![world.row(&portal, 2, 200), world.row(&portal, 1, 500)];
    assert_eq!(one.post(&portal, "/control/v1/usage", &batch(one.journal, 0, 0, 0, rows)).await.0, 200);
    exchange(&portal, &one, &ask(one.journal, 2, slot(&world), 0, 2)).await;
    let mut got = 0;
    for number in 11..20 {
        got += exchange(&portal, &two, &ask(two.journal, number, slot(&world), 8, 0)).await.granted.0;
    }
    assert_eq!(got, Micros::units(2).0);
    let mut tx = portal.app.begin().await.unwrap();
    let status = entitlements::quota_status(&mut tx, world.tenant, world.subscription, portal.now()).await.unwrap();
    assert_eq!((status[0].used, status[0].held, status[0].limit), (Micros::units(2), Micros::units(6), Micros::units(8)));
    assert_eq!((status[0].meter_name.as_str(), status[0].percent_used(), status[0].remaining()), ("Calls", 25, Micros::units(6)));
    assert_eq!(status[0].period.to, "2026-04-01T00:00:00Z".parse().unwrap());
}

#[sqlx::test(migrations = "../migrations")]
async fn what_cannot_be_leased_is_never_called_used_up(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 10).await;
    let one = gateway(&portal, "one", None).await;
    let good = slot(&world);
    let mut number = 0;
    let mut answer = async |slot: QuotaSlot| {
        number += 1;
        exchange(&portal, &one, &ask(one.journal, number, slot, 1, 0)).await
    };
    for odd in [
        QuotaSlot { subscription: SubscriptionId::new(), ..good },
        QuotaSlot { period_start: "2026-03-02T00:00:00Z".parse().unwrap(), ..good },
        QuotaSlot { period_start: "2026-04-01T00:00:00Z".parse().unwrap(), ..good },
        QuotaSlot { period_start: "2026-02-01T00:00:00Z".parse().unwrap(), ..good },
    ] {
        let grant = answer(odd).await;
        assert_eq!(grant.granted, Micros(0), "{odd:?}");
        assert!(!grant.used_up(), "{odd:?}");
    }
    sqlx::query("UPDATE subscriptions SET state = 'paused'").execute(&portal.app.pool).await.unwrap();
    let grant = answer(good).await;
    assert!(grant.granted == Micros(0) && !grant.used_up());
    // A soft quota never denies and is not kept in leases.
    sqlx::query("UPDATE subscriptions SET state = 'active'").execute(&portal.app.pool).await.unwrap();
    sqlx::query("UPDATE plan_versions SET quotas = jsonb_set(quotas, '{0,enforcement}', '\"soft\"')")
        .execute(&portal.app.pool)
        .await
        .unwrap();
    assert_eq!(answer(good).await.granted, Micros::units(1));
    let leases: i64 = sqlx::query_scalar("SELECT count(*) FROM quota_leases").fetch_one(&portal.app.pool).await.unwrap();
    assert_eq!(leases, 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_lowered_limit_and_an_edited_plan_keep_what_was_used(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 10).await;
    let one = gateway(&portal, "one", None).await;
    let rows = vec![world.row(&portal, 6, 200)];
    assert_eq!(one.post(&portal, "/control/v1/usage", &batch(one.journal, 0, 0, 0, rows)).await.0, 200);
    sqlx::query("UPDATE plan_versions SET quotas = jsonb_set(quotas, '{0,limit_microunits}', '5000000')")
        .execute(&portal.app.pool)
        .await
        .unwrap();
    let lowered = exchange(&portal, &one, &ask(one.journal, 1, slot(&world), 1, 0)).await;
    assert!(lowered.used_up(), "{lowered:?}");
    assert_eq!((lowered.used, lowered.limit), (Micros::units(6), Micros::units(5)));
    sqlx::query("UPDATE plan_versions SET quotas = jsonb_set(quotas, '{0,limit_microunits}', '7000000')")
        .execute(&portal.app.pool)
        .await
        .unwrap();
    assert_eq!(exchange(&portal, &one, &ask(one.journal, 2, slot(&world), 5, 0)).await.granted, Micros::units(1));
}

/// What a gateway of the race does next.
#[derive(Debug, Clone, Copy)]
struct Step {
    want: u8,
    spend: u8,
    give_back: bool,
    twice: bool,
}

fn steps() -> Vec<Vec<Step>> {
    // What was drawn is printed, so that a failure can be seen again.
    let mut runner = TestRunner::default();
    let step = (any::<u8>(), any::<u8>(), any::<bool>(), any::<bool>()).prop_map(|(want, spend, give_back, twice)| Step {
        want: want % 12,
        spend: spend % 6,
        give_back,
        twice,
    });
    let gateways = proptest::collection::vec(proptest::collection::vec(step, 25), 5).new_tree(&mut runner).unwrap();
    let steps = gateways.current();
    println!("steps: {steps:?}");
    steps
}

/// Five gateways race for one quota: they ask, spend, give back, send exchanges twice, and ship usage, all at once. What they spent together never
/// passes the limit, and in the end what is used and what is free make up the whole.
#[sqlx::test(migrations = "../migrations")]
async fn racing_gateways_never_pass_the_limit(pool: PgPool) {
    let portal = Portal::new(pool);
    let limit = 60;
    let world = World::new(&portal, limit).await;
    let mut tasks = Vec::new();
    for (index, steps) in steps().into_iter().enumerate() {
        let gateway = gateway(&portal, &format!("gateway {index}"), None).await;
        let portal = Portal { app: portal.app.clone(), clock: portal.clock.clone(), router: portal.router.clone() };
        tasks.push(tokio::spawn(race(portal, world.clone(), gateway, steps)));
    }
    let mut spent = BTreeMap::new();
    for (index, task) in tasks.into_iter().enumerate() {
        spent.insert(index, task.await.unwrap());
    }
    let total: i64 = spent.values().sum();
    assert!(total <= limit, "{spent:?}");
    // Everybody has given back and shipped: one more gateway can have all the rest, to the last unit.
    let last = gateway(&portal, "last", None).await;
    let mut rest = 0;
    for number in 1..100 {
        rest += exchange(&portal, &last, &ask(last.journal, number, slot(&world), 100, 0)).await.granted.0;
    }
    assert_eq!(Micros::units(total).0 + rest, Micros::units(limit).0);
    let used: String = sqlx::query_scalar("SELECT used::text FROM quota_ledger").fetch_one(&portal.app.pool).await.unwrap();
    assert_eq!(used, total.to_string());
}

async fn race(portal: Portal, world: World, gateway: TestGateway, steps: Vec<Step>) -> i64 {
    let (mut held, mut spent, mut number) = (0_i64, 0_i64, 0);
    let mut seq = 0;
    for step in steps {
        let give_back = if step.give_back { held } else { 0 };
        held -= give_back;
        number += 1;
        let ask = ask(gateway.journal, number, slot(&world), i64::from(step.want), give_back);
        let grant = exchange(&portal, &gateway, &ask).await;
        if step.twice {
            assert_eq!(exchange(&portal, &gateway, &ask).await, grant);
        }
        held += i64::try_from(grant.granted.0 / 1_000_000).unwrap();
        let calls = held.min(i64::from(step.spend));
        held -= calls;
        if calls > 0 {
            let calls = u64::try_from(calls).unwrap();
            let row = world.row(&portal, calls, 200);
            let (status, answer) =
                gateway.post(&portal, "/control/v1/usage", &batch(gateway.journal, 0, seq, u64::try_from(spent).unwrap(), vec![row])).await;
            assert_eq!(status, 200, "{answer}");
            seq += 1;
            spent += i64::try_from(calls).unwrap();
        }
    }
    exchange(&portal, &gateway, &ask(gateway.journal, number + 1, slot(&world), 0, held)).await;
    spent
}

/// A subscription of another tenant is not found, though it exists.
#[sqlx::test(migrations = "../migrations")]
async fn a_slot_names_the_namespace_of_its_subscription(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 10).await;
    let one = gateway(&portal, "one", None).await;
    let foreign = QuotaSlot { namespace: NamespaceId::of(TenantId::new()), ..slot(&world) };
    let grant = exchange(&portal, &one, &ask(one.journal, 1, foreign, 1, 0)).await;
    assert!(grant.granted == Micros(0) && !grant.used_up());
}
