//! Admission: a call gets a [`Permit`], or a failure that says what denied it. Rate limits first, then hard quotas, then room for the record: what a
//! later step denies, the earlier quota reservations are given back for; rate tokens are not (SEMANTICS Q4).

use std::{rc::Rc, sync::Arc, time::Instant};

use calendar::{Period, Timestamp};
use journal::Receipt;
use quota::{Lease, MICROUNITS_PER_UNIT, take_all};

use super::{
    grant::{Grant, HardQuota, PeriodQuotas},
    respond::{Denied, Failure},
    units::MeterUnits,
};
use crate::{
    config::OnFull,
    core::Core,
    limits::{places::Place, quota::LedgerWord},
};

/// How long the ledger's word that a quota is used up is taken for true before it is asked again: a limit may have been raised.
const USED_UP_HOLDS_NS: u64 = 1_000_000_000;

/// The right to be forwarded, once.
#[derive(Debug)]
pub struct Permit {
    /// What the key may do on the route.
    pub grant: Rc<Grant>,
    /// The number of the call and room for its record; `None` once it is recorded, or where the call is served unbilled.
    pub receipt: Option<Receipt>,
    /// The event time.
    pub admitted_at: Timestamp,
    /// The same on the monotonic clock.
    pub started: Instant,
    /// The quota period in which it was admitted.
    pub period: Period,
    /// Its place among the open calls of its core and namespace.
    pub place: Place,
    reservations: Vec<Reservation>,
}

/// What was taken of a hard quota and may be given back.
#[derive(Debug)]
struct Reservation {
    /// Absent where the portal was away and the plan admits without it.
    lease: Option<Arc<Lease>>,
    quotas: Rc<PeriodQuotas>,
    place: usize,
    amount: i64,
}

impl Reservation {
    fn quota(&self) -> &HardQuota {
        &self.quotas.hard[self.place]
    }

    fn give_back(&mut self, amount: i64) {
        let amount = amount.clamp(0, self.amount);
        self.amount -= amount;
        match &self.lease {
            Some(lease) => {
                lease.give_back(amount);
                self.quota().cell.unspend(amount);
            }
            None => _ = self.quota().cell.exposed.fetch_sub(amount, std::sync::atomic::Ordering::AcqRel),
        }
    }
}

/// Admits a call.
///
/// # Errors
/// With the limit that denied.
pub async fn admit(core: &Rc<Core>, grant: Rc<Grant>, place: Place, now: Timestamp) -> Result<Permit, Failure> {
    take_rate(core, &grant, now)?;
    let quotas = grant.quotas_at(core, now);
    let mut reservations = Vec::new();
    for at in 0..quotas.hard.len() {
        match reserve(core, &grant, &quotas, at, now).await {
            Ok(reservation) => reservations.push(reservation),
            Err(failure) => {
                reservations.iter_mut().for_each(|taken: &mut Reservation| taken.give_back(i64::MAX));
                return Err(failure);
            }
        }
    }
    let receipt = match take_receipt(core) {
        Ok(receipt) => receipt,
        Err(failure) => {
            reservations.iter_mut().for_each(|taken| taken.give_back(i64::MAX));
            return Err(failure);
        }
    };
    Ok(Permit { receipt, admitted_at: now, started: Instant::now(), period: quotas.period, place, reservations, grant })
}

fn take_rate(core: &Core, grant: &Grant, now: Timestamp) -> Result<(), Failure> {
    const MAX_INLINE: usize = 8;
    if grant.limits.is_empty() {
        return Ok(());
    }
    let clock = || core.shared.monotonic_ns();
    let taken = if grant.limits.len() <= MAX_INLINE {
        let mut limiters = [&*grant.limits[0].limiter; MAX_INLINE];
        limiters.iter_mut().zip(&grant.limits).for_each(|(place, applied)| *place = &applied.limiter);
        take_all(&limiters[..grant.limits.len()], clock)
    } else {
        let limiters: Vec<_> = grant.limits.iter().map(|applied| &*applied.limiter).collect();
        take_all(&limiters, clock)
    };
    let Err(denied) = taken else { return Ok(()) };
    let applied = &grant.limits[denied.index];
    let limit = i64::from(applied.limit.burst());
    Err(Failure::TooFast(Denied {
        limit_name: applied.name.clone(),
        limit,
        used: limit - i64::from(denied.decision.remaining),
        resets_at: now.plus(std::time::Duration::from_nanos(denied.decision.reset_after_ns)),
        retry_after_ns: denied.decision.retry_after_ns,
        plan: grant.plan.plan.clone(),
    }))
}

/// Takes a call's upper bound from one hard quota, waiting for the ledger if the lease is empty.
async fn reserve(core: &Rc<Core>, grant: &Grant, quotas: &Rc<PeriodQuotas>, place: usize, now: Timestamp) -> Result<Reservation, Failure> {
    let HardQuota { cell, reserve: amount, limit, .. } = &quotas.hard[place];
    let take = |now_ns| {
        let lease = cell.try_take(*amount, now_ns)?;
        Some(Reservation { lease: Some(lease), quotas: quotas.clone(), place, amount: *amount })
    };
    let now_ns = core.shared.monotonic_ns();
    if let Some(reservation) = take(now_ns) {
        if cell.is_low(now_ns, *amount) {
            core.shared.quotas.ask(cell);
        }
        return Ok(reservation);
    }
    let denied = |retry_after_ns| denied(grant, quotas, place, now, retry_after_ns);
    let until_reset = u64::try_from(quotas.period.to.since(now).as_nanos()).unwrap_or(u64::MAX);
    let word_holds = now_ns.saturating_sub(cell.heard_ns()) < USED_UP_HOLDS_NS;
    if cell.word() == LedgerWord::UsedUp && word_holds {
        return Err(Failure::QuotaUsedUp(denied(until_reset)));
    }
    cell.need(*amount, now_ns);
    let mut answered = cell.answered.subscribe();
    let deadline = tokio::time::Instant::now() + core.shared.config.lease_wait;
    loop {
        core.shared.quotas.ask(cell);
        let heard = tokio::time::timeout_at(deadline, answered.changed()).await;
        if let Some(reservation) = take(core.shared.monotonic_ns()) {
            return Ok(reservation);
        }
        match (heard, cell.word()) {
            // Another call may have taken what was granted: ask again while there is time.
            (Ok(Ok(())), LedgerWord::Granted) => cell.need(*amount, core.shared.monotonic_ns()),
            (Ok(Ok(())), LedgerWord::UsedUp) => return Err(Failure::QuotaUsedUp(denied(until_reset))),
            _ if cell.try_expose(*amount, limit.when_unreachable) => {
                return Ok(Reservation { lease: None, quotas: quotas.clone(), place, amount: *amount });
            }
            _ => return Err(Failure::QuotaUnknown(denied(USED_UP_HOLDS_NS))),
        }
    }
}

fn denied(grant: &Grant, quotas: &PeriodQuotas, place: usize, _: Timestamp, retry_after_ns: u64) -> Denied {
    let quota = &quotas.hard[place];
    Denied {
        limit_name: quota.name.clone(),
        limit: quota.cell.limit() / MICROUNITS_PER_UNIT,
        used: quota.cell.used() / MICROUNITS_PER_UNIT,
        resets_at: quotas.period.to,
        retry_after_ns,
        plan: grant.plan.plan.clone(),
    }
}

fn take_receipt(core: &Core) -> Result<Option<Receipt>, Failure> {
    let mut writer = core.writer.borrow_mut();
    let Some(writer) = writer.as_mut() else { return Err(Failure::JournalFull) };
    match writer.admit() {
        Ok(receipt) => Ok(Some(receipt)),
        Err(full) => match core.shared.config.journal.on_full {
            OnFull::Refuse => {
                tracing::warn!(%full, "a call was refused because its usage could not be recorded");
                Err(Failure::JournalFull)
            }
            OnFull::ServeUnbilled => {
                core.metrics.unbilled();
                Ok(None)
            }
        },
    }
}

impl Permit {
    /// The exchange has ended with these units: what was reserved beyond them is given back, all of it if the answer is not billable.
    pub fn settle(&mut self, units: &MeterUnits, billable: bool) {
        for reservation in &mut self.reservations {
            let used = if billable { units[reservation.quota().meter] } else { 0 };
            let beyond = used.saturating_sub(reservation.amount);
            if beyond > 0
                && let Some(lease) = &reservation.lease
            {
                lease.charge(beyond);
            }
            reservation.give_back(reservation.amount.saturating_sub(used));
        }
    }

    /// A long exchange has used these units of its reservations and goes on: takes as much again. False if the ledger says that a quota is used up.
    pub fn reserve_again(&mut self, core: &Rc<Core>, units: &MeterUnits) -> bool {
        let now_ns = core.shared.monotonic_ns();
        for reservation in &mut self.reservations {
            let quotas = reservation.quotas.clone();
            let quota = &quotas.hard[reservation.place];
            let kept = reservation.amount.saturating_sub(units[quota.meter]);
            if let (true, Some(lease)) = (kept < 0, &reservation.lease) {
                lease.charge(-kept);
            }
            reservation.amount = kept.max(0);
            let missing = quota.reserve - reservation.amount;
            if missing == 0 {
                continue;
            }
            // The rest moves to the lease that pays from now on.
            let rest = reservation.amount;
            match quota.cell.try_take(quota.reserve, now_ns) {
                Some(lease) => {
                    reservation.give_back(rest);
                    reservation.lease = Some(lease);
                    reservation.amount = quota.reserve;
                }
                None if quota.cell.word() == LedgerWord::UsedUp && rest == 0 => return false,
                None => {
                    quota.cell.need(missing, now_ns);
                    core.shared.quotas.ask(&quota.cell);
                }
            }
        }
        true
    }
}
