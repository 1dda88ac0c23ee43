//! The SQL of what holds over all quotas: settled runs, counting again after a restore, and what operators decide.

use std::collections::HashMap;

use calendar::Timestamp;
use gateway_control::{lease::QuotaSlot, units::Micros};
use ids::{GatewayId, JournalId, MeterId, NamespaceId, SubscriptionId, Uuid};

use super::store::{decimal, micros};
use crate::{
    db::Tx,
    error::{Error, Result},
};

/// Where the ledger stands as a whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct LedgerState {
    pub epoch: Uuid,
    /// It was restored so lately that leases which the backup does not know may still live.
    pub is_fresh: bool,
    /// Journals have not declared their leases again.
    pub is_recounting: bool,
}

/// Which run of a journal's gateway exchanged last, and where its streams began.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub run: u64,
    pub first_seqs: Vec<(u16, u64)>,
    pub accepted_through: HashMap<u16, u64>,
}

impl Run {
    pub(super) fn is_settled(&self) -> bool {
        quota::is_settled(&self.first_seqs, |stream| self.accepted_through.get(&stream).copied())
    }
}

/// A quota of which a journal holds something.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub slot: QuotaSlot,
    pub journal: JournalId,
}

/// What an operator decided.
#[derive(Debug)]
pub(super) struct Decision<'a> {
    pub slot: QuotaSlot,
    pub kind: &'static str,
    pub journal: Option<JournalId>,
    pub units: i128,
    pub reason: &'a str,
    pub actor: &'a str,
}

pub(super) async fn ledger_epoch(tx: &mut Tx) -> Result<Uuid> {
    Ok(sqlx::query_scalar!("SELECT epoch FROM ledger_state").fetch_one(&mut **tx).await?)
}

pub(super) async fn ledger_state(tx: &mut Tx, lease_lasts_seconds: f64) -> Result<LedgerState> {
    let state = sqlx::query_as!(
        LedgerState,
        r#"SELECT epoch, coalesce(clock_timestamp() < restored_at + make_interval(secs => $1), false) AS "is_fresh!",
               EXISTS (SELECT 1 FROM quota_recounts) AS "is_recounting!" FROM ledger_state"#,
        lease_lasts_seconds,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(state)
}

/// The runs of journals, by what their gateways last declared.
pub(super) async fn runs(tx: &mut Tx, journals: &[JournalId]) -> Result<HashMap<JournalId, Run>> {
    let ids: Vec<Uuid> = journals.iter().map(|journal| journal.uuid()).collect();
    let mut runs = HashMap::new();
    let rows = sqlx::query!("SELECT journal_id, run, first_seqs FROM quota_exchanges WHERE journal_id = ANY($1)", &ids);
    for row in rows.fetch_all(&mut **tx).await? {
        let run = Run {
            run: u64::try_from(row.run).map_err(Error::internal)?,
            first_seqs: serde_json::from_value(row.first_seqs)?,
            accepted_through: HashMap::new(),
        };
        runs.insert(JournalId::from_uuid(row.journal_id), run);
    }
    let rows = sqlx::query!("SELECT journal_id, stream, accepted_through FROM usage_streams WHERE journal_id = ANY($1)", &ids);
    for row in rows.fetch_all(&mut **tx).await? {
        let run = runs.get_mut(&JournalId::from_uuid(row.journal_id));
        if let (Some(run), Ok(stream), Ok(seq)) = (run, u16::try_from(row.stream), u64::try_from(row.accepted_through)) {
            run.accepted_through.insert(stream, seq);
        }
    }
    Ok(runs)
}

pub(super) async fn note_declared(tx: &mut Tx, journal: JournalId) -> Result<()> {
    sqlx::query!("UPDATE quota_recounts SET declared = true WHERE journal_id = $1", journal.uuid()).execute(&mut **tx).await?;
    Ok(())
}

/// Journals that a restored ledger waits for, and whether they have declared their leases. Those of revoked gateways cannot speak any more.
pub(super) async fn recounts(tx: &mut Tx) -> Result<Vec<(JournalId, bool)>> {
    let rows = sqlx::query!(
        "SELECT r.journal_id, r.declared FROM quota_recounts r
         JOIN gateway_journals j ON j.journal_id = r.journal_id JOIN gateways g ON g.id = j.gateway_id WHERE g.revoked_at IS NULL"
    );
    Ok(rows.fetch_all(&mut **tx).await?.into_iter().map(|row| (JournalId::from_uuid(row.journal_id), row.declared)).collect())
}

/// Forgets journals that need not be waited for any more; with `None`, all.
pub(super) async fn end_recounts(tx: &mut Tx, journals: Option<&[JournalId]>) -> Result<()> {
    let ids: Option<Vec<Uuid>> = journals.map(|journals| journals.iter().map(|journal| journal.uuid()).collect());
    sqlx::query!("DELETE FROM quota_recounts WHERE $1::uuid[] IS NULL OR journal_id = ANY($1)", ids.as_deref()).execute(&mut **tx).await?;
    Ok(())
}

/// Quotas of which journals of a gateway hold something, in the order in which ledgers are locked. At most so many.
pub(super) async fn held(tx: &mut Tx, gateway: GatewayId, at_most: i64) -> Result<Vec<Held>> {
    let rows = sqlx::query!(
        "SELECT l.namespace_id, l.subscription_id, l.meter_id, l.period_start, l.journal_id
         FROM quota_leases l JOIN gateway_journals j ON j.journal_id = l.journal_id
         WHERE j.gateway_id = $1 AND (l.earlier > 0 OR l.granted + l.exposed - l.given_back - l.proven > 0)
         ORDER BY l.namespace_id, l.subscription_id, l.meter_id, l.period_start LIMIT $2",
        gateway.uuid(),
        at_most,
    );
    let held = rows.fetch_all(&mut **tx).await?.into_iter().map(|row| Held {
        slot: QuotaSlot {
            namespace: NamespaceId::from_uuid(row.namespace_id),
            subscription: SubscriptionId::from_uuid(row.subscription_id),
            meter: MeterId::from_uuid(row.meter_id),
            period_start: row.period_start,
        },
        journal: JournalId::from_uuid(row.journal_id),
    });
    Ok(held.collect())
}

/// Micro-units that operators granted on top of a slot's limit.
pub(super) async fn granted_by_operators(tx: &mut Tx, slot: &QuotaSlot) -> Result<Micros> {
    let units = sqlx::query_scalar!(
        r#"SELECT coalesce(sum(units), 0) AS "units!" FROM quota_decisions
           WHERE namespace_id = $1 AND subscription_id = $2 AND meter_id = $3 AND period_start = $4 AND kind = 'grant'"#,
        slot.namespace.uuid(),
        slot.subscription.uuid(),
        slot.meter.uuid(),
        slot.period_start,
    )
    .fetch_one(&mut **tx)
    .await?;
    micros(units)
}

pub(super) async fn insert_decision(tx: &mut Tx, decision: &Decision<'_>, now: Timestamp) -> Result<()> {
    let slot = &decision.slot;
    sqlx::query!(
        "INSERT INTO quota_decisions (namespace_id, subscription_id, meter_id, period_start, id, kind, journal_id, units, reason, actor, decided_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        slot.namespace.uuid(),
        slot.subscription.uuid(),
        slot.meter.uuid(),
        slot.period_start,
        Uuid::now_v7(),
        decision.kind,
        decision.journal.map(|journal| journal.uuid()),
        decimal(decision.units)?,
        decision.reason,
        decision.actor,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Micro-units over all quotas that are presumed spent: leases that have ended and what earlier runs left.
pub(super) async fn presumed_spent(tx: &mut Tx, now: Timestamp) -> Result<Micros> {
    let units = sqlx::query_scalar!(
        r#"SELECT coalesce(sum(earlier + CASE WHEN expires_at > $1 THEN 0 ELSE greatest(granted + exposed - given_back - proven, 0) END), 0) AS "units!"
           FROM quota_leases WHERE earlier > 0 OR granted + exposed - given_back - proven > 0"#,
        now
    )
    .fetch_one(&mut **tx)
    .await?;
    micros(units)
}
