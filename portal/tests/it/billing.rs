//! Closing periods, previews and the states of invoices (SEMANTICS B5, B6).

use std::{str::FromStr, time::Duration};

use calendar::Timestamp;
use gateway_control::usage::UsageRow;
use ids::{InvoiceId, RateCardId, SubscriptionId};
use portal::{
    billing::{self, Closed, InvoiceFilter, InvoiceState, invoice, job::close_due},
    error::Kind,
    identity::{Actor, Role},
};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    support::Portal,
    world::{World, batch, gateway},
};

fn at(text: &str) -> Timestamp {
    Timestamp::from_str(text).expect("a timestamp")
}

/// A world whose plan has these rate cards; `null` is a fixed fee, anything else counts calls.
async fn world(portal: &Portal, cards: &[(&str, bool, Value)]) -> World {
    let world = World::new(portal, 1_000_000).await;
    sqlx::query("UPDATE subscriptions SET started_at = $1, open_from = $1")
        .bind(at("2026-03-01T00:00:00Z"))
        .execute(&portal.app.pool)
        .await
        .expect("the subscription");
    for (position, (name, counts, terms)) in cards.iter().enumerate() {
        let mut terms = terms.clone();
        let price = terms.as_object_mut().and_then(|terms| terms.remove("price")).expect("a price");
        sqlx::query(
            "INSERT INTO rate_cards (id, plan_version_id, position, name, meter_id, price, terms) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(RateCardId::new().uuid())
        .bind(world.plan_version.uuid())
        .bind(i32::try_from(position).expect("few cards"))
        .bind(*name)
        .bind(counts.then(|| world.meter.uuid()))
        .bind(price)
        .bind(terms)
        .execute(&portal.app.pool)
        .await
        .expect("a rate card");
    }
    world
}

fn fee_and_calls() -> Vec<(&'static str, bool, Value)> {
    vec![
        ("Base fee", false, json!({ "price": { "type": "flat", "amount": "31" } })),
        ("Calls", true, json!({ "price": { "type": "unit", "unit_amount": "0.01" }, "free_units": "100" })),
    ]
}

async fn add_subscription(portal: &Portal, world: &World) -> SubscriptionId {
    let id = SubscriptionId::new();
    sqlx::query(
        "INSERT INTO subscriptions (tenant_id, id, application_id, plan_version_id, state, anchor_date, time_zone, started_at, open_from)
         VALUES ($1, $2, $3, $4, 'active', '2026-03-01', 'UTC', $5, $5)",
    )
    .bind(world.tenant.uuid())
    .bind(id.uuid())
    .bind(world.application.uuid())
    .bind(world.plan_version.uuid())
    .bind(at("2026-03-01T00:00:00Z"))
    .execute(&portal.app.pool)
    .await
    .expect("a subscription");
    id
}

async fn ship(portal: &Portal, rows: Vec<UsageRow>) {
    let name = format!("gateway {}", InvoiceId::new());
    let gateway = gateway(portal, &name, None).await;
    let (status, answer) = gateway.post(portal, "/control/v1/usage", &batch(gateway.journal, 0, 0, 0, rows)).await;
    assert_eq!(status, 200, "{answer}");
}

async fn invoices(portal: &Portal) -> Vec<billing::Invoice> {
    let mut tx = portal.app.begin().await.expect("a transaction");
    invoice::list(&mut tx, &Actor::system(), InvoiceFilter::default(), 200, 0).await.expect("invoices").invoices
}

async fn close(portal: &Portal, world: &World, now: Timestamp) -> Closed {
    let mut tx = portal.app.begin().await.expect("a transaction");
    let closed = billing::close_next(&mut tx, &Actor::system(), world.tenant, world.subscription, now).await.expect("a close");
    portal.app.commit(tx).await.expect("a commit");
    closed
}

fn assert_gapless(invoices: &[billing::Invoice]) {
    let mut numbers: Vec<i64> = invoices.iter().map(|invoice| invoice.number.expect("a finalized invoice has a number")).collect();
    numbers.sort_unstable();
    let expected: Vec<i64> = (1..).take(numbers.len()).collect();
    assert_eq!(numbers, expected);
}

#[sqlx::test(migrations = "../migrations")]
async fn four_workers_close_each_period_once_and_numbers_have_no_gaps(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal, &fee_and_calls()).await;
    for _ in 0..5 {
        add_subscription(&portal, &world).await;
    }
    let now = at("2026-06-01T01:00:00Z");
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let app = portal.app.clone();
            tokio::spawn(async move { close_due(&app, &Actor::system(), now).await.expect("a worker") })
        })
        .collect();
    let mut issued = 0;
    for worker in workers {
        issued += worker.await.expect("a worker");
    }
    let all = invoices(&portal).await;
    assert_eq!((issued, all.len()), (6 * 3, 6 * 3), "March, April and May of six subscriptions");
    assert_gapless(&all);
    assert_eq!(close_due(&portal.app, &Actor::system(), now).await.expect("a look"), 0, "nothing is left");
}

/// Workers that die at random leave neither invoices nor gaps behind.
#[sqlx::test(migrations = "../migrations")]
async fn transactions_that_roll_back_give_their_numbers_back(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal, &fee_and_calls()).await;
    let mut subscriptions = vec![world.subscription];
    for _ in 0..3 {
        subscriptions.push(add_subscription(&portal, &world).await);
    }
    let mut seed = 0;
    getrandom::fill(std::slice::from_mut(&mut seed)).expect("randomness");
    println!("seed {seed}");
    let now = at("2026-08-01T01:00:00Z");
    let workers: Vec<_> = (0..4_u64)
        .map(|worker| {
            let (app, tenant, subscriptions) = (portal.app.clone(), world.tenant, subscriptions.clone());
            tokio::spawn(async move {
                let mut state = u64::from(seed) * 4 + worker + 1;
                for _ in 0..25 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let subscription = subscriptions[usize::try_from(state >> 33).expect("an index") % subscriptions.len()];
                    let mut tx = app.begin().await.expect("a transaction");
                    billing::close_next(&mut tx, &Actor::system(), tenant, subscription, now).await.expect("a close");
                    if (state >> 60).is_multiple_of(3) {
                        tx.rollback().await.expect("a rollback");
                    } else {
                        app.commit(tx).await.expect("a commit");
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("a worker");
    }
    close_due(&portal.app, &Actor::system(), now).await.expect("the rest");
    let all = invoices(&portal).await;
    assert_eq!(all.len(), 4 * 5, "five months of four subscriptions");
    assert_gapless(&all);
}

#[sqlx::test(migrations = "../migrations")]
async fn usage_counts_until_the_cutoff_and_is_kept_beyond_it(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal, &fee_and_calls()).await;
    portal.clock.set(at("2026-03-31T23:59:30Z"));
    ship(&portal, vec![world.row(&portal, 150, 200), world.row(&portal, 30, 503)]).await;
    assert_eq!(close(&portal, &world, at("2026-04-01T00:59:59Z")).await, Closed::NotDue);
    // On its way when the period ended.
    ship(&portal, vec![world.row(&portal, 50, 404)]).await;
    let Closed::Invoice(id) = close(&portal, &world, at("2026-04-01T01:00:00Z")).await else { panic!("the period is due") };
    // Too late.
    ship(&portal, vec![world.row(&portal, 7, 200)]).await;
    assert_eq!(close(&portal, &world, at("2026-04-01T02:00:00Z")).await, Closed::NotDue);

    let mut tx = portal.app.begin().await.expect("a transaction");
    let (invoice, lines) = invoice::get(&mut tx, &Actor::system(), world.tenant, id).await.expect("the invoice");
    assert_eq!(invoice.total.to_string(), "32.00 EUR", "31 and 100 calls beyond the allowance");
    assert_eq!(lines.iter().map(|line| line.detail.quantity.to_string()).collect::<Vec<_>>(), ["1", "200"]);
    assert_eq!(invoice.state, InvoiceState::Finalized);
    let period = at("2026-03-01T00:00:00Z");
    let units =
        portal::usage::query::period_units(&mut tx, &Actor::system(), world.tenant, world.subscription, period).await.expect("units");
    assert_eq!(units[0].units.to_string(), "207", "the seven late calls are kept under their period");
}

#[sqlx::test(migrations = "../migrations")]
async fn cost_so_far_at_the_end_is_what_is_invoiced(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal, &fee_and_calls()).await;
    ship(&portal, vec![world.row(&portal, 12_345, 200)]).await;
    let now = at("2026-03-11T00:00:00Z");
    let mut tx = portal.app.begin().await.expect("a transaction");
    let preview = billing::preview(&mut tx, &Actor::system(), world.tenant, world.subscription, now).await.expect("a preview");
    assert_eq!(preview.total.to_string(), "153.45 EUR");
    // 12,345 calls in 10 of 31 days are 38,269.5 in all.
    assert_eq!(preview.projected.expect("a third has passed").to_string(), "412.70 EUR");
    drop(tx);
    let Closed::Invoice(_) = close(&portal, &world, at("2026-04-01T01:00:00Z")).await else { panic!("the period is due") };
    assert_eq!(invoices(&portal).await[0].total, preview.total);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_canceled_subscription_is_closed_once_at_its_end_with_a_share_of_the_fee(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal, &fee_and_calls()).await;
    sqlx::query("UPDATE subscriptions SET state = 'canceled', canceled_at = $2 WHERE id = $1")
        .bind(world.subscription.uuid())
        .bind(at("2026-03-16T15:30:00Z"))
        .execute(&portal.app.pool)
        .await
        .expect("a cancellation");
    assert_eq!(close_due(&portal.app, &Actor::system(), at("2026-03-16T16:00:00Z")).await.expect("a look"), 0);
    assert_eq!(close_due(&portal.app, &Actor::system(), at("2026-03-16T16:30:00Z")).await.expect("a look"), 1);
    assert_eq!(close_due(&portal.app, &Actor::system(), at("2026-09-01T00:00:00Z")).await.expect("a look"), 0);
    let all = invoices(&portal).await;
    assert_eq!(all[0].total.to_string(), "15.00 EUR", "15 of 31 days");
    assert_eq!(all[0].period.to, at("2026-03-16T15:30:00Z"));
}

#[sqlx::test(migrations = "../migrations")]
async fn nothing_due_makes_no_invoice_and_a_zero_total_is_paid_at_once(pool: PgPool) {
    let portal = Portal::new(pool);
    let free = json!({ "price": { "type": "unit", "unit_amount": "0.01" }, "free_units": "1000" });
    let world = world(&portal, &[("Calls", true, free)]).await;
    ship(&portal, vec![world.row(&portal, 10, 200)]).await;
    let now = at("2026-05-01T01:00:00Z");
    assert_eq!(close_due(&portal.app, &Actor::system(), now).await.expect("a look"), 1, "March was used, April was not");
    let all = invoices(&portal).await;
    assert_eq!((all[0].state, all[0].total.to_string()), (InvoiceState::Paid, "0.00 EUR".to_owned()));
    assert_eq!(close_due(&portal.app, &Actor::system(), now).await.expect("a look"), 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn operators_mark_invoices_as_paid_and_members_do_not(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal, &fee_and_calls()).await;
    let Closed::Invoice(id) = close(&portal, &world, at("2026-04-01T01:00:00Z")).await else { panic!("the period is due") };
    let owner = portal.person("owner@example.com").await;
    let owner = portal.actor(&owner, &[(world.tenant, Role::Owner)]);
    let mut tx = portal.app.begin().await.expect("a transaction");
    let late = at("2026-04-15T01:00:00Z");
    let refused = invoice::mark_paid(&mut tx, &owner, world.tenant, id, "cash", late).await.expect_err("an owner");
    assert_eq!(refused.kind, Kind::Forbidden);
    assert_eq!(invoice::mark_past_due(&mut tx, &Actor::system(), at("2026-04-15T00:59:59Z")).await.expect("a look"), 0);
    assert_eq!(invoice::mark_past_due(&mut tx, &Actor::system(), late).await.expect("a look"), 1);
    let unexplained = invoice::mark_paid(&mut tx, &Actor::system(), world.tenant, id, "  ", late).await.expect_err("no reference");
    assert!(unexplained.field("reference").is_some());
    let paid = invoice::mark_paid(&mut tx, &Actor::system(), world.tenant, id, "transfer 7", late).await.expect("the invoice");
    assert_eq!((paid.state, paid.paid_reference.as_deref()), (InvoiceState::Paid, Some("transfer 7")));
    let twice = invoice::void(&mut tx, &Actor::system(), world.tenant, id, "mistake", late).await.expect_err("it is paid");
    assert_eq!(twice.kind, Kind::Conflict);
    let actions: Vec<String> = sqlx::query_scalar("SELECT action FROM audit_log WHERE target = $1 ORDER BY id")
        .bind(id.to_string())
        .fetch_all(&mut *tx)
        .await
        .expect("entries");
    assert_eq!(actions, ["invoice.finalized", "invoice.became_past_due", "invoice.marked_paid"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_job_closes_what_is_due(pool: PgPool) {
    let portal = Portal::new(pool);
    world(&portal, &fee_and_calls()).await;
    portal.clock.set(at("2026-04-01T01:00:00Z"));
    let mut tx = portal.app.begin().await.expect("a transaction");
    portal::jobs::enqueue(&mut tx, &billing::job::CloseDue::default(), portal.now()).await.expect("a job");
    tx.commit().await.expect("a commit");
    portal.run_jobs().await;
    assert_eq!(invoices(&portal).await.len(), 1);
    portal.clock.advance(Duration::from_secs(15 * 86_400));
    let mut tx = portal.app.begin().await.expect("a transaction");
    portal::jobs::enqueue(&mut tx, &billing::job::CloseDue::default(), portal.now()).await.expect("a job");
    tx.commit().await.expect("a commit");
    portal.run_jobs().await;
    assert_eq!(invoices(&portal).await[0].state, InvoiceState::PastDue);
}

#[sqlx::test(migrations = "../migrations")]
async fn pages_show_members_their_own_invoices_only(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal, &fee_and_calls()).await;
    ship(&portal, vec![world.row(&portal, 250, 200)]).await;
    let Closed::Invoice(id) = close(&portal, &world, at("2026-04-01T01:00:00Z")).await else { panic!("the period is due") };
    let (ours, theirs) = (portal.person("ada@example.com").await, portal.person("eve@example.com").await);
    sqlx::query("INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, 'viewer', now())")
        .bind(world.tenant.uuid())
        .bind(ours.id.uuid())
        .execute(&portal.app.pool)
        .await
        .expect("a member");
    portal.tenant("Elsewhere", &[(&theirs, Role::Owner)]).await;
    let (mut ours, mut theirs) = (portal.browser(&ours).await, portal.browser(&theirs).await);
    let page = ours.get(&format!("/invoices/{id}")).await.expect_status(200);
    for text in ["INV-000001", "Base fee", "250", "150 × 0.01", "GET /weather/today"] {
        assert!(page.body.contains(text), "{text} in {}", page.body);
    }
    theirs.get(&format!("/invoices/{id}")).await.expect_status(404);
    for path in ["/overview", "/usage", "/usage?range=30d&stack=status", "/usage/live", "/invoices"] {
        ours.get(path).await.expect_status(200);
        theirs.get(path).await.expect_status(200);
        portal.visitor().get(path).await.expect_status(303);
    }
    assert!(!theirs.get("/usage").await.body.contains("Weather"), "nothing of another tenant");
    for path in [
        "/admin/invoices".to_owned(),
        "/admin/tenants".to_owned(),
        format!("/admin/tenants/{}", world.tenant),
        format!("/admin/tenants/{}/invoices/{id}", world.tenant),
    ] {
        ours.get(&path).await.expect_status(403);
        portal.visitor().get(&path).await.expect_status(303);
    }
    let operator = portal.operator("op@example.com").await;
    let mut operator = portal.browser(&operator).await;
    let page = format!("/admin/tenants/{}/invoices/{id}", world.tenant);
    for path in ["/admin/invoices", "/admin/tenants", &format!("/admin/tenants/{}", world.tenant), &page] {
        operator.get(path).await.expect_status(200);
    }
    ours.post(&format!("{page}/paid"), &[("note", "cash")]).await.expect_status(403);
    operator.post(&format!("{page}/void"), &[("note", "mistake")]).await.expect_status(303);
    assert_eq!(invoices(&portal).await[0].state, InvoiceState::Finalized, "the box was not ticked");
    operator.post(&format!("{page}/paid"), &[("note", "transfer 9")]).await.expect_status(303);
    assert_eq!(invoices(&portal).await[0].state, InvoiceState::Paid);
}

#[sqlx::test(migrations = "../migrations")]
async fn rest_tells_usage_cost_and_invoices_of_ones_own_tenant(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal, &fee_and_calls()).await;
    ship(&portal, vec![world.row(&portal, 250, 200), world.row(&portal, 5, 503)]).await;
    let (ours, theirs) = (portal.person("ada@example.com").await, portal.person("eve@example.com").await);
    sqlx::query("INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, 'viewer', now())")
        .bind(world.tenant.uuid())
        .bind(ours.id.uuid())
        .execute(&portal.app.pool)
        .await
        .expect("a member");
    let elsewhere = portal.tenant("Elsewhere", &[(&theirs, Role::Owner)]).await;
    let ours = portal.token(&ours, Some(world.tenant)).await;
    let theirs = portal.token(&theirs, Some(elsewhere)).await;

    let usage = portal.rest("GET", "/api/v1/usage?by=status", &ours, None).await.expect_status(200).json();
    assert_eq!((&usage["calls"], &usage["server_errors"]), (&json!(255), &json!(5)));
    assert_eq!(usage["meters"][0]["billable"], json!("250"));
    let theirs_usage = portal.rest("GET", "/api/v1/usage", &theirs, None).await.expect_status(200).json();
    assert_eq!(theirs_usage["calls"], json!(0));
    portal.rest("GET", "/api/v1/usage", "", None).await.expect_status(401);

    let cost = format!("/api/v1/subscriptions/{}/cost", world.subscription);
    let answer = portal.rest("GET", &cost, &ours, None).await.expect_status(200).json();
    assert_eq!(answer["total"], json!({ "amount": "32.50", "currency": "EUR" }));
    portal.rest("GET", &cost, &theirs, None).await.expect_status(404);

    let Closed::Invoice(id) = close(&portal, &world, at("2026-04-01T01:00:00Z")).await else { panic!("the period is due") };
    let one = format!("/api/v1/invoices/{id}");
    let listed = portal.rest("GET", "/api/v1/invoices", &ours, None).await.expect_status(200).json();
    assert_eq!((&listed["items"][0]["number"], &listed["items"][0]["state"]), (&json!("INV-000001"), &json!("finalized")));
    let shown = portal.rest("GET", &one, &ours, None).await.expect_status(200).json();
    assert_eq!(shown["lines"][1]["detail"]["formula"], json!("250 - 100 free = 150; 150 × 0.01 = 1.5"));
    portal.rest("GET", &one, &theirs, None).await.expect_status(404);
    let paid = format!("/api/v1/tenants/{}/invoices/{id}/mark-paid", world.tenant);
    let reference = json!({ "reference": "transfer 3" });
    portal.rest("POST", &paid, &ours, Some(reference.clone())).await.expect_status(403);
    assert_eq!(invoices(&portal).await[0].state, InvoiceState::Finalized);
    let operator = portal.operator("op@example.com").await;
    let operator = portal.token(&operator, None).await;
    let answer = portal.rest("POST", &paid, &operator, Some(reference)).await.expect_status(200).json();
    assert_eq!(answer["state"], json!("paid"));
}

#[sqlx::test(migrations = "../migrations")]
async fn programs_of_operators_give_invoices_up_and_take_them_back(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal, &fee_and_calls()).await;
    ship(&portal, vec![world.row(&portal, 250, 200)]).await;
    let Closed::Invoice(id) = close(&portal, &world, at("2026-04-01T01:00:00Z")).await else { panic!("the period is due") };
    let operator = portal.operator("op@example.com").await;
    let operator = portal.token(&operator, None).await;
    let post = async |action: &str, reason: &str| {
        let path = format!("/api/v1/tenants/{}/invoices/{id}/{action}", world.tenant);
        portal.rest("POST", &path, &operator, Some(json!({ "reason": reason }))).await
    };
    post("mark-uncollectible", "gone").await.expect_status(409);
    sqlx::query("UPDATE invoices SET state = 'past_due'").execute(&portal.app.pool).await.expect("the invoice");
    let wrong = post("void", " ").await.expect_status(422).json();
    assert_eq!(wrong["errors"][0]["field"], "reason");
    assert_eq!(post("mark-uncollectible", "gone").await.expect_status(200).json()["state"], "uncollectible");
    let void = post("void", "never was").await.expect_status(200).json();
    assert_eq!((&void["state"], &void["number"]), (&json!("void"), &json!("INV-000001")));
    post("void", "again").await.expect_status(409);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_export_is_csv_of_the_filtered_usage(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal, &fee_and_calls()).await;
    ship(&portal, vec![world.row(&portal, 250, 200), world.row(&portal, 5, 503)]).await;
    let ours = portal.person("ada@example.com").await;
    sqlx::query("INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, 'viewer', now())")
        .bind(world.tenant.uuid())
        .bind(ours.id.uuid())
        .execute(&portal.app.pool)
        .await
        .expect("a member");
    sqlx::query("UPDATE applications SET name = '=1+1, \"Shop\"'").execute(&portal.app.pool).await.expect("a name");
    sqlx::query("UPDATE api_keys SET hint = 'abcd'").execute(&portal.app.pool).await.expect("a hint");
    let mut browser = portal.browser(&ours).await;
    let csv = browser.get("/usage.csv?from=2026-03-10&to=2026-03-10&status=5").await.expect_status(200).body;
    assert_eq!(
        csv,
        "start,api,method,path,application,key,key_hint,plan,status,mode,meter,unit,calls,units,billable_units\r\n\
         2026-03-10T12:00:00Z,weather,GET,/weather/today,\"'=1+1, \"\"Shop\"\"\",key,abcd,pro,503,live,calls,call,5,5,0\r\n"
    );
    browser.get("/usage.csv?from=nonsense&to=2026-03-10").await.expect_status(422);
}
