//! Admission: a call gets a [`Permit`], or a failure that says what denied it. Rate limits first, then hard quotas, then room for the record: what a
//! later step denies, the earlier quota reservations are given back for; rate tokens are not (SEMANTICS Q4).

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use calendar::{Period, Timestamp};
use journal::Receipt;
use quota::{Lease, MICROUNITS_PER_UNIT, take_all};
use smallvec::SmallVec;

use super::{
    grant::{Grant, HardQuota, PeriodQuotas},
    respond::{Denied, Failure},
    units::MeterUnits,
};
use crate::{
    config::OnFull,
    core::Core,
    limits::{
        places::Place,
        quota::{LedgerWord, QuotaCell},
    },
    turn,
};

/// How long the ledger's word that a quota is used up is taken for true before it is asked again: a limit may have been raised.
const USED_UP_HOLDS_NS: u64 = 1_000_000_000;

/// How soon a call that waits asks again after the ledger has recalled idle leases.
const ASK_AGAIN: Duration = Duration::from_millis(10);

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
    reservations: Reservations,
}

/// What was taken of each hard quota of a call, mostly of one.
type Reservations = SmallVec<[Reservation; 1]>;

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
            _ if amount == 0 => (),
            Some(lease) => lease.give_back(amount),
            None => _ = self.quota().cell.exposed.fetch_sub(amount, Ordering::AcqRel),
        }
    }

    /// So much of it has been used for good, and perhaps more than it held: that is owed to the lease, or was admitted without one.
    fn spend(&mut self, used: i64) {
        let beyond = used.saturating_sub(self.amount).max(0);
        self.amount = self.amount.saturating_sub(used).max(0);
        match &self.lease {
            _ if beyond == 0 => (),
            Some(lease) => lease.charge(beyond),
            None => _ = self.quota().cell.exposed.fetch_add(beyond, Ordering::AcqRel),
        }
        self.quota().cell.finished.fetch_add(used, Ordering::AcqRel);
    }
}

/// Admits a call.
///
/// # Errors
/// With the limit that denied.
pub async fn admit(core: &Rc<Core>, grant: Rc<Grant>, place: Place, now: Timestamp) -> Result<Permit, Failure> {
    take_rate(core, &grant, now)?;
    let quotas = grant.quotas_at(core, now);
    let mut reservations = reserve_all(core, &grant, &quotas, now).await?;
    let receipt = match take_receipt(core) {
        Ok(receipt) => receipt,
        Err(failure) => {
            reservations.iter_mut().for_each(|taken| taken.give_back(i64::MAX));
            return Err(failure);
        }
    };
    Ok(Permit { receipt, admitted_at: now, started: turn::now(), period: quotas.period, place, reservations, grant })
}

fn take_rate(core: &Core, grant: &Grant, now: Timestamp) -> Result<(), Failure> {
    const MAX_INLINE: usize = 8;
    if grant.limits.is_empty() {
        return Ok(());
    }
    // What is given back is counted by the clock itself: by the time of the turn it would seem that nothing was refilled meanwhile.
    let clock = || core.shared.monotonic_ns();
    let taken = if let [only] = &grant.limits[..] {
        let decision = only.limiter.take(core.monotonic_ns());
        if decision.allowed { Ok(()) } else { Err(quota::Denied { index: 0, decision }) }
    } else if grant.limits.len() <= MAX_INLINE {
        let mut limiters = [&*grant.limits[0].limiter; MAX_INLINE];
        limiters.iter_mut().zip(&grant.limits).for_each(|(place, applied)| *place = &applied.limiter);
        take_all(&limiters[..grant.limits.len()], clock).map(drop)
    } else {
        let limiters: Vec<_> = grant.limits.iter().map(|applied| &*applied.limiter).collect();
        take_all(&limiters, clock).map(drop)
    };
    let Err(denied) = taken else { return Ok(()) };
    let place = grant.limits[denied.index].place;
    let limit = i64::from(grant.plan.rate_limits[place].burst());
    Err(Failure::TooFast(Denied {
        limit_name: grant.plan.rate_limit_names[place].clone(),
        limit,
        used: limit - i64::from(denied.decision.remaining),
        resets_at: now.plus(std::time::Duration::from_nanos(denied.decision.reset_after_ns)),
        retry_after_ns: denied.decision.retry_after_ns,
        plan: grant.plan.plan.clone(),
    }))
}

/// Takes a call's upper bound from each of its hard quotas, or from none, waiting for the ledger where a lease is short.
async fn reserve_all(core: &Rc<Core>, grant: &Grant, quotas: &Rc<PeriodQuotas>, now: Timestamp) -> Result<Reservations, Failure> {
    let mut deadline = None;
    loop {
        let now_ns = core.monotonic_ns();
        let short = match take_leases(core, quotas, now_ns) {
            Ok(reservations) => return Ok(reservations),
            Err(short) => short,
        };
        let denied = |place: usize, retry_after_ns| denied(grant, quotas, place, retry_after_ns);
        let word_holds = |cell: &QuotaCell| now_ns.saturating_sub(cell.heard_ns()) < USED_UP_HOLDS_NS;
        let used_up = |place: &&usize| {
            let quota = &quotas.hard[**place];
            quota.cell.is_used_up(quota.reserve) && word_holds(&quota.cell)
        };
        if let Some(place) = short.iter().find(used_up) {
            let until_reset = u64::try_from(quotas.period.to.since(now).as_nanos()).unwrap_or(u64::MAX);
            return Err(Failure::QuotaUsedUp(denied(*place, until_reset)));
        }
        let deadline = *deadline.get_or_insert_with(|| tokio::time::Instant::now() + core.shared.config.lease_wait);
        if !wait_for_ledger(core, quotas, &short, deadline).await {
            let now_ns = core.shared.monotonic_ns();
            return take_leases(core, quotas, now_ns)
                .ok()
                .or_else(|| expose(quotas, &short, now_ns))
                .ok_or_else(|| Failure::QuotaUnknown(denied(short[0], USED_UP_HOLDS_NS)));
        }
    }
}

/// Takes from all leases, or from none and names those that are short. Asks for more where little is left.
fn take_leases(core: &Core, quotas: &Rc<PeriodQuotas>, now_ns: u64) -> Result<Reservations, Vec<usize>> {
    let taken = take_all_or_none(quotas, now_ns)?;
    for HardQuota { cell, reserve, .. } in &quotas.hard {
        if cell.is_low(now_ns, *reserve) {
            core.shared.quotas.ask(cell);
        }
    }
    Ok(taken)
}

/// All leases are looked at before any is touched, so that a call which one quota denies does not keep units of another from a call that could have them.
fn take_all_or_none(quotas: &Rc<PeriodQuotas>, now_ns: u64) -> Result<Reservations, Vec<usize>> {
    let hard = &quotas.hard;
    if hard.len() > 1 {
        let short: Vec<usize> = (0..hard.len()).filter(|place| !hard[*place].cell.covers(hard[*place].reserve, now_ns)).collect();
        if !short.is_empty() {
            return Err(short);
        }
    }
    let mut taken = Reservations::new();
    for (place, HardQuota { cell, reserve, .. }) in hard.iter().enumerate() {
        let Some(lease) = cell.try_take(*reserve, now_ns) else {
            taken.iter_mut().for_each(|taken| taken.give_back(i64::MAX));
            return Err(vec![place]);
        };
        taken.push(Reservation { lease: Some(lease), quotas: quotas.clone(), place, amount: *reserve });
    }
    Ok(taken)
}

/// Asks for what is short and waits for the ledger's word. False if it does not answer, or time is over and it only says that units are elsewhere.
async fn wait_for_ledger(core: &Core, quotas: &PeriodQuotas, short: &[usize], deadline: tokio::time::Instant) -> bool {
    // Subscribed before asking: an answer that comes at once is not missed.
    let first = &quotas.hard[short[0]];
    let mut answered = first.cell.answered.subscribe();
    for place in short {
        let HardQuota { cell, reserve, .. } = &quotas.hard[*place];
        cell.need(*reserve, core.shared.monotonic_ns());
        core.shared.quotas.ask_now(cell);
    }
    let heard = tokio::time::timeout_at(deadline, answered.changed()).await;
    match (heard, first.cell.word()) {
        (Ok(Ok(())), LedgerWord::Granted | LedgerWord::UsedUp) => true,
        (Ok(Ok(())), LedgerWord::Elsewhere) => {
            // Idle leases have been recalled: they are here in a moment.
            tokio::time::sleep_until(deadline.min(tokio::time::Instant::now() + ASK_AGAIN)).await;
            tokio::time::Instant::now() < deadline
        }
        _ => false,
    }
}

/// Admits without the leases that are short, where the plan allows that, and with those that are not.
fn expose(quotas: &Rc<PeriodQuotas>, short: &[usize], now_ns: u64) -> Option<Reservations> {
    let mut taken = Reservations::new();
    for (place, HardQuota { cell, reserve, when_unreachable, .. }) in quotas.hard.iter().enumerate() {
        // A lease that paid a moment ago may be short now: then the call is not admitted.
        let lease = if short.contains(&place) { None } else { cell.try_take(*reserve, now_ns) };
        if lease.is_none() && !cell.try_expose(*reserve, *when_unreachable) {
            taken.iter_mut().for_each(|taken| taken.give_back(i64::MAX));
            return None;
        }
        taken.push(Reservation { lease, quotas: quotas.clone(), place, amount: *reserve });
    }
    Some(taken)
}

fn denied(grant: &Grant, quotas: &PeriodQuotas, place: usize, retry_after_ns: u64) -> Denied {
    let quota = &quotas.hard[place];
    Denied {
        limit_name: grant.plan.quota_names[quota.place].clone(),
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
            reservation.spend(used);
            reservation.give_back(i64::MAX);
        }
    }

    /// A long exchange has used these units of its reservations and goes on: takes as much again, of the quotas of the period that it is in by now. False if
    /// the ledger says that a quota is used up.
    pub fn reserve_again(&mut self, core: &Rc<Core>, units: &MeterUnits, quotas: &Rc<PeriodQuotas>) -> bool {
        let now_ns = core.shared.monotonic_ns();
        let mut goes_on = true;
        for reservation in &mut self.reservations {
            reservation.spend(units[reservation.quota().meter]);
            if !Rc::ptr_eq(&reservation.quotas, quotas) && quotas.hard.len() == reservation.quotas.hard.len() {
                // Until the new period's lease pays, what is used counts as admitted without one.
                reservation.give_back(i64::MAX);
                (reservation.lease, reservation.quotas) = (None, quotas.clone());
            }
            goes_on &= reservation.refill(core, now_ns);
        }
        goes_on
    }
}

impl Reservation {
    /// Takes up to the bound again. False if nothing is left and the quota is used up.
    fn refill(&mut self, core: &Core, now_ns: u64) -> bool {
        let quotas = self.quotas.clone();
        let HardQuota { cell, reserve, .. } = &quotas.hard[self.place];
        let rest = self.amount;
        if rest >= *reserve {
            return true;
        }
        // All of it is taken anew, so that the lease which pays from now on is one that lives.
        if let Some(lease) = cell.try_take(*reserve, now_ns) {
            self.give_back(rest);
            self.lease = Some(lease);
            self.amount = *reserve;
            return true;
        }
        cell.need(*reserve, now_ns);
        core.shared.quotas.ask(cell);
        rest > 0 || !cell.is_used_up(*reserve)
    }
}

#[cfg(test)]
mod tests {
    use gateway_control::lease::QuotaSlot;
    use ids::{MeterId, NamespaceId, SubscriptionId, Uuid};
    use quota::WhenUnreachable;

    use super::*;
    use crate::limits::quota::Quotas;

    /// One quota, counted by two of a route's meters: each finds that the lease covers it, and together they want more than it has. So do two calls on two
    /// cores, of which one comes between what the other looked at and what it takes.
    #[test]
    fn what_was_taken_goes_back_when_the_rest_is_gone() {
        let period = Period { from: Timestamp::from_seconds(0), to: Timestamp::from_seconds(3_600) };
        let meter = MeterId::new();
        let slot = QuotaSlot {
            namespace: NamespaceId::from_uuid(Uuid::nil()),
            subscription: SubscriptionId::new(),
            meter,
            period_start: period.from,
        };
        let cell = Quotas::default().get(slot, period.to, 10);
        let lease = Arc::new(Lease::new(10, u64::MAX));
        cell.lease.store(Some(lease.clone()));
        let hard = |reserve| HardQuota { cell: cell.clone(), place: 0, when_unreachable: WhenUnreachable::Deny, meter: 0, reserve };
        let quotas = |reserves: [i64; 2]| Rc::new(PeriodQuotas { period, hard: reserves.map(hard).into_iter().collect() });
        assert_eq!(take_all_or_none(&quotas([6, 6]), 0).map_err(|short| (short, lease.remaining())).err(), Some((vec![1], 10)));
        let taken = take_all_or_none(&quotas([6, 4]), 0).expect("it has this much");
        assert_eq!((taken.len(), lease.remaining()), (2, 0));
        // Where the portal is away and one of the leases does not pay, none is touched either.
        lease.give_back(6);
        assert!(expose(&quotas([6, 1]), &[1], 0).is_none());
        assert_eq!(lease.remaining(), 6);
    }
}
