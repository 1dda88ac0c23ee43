//! All SQL of this domain.

use calendar::Timestamp;
use gateway_control::{lease::QuotaSlot, units::Micros};
use ids::{JournalId, MeterId, NamespaceId, SubscriptionId, Uuid};
use quota::QuotaLimit;
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

/// What one journal holds of a slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holding {
    pub journal: JournalId,
    /// Micro-units granted, not given back and not proven; never below zero.
    pub outstanding: i128,
    pub expires_at: Timestamp,
}

/// A meter's words.
#[derive(Debug)]
pub(super) struct MeterName {
    pub name: String,
    pub unit: String,
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

pub(super) async fn ledger_epoch(tx: &mut Tx) -> Result<Uuid> {
    let epoch = sqlx::query_scalar!("SELECT epoch FROM ledger_state").fetch_one(&mut **tx).await?;
    Ok(epoch)
}

/// The last exchange of a journal and its answer, locked until the transaction ends, so that the exchanges of a journal take turns.
pub(super) async fn lock_last_exchange(tx: &mut Tx, journal: JournalId, now: Timestamp) -> Result<Option<(i64, Value)>> {
    sqlx::query!(
        "INSERT INTO quota_exchanges (journal_id, exchange, answer, at) VALUES ($1, -1, 'null', $2) ON CONFLICT (journal_id) DO NOTHING",
        journal.uuid(),
        now
    )
    .execute(&mut **tx)
    .await?;
    let row = sqlx::query!("SELECT exchange, answer FROM quota_exchanges WHERE journal_id = $1 FOR UPDATE", journal.uuid())
        .fetch_one(&mut **tx)
        .await?;
    Ok((row.exchange >= 0).then_some((row.exchange, row.answer)))
}

pub(super) async fn keep_answer(tx: &mut Tx, journal: JournalId, exchange: i64, answer: &Value, now: Timestamp) -> Result<()> {
    sqlx::query!(
        "UPDATE quota_exchanges SET exchange = $2, answer = $3, at = $4 WHERE journal_id = $1",
        journal.uuid(),
        exchange,
        answer,
        now
    )
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

/// What a slot's accepted usage adds up to. The row is made if it is missing, and locked until the transaction ends.
pub(super) async fn lock_ledger(tx: &mut Tx, slot: &QuotaSlot) -> Result<Micros> {
    sqlx::query!(
        "INSERT INTO quota_ledger (namespace_id, subscription_id, meter_id, period_start) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        slot.namespace.uuid(),
        slot.subscription.uuid(),
        slot.meter.uuid(),
        slot.period_start,
    )
    .execute(&mut **tx)
    .await?;
    let used = sqlx::query_scalar!(
        "SELECT used FROM quota_ledger
         WHERE namespace_id = $1 AND subscription_id = $2 AND meter_id = $3 AND period_start = $4 FOR UPDATE",
        slot.namespace.uuid(),
        slot.subscription.uuid(),
        slot.meter.uuid(),
        slot.period_start,
    )
    .fetch_one(&mut **tx)
    .await?;
    micros(used)
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
        r#"SELECT journal_id, greatest(granted - given_back - proven, 0) AS "outstanding!", expires_at FROM quota_leases
           WHERE namespace_id = $1 AND subscription_id = $2 AND meter_id = $3 AND period_start = $4"#,
        slot.namespace.uuid(),
        slot.subscription.uuid(),
        slot.meter.uuid(),
        slot.period_start,
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let outstanding = micros(row.outstanding)?.0;
            Ok(Holding { journal: JournalId::from_uuid(row.journal_id), outstanding, expires_at: row.expires_at })
        })
        .collect()
}

/// Adds to what a journal was granted and has given back, in micro-units, and moves the end of all that it holds of the slot.
pub(super) async fn move_lease(
    tx: &mut Tx,
    slot: &QuotaSlot,
    journal: JournalId,
    granted: i64,
    given_back: i128,
    expires_at: Timestamp,
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO quota_leases AS l (namespace_id, subscription_id, meter_id, period_start, journal_id, granted, given_back, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (namespace_id, subscription_id, meter_id, period_start, journal_id)
         DO UPDATE SET granted = l.granted + excluded.granted, given_back = l.given_back + excluded.given_back, expires_at = excluded.expires_at",
        slot.namespace.uuid(),
        slot.subscription.uuid(),
        slot.meter.uuid(),
        slot.period_start,
        journal.uuid(),
        decimal(i128::from(granted))?,
        decimal(given_back)?,
        expires_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn decimal(micros: i128) -> Result<Decimal> {
    Ok(Decimal::try_from_i128_with_scale(micros, 6).map_err(Error::internal)?.normalize())
}

fn micros(units: Decimal) -> Result<Micros> {
    let scaled =
        units.checked_mul(Decimal::from(1_000_000)).ok_or_else(|| Error::internal(anyhow::anyhow!("{units} units are too many")))?;
    if !scaled.fract().is_zero() {
        return Err(Error::internal(anyhow::anyhow!("{units} units have more than six digits after the point")));
    }
    Ok(Micros(scaled.trunc().mantissa() / 10_i128.pow(scaled.trunc().scale())))
}
