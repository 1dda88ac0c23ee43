//! The portal's half of leases: the ledger of one quota in one period, and what an exchange does to it. The portal loads it under a lock, lets it
//! decide, and stores it; the simulation in `tests/sim` drives the same code.
//!
//! A gateway **declares** with each exchange what it was granted, gave back, admitted without a lease and finished, all since its process started
//! (its **run**). The ledger takes declarations for true: so an answer that was lost, a write-off that came too early and a restored database all mend
//! at the next exchange. Usage proves what was spent, by run; what earlier runs left unproven is settled once all their segments have been accepted.

use std::time::Duration;

use calendar::Timestamp;
use ids::JournalId;

use crate::MICROUNITS_PER_UNIT;

/// How long the ledger waits before it calls idle leases back again.
pub const RECALL_INTERVAL: Duration = Duration::from_millis(20);

/// One quota of one subscription in one period, in micro-units. What remains is derived and never stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// What the period allows, grants of operators included.
    pub limit: i128,
    /// What ingest counted. Nothing else moves it.
    pub used: i128,
    /// When holders were last asked to give back what they do not need.
    pub recalled_at: Option<Timestamp>,
    /// One for each journal that ever held something.
    pub holdings: Vec<Holding>,
}

/// What one journal holds of a quota, in micro-units. All but `earlier` is counted from the start of its gateway's present run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The journal that proves what was spent.
    pub journal: JournalId,
    /// The gateway's run; rises with each start of the process.
    pub run: u64,
    /// What it was granted.
    pub granted: i128,
    /// What it gave back unspent.
    pub given_back: i128,
    /// What it admitted without a lease while the portal was away.
    pub exposed: i128,
    /// What its calls that have ended used, as last declared.
    pub finished: i128,
    /// What its journal has proven.
    pub proven: i128,
    /// What earlier runs held and their segments have not proven yet: presumed spent.
    pub earlier: i128,
    /// When the lease ends. From then on what is unproven is presumed spent.
    pub expires_at: Timestamp,
}

/// Which run recorded a segment, as far as the gateway that ships it can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentRun {
    /// The run of the gateway that ships.
    pub run: u64,
    /// Whether the segment is from before that run.
    pub before: bool,
}

/// What a gateway asks for and declares, in micro-units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The journal that speaks.
    pub journal: JournalId,
    /// What it would like to have.
    pub want: i128,
    /// What a waiting call lacks; zero if none waits.
    pub needed: i128,
    /// What it gives back with this exchange.
    pub give_back: i128,
    /// What it still holds unspent.
    pub held: i128,
    /// Its run and its totals; absent from gateways that do not declare them.
    pub declared: Option<Declared>,
}

/// What a gateway declares of a quota, in micro-units since the start of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Declared {
    /// The run.
    pub run: u64,
    /// All grants that it received.
    pub granted: i64,
    /// All that it gave back, this exchange included.
    pub given_back: i64,
    /// All that it admitted without a lease and that was not undone.
    pub exposed: i64,
    /// What calls that have ended used.
    pub finished: i64,
}

/// The circumstances of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// The portal's clock.
    pub now: Timestamp,
    /// How long a grant may be spent.
    pub lasts: Duration,
    /// Whether the period may be leased now: it runs or starts soon, its subscription is active, and the ledger has been counted again after a restore.
    pub may_grant: bool,
}

/// What the ledger answers, in micro-units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// What may be spent on top of what is held.
    pub granted: i128,
    /// What may still come back to the ledger. Nothing granted and nothing elsewhere: the quota is used up for what was needed.
    pub elsewhere: i128,
    /// What the journal then has outstanding.
    pub outstanding: i128,
    /// Whether holders are to be asked to give back what they do not need.
    pub recall: bool,
}

impl Answer {
    /// Whether this says that the quota is used up.
    pub const fn used_up(&self) -> bool {
        self.granted <= 0 && self.elsewhere <= 0
    }
}

/// A lease that still lives is not written off: its gateway may be spending it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lease lives until {until}")]
pub struct StillLive {
    /// When it ends.
    pub until: Timestamp,
}

impl Holding {
    /// Nothing yet.
    pub const fn new(journal: JournalId, now: Timestamp) -> Self {
        Self { journal, run: 0, granted: 0, given_back: 0, exposed: 0, finished: 0, proven: 0, earlier: 0, expires_at: now }
    }

    /// What the present run holds, or spent and has not proven.
    fn present(&self) -> i128 {
        (self.granted + self.exposed - self.given_back - self.proven).max(0)
    }

    /// What counts against the limit beside proven use.
    pub fn outstanding(&self) -> i128 {
        self.present() + self.earlier
    }

    /// What may still come back: what no call that has ended used, as far as is known.
    pub fn returnable(&self) -> i128 {
        (self.granted + self.exposed - self.given_back - self.finished).clamp(0, self.present()) + self.earlier
    }

    /// What is presumed spent: all that is outstanding once the lease has ended, and what earlier runs left.
    pub fn presumed_spent(&self, now: Timestamp) -> i128 {
        if self.expires_at > now { self.earlier } else { self.outstanding() }
    }

    /// A later run of the gateway has begun: what the one before held is for its segments to prove.
    pub fn begin_run(&mut self, run: u64) {
        if run > self.run {
            let earlier = self.outstanding();
            *self = Self { run, earlier, ..Self::new(self.journal, self.expires_at) };
        }
    }

    /// Takes in which run the gateway is in, though it may not have spoken of this quota since it began, and whether all segments of earlier runs have
    /// been accepted: what they did not prove was then not spent. Returns whether anything has changed.
    pub fn catch_up(&mut self, run: u64, is_settled: bool) -> bool {
        let before = (self.run, self.earlier);
        self.begin_run(run);
        if is_settled && self.run == run {
            self.earlier = 0;
        }
        before != (self.run, self.earlier)
    }

    /// Usage has been accepted from the journal.
    pub fn prove(&mut self, from: Option<SegmentRun>, units: i128) {
        let Some(from) = from else {
            // From a gateway that declares nothing: more than it was granted would hide a part of later grants.
            self.proven = (self.proven + units).min(self.granted - self.given_back).max(self.proven);
            return;
        };
        self.begin_run(from.run);
        if from.before || from.run < self.run {
            self.earlier = (self.earlier - units).max(0);
        } else {
            self.proven += units;
        }
    }

    fn declare(&mut self, ask: &Ask) {
        let Some(declared) = ask.declared else {
            self.given_back += ask.give_back.clamp(0, self.present());
            return;
        };
        self.begin_run(declared.run);
        self.granted = declared.granted.into();
        self.given_back = declared.given_back.into();
        self.exposed = declared.exposed.into();
        self.finished = declared.finished.into();
    }
}

impl Ledger {
    /// What counts against the limit beside proven use.
    pub fn outstanding(&self) -> i128 {
        self.holdings.iter().map(Holding::outstanding).sum()
    }

    /// What can be granted; not below zero, as it would be after the limit was lowered.
    pub fn free(&self) -> i128 {
        (self.limit - self.used - self.outstanding()).max(0)
    }

    /// What a journal holds.
    pub fn holding(&self, journal: JournalId) -> Option<&Holding> {
        self.holdings.iter().find(|holding| holding.journal == journal)
    }

    /// The same, to be changed; made if it is missing.
    pub fn holding_mut(&mut self, journal: JournalId, now: Timestamp) -> &mut Holding {
        let place = self.holdings.iter().position(|holding| holding.journal == journal).unwrap_or_else(|| {
            self.holdings.push(Holding::new(journal, now));
            self.holdings.len() - 1
        });
        &mut self.holdings[place]
    }

    /// One slot of an exchange: takes in what is declared, then grants what can be granted.
    pub fn exchange(&mut self, ask: &Ask, circumstances: Circumstances) -> Answer {
        let Circumstances { now, lasts, may_grant } = circumstances;
        self.holding_mut(ask.journal, now).declare(ask);
        let free = self.free();
        let needed = ask.needed.clamp(0, ask.want.max(0));
        let granted = if may_grant && ask.want > 0 { self.share(free, ask.want, needed, ask.journal, now) } else { 0 };
        let elsewhere = self.elsewhere(ask);
        // Were all of it to come back, would the call be served?
        let hopeless = may_grant && free + elsewhere < needed.max(1);
        let short = may_grant && ask.want > 0 && granted == 0 && !hopeless;
        let recall = short && needed > 0 && self.can_recall(ask.journal, now);
        if recall {
            self.recalled_at = Some(now);
        }
        let holding = self.holding_mut(ask.journal, now);
        holding.granted += granted;
        // What the gateway holds lasts as long as it is told below, also where use without a lease that was proven before it was declared hides it.
        if granted > 0 || holding.present() > 0 || ask.held > 0 {
            holding.expires_at = now.plus(lasts);
        }
        let outstanding = holding.outstanding();
        let elsewhere = match (hopeless, may_grant) {
            (true, _) => 0,
            (false, true) => elsewhere,
            // A period that cannot be leased now is no word on whether the quota is used up.
            (false, false) => elsewhere.max(MICROUNITS_PER_UNIT.into()),
        };
        // A grant of nothing says that something may come; it must not look like the opposite.
        let elsewhere = if short { elsewhere.max(1) } else { elsewhere };
        Answer { granted, elsewhere, outstanding, recall }
    }

    /// What one of the gateways that share the quota gets, and at least what the call that waits needs.
    ///
    /// No grant is more than half of an equal share of what is free, so that the others find something too; near the end that falls to one unit. A
    /// grant is never less than `needed`, never more than what is free, and whole units, so that the parts of the last one do not end up with different
    /// gateways, unless less than that is needed and free.
    fn share(&self, free: i128, want: i128, needed: i128, journal: JournalId, now: Timestamp) -> i128 {
        const UNIT: i128 = MICROUNITS_PER_UNIT as i128;
        if free <= 0 || free < needed {
            return 0;
        }
        let others = self.holdings.iter().filter(|holding| holding.journal != journal && holding.expires_at > now).count();
        let holders = i128::try_from(others + 1).unwrap_or(i128::MAX);
        let share = want.min(free / holders.saturating_mul(2)).max(needed).max(UNIT).min(free);
        let down = share - share % UNIT;
        let up = if down == share { share } else { down + UNIT };
        match (down >= needed && down > 0, up <= free) {
            (true, _) => down,
            (false, true) => up,
            (false, false) => share,
        }
    }

    /// What may come back from all, without what the one that asks holds for itself.
    fn elsewhere(&self, ask: &Ask) -> i128 {
        let of = |holding: &Holding| match (holding.journal == ask.journal, ask.declared) {
            (false, _) => holding.returnable(),
            (true, Some(_)) => (holding.returnable() - ask.held.clamp(0, holding.present())).max(0),
            // What it does not declare cannot be told from what it holds.
            (true, None) => 0,
        };
        self.holdings.iter().map(of).sum()
    }

    fn can_recall(&self, journal: JournalId, now: Timestamp) -> bool {
        let lives = |holding: &Holding| holding.journal != journal && holding.expires_at > now && holding.returnable() > holding.earlier;
        self.recalled_at.is_none_or(|at| now.since(at) >= RECALL_INTERVAL || at > now) && self.holdings.iter().any(lives)
    }

    /// An operator says that a journal will not come: what it holds is free again. Returns how much that was.
    ///
    /// # Errors
    /// While the lease lives.
    pub fn write_off(&mut self, journal: JournalId, now: Timestamp) -> Result<i128, StillLive> {
        let Some(holding) = self.holdings.iter_mut().find(|holding| holding.journal == journal) else { return Ok(0) };
        if holding.expires_at > now && holding.present() > 0 {
            return Err(StillLive { until: holding.expires_at });
        }
        let units = holding.outstanding();
        holding.earlier = 0;
        holding.granted -= holding.present();
        Ok(units)
    }
}

/// Whether all segments from before a run have been accepted. `first_seqs` names each stream of the journal with the seq at which the run began;
/// `accepted_through` the last seq of a stream up to which all are accepted.
pub fn is_settled(first_seqs: &[(u16, u64)], accepted_through: impl Fn(u16) -> Option<u64>) -> bool {
    first_seqs.iter().all(|(stream, first)| *first == 0 || accepted_through(*stream).is_some_and(|through| through + 1 >= *first))
}

/// What an exchange's number says. A journal's exchanges are numbered in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A new one.
    New,
    /// The last one again, because its answer was lost: it gets the same answer and changes nothing.
    Again,
    /// One from before the last one: it is refused.
    Old,
}

impl Turn {
    /// The number of an exchange beside the last one of its journal.
    pub const fn of(number: u64, last: Option<u64>) -> Self {
        match last {
            Some(last) if number == last => Self::Again,
            Some(last) if number < last => Self::Old,
            _ => Self::New,
        }
    }
}

#[cfg(test)]
mod tests;
