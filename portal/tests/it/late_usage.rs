//! Usage that comes late, and corrections (SEMANTICS M10, M11).

use calendar::Timestamp;
use gateway_control::usage::UsageRow;
use ids::{InvoiceId, RateCardId};
use portal::{
    billing::{
        self, CorrectUsage, Invoice, InvoiceFilter, InvoiceKind, InvoiceLine, correction, invoice,
        job::{close_due, settle_canceled},
    },
    error::Kind,
    identity::Actor,
    reconciliation,
    usage::corrections::{self, Outcome},
};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    support::Portal,
    world::{World, batch, gateway},
};

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

const MARCH: &str = "2026-03-01T00:00:00Z";

/// A fee of 31, and calls in tiers: the first hundred at 0.10, the rest at 0.05 with 1 once.
async fn world(portal: &Portal) -> World {
    let tiers =
        json!([{"up_to": "100", "unit_amount": "0.10", "flat_amount": "0"}, {"up_to": null, "unit_amount": "0.05", "flat_amount": "1"}]);
    priced(portal, json!({"type": "graduated", "tiers": tiers}), json!({})).await
}

/// A fee of 31, and calls at a price, with the terms of their rate card.
async fn priced(portal: &Portal, price: Value, terms: Value) -> World {
    let world = World::new(portal, 1_000_000).await;
    sqlx::query("UPDATE subscriptions SET started_at = $1, open_from = $1").bind(at(MARCH)).execute(&portal.app.pool).await.expect("it");
    let cards = [("Base fee", None, json!({"type": "flat", "amount": "31"}), json!({})), ("Calls", Some(world.meter.uuid()), price, terms)];
    for (position, (name, meter, price, terms)) in cards.into_iter().enumerate() {
        sqlx::query(
            "INSERT INTO rate_cards (id, plan_version_id, position, name, meter_id, price, terms) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(RateCardId::new().uuid())
        .bind(world.plan_version.uuid())
        .bind(i32::try_from(position).expect("few cards"))
        .bind(name)
        .bind(meter)
        .bind(price)
        .bind(terms)
        .execute(&portal.app.pool)
        .await
        .expect("a rate card");
    }
    world
}

/// Calls of March, however late they are sent.
fn march(world: &World, portal: &Portal, calls: u64) -> UsageRow {
    let mut row = world.row(portal, calls, 200);
    row.key.minute = at("2026-03-05T10:00:00Z");
    row
}

async fn ship(portal: &Portal, rows: Vec<UsageRow>) {
    let gateway = gateway(portal, &format!("gateway {}", InvoiceId::new()), None).await;
    let (status, answer) = gateway.post(portal, "/control/v1/usage", &batch(gateway.journal, 0, 0, 0, rows)).await;
    assert_eq!(status, 200, "{answer}");
}

async fn close_all(portal: &Portal, now: &str) -> usize {
    portal.clock.set(at(now));
    close_due(&portal.app, &Actor::system(), at(now)).await.expect("a look")
}

/// All invoices with their lines, the first number first.
async fn invoices(portal: &Portal) -> Vec<(Invoice, Vec<InvoiceLine>)> {
    let mut tx = portal.app.begin().await.expect("a transaction");
    let mut all = invoice::list(&mut tx, &Actor::system(), InvoiceFilter::default(), 200, 0).await.expect("invoices").invoices;
    all.sort_by_key(|invoice| invoice.number);
    let mut with_lines = Vec::new();
    for invoice in all {
        with_lines.push(invoice::get(&mut tx, &Actor::system(), invoice.tenant, invoice.id).await.expect("an invoice"));
    }
    with_lines
}

fn lines(invoice: &(Invoice, Vec<InvoiceLine>)) -> Vec<(String, String)> {
    invoice.1.iter().map(|line| (line.detail.description.clone(), line.detail.total.to_string())).collect()
}

/// Everything that was gone through agrees.
async fn assert_equal(portal: &Portal) {
    let pass = reconciliation::compare(&portal.app, &Actor::system(), portal.now()).await.expect("a pass");
    assert!(pass.finished);
    let mut tx = portal.app.begin().await.expect("a transaction");
    assert_eq!(reconciliation::differences(&mut tx, &Actor::system(), false, 200, 0).await.expect("differences"), []);
}

fn input(world: &World, units: i64, key: &str) -> CorrectUsage {
    CorrectUsage {
        tenant: world.tenant,
        subscription: world.subscription,
        period_start: at(MARCH),
        meter: world.meter,
        units: units.into(),
        reason: "A client retried in a loop".into(),
        reference: "ticket 17".into(),
        idempotency_key: key.into(),
    }
}

async fn correct(portal: &Portal, input: &CorrectUsage) -> corrections::Correction {
    let mut tx = portal.app.begin().await.expect("a transaction");
    let made = correction::correct(&mut tx, &Actor::system(), input, portal.now()).await.expect("a correction");
    portal.app.commit(tx).await.expect("a commit");
    made
}

#[sqlx::test(migrations = "../migrations")]
async fn late_usage_goes_on_the_next_invoice_at_its_tier_position(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal).await;
    ship(&portal, vec![march(&world, &portal, 90)]).await;
    assert_eq!(close_all(&portal, "2026-04-01T01:00:00Z").await, 1);
    ship(&portal, vec![march(&world, &portal, 30)]).await;
    assert_eq!(close_all(&portal, "2026-05-01T01:00:00Z").await, 1);
    let all = invoices(&portal).await;
    assert_eq!(lines(&all[0]), [("Base fee".into(), "31.00".into()), ("Calls".into(), "9.00".into())]);
    let late = "Calls (late usage of 2026-03-01 to 2026-03-31)".to_owned();
    // Ten more at 0.10, the flat fee of the second tier, and twenty at 0.05.
    assert_eq!(lines(&all[1]), [("Base fee".into(), "31.00".into()), (late, "3.00".into())]);
    assert_eq!(all[1].1[1].service.map(|service| service.from), Some(at(MARCH)));
    assert_eq!(all[1].0.total.to_string(), "34.00 EUR");
    // It is billed once.
    assert_eq!(close_all(&portal, "2026-06-01T01:00:00Z").await, 1);
    assert_eq!(invoices(&portal).await[2].1.len(), 1);
    assert_equal(&portal).await;
}

/// What comes late is billed as if the period had been rated whole: where all units move to another tier, and where a minimum had been made up.
#[sqlx::test(migrations = "../migrations")]
async fn late_usage_rates_volumes_and_minimums_of_its_period_again(pool: PgPool) {
    let tiers =
        json!([{"up_to": "100", "unit_amount": "0.10", "flat_amount": "0"}, {"up_to": null, "unit_amount": "0.05", "flat_amount": "0"}]);
    let portal = Portal::new(pool);
    let world = priced(&portal, json!({"type": "volume", "tiers": tiers}), json!({"minimum_spend": "7"})).await;
    // Forty calls for 4, and 3 more to the minimum.
    ship(&portal, vec![march(&world, &portal, 40)]).await;
    assert_eq!(close_all(&portal, "2026-04-01T01:00:00Z").await, 1);
    assert_eq!(invoices(&portal).await[0].0.total.to_string(), "38.00 EUR");
    // Ninety calls cost 9: five more, less the three that the minimum had added.
    ship(&portal, vec![march(&world, &portal, 50)]).await;
    assert_eq!(close_all(&portal, "2026-05-01T01:00:00Z").await, 1);
    // All 160 are at the second price: 8, which is one less than what was billed.
    ship(&portal, vec![march(&world, &portal, 70)]).await;
    assert_eq!(close_all(&portal, "2026-06-01T01:00:00Z").await, 1);
    let of_march = |invoice: &(Invoice, Vec<InvoiceLine>)| {
        let late = invoice.1.iter().filter(|line| line.service.is_some_and(|service| service.from == at(MARCH)));
        late.map(|line| line.detail.total.to_string()).collect::<Vec<_>>()
    };
    let all = invoices(&portal).await;
    assert_eq!((of_march(&all[1]), of_march(&all[2])), (vec!["5.00".into(), "-3.00".into()], vec!["-1.00".into()]), "{all:?}");
    assert_equal(&portal).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn late_usage_of_a_canceled_subscription_goes_on_a_final_invoice(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal).await;
    ship(&portal, vec![march(&world, &portal, 90)]).await;
    sqlx::query("UPDATE subscriptions SET state = 'canceled', canceled_at = $1")
        .bind(at("2026-03-25T00:00:00Z"))
        .execute(&portal.app.pool)
        .await
        .expect("a cancellation");
    assert_eq!(close_all(&portal, "2026-03-25T01:00:00Z").await, 1);
    let settle = async || settle_canceled(&portal.app, &Actor::system(), at("2026-01-01T00:00:00Z"), portal.now()).await.expect("a look");
    assert_eq!(settle().await, 0, "nothing came late");
    ship(&portal, vec![march(&world, &portal, 30)]).await;
    assert_eq!(close_all(&portal, "2026-07-01T01:00:00Z").await, 0, "no period is left");
    assert_eq!((settle().await, settle().await), (1, 0), "once");
    let all = invoices(&portal).await;
    assert_eq!((all[1].0.kind, all[1].0.total.to_string()), (InvoiceKind::Final, "3.00 EUR".to_owned()));
    assert_eq!(all[1].0.display_number(), "INV-000002");
    assert_equal(&portal).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_correction_of_an_open_period_rates_it_again_and_moves_the_quota(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal).await;
    ship(&portal, vec![march(&world, &portal, 120)]).await;
    portal.clock.set(at("2026-03-21T00:00:00Z"));
    let mut tx = portal.app.begin().await.expect("a transaction");
    let effect = correction::preview(&mut tx, &Actor::system(), &input(&world, -50, "a"), portal.now()).await.expect("a preview");
    assert_eq!((effect.units_before, effect.units_after, effect.outcome), (120.into(), 70.into(), Outcome::OpenPeriod));
    assert_eq!((effect.before.to_string(), effect.after.to_string()), ("43.00 EUR".to_owned(), "38.00 EUR".to_owned()));
    assert!(corrections::list(&mut tx, &Actor::system(), None, None, 10, 0).await.expect("a list").is_empty(), "a preview changes nothing");
    drop(tx);
    let made = correct(&portal, &input(&world, -50, "a")).await;
    assert_eq!((made.outcome, made.credit_note), (Outcome::OpenPeriod, None));
    let again = correct(&portal, &input(&world, -50, "a")).await;
    assert_eq!(again, made, "the same key makes it once");
    let mut tx = portal.app.begin().await.expect("a transaction");
    let other = correction::correct(&mut tx, &Actor::system(), &input(&world, -51, "a"), portal.now()).await.expect_err("other content");
    assert_eq!(other.kind, Kind::Conflict);
    let too_many =
        correction::correct(&mut tx, &Actor::system(), &input(&world, -71, "b"), portal.now()).await.expect_err("only 70 are left");
    assert!(too_many.field("units").is_some_and(|text| text.contains("70")), "{too_many:?}");
    let preview = billing::preview(&mut tx, &Actor::system(), world.tenant, world.subscription, portal.now()).await.expect("a preview");
    assert_eq!(preview.total.to_string(), "38.00 EUR");
    let used: rust_decimal::Decimal = sqlx::query_scalar("SELECT used FROM quota_ledger").fetch_one(&mut *tx).await.expect("a quota");
    assert_eq!(used, 70.into());
    let rows: i64 = sqlx::query_scalar("SELECT sum(count)::bigint FROM usage_rows").fetch_one(&mut *tx).await.expect("rows");
    assert_eq!(rows, 120, "what was accepted is as it was");
    let kept = sqlx::query("UPDATE usage_corrections SET units = 1").execute(&mut *tx).await.expect_err("corrections are kept");
    assert!(kept.to_string().contains("never changed"), "{kept}");
    drop(tx);
    assert_eq!(close_all(&portal, "2026-04-01T01:00:00Z").await, 1);
    assert_eq!(invoices(&portal).await[0].0.total.to_string(), "38.00 EUR");
    assert_equal(&portal).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_correction_of_a_closed_period_becomes_a_credit_note_or_a_line_on_the_next_invoice(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal).await;
    ship(&portal, vec![march(&world, &portal, 120)]).await;
    assert_eq!(close_all(&portal, "2026-04-01T01:00:00Z").await, 1);
    let less = correct(&portal, &input(&world, -50, "less")).await;
    assert_eq!(
        (less.outcome, less.cost_before.to_string(), less.cost_after.to_string()),
        (Outcome::CreditNote, "43.00 EUR".into(), "38.00 EUR".into())
    );
    let all = invoices(&portal).await;
    assert_eq!(all[0].0.total.to_string(), "43.00 EUR", "a finalized invoice never changes");
    let note = &all[1].0;
    assert_eq!((note.kind, note.corrects, note.total.to_string()), (InvoiceKind::CreditNote, Some(all[0].0.id), "-5.00 EUR".to_owned()));
    assert_eq!((note.display_number().as_str(), Some(note.id)), ("CRN-000002", less.credit_note));
    assert!(lines(&all[1])[0].0.contains("correction of 2026-03-01"), "{:?}", lines(&all[1]));
    assert_equal(&portal).await;
    let more = correct(&portal, &input(&world, 10, "more")).await;
    assert_eq!((more.outcome, more.cost_after.to_string()), (Outcome::NextInvoice, "39.00 EUR".into()));
    assert_eq!(close_all(&portal, "2026-05-01T01:00:00Z").await, 1);
    let all = invoices(&portal).await;
    assert_eq!(all[2].0.total.to_string(), "32.00 EUR", "the fee of April, and ten calls of March");
    assert_eq!(lines(&all[2])[1].0, "Calls (correction of 2026-03-01 to 2026-03-31)");
    assert_equal(&portal).await;
    // A credit note is given back by hand, and never past due.
    let mut tx = portal.app.begin().await.expect("a transaction");
    invoice::mark_past_due(&mut tx, &Actor::system(), at("2026-04-20T00:00:00Z")).await.expect("a look");
    let state = invoice::get(&mut tx, &Actor::system(), world.tenant, all[1].0.id).await.expect("the note").0.state;
    assert_eq!(state, billing::InvoiceState::Finalized);
    // What is taken back is not billed again, nor corrected.
    invoice::void(&mut tx, &Actor::system(), world.tenant, all[0].0.id, "a mistake", portal.now()).await.expect("it is past due");
    let refused = correction::preview(&mut tx, &Actor::system(), &input(&world, 5, "void"), portal.now()).await.expect_err("it is void");
    assert_eq!(refused.kind, Kind::Conflict);
}

/// A line says whether its units came late, were corrected, or both.
#[sqlx::test(migrations = "../migrations")]
async fn lines_of_earlier_periods_say_what_they_are(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal).await;
    ship(&portal, vec![march(&world, &portal, 120)]).await;
    portal.clock.set(at("2026-03-21T00:00:00Z"));
    correct(&portal, &input(&world, 10, "open")).await;
    assert_eq!(close_all(&portal, "2026-04-01T01:00:00Z").await, 1);
    let month = async |now| {
        assert_eq!(close_all(&portal, now).await, 1);
        let all = invoices(&portal).await;
        lines(all.last().expect("an invoice"))[1..].iter().map(|(text, amount)| format!("{text}: {amount}")).collect::<Vec<_>>()
    };
    let line = |what: &str, amount: &str| vec![format!("Calls ({what} 2026-03-01 to 2026-03-31): {amount}")];
    ship(&portal, vec![march(&world, &portal, 20)]).await;
    assert_eq!(month("2026-05-01T01:00:00Z").await, line("late usage of", "1.00"));
    portal.clock.set(at("2026-05-02T00:00:00Z"));
    let mut tx = portal.app.begin().await.expect("a transaction");
    let preview = correction::preview(&mut tx, &Actor::system(), &input(&world, 40, "more"), portal.now()).await.expect("a preview");
    assert_eq!(preview.lines[0].charge.line.description, "Calls (correction of 2026-03-01 to 2026-03-31)");
    drop(tx);
    correct(&portal, &input(&world, 40, "more")).await;
    assert_eq!(month("2026-06-01T01:00:00Z").await, line("correction of", "2.00"));
    ship(&portal, vec![march(&world, &portal, 60)]).await;
    correct(&portal, &input(&world, 20, "again")).await;
    assert_eq!(month("2026-07-01T01:00:00Z").await, line("late usage and correction of", "4.00"));
    ship(&portal, vec![march(&world, &portal, 20)]).await;
    assert_eq!(month("2026-08-01T01:00:00Z").await, line("late usage of", "1.00"));
    assert_equal(&portal).await;
}

/// However usage of a period is split into what is in time and what is late, and corrected, all documents together bill what the whole costs.
#[sqlx::test(migrations = "../migrations")]
async fn in_time_and_late_cost_what_the_whole_would_have(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal).await;
    let mut seed = 0_u8;
    getrandom::fill(std::slice::from_mut(&mut seed)).expect("randomness");
    println!("seed {seed}");
    let mut state = u64::from(seed) + 1;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut calls = 1 + random(150);
    ship(&portal, vec![march(&world, &portal, calls)]).await;
    assert_eq!(close_all(&portal, "2026-04-01T01:00:00Z").await, 1);
    let mut months = 1_u64;
    for month in ["2026-05-01T01:00:00Z", "2026-06-01T01:00:00Z", "2026-07-01T01:00:00Z"] {
        let late = random(80);
        if late > 0 {
            ship(&portal, vec![march(&world, &portal, late)]).await;
            calls += late;
        }
        let off = random(calls);
        if off > 0 {
            correct(&portal, &input(&world, -i64::try_from(off).expect("few"), month)).await;
            calls -= off;
        }
        assert_eq!(close_all(&portal, month).await, 1);
        months += 1;
        let billed: rust_decimal::Decimal = invoices(&portal).await.iter().map(|(invoice, _)| invoice.total.amount()).sum();
        let (first, rest) = (calls.min(100), calls.saturating_sub(100));
        let cents = months * 3100 + first * 10 + rest * 5 + if rest > 0 { 100 } else { 0 };
        assert_eq!(billed, rust_decimal::Decimal::new(i64::try_from(cents).expect("few"), 2), "{calls} calls after {months} months");
        assert_equal(&portal).await;
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn reconciliation_names_an_invoice_that_was_changed(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal).await;
    ship(&portal, vec![march(&world, &portal, 120)]).await;
    assert_eq!(close_all(&portal, "2026-04-01T01:00:00Z").await, 1);
    let kinds = async || {
        reconciliation::compare(&portal.app, &Actor::system(), portal.now()).await.expect("a pass");
        let mut tx = portal.app.begin().await.expect("a transaction");
        let found = reconciliation::differences(&mut tx, &Actor::system(), false, 200, 0).await.expect("differences");
        found.iter().map(|difference| difference.kind).collect::<Vec<_>>()
    };
    let run = async |sql: &'static str| sqlx::query(sql).execute(&portal.app.pool).await.expect(sql);
    run("UPDATE invoices SET subtotal = 40, total = 40").await;
    assert_eq!(kinds().await, [reconciliation::Kind::InvoiceSum]);
    run("UPDATE invoices SET subtotal = 43, total = 43").await;
    assert_eq!(kinds().await, []);
    // Fewer units billed than had been accepted in time, at the right price of these: what is billed is not what was used.
    run("UPDATE invoice_lines SET amount = 7, detail = detail || '{\"quantity\": \"70\", \"total\": \"7.00\"}' WHERE meter_id IS NOT NULL")
        .await;
    run("UPDATE invoices SET subtotal = 38, total = 38").await;
    assert_eq!(kinds().await, [reconciliation::Kind::InvoiceUnits]);
    run(
        "UPDATE invoice_lines SET amount = 9, detail = detail || '{\"quantity\": \"120\", \"total\": \"9.00\"}' WHERE meter_id IS NOT NULL",
    )
    .await;
    run("UPDATE invoices SET subtotal = 40, total = 40").await;
    assert_eq!(kinds().await, [reconciliation::Kind::InvoiceRate]);
}

/// Maxima, last values and numbers of distinct values are compared with what is invoiced, can be corrected, and stand when retention has dropped their rows.
#[sqlx::test(migrations = "../migrations")]
async fn values_that_do_not_add_up_are_billed_compared_and_corrected(pool: PgPool) {
    let portal = Portal::with_settings(pool, &[("PORTAL_USAGE_ROWS_MONTHS", "2")]);
    let world = priced(&portal, json!({"type": "unit", "unit_amount": "1"}), json!({})).await;
    let row = |minute: &str, level: i64, uniques: Vec<u64>| {
        let mut row = march(&world, &portal, 3);
        let units = gateway_control::units::Micros::units(level);
        (row.key.minute, row.last_at) = (at(minute), at(minute));
        (row.min, row.max, row.last, row.sum, row.uniques) = (units, units, units, gateway_control::units::Micros(units.0 * 3), uniques);
        row
    };
    let kinds = async || {
        reconciliation::compare(&portal.app, &Actor::system(), portal.now()).await.expect("a pass");
        let mut tx = portal.app.begin().await.expect("a transaction");
        let found = reconciliation::differences(&mut tx, &Actor::system(), false, 200, 0).await.expect("differences");
        found.into_iter().map(|difference| (difference.kind, difference.detail)).collect::<Vec<_>>()
    };
    let bill = async |units: &'static str| {
        let change = "UPDATE invoice_lines SET amount = $1::numeric, detail = detail || jsonb_build_object('quantity', $1, 'total', $1) WHERE meter_id IS NOT NULL";
        sqlx::query(change).bind(units).execute(&portal.app.pool).await.expect("lines");
        sqlx::query("UPDATE invoices SET subtotal = 31 + $1::numeric, total = 31 + $1::numeric")
            .bind(units)
            .execute(&portal.app.pool)
            .await
            .expect("an invoice");
    };
    portal.clock.set(at("2026-03-20T00:00:00Z"));
    for month in ["2026-03-01T00:00:00Z", "2026-06-01T00:00:00Z"] {
        let mut tx = portal.app.begin().await.expect("a transaction");
        portal::usage::partitions::make_between(&mut tx, at(month), at(month)).await.expect("partitions");
        tx.commit().await.expect("a commit");
    }
    ship(&portal, vec![row("2026-03-05T10:00:00Z", 9, vec![1, 2, 3]), row("2026-03-06T10:00:00Z", 4, vec![3, 4])]).await;
    portal.clock.set(at("2026-04-01T00:30:00Z"));
    sqlx::query("UPDATE meters SET aggregation = 'max'").execute(&portal.app.pool).await.expect("a meter");
    assert_eq!(close_all(&portal, "2026-04-01T01:00:00Z").await, 1);
    for (aggregation, right, wrong) in [("max", "9", "8"), ("latest", "4", "9"), ("unique_count", "4", "5")] {
        sqlx::query("UPDATE meters SET aggregation = $1").bind(aggregation).execute(&portal.app.pool).await.expect("a meter");
        bill(right).await;
        assert_eq!(kinds().await, [], "{aggregation}");
        bill(wrong).await;
        let found = kinds().await;
        assert_eq!(
            found.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
            [reconciliation::Kind::InvoiceUnits],
            "{aggregation}: {found:?}"
        );
        bill(right).await;
        assert_eq!(kinds().await, [], "{aggregation}");
    }
    // Three of the four distinct values are right: one is given back, and no quota moves.
    let used = async || {
        sqlx::query_scalar::<_, rust_decimal::Decimal>("SELECT used FROM quota_ledger").fetch_one(&portal.app.pool).await.expect("a quota")
    };
    let before = used().await;
    let made = correct(&portal, &input(&world, -1, "distinct")).await;
    assert_eq!((made.outcome, made.cost_after.to_string(), used().await), (Outcome::CreditNote, "34.00 EUR".into(), before));
    assert_eq!(kinds().await, []);
    // Retention drops the rows; what was billed of them stands.
    portal.clock.set(at("2026-06-10T00:00:00Z"));
    sqlx::query("UPDATE subscriptions SET open_from = $1").bind(at("2026-06-01T00:00:00Z")).execute(&portal.app.pool).await.expect("it");
    let mut tx = portal.app.begin().await.expect("a transaction");
    assert!(portal::usage::partitions::drop_old(&mut tx, 2, portal.now()).await.expect("a look") > 0);
    tx.commit().await.expect("a commit");
    assert_eq!(close_all(&portal, "2026-07-01T01:00:00Z").await, 1);
    let last = invoices(&portal).await.pop().expect("June's");
    assert_eq!(lines(&last), [("Base fee".into(), "31.00".into())], "nothing of March comes back");
    assert_eq!(kinds().await, []);
}

/// What was corrected, and why, stands beside the charge, for the tenant and for operators; and on the credit note.
#[sqlx::test(migrations = "../migrations")]
async fn charges_and_credit_notes_show_the_corrections_behind_them(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal).await;
    let (operator, ada) = (portal.operator("olga@example.com").await, portal.person("ada@example.com").await);
    sqlx::query("INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, 'owner', now())")
        .bind(world.tenant.uuid())
        .bind(ada.id.uuid())
        .execute(&portal.app.pool)
        .await
        .expect("a member");
    ship(&portal, vec![march(&world, &portal, 120)]).await;
    portal.clock.set(at("2026-03-21T00:00:00Z"));
    correct(&portal, &CorrectUsage { reason: "Counted twice in March".into(), ..input(&world, -20, "open") }).await;
    let mut member = portal.browser(&ada).await;
    let so_far = member.get("/invoices").await.expect_status(200).body;
    assert!(
        so_far.contains("Corrections of this usage") && so_far.contains("Counted twice in March") && so_far.contains("ticket 17"),
        "{so_far}"
    );
    assert_eq!(close_all(&portal, "2026-04-01T01:00:00Z").await, 1);
    let note = correct(&portal, &CorrectUsage { reason: "A test by our own staff".into(), ..input(&world, -50, "closed") }).await;
    let note = note.credit_note.expect("a credit note");
    let mut admin = portal.browser(&operator).await;
    let first = invoices(&portal).await.remove(0).0;
    let mut member = portal.browser(&ada).await;
    for page in [
        member.get(&format!("/invoices/{}", first.id)).await.expect_status(200).body,
        admin.get(&format!("/admin/tenants/{}/invoices/{}", world.tenant, first.id)).await.expect_status(200).body,
    ] {
        for text in ["Corrections of this usage", "Counted twice in March", "A test by our own staff", "On the period"] {
            assert!(page.contains(text), "{text} in {page}");
        }
    }
    for page in [
        member.get(&format!("/invoices/{note}")).await.expect_status(200).body,
        admin.get(&format!("/admin/tenants/{}/invoices/{note}", world.tenant)).await.expect_status(200).body,
    ] {
        let (why, _) = page.split_once("Explain this charge").expect("a line");
        for text in ["Credit note CRN-000002", "gives back what invoice INV-000001 billed too much", "A test by our own staff", "ticket 17"]
        {
            assert!(why.contains(text), "{text} in {why}");
        }
        assert!(!why.contains("To be paid by") && !why.contains("Counted twice"), "{why}");
    }
    let eve = portal.person("eve@example.com").await;
    portal.tenant("Elsewhere", &[(&eve, portal::identity::Role::Owner)]).await;
    portal.browser(&eve).await.get(&format!("/invoices/{note}")).await.expect_status(404);
}

#[sqlx::test(migrations = "../migrations")]
async fn operators_preview_and_make_corrections_and_the_tenant_sees_them(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = world(&portal).await;
    ship(&portal, vec![march(&world, &portal, 120)]).await;
    portal.clock.set(at("2026-03-21T00:00:00Z"));
    let (operator, ada) = (portal.operator("olga@example.com").await, portal.person("ada@example.com").await);
    sqlx::query("INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, 'owner', now())")
        .bind(world.tenant.uuid())
        .bind(ada.id.uuid())
        .execute(&portal.app.pool)
        .await
        .expect("a member");
    let path = format!("/admin/tenants/{}/subscriptions/{}/corrections", world.tenant, world.subscription);
    let mut browser = portal.browser(&operator).await;
    let page = browser.get(&path).await.expect_status(200);
    let key = page.field("idempotency_key").expect("a key");
    let meter = world.meter.to_string();
    let mut fields = vec![
        ("period_start", MARCH),
        ("meter", &meter),
        ("units", "-50"),
        ("reason", ""),
        ("reference", "mail of 3 March"),
        ("idempotency_key", &key),
    ];
    browser.post(&path, &fields).await.expect_status(422);
    fields[3] = ("reason", "Counted twice");
    let preview = browser.post(&path, &fields).await.expect_status(200);
    for text in ["43.00", "38.00", "-5.00", "Make this correction"] {
        assert!(preview.body.contains(text), "{text} in {}", preview.body);
    }
    let previewed = preview.field("previewed").expect("what was previewed");
    let confirm = format!("{path}/confirm");
    let mut unseen = fields.clone();
    unseen.push(("previewed", "-4.00"));
    browser.post(&confirm, &unseen).await.expect_status(409);
    fields.push(("previewed", &previewed));
    assert_eq!(browser.post(&confirm, &fields).await.location(), path);
    let history = browser.get(&path).await.expect_status(200).body;
    assert!(history.contains("50 calls were taken off. The period costs 5.00 EUR less, on its own invoice."), "{history}");
    assert!(history.contains("Counted twice") && history.contains("olga"), "{history}");
    let own = portal.browser(&ada).await.get(&format!("/subscriptions/{}", world.subscription)).await.expect_status(200).body;
    assert!(own.contains("Counted twice") && own.contains("mail of 3 March") && !own.contains("olga"), "{own}");
    // The same by REST.
    let (token, own) = (portal.token(&operator, None).await, portal.token(&ada, Some(world.tenant)).await);
    let body = |units: &str, key: &str| -> Option<Value> {
        Some(
            json!({"tenant": world.tenant, "subscription": world.subscription, "period_start": MARCH, "meter": world.meter, "units": units,
            "reason": "A gift", "reference": "ticket 9", "idempotency_key": key}),
        )
    };
    let effect = portal.rest("POST", "/api/v1/corrections/preview", &token, body("-10", "r")).await.expect_status(200).json();
    assert_eq!((effect["units_after"].as_str(), effect["outcome"].as_str()), (Some("60"), Some("open_period")), "{effect}");
    portal.rest("POST", "/api/v1/corrections", &token, body("many", "r")).await.expect_status(422);
    let made = portal.rest("POST", "/api/v1/corrections", &token, body("-10", "r")).await.expect_status(201).json();
    let again = portal.rest("POST", "/api/v1/corrections", &token, body("-10", "r")).await.expect_status(201).json();
    assert_eq!(made, again);
    portal.rest("POST", "/api/v1/corrections", &own, body("-10", "s")).await.expect_status(403);
    let list = portal
        .rest("GET", &format!("/api/v1/subscriptions/{}/corrections", world.subscription), &own, None)
        .await
        .expect_status(200)
        .json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "{list}");
    let logged: i64 = sqlx::query_scalar("SELECT count(*) FROM audit_log WHERE action = 'usage.corrected'")
        .fetch_one(&portal.app.pool)
        .await
        .expect("it");
    assert_eq!(logged, 2);
    // Of a closed period, the message leads to the credit note.
    assert_eq!(close_all(&portal, "2026-04-01T01:00:00Z").await, 1);
    let mut browser = portal.browser(&operator).await;
    let key = browser.get(&path).await.expect_status(200).field("idempotency_key").expect("a key");
    (fields[2], fields[5]) = (("units", "-1"), ("idempotency_key", key.as_str()));
    fields.pop();
    let previewed = browser.post(&path, &fields).await.expect_status(200).field("previewed").expect("what was previewed");
    fields.push(("previewed", &previewed));
    assert_eq!(browser.post(&confirm, &fields).await.location(), path);
    let told = browser.get(&path).await.expect_status(200).body;
    let note = invoices(&portal).await.pop().expect("the credit note").0;
    let sentence = format!(
        "1 call was taken off. The period costs 0.10 EUR less. A credit note was issued: <a href=\"/admin/tenants/{}/invoices/{}\">CRN-000002</a>",
        world.tenant, note.id
    );
    assert!(told.contains(&sentence), "{told}");
}
