//! All SQL of this domain.

use calendar::Timestamp;
use gateway_control::{lease::QuotaSlot, units::Micros};
use ids::{JournalId, MeterId, NamespaceId, SubscriptionId};
use quota::{Holding, Ledger, QuotaLimit};
use rust_decimal::Decimal;
use serde_json::Value;

use crate::{
    db::Tx,
    error::{Error, Result},
};

/// What a subscription's plan version says of its quotas.
#[derive(Debug)]
pub(super) struct Terms {
    pub is_active: bool,
    /// `YYYY-MM-DD`.
    pub anchor_date: String,
    pub time_zone: String,
    pub cadence: String,
    pub quotas: Vec<QuotaLimit>,
}

/// A meter's words.
#[derive(Debug)]
pub(super) struct MeterName {
    pub name: String,
    pub unit: String,
}

/// What is kept of a journal's last exchange.
#[derive(Debug)]
pub(super) struct LastExchange {
    /// `None` before the first.
    pub number: Option<u64>,
    pub answer: Value,
}

pub(super) async fn terms(tx: &mut Tx, namespace: NamespaceId, subscription: SubscriptionId) -> Result<Option<Terms>> {
    let row = sqlx::query!(
        r#"SELECT s.state, s.anchor_date::text AS "anchor_date!", s.time_zone, v.cadence, v.quotas
           FROM subscriptions s JOIN plan_versions v ON v.id = s.plan_version_id WHERE s.tenant_id = $1 AND s.id = $2"#,
        namespace.uuid(),
        subscription.uuid(),
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| {
        Ok(Terms {
            is_active: row.state == "active",
            anchor_date: row.anchor_date,
            time_zone: row.time_zone,
            cadence: row.cadence,
            quotas: serde_json::from_value(row.quotas)?,
        })
    })
    .transpose()
}

pub(super) async fn meter(tx: &mut Tx, meter: MeterId) -> Result<Option<MeterName>> {
    let row = sqlx::query_as!(MeterName, "SELECT name, unit FROM meters WHERE id = $1", meter.uuid()).fetch_optional(&mut **tx).await?;
    Ok(row)
}

/// The last exchange of a journal and its answer, locked until the transaction ends, so that the exchanges of a journal take turns.
pub(super) async fn lock_last_exchange(tx: &mut Tx, journal: JournalId, now: Timestamp) -> Result<LastExchange> {
    let row = sqlx::query!(
        "INSERT INTO quota_exchanges (journal_id, exchange, answer, at) VALUES ($1, -1, 'null', $2)
         ON CONFLICT (journal_id) DO UPDATE SET at = excluded.at RETURNING exchange, answer",
        journal.uuid(),
        now
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(LastExchange { number: u64::try_from(row.exchange).ok(), answer: row.answer })
}

/// Notes which run of a journal's gateway exchanges, and where it began.
pub(super) async fn set_run(tx: &mut Tx, journal: JournalId, run: i64, first_seqs: &Value) -> Result<()> {
    sqlx::query!(
        "UPDATE quota_exchanges SET run = $2, first_seqs = $3 WHERE journal_id = $1 AND run <> $2",
        journal.uuid(),
        run,
        first_seqs
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn keep_answer(tx: &mut Tx, journal: JournalId, exchange: i64, answer: &Value) -> Result<()> {
    sqlx::query!("UPDATE quota_exchanges SET exchange = $2, answer = $3 WHERE journal_id = $1", journal.uuid(), exchange, answer)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn ledger_exists(tx: &mut Tx, slot: &QuotaSlot) -> Result<bool> {
    let exists = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM quota_ledger
               WHERE namespace_id = $1 AND subscription_id = $2 AND meter_id = $3 AND period_start = $4) AS "exists!""#,
        slot.namespace.uuid(),
        slot.subscription.uuid(),
        slot.meter.uuid(),
        slot.period_start,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(exists)
}

/// A slot's ledger without its limit. The row is made if it is missing, and locked until the transaction ends: what is read after it is not changed
/// meanwhile by others.
pub(super) async fn lock_ledger(tx: &mut Tx, slot: &QuotaSlot) -> Result<Ledger> {
    let row = sqlx::query!(
        "INSERT INTO quota_ledger AS l (namespace_id, subscription_id, meter_id, period_start) VALUES ($1, $2, $3, $4)
         ON CONFLICT (namespace_id, subscription_id, meter_id, period_start) DO UPDATE SET used = l.used RETURNING used, recalled_at",
        slot.namespace.uuid(),
        slot.subscription.uuid(),
        slot.meter.uuid(),
        slot.period_start,
    )
    .fetch_one(&mut **tx)
    .await?;
    let holdings = holdings(tx, slot).await?;
    Ok(Ledger { limit: 0, used: micros(row.used)?.0, recalled_at: row.recalled_at, holdings })
}

/// What a slot's accepted usage adds up to.
pub(super) async fn used(tx: &mut Tx, slot: &QuotaSlot) -> Result<Micros> {
    let used = sqlx::query_scalar!(
        "SELECT used FROM quota_ledger WHERE namespace_id = $1 AND subscription_id = $2 AND meter_id = $3 AND period_start = $4",
        slot.namespace.uuid(),
        slot.subscription.uuid(),
        slot.meter.uuid(),
        slot.period_start,
    )
    .fetch_optional(&mut **tx)
    .await?;
    used.map_or(Ok(Micros(0)), micros)
}

pub(super) async fn holdings(tx: &mut Tx, slot: &QuotaSlot) -> Result<Vec<Holding>> {
    let rows = sqlx::query!(
        "SELECT journal_id, run, granted, given_back, exposed, finished, proven, earlier, expires_at FROM quota_leases
         WHERE namespace_id = $1 AND subscription_id = $2 AND meter_id = $3 AND period_start = $4",
        slot.namespace.uuid(),
        slot.subscription.uuid(),
        slot.meter.uuid(),
        slot.period_start,
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Holding {
                journal: JournalId::from_uuid(row.journal_id),
                run: u64::try_from(row.run).map_err(Error::internal)?,
                granted: micros(row.granted)?.0,
                given_back: micros(row.given_back)?.0,
                exposed: micros(row.exposed)?.0,
                finished: micros(row.finished)?.0,
                proven: micros(row.proven)?.0,
                earlier: micros(row.earlier)?.0,
                expires_at: row.expires_at,
            })
        })
        .collect()
}

/// Writes what a journal holds, as the ledger has it now.
pub(super) async fn save_holding(tx: &mut Tx, slot: &QuotaSlot, holding: &Holding) -> Result<()> {
    sqlx::query!(
        "INSERT INTO quota_leases (namespace_id, subscription_id, meter_id, period_start, journal_id, run, granted, given_back, exposed, finished,
                                   proven, earlier, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         ON CONFLICT (namespace_id, subscription_id, meter_id, period_start, journal_id)
         DO UPDATE SET run = excluded.run, granted = excluded.granted, given_back = excluded.given_back, exposed = excluded.exposed,
             finished = excluded.finished, proven = excluded.proven, earlier = excluded.earlier, expires_at = excluded.expires_at",
        slot.namespace.uuid(),
        slot.subscription.uuid(),
        slot.meter.uuid(),
        slot.period_start,
        holding.journal.uuid(),
        i64::try_from(holding.run).map_err(Error::internal)?,
        decimal(holding.granted)?,
        decimal(holding.given_back)?,
        decimal(holding.exposed)?,
        decimal(holding.finished)?,
        decimal(holding.proven)?,
        decimal(holding.earlier)?,
        holding.expires_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn set_recalled(tx: &mut Tx, slot: &QuotaSlot, at: Timestamp) -> Result<()> {
    sqlx::query!(
        "UPDATE quota_ledger SET recalled_at = $5 WHERE namespace_id = $1 AND subscription_id = $2 AND meter_id = $3 AND period_start = $4",
        slot.namespace.uuid(),
        slot.subscription.uuid(),
        slot.meter.uuid(),
        slot.period_start,
        at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Asks whoever listens for recalls, in whichever process. In a transaction of its own: a notification inside one that writes would make commits wait for
/// each other.
pub(super) async fn notify_recall(pool: &sqlx::PgPool, slot: &Value) -> Result<()> {
    sqlx::query!("SELECT pg_notify('quota_recalls', $1)", slot.to_string()).fetch_one(pool).await?;
    Ok(())
}

pub(super) fn decimal(micros: i128) -> Result<Decimal> {
    Ok(Decimal::try_from_i128_with_scale(micros, 6).map_err(Error::internal)?.normalize())
}

pub(super) fn micros(units: Decimal) -> Result<Micros> {
    let scaled =
        units.checked_mul(Decimal::from(1_000_000)).ok_or_else(|| Error::internal(anyhow::anyhow!("{units} units are too many")))?;
    if !scaled.fract().is_zero() {
        return Err(Error::internal(anyhow::anyhow!("{units} units have more than six digits after the point")));
    }
    Ok(Micros(scaled.trunc().mantissa() / 10_i128.pow(scaled.trunc().scale())))
}
