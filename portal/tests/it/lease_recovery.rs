//! Leases after things went wrong (SEMANTICS Q2, Q3, Q6, M4): recalls, restarts, write-offs, a restored database, grants of operators.

use std::time::Duration;

use gateway_control::{
    lease::{DeclaredUnits, LeaseExchange, LeaseGrant, LeaseGrants, LeaseRun, LeaseWant, QuotaSlot},
    units::Micros,
    usage::SegmentRun,
};
use ids::Uuid;
use portal::{
    entitlements::{self, GrantUnits, WriteOff},
    identity::Actor,
    reconciliation,
};
use serde_json::json;
use sqlx::PgPool;

use crate::{
    support::Portal,
    world::{TestGateway, World, batch, gateway},
};

const LEASES: &str = "/control/v1/leases";
const USAGE: &str = "/control/v1/usage";

fn slot(world: &World) -> QuotaSlot {
    QuotaSlot {
        namespace: world.namespace(),
        subscription: world.subscription,
        meter: world.meter,
        period_start: "2026-03-01T00:00:00Z".parse().unwrap(),
    }
}

/// A gateway that declares, as the real one does.
struct Declarer<'a> {
    gateway: &'a TestGateway,
    number: u64,
    run: LeaseRun,
    epoch: Option<Uuid>,
    granted: i64,
    given_back: i64,
    finished: i64,
}

impl<'a> Declarer<'a> {
    /// A start of its process at these segments, after so many exchanges.
    fn starts(gateway: &'a TestGateway, number: u64, first_seqs: Vec<(u16, u64)>) -> Self {
        let run = LeaseRun { number, first_seqs };
        Self { gateway, number, run, epoch: None, granted: 0, given_back: 0, finished: 0 }
    }

    async fn exchange(&mut self, portal: &Portal, slot: QuotaSlot, needed: i64) -> LeaseGrant {
        self.number += 1;
        let unit = Micros::units;
        let declared = DeclaredUnits {
            granted: unit(self.granted),
            given_back: unit(self.given_back),
            exposed: Micros(0),
            finished: unit(self.finished),
        };
        let held = unit(self.granted - self.given_back - self.finished);
        let want = LeaseWant { slot, want: unit(needed), needed: unit(needed), give_back: Micros(0), held, declared: Some(declared) };
        let exchange = LeaseExchange {
            format: gateway_control::FORMAT,
            journal_id: self.gateway.journal,
            exchange: self.number,
            slots: vec![want],
            run: Some(self.run.clone()),
            ledger_epoch: self.epoch,
        };
        let (status, answer) = self.gateway.post(portal, LEASES, &exchange).await;
        assert_eq!(status, 200, "{answer}");
        let grants: LeaseGrants = serde_json::from_value(answer).unwrap();
        self.epoch = Some(grants.ledger_epoch);
        self.granted += grants.grants[0].granted.clamped() / 1_000_000;
        grants.grants[0]
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn idle_leases_are_recalled_while_a_call_waits(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 10).await;
    let (one, two) = (gateway(&portal, "one", None).await, gateway(&portal, "two", None).await);
    let mut recalls = portal.app.recalls.watch();
    tokio::spawn(entitlements::follow_recalls(portal.app.clone()));
    let (mut one, mut two) = (Declarer::starts(&one, 1, vec![]), Declarer::starts(&two, 1, vec![]));
    assert_eq!(one.exchange(&portal, slot(&world), 10).await.granted, Micros::units(10));
    let heard = async {
        loop {
            portal.clock.advance(Duration::from_millis(100));
            let empty = two.exchange(&portal, slot(&world), 1).await;
            assert_eq!((empty.granted, empty.elsewhere, empty.outstanding), (Micros(0), Micros::units(10), Some(Micros(0))));
            // The listener may not listen yet: then the ledger recalls again.
            if let Ok(recalled) = tokio::time::timeout(Duration::from_millis(200), recalls.recv()).await {
                break recalled.unwrap();
            }
        }
    };
    let recalled = tokio::time::timeout(Duration::from_secs(20), heard).await.expect("a recall is heard");
    assert_eq!(recalled, slot(&world));
    (one.given_back, one.finished) = (9, 1);
    assert_eq!(one.exchange(&portal, slot(&world), 0).await.outstanding, Some(Micros::units(1)));
    assert_eq!(two.exchange(&portal, slot(&world), 9).await.granted, Micros::units(9));
    // The last unit is spent, though its usage is still on its way: nothing can come back.
    assert!(two.exchange(&portal, slot(&world), 1).await.used_up() || two.granted == 10);
    two.finished = 9;
    assert!(two.exchange(&portal, slot(&world), 1).await.used_up());
}

#[sqlx::test(migrations = "../migrations")]
async fn a_restart_is_settled_when_the_journal_has_arrived(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 10).await;
    let (one, two) = (gateway(&portal, "one", None).await, gateway(&portal, "two", None).await);
    let mut before = Declarer::starts(&one, 1, vec![(0, 0)]);
    assert_eq!(before.exchange(&portal, slot(&world), 6).await.granted, Micros::units(6));
    // It spends four, is killed, and starts again: its first segment holds them.
    let mut after = Declarer::starts(&one, 5, vec![(0, 1)]);
    let again = after.exchange(&portal, slot(&world), 2).await;
    assert_eq!((again.granted, again.outstanding), (Micros::units(2), Some(Micros::units(8))));
    let mut other = Declarer::starts(&two, 1, vec![]);
    assert_eq!(other.exchange(&portal, slot(&world), 2).await.granted, Micros::units(2));
    let waits = other.exchange(&portal, slot(&world), 1).await;
    assert!(waits.granted == Micros(0) && !waits.used_up(), "{waits:?}");
    let mut old = batch(one.journal, 0, 0, 0, vec![world.row(&portal, 4, 200)]);
    old.run = Some(SegmentRun { number: 5, before: true });
    assert_eq!(one.post(&portal, USAGE, &old).await.0, 200);
    // Two of the six were not spent. What the second run holds is not touched by that.
    assert_eq!(other.exchange(&portal, slot(&world), 2).await.granted, Micros::units(2));
    (after.finished, other.finished) = (2, 4);
    after.exchange(&portal, slot(&world), 0).await;
    assert!(other.exchange(&portal, slot(&world), 1).await.used_up());
}

/// What the ledger takes for proven of a lease, is what was accepted since its gateway started; the comparison names what is not.
#[sqlx::test(migrations = "../migrations")]
async fn proof_of_leases_that_is_not_what_was_accepted_is_named(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 100).await;
    let one = gateway(&portal, "one", None).await;
    let compare = async || {
        portal.clock.advance(Duration::from_secs(10));
        assert!(reconciliation::compare(&portal.app, &Actor::system(), portal.now()).await.unwrap().finished);
        let mut tx = portal.app.begin().await.unwrap();
        reconciliation::differences(&mut tx, &Actor::system(), false, 10, 0).await.unwrap()
    };
    let ship = async |seq: u64, run: u64, before: bool, units: u64| {
        let mut sent = batch(one.journal, 0, seq, seq * 10, vec![world.row(&portal, units, 200)]);
        sent.run = Some(SegmentRun { number: run, before });
        assert_eq!(one.post(&portal, USAGE, &sent).await.0, 200);
    };
    let mut before = Declarer::starts(&one, 1, vec![(0, 0)]);
    before.exchange(&portal, slot(&world), 20).await;
    ship(0, 1, false, 4).await;
    assert_eq!(compare().await, []);
    let mut after = Declarer::starts(&one, 5, vec![(0, 2)]);
    // Usage proves the new run's lease before its gateway has spoken of it, and the old run's after that.
    ship(2, 5, false, 3).await;
    assert_eq!(compare().await, []);
    after.exchange(&portal, slot(&world), 5).await;
    ship(1, 5, true, 2).await;
    assert_eq!(compare().await, []);
    for (fault, proven) in [("proven - 1", 2), ("proven + 3", 5)] {
        let sql = format!("UPDATE quota_leases SET proven = {fault}");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&portal.app.pool).await.unwrap();
        let found = compare().await;
        let seen: Vec<_> = found.iter().map(|it| (it.kind, it.expected, it.found)).collect();
        assert_eq!(seen, [(reconciliation::Kind::LeaseProven, 3.into(), proven.into())]);
        assert_eq!((found[0].place.subscription, found[0].place.journal), (Some(world.subscription), Some(one.journal)));
        assert!(found[0].detail.contains(&format!("takes {proven} units of the lease of journal {}", one.journal)), "{}", found[0].detail);
    }
    sqlx::query("UPDATE quota_leases SET proven = 3").execute(&portal.app.pool).await.unwrap();
    assert_eq!(compare().await, []);
}

#[sqlx::test(migrations = "../migrations")]
async fn an_operator_writes_off_what_will_not_come_back(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 10).await;
    let (one, two) = (gateway(&portal, "one", None).await, gateway(&portal, "two", None).await);
    let mut gone = Declarer::starts(&one, 1, vec![]);
    assert_eq!(gone.exchange(&portal, slot(&world), 6).await.granted, Micros::units(6));
    let actor = Actor::system();
    let input = WriteOff { gateway: one.id, journal: one.journal, reason: "its disk burnt".into() };
    let mut tx = portal.app.begin().await.unwrap();
    let refused = entitlements::write_off(&mut tx, &actor, &input, portal.now()).await.unwrap_err();
    assert!(refused.public.contains("lives until"), "{refused:?}");
    let unsaid = WriteOff { reason: " ".into(), ..input.clone() };
    assert_eq!(entitlements::write_off(&mut tx, &actor, &unsaid, portal.now()).await.unwrap_err().fields[0].field, "reason");
    tx.rollback().await.unwrap();
    portal.clock.advance(Duration::from_secs(61));
    let mut tx = portal.app.begin().await.unwrap();
    let leases = entitlements::leases_of(&mut tx, &actor, one.id, portal.now()).await.unwrap();
    assert_eq!((leases[0].journal, leases[0].live, leases[0].presumed_spent), (one.journal, Micros(0), Micros::units(6)));
    assert_eq!(entitlements::presumed_spent(&mut tx, portal.now()).await.unwrap(), Micros::units(6));
    let written = entitlements::write_off(&mut tx, &actor, &input, portal.now()).await.unwrap();
    assert_eq!((written.quotas, written.units), (1, Micros::units(6)));
    assert_eq!(entitlements::leases_of(&mut tx, &actor, one.id, portal.now()).await.unwrap(), []);
    tx.commit().await.unwrap();
    let audited: i64 = sqlx::query_scalar("SELECT count(*) FROM audit_log WHERE action = 'gateway.leases_written_off'")
        .fetch_one(&portal.app.pool)
        .await
        .unwrap();
    let decided: String =
        sqlx::query_scalar("SELECT units || ' ' || reason FROM quota_decisions").fetch_one(&portal.app.pool).await.unwrap();
    assert_eq!((audited, decided.as_str()), (1, "6 its disk burnt"));
    let mut other = Declarer::starts(&two, 1, vec![]);
    assert_eq!(other.exchange(&portal, slot(&world), 10).await.granted, Micros::units(10));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_restored_ledger_grants_nothing_before_it_is_counted_again(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 10).await;
    let (one, two) = (gateway(&portal, "one", None).await, gateway(&portal, "two", None).await);
    let (mut one, mut two) = (Declarer::starts(&one, 1, vec![]), Declarer::starts(&two, 1, vec![]));
    two.exchange(&portal, slot(&world), 0).await;
    assert_eq!(one.exchange(&portal, slot(&world), 7).await.granted, Micros::units(7));
    // The backup does not know of that grant.
    for lost in ["DELETE FROM quota_leases", "DELETE FROM quota_exchanges", "UPDATE ledger_state SET epoch = gen_random_uuid()"] {
        sqlx::query(lost).execute(&portal.app.pool).await.unwrap();
    }
    // Leases of gateways that the backup does not know at all have ended by now.
    sqlx::query("UPDATE ledger_state SET restored_at = restored_at - interval '61 seconds'").execute(&portal.app.pool).await.unwrap();
    let stale = two.exchange(&portal, slot(&world), 10).await;
    assert!(stale.granted == Micros(0) && !stale.used_up(), "it named the old epoch: {stale:?}");
    let waits = two.exchange(&portal, slot(&world), 10).await;
    assert!(waits.granted == Micros(0) && !waits.used_up(), "the other has not declared: {waits:?}");
    let mut tx = portal.app.begin().await.unwrap();
    let leases = entitlements::leases_of(&mut tx, &Actor::system(), one.gateway.id, portal.now()).await.unwrap();
    assert!(leases[0].is_waited_for && leases[0].journal == one.gateway.journal, "{leases:?}");
    tx.rollback().await.unwrap();
    // The other hears of the new epoch, and declares its seven under it.
    one.exchange(&portal, slot(&world), 0).await;
    assert_eq!(one.exchange(&portal, slot(&world), 0).await.outstanding, Some(Micros::units(7)));
    assert_eq!(two.exchange(&portal, slot(&world), 3).await.granted, Micros::units(3));
    let none = two.exchange(&portal, slot(&world), 8).await;
    assert!(none.used_up(), "eight can never come back: {none:?}");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_reset_is_a_grant_with_actor_and_reason(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 10).await;
    let one = gateway(&portal, "one", None).await;
    assert_eq!(one.post(&portal, USAGE, &batch(one.journal, 0, 0, 0, vec![world.row(&portal, 10, 200)])).await.0, 200);
    let mut declarer = Declarer::starts(&one, 1, vec![]);
    assert!(declarer.exchange(&portal, slot(&world), 1).await.used_up());
    let grant = GrantUnits {
        tenant: world.tenant,
        subscription: world.subscription,
        meter: world.meter,
        units: Micros::units(10),
        reason: "a reset, as agreed".into(),
    };
    let mut tx = portal.app.begin().await.unwrap();
    entitlements::grant_units(&mut tx, &Actor::system(), &grant, portal.now()).await.unwrap();
    let status = entitlements::quota_status(&mut tx, world.tenant, world.subscription, portal.now()).await.unwrap();
    assert_eq!((status[0].used, status[0].limit, status[0].remaining()), (Micros::units(10), Micros::units(20), Micros::units(10)));
    tx.commit().await.unwrap();
    let granted = declarer.exchange(&portal, slot(&world), 10).await;
    assert_eq!((granted.granted, granted.limit, granted.used), (Micros::units(10), Micros::units(20), Micros::units(10)));
    let before_after: serde_json::Value = sqlx::query_scalar("SELECT after FROM audit_log WHERE action = 'subscription.quota_granted'")
        .fetch_one(&portal.app.pool)
        .await
        .unwrap();
    assert_eq!((&before_after["units"], &before_after["reason"]), (&json!("10"), &json!("a reset, as agreed")));
}
