//! The SQL by which accepted usage moves the quota ledger and proves leases.
//!
//! [`quota::Holding`] decides what a segment proves. Ledger rows are locked first, in the order of their keys, and leases are touched under those locks
//! only: an exchange of leases does the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use calendar::Timestamp;
use gateway_control::usage::SegmentRef;
use ids::{JournalId, MeterId, NamespaceId, SubscriptionId, Uuid};
use quota::{Holding, SegmentRun};
use rust_decimal::Decimal;

use super::{check::quantity, rollup::LedgerKey};
use crate::{
    db::Tx,
    error::{Error, Result},
};

/// How many rows one statement writes.
const CHUNK_ROWS: usize = 20_000;

/// What a segment adds to quotas.
#[derive(Debug)]
pub(super) struct Proof<'a> {
    pub segment: &'a SegmentRef,
    /// Which run recorded it; `None` from gateways that do not say.
    pub run: Option<SegmentRun>,
    /// Billable micro-units.
    pub used: &'a BTreeMap<LedgerKey, i128>,
    /// Those of them that a plan limits hard: leases of them are kept even before the gateway has declared any.
    pub hard: &'a BTreeSet<LedgerKey>,
}

/// The keys of a chunk as columns.
struct Keys {
    namespaces: Vec<Uuid>,
    subscriptions: Vec<Uuid>,
    meters: Vec<Uuid>,
    periods: Vec<Timestamp>,
}

impl Keys {
    fn of<'a>(keys: impl Iterator<Item = &'a LedgerKey>) -> Self {
        let mut columns = Self { namespaces: Vec::new(), subscriptions: Vec::new(), meters: Vec::new(), periods: Vec::new() };
        for key in keys {
            columns.namespaces.push(key.namespace.uuid());
            columns.subscriptions.push(key.subscription.uuid());
            columns.meters.push(key.meter.uuid());
            columns.periods.push(key.period_start);
        }
        columns
    }
}

/// Moves the quotas' use.
pub(super) async fn move_used(tx: &mut Tx, used: &BTreeMap<LedgerKey, i128>) -> Result<()> {
    let used: Vec<(LedgerKey, i128)> = used.iter().map(|(key, units)| (*key, *units)).collect();
    for chunk in used.chunks(CHUNK_ROWS) {
        let keys = Keys::of(chunk.iter().map(|(key, _)| key));
        let quantities: Vec<Decimal> = chunk.iter().map(|(_, sum)| quantity(*sum)).collect();
        sqlx::query!(
            "INSERT INTO quota_ledger AS l (namespace_id, subscription_id, meter_id, period_start, used)
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::numeric[])
             ON CONFLICT (namespace_id, subscription_id, meter_id, period_start) DO UPDATE SET used = l.used + excluded.used",
            &keys.namespaces,
            &keys.subscriptions,
            &keys.meters,
            &keys.periods as &[Timestamp],
            &quantities,
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Notes what the journal has proven of its leases. Call after [`move_used`], which locks the quotas.
pub(super) async fn prove(tx: &mut Tx, proof: &Proof<'_>, now: Timestamp) -> Result<()> {
    let used: Vec<(LedgerKey, i128)> = proof.used.iter().map(|(key, units)| (*key, *units)).collect();
    for chunk in used.chunks(CHUNK_ROWS) {
        let keys = Keys::of(chunk.iter().map(|(key, _)| key));
        let journal = proof.segment.journal_id;
        let mut held = holdings(tx, &keys, journal).await?;
        let mut moved = Vec::new();
        for (key, units) in chunk {
            let known = held.remove(key);
            if let Some(mut holding) =
                known.or_else(|| (proof.run.is_some() && proof.hard.contains(key)).then(|| Holding::new(journal, now)))
            {
                holding.prove(proof.run, *units);
                moved.push((*key, holding));
            }
        }
        if !moved.is_empty() {
            save(tx, &moved).await?;
        }
    }
    Ok(())
}

async fn holdings(tx: &mut Tx, keys: &Keys, journal: JournalId) -> Result<HashMap<LedgerKey, Holding>> {
    let rows = sqlx::query!(
        "SELECT l.namespace_id, l.subscription_id, l.meter_id, l.period_start, l.run, l.granted, l.given_back, l.exposed, l.finished, l.proven, l.earlier,
             l.expires_at
         FROM quota_leases l JOIN unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[]) u (n, s, m, p)
         ON l.namespace_id = u.n AND l.subscription_id = u.s AND l.meter_id = u.m AND l.period_start = u.p AND l.journal_id = $5",
        &keys.namespaces,
        &keys.subscriptions,
        &keys.meters,
        &keys.periods as &[Timestamp],
        journal.uuid(),
    );
    rows.fetch_all(&mut **tx)
        .await?
        .into_iter()
        .map(|row| {
            let key = LedgerKey {
                namespace: NamespaceId::from_uuid(row.namespace_id),
                subscription: SubscriptionId::from_uuid(row.subscription_id),
                meter: MeterId::from_uuid(row.meter_id),
                period_start: row.period_start,
            };
            let holding = Holding {
                journal,
                run: u64::try_from(row.run).map_err(Error::internal)?,
                granted: micros(row.granted)?,
                given_back: micros(row.given_back)?,
                exposed: micros(row.exposed)?,
                finished: micros(row.finished)?,
                proven: micros(row.proven)?,
                earlier: micros(row.earlier)?,
                expires_at: row.expires_at,
            };
            Ok((key, holding))
        })
        .collect()
}

async fn save(tx: &mut Tx, moved: &[(LedgerKey, Holding)]) -> Result<()> {
    let keys = Keys::of(moved.iter().map(|(key, _)| key));
    let column = |of: fn(&Holding) -> i128| moved.iter().map(|(_, holding)| quantity(of(holding))).collect::<Vec<Decimal>>();
    let journals: Vec<Uuid> = moved.iter().map(|(_, holding)| holding.journal.uuid()).collect();
    let runs = moved.iter().map(|(_, holding)| i64::try_from(holding.run)).collect::<Result<Vec<_>, _>>().map_err(Error::internal)?;
    let ends: Vec<Timestamp> = moved.iter().map(|(_, holding)| holding.expires_at).collect();
    sqlx::query!(
        "INSERT INTO quota_leases (namespace_id, subscription_id, meter_id, period_start, journal_id, run, granted, given_back, exposed, finished, proven,
                                   earlier, expires_at)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::uuid[], $6::bigint[], $7::numeric[], $8::numeric[],
             $9::numeric[], $10::numeric[], $11::numeric[], $12::numeric[], $13::timestamptz[])
         ON CONFLICT (namespace_id, subscription_id, meter_id, period_start, journal_id)
         DO UPDATE SET run = excluded.run, granted = excluded.granted, given_back = excluded.given_back, exposed = excluded.exposed,
             finished = excluded.finished, proven = excluded.proven, earlier = excluded.earlier",
        &keys.namespaces,
        &keys.subscriptions,
        &keys.meters,
        &keys.periods as &[Timestamp],
        &journals,
        &runs,
        &column(|holding| holding.granted),
        &column(|holding| holding.given_back),
        &column(|holding| holding.exposed),
        &column(|holding| holding.finished),
        &column(|holding| holding.proven),
        &column(|holding| holding.earlier),
        &ends as &[Timestamp],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn micros(units: Decimal) -> Result<i128> {
    let scaled = units.checked_mul(Decimal::from(1_000_000)).filter(|scaled| scaled.fract().is_zero());
    let scaled = scaled.ok_or_else(|| Error::internal(anyhow::anyhow!("{units} units are too many or too finely divided")))?.trunc();
    Ok(scaled.mantissa() / 10_i128.pow(scaled.scale()))
}
