//! A gateway takes and gives back slices of hard quotas.
//!
//! [`quota::Ledger`] decides; here its rows are loaded under a lock and stored. Locks are taken in the order of the slots, the same as ingest takes them
//! in.

use std::{collections::BTreeSet, time::Duration};

use calendar::{Anchor, Cadence, Period, Timestamp};
use gateway_control::{
    lease::{LeaseExchange, LeaseGrant, LeaseGrants, LeaseWant, QuotaSlot},
    units::Micros,
};
use ids::JournalId;
use quota::{Ask, Circumstances, Enforcement, Ledger, QuotaLimit, Turn};

use super::{
    recount, recount_store,
    store::{self, Terms},
};
use crate::{
    db::Tx,
    error::{Error, Kind, Result},
    gateways::{self, Authenticated},
};

/// How long a grant may be spent.
pub(super) const LEASE_LASTS: Duration = Duration::from_secs(60);
/// How long before its start a period's quota may be leased.
const AHEAD: Duration = Duration::from_secs(600);
/// How long after its end a period's quota may be leased to a gateway whose clock is behind: as far as clocks may be apart.
const BEHIND: Duration = Duration::from_secs(2);
/// The most slots of one exchange.
const MAX_SLOTS: usize = 1000;
/// The most streams of a journal.
const MAX_STREAMS: usize = 4096;

/// What became of an exchange.
#[derive(Debug)]
pub struct Exchanged {
    /// The answer.
    pub grants: LeaseGrants,
    /// Quotas of which gateways are to give back what they do not need, to be announced with [`super::announce_recalls`] after the commit.
    pub recalls: Vec<QuotaSlot>,
}

/// What all slots of an exchange share.
struct Exchange<'a> {
    input: &'a LeaseExchange,
    now: Timestamp,
    /// Not while a restored ledger is counted again.
    may_grant: bool,
}

/// Answers one exchange. The same exchange sent again gets the same answer and changes nothing.
///
/// # Errors
/// `Conflict` for an exchange older than the last one of the journal, `Forbidden` for a namespace that the gateway does not serve or another gateway's
/// journal, `Invalid` with the field's name.
pub async fn exchange(tx: &mut Tx, gateway: &Authenticated, input: &LeaseExchange, now: Timestamp) -> Result<Exchanged> {
    let number = check(gateway, input)?;
    gateways::bind_journal(tx, gateway, input.journal_id, now).await?;
    let last = store::lock_last_exchange(tx, input.journal_id, now).await?;
    match (Turn::of(input.exchange, last.number), last.number) {
        (Turn::Again, _) => return Ok(Exchanged { grants: serde_json::from_value(last.answer)?, recalls: Vec::new() }),
        (Turn::Old, Some(last)) => {
            return Err(Error::conflict(format!("The last exchange of this journal was {last}. Number the next one above it.")));
        }
        _ => (),
    }
    if let Some(run) = &input.run {
        let started = i64::try_from(run.number).map_err(|_| Error::invalid("run.number", "Numbers above 2^63 - 1 are not used."))?;
        store::set_run(tx, input.journal_id, started, &serde_json::to_value(&run.first_seqs)?).await?;
    }
    let standing = recount::stand(tx, input).await?;
    let exchange = Exchange { input, now, may_grant: standing.may_grant };
    let mut order: Vec<usize> = (0..input.slots.len()).collect();
    order.sort_by_key(|index| input.slots[*index].slot);
    let (mut answered, mut recalls) = (Vec::with_capacity(order.len()), Vec::new());
    for index in order {
        let slot = &input.slots[index];
        let (grant, recall) = if standing.is_stale { (unknown(slot.slot), false) } else { serve(tx, &exchange, slot).await? };
        recalls.extend(recall.then_some(grant.slot));
        answered.push((index, grant));
    }
    answered.sort_by_key(|(index, _)| *index);
    let grants = answered.into_iter().map(|(_, grant)| grant).collect();
    let grants = LeaseGrants { ledger_epoch: standing.epoch, exchange: input.exchange, grants };
    store::keep_answer(tx, input.journal_id, number, &serde_json::to_value(&grants)?).await?;
    Ok(Exchanged { grants, recalls })
}

fn check(gateway: &Authenticated, input: &LeaseExchange) -> Result<i64> {
    let number = i64::try_from(input.exchange).map_err(|_| Error::invalid("exchange", "Numbers above 2^63 - 1 are not used."))?;
    if input.slots.len() > MAX_SLOTS {
        return Err(Error::invalid("slots", format!("At most {MAX_SLOTS} slots are served in one exchange.")));
    }
    if input.run.as_ref().is_some_and(|run| run.first_seqs.len() > MAX_STREAMS) {
        return Err(Error::invalid("run.first_seqs", format!("A journal has at most {MAX_STREAMS} streams.")));
    }
    let mut seen = BTreeSet::new();
    for (index, want) in input.slots.iter().enumerate() {
        if !gateway.serves(want.slot.namespace) {
            return Err(Error::new(Kind::Forbidden, format!("This gateway does not serve the namespace {}.", want.slot.namespace)));
        }
        if !seen.insert(want.slot) {
            return Err(Error::invalid(format!("slots[{index}]"), "Each slot stands once in an exchange."));
        }
        let declared = want.declared.map(|it| [("granted", it.granted), ("given_back", it.given_back), ("finished", it.finished)]);
        let asked = [("want", want.want), ("needed", want.needed), ("give_back", want.give_back), ("held", want.held)];
        for (field, units) in asked.into_iter().chain(declared.into_iter().flatten()) {
            if units.0 < 0 || units.0 > i128::from(i64::MAX) {
                return Err(Error::invalid(format!("slots[{index}].{field}"), "Units are not negative, and below 9.2 * 10^12."));
            }
        }
    }
    Ok(number)
}

/// The answer for a slot of which the ledger cannot say anything now: nothing is granted, and it is not said that the quota is used up.
fn unknown(slot: QuotaSlot) -> LeaseGrant {
    LeaseGrant { slot, granted: Micros(0), limit: Micros(0), used: Micros(0), elsewhere: Micros::ONE, outstanding: None, lasts_ms: 0 }
}

/// Serves one slot, and says whether its holders are to be asked to give back.
async fn serve(tx: &mut Tx, exchange: &Exchange<'_>, want: &LeaseWant) -> Result<(LeaseGrant, bool)> {
    let slot = want.slot;
    let Some(terms) = store::terms(tx, slot.namespace, slot.subscription).await? else {
        tracing::warn!(subscription = %slot.subscription, "a gateway asks for the quota of a subscription that is unknown");
        return Ok((unknown(slot), false));
    };
    let quota = terms.quotas.iter().find(|quota| quota.meter == slot.meter);
    let period = period_from(&terms, slot.period_start)?;
    // A plan whose periods are cut otherwise may have come in the meantime: what is out under the old one can still be given back.
    if period.from != slot.period_start && !store::ledger_exists(tx, &slot).await? {
        return Ok((unknown(slot), false));
    }
    let Some(quota) = quota.filter(|quota| quota.enforcement == Enforcement::Hard) else {
        return Ok((without_limit(tx, want, quota.map(|quota| quota.limit_microunits)).await?, false));
    };
    let mut ledger = load(tx, &slot, quota).await?;
    let now = exchange.now;
    let runs = period.from == slot.period_start && now < period.to.plus(BEHIND) && period.from <= now.plus(AHEAD);
    let ask = ask(exchange.input, want);
    let may_grant = exchange.may_grant && terms.is_active && runs;
    let was_known = ledger.holding(ask.journal).is_some();
    let answer = ledger.exchange(&ask, Circumstances { now, lasts: LEASE_LASTS, may_grant });
    if let Some(holding) = ledger.holding(ask.journal).filter(|holding| was_known || holding.granted != 0 || holding.exposed != 0) {
        store::save_holding(tx, &slot, holding).await?;
    }
    if answer.recall {
        store::set_recalled(tx, &slot, now).await?;
    }
    let grant = LeaseGrant {
        slot,
        granted: Micros(answer.granted),
        limit: Micros(ledger.limit),
        used: Micros(ledger.used),
        elsewhere: Micros(answer.elsewhere),
        outstanding: Some(Micros(answer.outstanding)),
        lasts_ms: u64::try_from(LEASE_LASTS.as_millis()).unwrap_or(u64::MAX),
    };
    Ok((grant, answer.recall))
}

fn ask(input: &LeaseExchange, want: &LeaseWant) -> Ask {
    let declared = input.run.as_ref().zip(want.declared).map(|(run, declared)| declared.of_run(run.number));
    Ask { journal: input.journal_id, want: want.want.0, needed: want.needed.0, give_back: want.give_back.0, held: want.held.0, declared }
}

/// A slot's ledger, locked, with its limit, and with earlier runs settled whose segments have all been accepted.
pub(super) async fn load(tx: &mut Tx, slot: &QuotaSlot, quota: &QuotaLimit) -> Result<Ledger> {
    let mut ledger = store::lock_ledger(tx, slot).await?;
    ledger.limit = i128::from(quota.limit_microunits) + recount_store::granted_by_operators(tx, slot).await?.0;
    let holding: Vec<JournalId> = ledger.holdings.iter().filter(|it| it.outstanding() > 0).map(|it| it.journal).collect();
    if holding.is_empty() {
        return Ok(ledger);
    }
    let runs = recount_store::runs(tx, &holding).await?;
    for holding in &mut ledger.holdings {
        if let Some(run) = runs.get(&holding.journal)
            && holding.catch_up(run.run, run.is_settled())
        {
            store::save_holding(tx, slot, holding).await?;
        }
    }
    Ok(ledger)
}

/// A soft quota, or none: nothing is denied, so nothing is kept in the ledger's leases.
async fn without_limit(tx: &mut Tx, want: &LeaseWant, limit: Option<i64>) -> Result<LeaseGrant> {
    Ok(LeaseGrant {
        slot: want.slot,
        granted: want.want,
        limit: Micros::from(limit.unwrap_or(i64::MAX)),
        used: store::used(tx, &want.slot).await?,
        elsewhere: Micros(0),
        outstanding: None,
        lasts_ms: u64::try_from(LEASE_LASTS.as_millis()).unwrap_or(u64::MAX),
    })
}

/// The quota period that holds an instant.
pub(super) fn period_from(terms: &Terms, at: Timestamp) -> Result<Period> {
    let date = terms.anchor_date.parse().map_err(Error::internal)?;
    let zone = terms.time_zone.parse().map_err(Error::internal)?;
    let cadence: Cadence = terms.cadence.parse().map_err(Error::internal)?;
    Ok(Anchor { date, zone }.period_at(cadence, at))
}
