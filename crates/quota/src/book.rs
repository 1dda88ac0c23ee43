//! What a gateway keeps of its leases of one quota beside the [`Lease`] that calls spend: when to ask, what to give back, and what to declare.
//!
//! One task owns the book; calls only touch the lease. Leases that ended are kept until every call that took from them has ended, so that what comes back
//! late is given back, and what was used beyond them is paid.

use std::sync::Arc;

use crate::{Declared, Lease, MICROUNITS_PER_UNIT, NANOS_PER_SECOND, RateOfUse, Sizing, spend_until_ns};

/// A lease that paid a call within this time is in use: when it is recalled, the half stays.
const BUSY_NS: u64 = NANOS_PER_SECOND / 10;
/// A lease that would end within this time is renewed.
const RENEW_WITHIN_NS: u64 = 10 * NANOS_PER_SECOND;
/// How long an ended lease is kept at least: a call that was just taking from it has its hold on it by then.
const KEEP_ENDED_NS: u64 = 10 * NANOS_PER_SECOND;

/// The book of one quota in one period. Quantities are micro-units.
#[derive(Debug, Default)]
pub struct Book {
    rate: RateOfUse,
    sizing: Sizing,
    lease: Option<Arc<Lease>>,
    ended: Vec<Ended>,
    granted: i64,
    given_back: i64,
    /// What was last declared as admitted without a lease.
    exposed: i64,
    /// When spending of the lease stops.
    ends_ns: u64,
}

#[derive(Debug)]
struct Ended {
    lease: Arc<Lease>,
    at_ns: u64,
}

/// What the task sees when it looks at a quota.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// The gateway's monotonic clock.
    pub now_ns: u64,
    /// The gateway's run.
    pub run: u64,
    /// What a waiting call reserves; zero if none waits.
    pub needed: i64,
    /// The most that one call reserves: a lease smaller than that is of no use.
    pub largest_call: i64,
    /// When a call last took units.
    pub taken_ns: u64,
    /// When a call last took or wanted units.
    pub used_ns: u64,
    /// A lease that no call uses for so long is given back. Until then the ledger may recall it.
    pub idle_ns: u64,
    /// Whether the ledger asks for what is not needed here.
    pub recalled: bool,
    /// Whether the period is over or the gateway stops: everything goes back.
    pub leaving: bool,
    /// Whether the ledger wants to hear what is held, though nothing is wanted.
    pub declare: bool,
    /// What was admitted without a lease in this run.
    pub exposed: i64,
    /// What calls that have ended used in this run.
    pub finished: i64,
}

impl Look {
    fn is_idle(&self) -> bool {
        self.needed == 0 && self.now_ns.saturating_sub(self.used_ns) >= self.idle_ns
    }
}

/// One slot of an exchange. What it gives back can no longer be spent here: it must be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What to ask for.
    pub want: i64,
    /// What the waiting call lacks.
    pub needed: i64,
    /// What goes back.
    pub give_back: i64,
    /// What stays.
    pub held: i64,
    /// What is declared.
    pub declared: Declared,
}

/// What the ledger answered to a [`Plan`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// What may be spent on top of what is held, in micro-units.
    pub granted: i64,
    /// What may still come back to the ledger.
    pub elsewhere: i64,
    /// How long the grant may be spent, from the moment when the request for it was sent first.
    pub lasts_ns: u64,
}

/// What an answer means to calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// There is something to take.
    Granted,
    /// Nothing is free now, and something may come back.
    Elsewhere,
    /// The quota is used up for calls that reserve this much or more.
    UsedUp {
        /// In micro-units.
        from: i64,
    },
    /// Nothing was asked, so nothing was said.
    Nothing,
}

impl Plan {
    /// What the answer to it means to calls.
    pub fn word(&self, answer: &Received) -> Word {
        match (answer.granted > 0, self.want > 0) {
            (true, _) => Word::Granted,
            (false, false) => Word::Nothing,
            (false, true) if answer.elsewhere > 0 => Word::Elsewhere,
            (false, true) => Word::UsedUp { from: self.held.saturating_add(self.needed.max(1)) },
        }
    }
}

impl Book {
    /// The lease that calls may spend.
    pub const fn lease(&self) -> Option<&Arc<Lease>> {
        self.lease.as_ref()
    }

    /// Whether nothing is held and no call can give back or use any more.
    pub const fn is_closed(&self) -> bool {
        self.lease.is_none() && self.ended.is_empty()
    }

    /// The book of the period after this one: the rate of use goes on.
    pub fn for_next_period(&self) -> Self {
        let mut rate = self.rate;
        rate.restart();
        Self { rate, ..Self::default() }
    }

    /// What to exchange now; `None` for nothing. Ends the lease if its time is over.
    pub fn plan(&mut self, look: &Look) -> Option<Plan> {
        self.end_if_due(look);
        let mut give_back = self.drain_ended(look.now_ns);
        let (mut want, mut missing, mut renew) = (0, 0, false);
        if let Some(lease) = self.lease.clone() {
            self.rate.observe(lease.spent(), look.now_ns);
            give_back += self.surplus(&lease, look);
            renew = self.ends_ns.saturating_sub(look.now_ns) < RENEW_WITHIN_NS;
        }
        // Below zero where calls used more than they reserved: the next grant pays that first.
        let remaining = self.lease.as_ref().map_or(0, |lease| lease.remaining());
        if !look.leaving {
            missing = if look.needed > 0 { look.needed.saturating_sub(remaining).max(0) } else { 0 };
            let idle = look.is_idle();
            if missing > 0 || (!idle && !look.recalled && give_back == 0) {
                want = self.sizing.want(&self.rate, remaining).max(missing);
            }
        }
        self.given_back += give_back;
        let plan = Plan { want, needed: missing, give_back, held: remaining.max(0), declared: self.declared(look) };
        // Use without a lease is news to the ledger, and what was undone of it would never be proven.
        let news = std::mem::replace(&mut self.exposed, look.exposed) != look.exposed;
        (want > 0 || give_back > 0 || renew || news || look.declare).then_some(plan)
    }

    /// What goes back of the lease that lives.
    fn surplus(&self, lease: &Lease, look: &Look) -> i64 {
        let remaining = lease.remaining();
        let idle = look.is_idle();
        // Two gateways that each hold a part of what a call needs would wait for one another for ever.
        let useless = look.recalled && look.needed > remaining;
        let busy = look.now_ns.saturating_sub(look.taken_ns) < BUSY_NS;
        let surplus = match look.recalled {
            _ if idle || look.leaving || useless => i64::MAX,
            true if busy => remaining / 2 - (remaining / 2) % MICROUNITS_PER_UNIT,
            true => i64::MAX,
            false if look.needed > remaining => 0,
            // Two calls of the largest kind are kept: less would go back and forth.
            false => self.sizing.surplus(&self.rate, remaining).min(remaining.saturating_sub(look.largest_call.saturating_mul(2))),
        };
        lease.withdraw(surplus.max(0))
    }

    fn declared(&self, look: &Look) -> Declared {
        Declared { run: look.run, granted: self.granted, given_back: self.given_back, exposed: look.exposed, finished: look.finished }
    }

    /// Puts a grant in. `sent_ns` is when the request was sent **first**: where its answer was lost, the ledger has counted since then.
    pub fn receive(&mut self, answer: &Received, sent_ns: u64, now_ns: u64) {
        let until_ns = spend_until_ns(sent_ns, answer.lasts_ns);
        let granted = answer.granted.max(0);
        self.granted += granted;
        if let Some(lease) = &self.lease
            && lease.extend(granted, until_ns, now_ns).is_ok()
        {
            self.ends_ns = self.ends_ns.max(until_ns);
            return;
        }
        if granted > 0 {
            self.end(now_ns);
            self.lease = Some(Arc::new(Lease::new(granted, until_ns)));
            self.ends_ns = until_ns;
            // An answer that came too late is not spent; it goes back with the next exchange.
            self.end_if_due(&Look { now_ns, ..Look::default() });
        }
    }

    fn end_if_due(&mut self, look: &Look) {
        if self.lease.as_ref().is_some_and(|lease| lease.has_expired(look.now_ns)) {
            self.end(look.now_ns);
        }
    }

    fn end(&mut self, now_ns: u64) {
        self.rate.restart();
        self.ended.extend(self.lease.take().map(|lease| Ended { lease, at_ns: now_ns }));
    }

    /// Takes out what is left of ended leases, and lets the lease that lives pay what was used beyond them.
    fn drain_ended(&mut self, now_ns: u64) -> i64 {
        let mut left = 0;
        for ended in &self.ended {
            left += ended.lease.withdraw(i64::MAX);
            let debt = ended.lease.remaining().saturating_neg();
            if let (1.., Some(lease)) = (debt, &self.lease) {
                lease.charge(debt);
                ended.lease.give_back(debt);
            }
        }
        let may_move = |ended: &Ended| {
            Arc::strong_count(&ended.lease) > 1 || ended.lease.remaining() != 0 || now_ns.saturating_sub(ended.at_ns) < KEEP_ENDED_NS
        };
        self.ended.retain(may_move);
        left
    }
}

/// Notices that the ledger was restored: under a new epoch, all that is held must be declared again.
#[derive(Debug, Clone, Copy)]
pub struct EpochWatch<E> {
    known: Option<E>,
    declare: bool,
}

impl<E> Default for EpochWatch<E> {
    fn default() -> Self {
        Self { known: None, declare: false }
    }
}

impl<E: Copy + PartialEq> EpochWatch<E> {
    /// A heartbeat, an ack or an answer named the ledger's epoch. The first one that a process hears is new to it too: an exchange that named none may be
    /// from before a restore.
    pub fn hear(&mut self, epoch: E) {
        self.declare |= self.known.replace(epoch) != Some(epoch);
    }

    /// Whether everything must be declared.
    pub const fn must_declare(&self) -> bool {
        self.declare
    }

    /// An exchange is made that declares everything if that is due. Returns the epoch for it to name.
    pub const fn declared(&mut self) -> Option<E> {
        self.declare = false;
        self.known
    }

    /// An exchange that named `sent` was answered under `epoch`; or it was given up, and what it declared may not have been heard.
    pub fn answered(&mut self, sent: Option<E>, epoch: Option<E>) {
        match epoch {
            Some(epoch) => {
                self.hear(epoch);
                self.declare |= sent != Some(epoch);
            }
            None => self.declare |= self.known.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: i64 = MICROUNITS_PER_UNIT;
    const SECOND: u64 = NANOS_PER_SECOND;
    const LASTS: u64 = 60 * SECOND;

    fn look(now_ns: u64) -> Look {
        Look { now_ns, run: 1, taken_ns: now_ns, used_ns: now_ns, idle_ns: 2 * SECOND, ..Look::default() }
    }

    fn grant(granted: i64) -> Received {
        Received { granted, elsewhere: 0, lasts_ns: LASTS }
    }

    fn holding(units: i64) -> Book {
        let mut book = Book::default();
        book.receive(&grant(units * UNIT), 0, SECOND);
        book
    }

    #[test]
    fn an_empty_book_asks_for_what_the_call_needs() {
        let mut book = Book::default();
        let plan = book.plan(&Look { needed: 3 * UNIT, ..look(SECOND) }).expect("something is wanted");
        assert_eq!((plan.want, plan.needed, plan.give_back, plan.held), (3 * UNIT, 3 * UNIT, 0, 0));
        book.receive(&grant(3 * UNIT), SECOND, 2 * SECOND);
        let lease = book.lease().expect("a lease").clone();
        assert!(lease.try_take(3 * UNIT, 56 * SECOND - 1).is_ok(), "it is spent until 5 s before 60 s from the sending");
        lease.give_back(3 * UNIT);
        assert!(lease.try_take(UNIT, 56 * SECOND).is_err());
    }

    #[test]
    fn what_an_ended_lease_has_left_goes_back_even_what_calls_return_late() {
        let mut book = holding(5);
        let lease = book.lease().expect("a lease").clone();
        assert!(lease.try_take(2 * UNIT, 10 * SECOND).is_ok());
        let plan = book.plan(&look(56 * SECOND)).expect("the rest goes back");
        assert_eq!((plan.give_back, plan.held, plan.declared.granted, plan.declared.given_back), (3 * UNIT, 0, 5 * UNIT, 3 * UNIT));
        assert!(book.lease().is_none());
        lease.give_back(UNIT);
        drop(lease);
        let plan = book.plan(&Look { leaving: true, ..look(57 * SECOND) }).expect("the late unit goes back");
        assert_eq!((plan.give_back, plan.declared.given_back), (UNIT, 4 * UNIT));
        assert!(!book.is_closed());
        assert_eq!(book.plan(&Look { leaving: true, ..look(80 * SECOND) }), None);
        assert!(book.is_closed());
    }

    #[test]
    fn debt_of_an_ended_lease_is_paid_by_the_next() {
        let mut book = holding(1);
        let lease = book.lease().expect("a lease").clone();
        assert!(lease.try_take(UNIT, 10 * SECOND).is_ok());
        lease.charge(2 * UNIT);
        book.plan(&look(56 * SECOND));
        book.receive(&grant(5 * UNIT), 56 * SECOND, 57 * SECOND);
        book.plan(&Look { largest_call: 2 * UNIT, ..look(57 * SECOND) });
        assert_eq!(book.lease().expect("a lease").remaining(), 3 * UNIT);
    }

    #[test]
    fn an_idle_lease_goes_back_and_a_recalled_one_too() {
        let mut book = holding(4);
        let rests = Look { used_ns: 3 * SECOND, ..look(4 * SECOND) };
        assert_eq!(book.plan(&rests).map(|plan| plan.held), Some(2 * UNIT), "for a moment: what it uses is kept");
        let mut book = holding(4);
        let idle = Look { used_ns: SECOND, ..look(4 * SECOND) };
        assert_eq!(book.plan(&idle).map(|plan| (plan.give_back, plan.want)), Some((4 * UNIT, 0)));
        let mut book = holding(4);
        let recalled = Look { recalled: true, ..look(4 * SECOND) };
        assert_eq!(
            book.plan(&recalled).map(|plan| (plan.give_back, plan.held, plan.want)),
            Some((2 * UNIT, 2 * UNIT, 0)),
            "in use: the half"
        );
        let recalled = Look { recalled: true, taken_ns: 3 * SECOND, ..look(4 * SECOND) };
        assert_eq!(book.plan(&recalled).map(|plan| plan.give_back), Some(2 * UNIT), "not in use: all");
        let mut book = holding(60);
        let waiting = Look { recalled: true, needed: 100 * UNIT, ..look(4 * SECOND) };
        let plan = book.plan(&waiting).expect("a plan");
        assert_eq!((plan.give_back, plan.needed, plan.held), (60 * UNIT, 100 * UNIT, 0), "too little for its own call");
    }

    #[test]
    fn a_late_answer_is_not_spent_and_goes_back() {
        let mut book = Book::default();
        book.receive(&grant(2 * UNIT), 0, 56 * SECOND);
        assert!(book.lease().is_none());
        assert_eq!(book.plan(&look(57 * SECOND)).map(|plan| (plan.give_back, plan.declared.granted)), Some((2 * UNIT, 2 * UNIT)));
    }

    #[test]
    fn a_lease_in_use_is_renewed_before_it_ends() {
        let mut book = holding(2);
        assert_eq!(book.plan(&look(40 * SECOND)), None);
        assert!(book.plan(&look(46 * SECOND)).is_some());
        book.receive(&grant(0), 46 * SECOND, 46 * SECOND);
        assert!(book.lease().expect("a lease").try_take(UNIT, 100 * SECOND).is_ok());
    }
}
