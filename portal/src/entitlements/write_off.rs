//! What operators decide about quotas: leases of gateways that will not come back are written off, and units are granted on top of a limit.

use calendar::Timestamp;
use gateway_control::{lease::QuotaSlot, units::Micros};
use ids::{GatewayId, JournalId, MeterId, NamespaceId, SubscriptionId, TenantId};

use super::{exchange, recount_store as recounts, recount_store::Decision, store};
use crate::{
    audit::{self, Entry},
    db::Tx,
    error::{Error, Result},
    gateways,
    identity::{Actor, Permission},
};

/// The longest reason, in characters.
const MAX_REASON_CHARS: usize = 500;
/// The most quotas that one write-off concerns; the rest is for the next.
const MAX_QUOTAS: i64 = 10_000;
/// The most units of one grant.
const MAX_GRANT_UNITS: i64 = 1_000_000_000_000;

/// What a journal of a gateway holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalLeases {
    /// The journal.
    pub journal: JournalId,
    /// Of how many quotas it holds something.
    pub quotas: usize,
    /// What leases that live hold, or what was spent of them and is not proven yet.
    pub live: Micros,
    /// What is presumed spent until the journal arrives.
    pub presumed_spent: Micros,
    /// A restored ledger waits for its declaration.
    pub is_waited_for: bool,
}

/// A write-off.
#[derive(Debug, Clone)]
pub struct WriteOff {
    /// The gateway.
    pub gateway: GatewayId,
    /// Its journal that will not come.
    pub journal: JournalId,
    /// Why, for the audit log.
    pub reason: String,
}

/// Units on top of a limit. A reset is a grant of what was used.
#[derive(Debug, Clone)]
pub struct GrantUnits {
    /// Who pays.
    pub tenant: TenantId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The quota's meter.
    pub meter: MeterId,
    /// How many; in the running period.
    pub units: Micros,
    /// Why, for the audit log.
    pub reason: String,
}

/// What was written off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenOff {
    /// Of how many quotas.
    pub quotas: usize,
    /// How much over all of them.
    pub units: Micros,
}

/// What the journals of a gateway hold of quotas, by journal.
pub async fn leases_of(tx: &mut Tx, actor: &Actor, gateway: GatewayId, now: Timestamp) -> Result<Vec<JournalLeases>> {
    actor.require(Permission::Operate)?;
    let own: Vec<JournalId> = gateways::get(tx, actor, gateway).await?.instances.iter().map(|instance| instance.journal).collect();
    let mut found: Vec<JournalLeases> = Vec::new();
    let place = |found: &mut Vec<JournalLeases>, journal: JournalId| {
        found.iter().position(|it| it.journal == journal).unwrap_or_else(|| {
            let none = Micros(0);
            found.push(JournalLeases { journal, quotas: 0, live: none, presumed_spent: none, is_waited_for: false });
            found.len() - 1
        })
    };
    for held in recounts::held(tx, gateway, MAX_QUOTAS).await? {
        let holdings = store::holdings(tx, &held.slot).await?;
        let Some(holding) = holdings.iter().find(|holding| holding.journal == held.journal) else { continue };
        let at = place(&mut found, held.journal);
        let presumed = holding.presumed_spent(now);
        found[at].quotas += 1;
        found[at].presumed_spent.0 += presumed;
        found[at].live.0 += holding.outstanding() - presumed;
    }
    for (journal, _) in recounts::recounts(tx).await?.into_iter().filter(|(journal, _)| own.contains(journal)) {
        let at = place(&mut found, journal);
        found[at].is_waited_for = true;
    }
    Ok(found)
}

/// Gives back to the ledgers what a journal holds that will not come. Should it come after all, its usage counts, and the sum may pass the limit by that.
///
/// # Errors
/// `Conflict` while a lease of the journal lives, because its gateway may be spending it; `Invalid` with the field's name.
pub async fn write_off(tx: &mut Tx, actor: &Actor, input: &WriteOff, now: Timestamp) -> Result<WrittenOff> {
    actor.require(Permission::Operate)?;
    let reason = reason(&input.reason)?;
    let gateway = gateways::get(tx, actor, input.gateway).await?;
    if !gateway.instances.iter().any(|instance| instance.journal == input.journal) {
        return Err(Error::invalid("journal", "This gateway has no such journal."));
    }
    let who = name_of(actor);
    let mut written = WrittenOff { quotas: 0, units: Micros(0) };
    for held in recounts::held(tx, input.gateway, MAX_QUOTAS).await?.into_iter().filter(|held| held.journal == input.journal) {
        let mut ledger = store::lock_ledger(tx, &held.slot).await?;
        let units = ledger.write_off(held.journal, now).map_err(|live| {
            Error::conflict(format!(
                "A lease of this journal lives until {}: its gateway may be spending it. Write it off after that.",
                live.until
            ))
        })?;
        let Some(holding) = ledger.holding(held.journal) else { continue };
        store::save_holding(tx, &held.slot, holding).await?;
        let decision = Decision { slot: held.slot, kind: "write_off", journal: Some(held.journal), units, reason, actor: &who };
        recounts::insert_decision(tx, &decision, now).await?;
        written = WrittenOff { quotas: written.quotas + 1, units: Micros(written.units.0 + units) };
    }
    recounts::end_recounts(tx, Some(&[input.journal])).await?;
    let after = serde_json::json!({
        "journal": input.journal, "quotas": written.quotas, "units": written.units, "reason": reason,
    });
    let entry = Entry { action: "gateway.leases_written_off", target: input.gateway.to_string(), after: Some(after), ..Entry::default() };
    audit::record(tx, actor, entry, now).await?;
    Ok(written)
}

/// Grants units of a quota on top of its limit, in the running period.
///
/// # Errors
/// `NotFound` for a subscription that is not the tenant's, `Invalid` with the field's name.
pub async fn grant_units(tx: &mut Tx, actor: &Actor, input: &GrantUnits, now: Timestamp) -> Result<QuotaSlot> {
    actor.require(Permission::Operate)?;
    let reason = reason(&input.reason)?;
    if input.units.0 <= 0 || input.units > Micros::units(MAX_GRANT_UNITS) {
        return Err(Error::invalid("units", format!("Grant more than 0 and at most {MAX_GRANT_UNITS} units.")));
    }
    let namespace = NamespaceId::of(input.tenant);
    let terms = store::terms(tx, namespace, input.subscription).await?.ok_or_else(|| Error::not_found("This subscription"))?;
    if !terms.quotas.iter().any(|quota| quota.meter == input.meter) {
        return Err(Error::invalid("meter", "The subscription's plan has no quota of this meter."));
    }
    let period = exchange::period_from(&terms, now)?;
    let slot = QuotaSlot { namespace, subscription: input.subscription, meter: input.meter, period_start: period.from };
    let who = name_of(actor);
    let decision = Decision { slot, kind: "grant", journal: None, units: input.units.0, reason, actor: &who };
    recounts::insert_decision(tx, &decision, now).await?;
    let after = serde_json::json!({ "meter": input.meter, "period_start": period.from, "units": input.units, "reason": reason });
    let entry = Entry {
        tenant: Some(input.tenant),
        action: "subscription.quota_granted",
        target: input.subscription.to_string(),
        after: Some(after),
        ..Entry::default()
    };
    audit::record(tx, actor, entry, now).await?;
    Ok(slot)
}

/// Who decided, as the audit log names it.
fn name_of(actor: &Actor) -> String {
    let who = audit::Who::from(actor);
    who.id.map_or_else(|| who.kind.to_owned(), |id| format!("{} {id}", who.kind))
}

fn reason(text: &str) -> Result<&str> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > MAX_REASON_CHARS {
        return Err(Error::invalid("reason", format!("Say why, in at most {MAX_REASON_CHARS} characters.")));
    }
    Ok(text)
}
