//! A gateway takes and gives back slices of hard quotas.
//!
//! What is free is derived under the lock of the ledger's row: limit - used - what journals were granted, have not given back and have not proven by
//! usage. Locks are taken in the order of the slots, the same as ingest takes them in.

use std::{collections::BTreeSet, time::Duration};

use calendar::{Anchor, Cadence, Period, Timestamp};
use gateway_control::{
    lease::{LeaseExchange, LeaseGrant, LeaseGrants, LeaseWant, QuotaSlot},
    units::Micros,
};
use ids::JournalId;
use quota::{Enforcement, Grant, Ledger, MICROUNITS_PER_UNIT};

use super::store::{self, Holding, Terms};
use crate::{
    db::Tx,
    error::{Error, Kind, Result},
    gateways::{self, Authenticated},
};

/// How long a grant may be spent.
const LEASE_LASTS: Duration = Duration::from_secs(60);
/// How long before its start a period's quota may be leased.
const AHEAD: Duration = Duration::from_secs(600);
/// The most slots of one exchange.
const MAX_SLOTS: usize = 1000;

/// Answers one exchange. The same exchange sent again gets the same answer and changes nothing.
///
/// # Errors
/// `Conflict` for an exchange older than the last one of the journal, `Forbidden` for a namespace that the gateway does not serve or another gateway's
/// journal, `Invalid` with the field's name.
pub async fn exchange(tx: &mut Tx, gateway: &Authenticated, input: &LeaseExchange, now: Timestamp) -> Result<LeaseGrants> {
    let number = check(gateway, input)?;
    gateways::bind_journal(tx, gateway, input.journal_id, now).await?;
    if let Some((last, answer)) = store::lock_last_exchange(tx, input.journal_id, now).await? {
        if number == last {
            return Ok(serde_json::from_value(answer)?);
        }
        if number < last {
            return Err(Error::conflict(format!("The last exchange of this journal was {last}. Number the next one above it.")));
        }
    }
    let mut order: Vec<usize> = (0..input.slots.len()).collect();
    order.sort_by_key(|index| input.slots[*index].slot);
    let mut answered = Vec::with_capacity(order.len());
    for index in order {
        answered.push((index, serve(tx, input.journal_id, &input.slots[index], now).await?));
    }
    answered.sort_by_key(|(index, _)| *index);
    let grants = LeaseGrants {
        ledger_epoch: store::ledger_epoch(tx).await?,
        exchange: input.exchange,
        grants: answered.into_iter().map(|(_, grant)| grant).collect(),
    };
    store::keep_answer(tx, input.journal_id, number, &serde_json::to_value(&grants)?, now).await?;
    Ok(grants)
}

fn check(gateway: &Authenticated, input: &LeaseExchange) -> Result<i64> {
    let number = i64::try_from(input.exchange).map_err(|_| Error::invalid("exchange", "Numbers above 2^63 - 1 are not used."))?;
    if input.slots.len() > MAX_SLOTS {
        return Err(Error::invalid("slots", format!("At most {MAX_SLOTS} slots are served in one exchange.")));
    }
    let mut seen = BTreeSet::new();
    for (index, want) in input.slots.iter().enumerate() {
        if !gateway.serves(want.slot.namespace) {
            return Err(Error::new(Kind::Forbidden, format!("This gateway does not serve the namespace {}.", want.slot.namespace)));
        }
        if !seen.insert(want.slot) {
            return Err(Error::invalid(format!("slots[{index}]"), "Each slot stands once in an exchange."));
        }
        for (field, units) in [("want", want.want), ("needed", want.needed), ("give_back", want.give_back), ("held", want.held)] {
            if units.0 < 0 || units.0 > i128::from(i64::MAX) {
                return Err(Error::invalid(format!("slots[{index}].{field}"), "Units are not negative, and below 9.2 * 10^12."));
            }
        }
    }
    Ok(number)
}

/// The answer for a slot of which the ledger cannot say anything now: nothing is granted, and it is not said that the quota is used up.
fn unknown(slot: QuotaSlot) -> LeaseGrant {
    LeaseGrant { slot, granted: Micros(0), limit: Micros(0), used: Micros(0), elsewhere: Micros::ONE, lasts_ms: 0 }
}

async fn serve(tx: &mut Tx, journal: JournalId, want: &LeaseWant, now: Timestamp) -> Result<LeaseGrant> {
    let slot = want.slot;
    let Some(terms) = store::terms(tx, slot.namespace, slot.subscription).await? else {
        tracing::warn!(subscription = %slot.subscription, "a gateway asks for the quota of a subscription that is unknown");
        return Ok(unknown(slot));
    };
    let quota = terms.quotas.iter().find(|quota| quota.meter == slot.meter);
    let period = period_from(&terms, slot.period_start)?;
    // A plan whose periods are cut otherwise may have come in the meantime: what is out under the old one can still be given back.
    if period.from != slot.period_start && !store::ledger_exists(tx, &slot).await? {
        return Ok(unknown(slot));
    }
    let Some(quota) = quota.filter(|quota| quota.enforcement == Enforcement::Hard) else {
        return without_limit(tx, want, quota.map(|quota| quota.limit_microunits)).await;
    };
    let used = store::lock_ledger(tx, &slot).await?;
    let holdings = store::holdings(tx, &slot).await?;
    let own = holdings.iter().find(|holding| holding.journal == journal);
    let given_back = want.give_back.0.min(own.map_or(0, |own| own.outstanding));
    let (mut live, mut presumed) = (0, 0);
    for holding in &holdings {
        let outstanding = holding.outstanding - if holding.journal == journal { given_back } else { 0 };
        *(if holding.expires_at > now { &mut live } else { &mut presumed }) += outstanding;
    }
    let spendable = terms.is_active && period.from == slot.period_start && now < period.to && period.from <= now.plus(AHEAD);
    let ledger = Ledger {
        limit: quota.limit_microunits,
        used: used.clamped(),
        outstanding: Micros(live).clamped(),
        presumed_spent: Micros(presumed).clamped(),
    };
    let granted = match ledger.grant(want.want.clamped(), want.needed.min(want.want).clamped(), holders(&holdings, journal, now)) {
        Grant::Units(units) if spendable && want.want.0 > 0 => whole(units),
        _ => 0,
    };
    if granted > 0 || given_back > 0 || own.is_some_and(|own| own.outstanding > 0) {
        store::move_lease(tx, &slot, journal, granted, given_back, now.plus(LEASE_LASTS)).await?;
    }
    let others: i128 = holdings.iter().filter(|holding| holding.journal != journal).map(|holding| holding.outstanding).sum();
    Ok(LeaseGrant {
        slot,
        granted: Micros::from(granted),
        limit: Micros::from(quota.limit_microunits),
        used,
        // A subscription or period that is not spendable is no word on whether the quota is used up.
        elsewhere: if spendable { Micros(others) } else { Micros(others.max(Micros::ONE.0)) },
        lasts_ms: u64::try_from(LEASE_LASTS.as_millis()).unwrap_or(u64::MAX),
    })
}

/// Grants are whole units, so that parts of the last one do not end up with different gateways; less than one is the rest of a limit that is not whole.
fn whole(microunits: i64) -> i64 {
    if microunits < MICROUNITS_PER_UNIT { microunits } else { microunits - microunits % MICROUNITS_PER_UNIT }
}

/// How many gateways share what is free: those whose lease lives, and the one that asks.
fn holders(holdings: &[Holding], journal: JournalId, now: Timestamp) -> u32 {
    let others = holdings.iter().filter(|holding| holding.journal != journal && holding.expires_at > now).count();
    u32::try_from(others + 1).unwrap_or(u32::MAX)
}

/// A soft quota, or none: nothing is denied, so nothing is kept in the ledger's leases.
async fn without_limit(tx: &mut Tx, want: &LeaseWant, limit: Option<i64>) -> Result<LeaseGrant> {
    Ok(LeaseGrant {
        slot: want.slot,
        granted: want.want,
        limit: Micros::from(limit.unwrap_or(i64::MAX)),
        used: store::used(tx, &want.slot).await?,
        elsewhere: Micros(0),
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
