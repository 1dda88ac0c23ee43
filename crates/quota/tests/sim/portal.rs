//! The portal: the real ledgers, and around them what the database keeps. A backup is a clone of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use calendar::Timestamp;
use ids::JournalId;
use quota::{Ask, Circumstances, Declared, Ledger, Plan, Received, SegmentRun, Turn, is_settled};

use crate::{mutant::Mutant, truth::Truth};

/// How long a grant may be spent.
pub const LASTS: Duration = Duration::from_secs(60);
const LASTS_NS: u64 = LASTS.as_nanos() as u64;

/// One exchange on its way.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub journal: JournalId,
    pub number: u64,
    pub run: u64,
    pub first_seqs: Vec<(u16, u64)>,
    /// The epoch under which all that is held has been declared.
    pub epoch: Option<u32>,
    pub slots: Vec<(usize, Plan)>,
}

#[derive(Debug, Clone)]
pub struct Grants {
    pub journal: JournalId,
    pub number: u64,
    pub epoch: u32,
    pub slots: Vec<Received>,
    /// Quotas whose holders are to give back what they do not need.
    pub recalls: Vec<usize>,
}

/// A segment on its way.
#[derive(Debug, Clone)]
pub struct Batch {
    pub journal: JournalId,
    pub stream: u16,
    pub seq: u64,
    pub from: SegmentRun,
    pub units: Vec<(usize, i64)>,
}

#[derive(Debug, Clone)]
struct Known {
    last: u64,
    answer: Grants,
    run: u64,
    first_seqs: Vec<(u16, u64)>,
}

/// What the database keeps.
#[derive(Debug, Clone, Default)]
pub struct Portal {
    pub ledgers: Vec<Ledger>,
    known: BTreeMap<JournalId, Known>,
    accepted: BTreeSet<(JournalId, u16, u64)>,
    /// Journals that were heard of.
    pub seen: BTreeSet<JournalId>,
    pub epoch: u32,
    restored_at: Option<u64>,
    /// Journals that must declare before a restored ledger grants, and whether they have.
    pub recount: BTreeMap<JournalId, bool>,
}

pub fn timestamp(now: u64) -> Timestamp {
    Timestamp::from_micros((now / 1_000) as i64)
}

impl Portal {
    pub fn new(limits: &[i64]) -> Self {
        let ledger = |limit: &i64| Ledger { limit: (*limit).into(), ..Ledger::default() };
        Self { ledgers: limits.iter().map(ledger).collect(), ..Self::default() }
    }

    /// The backup takes the place of `lost`. Limits are the plan's.
    pub fn restore(backup: Self, lost: &Self, now: u64) -> Self {
        let mut portal = backup;
        portal.epoch = lost.epoch + 1;
        portal.restored_at = Some(now);
        portal.recount = portal.seen.iter().map(|journal| (*journal, false)).collect();
        portal.ledgers.iter_mut().zip(&lost.ledgers).for_each(|(ledger, lost)| ledger.limit = lost.limit);
        portal
    }

    pub fn is_recounting(&self) -> bool {
        !self.recount.is_empty()
    }

    fn accepted_through(&self, journal: JournalId, stream: u16) -> Option<u64> {
        let mut through = None;
        for (seq, (_, _, found)) in self.accepted.range((journal, stream, 0)..=(journal, stream, u64::MAX)).enumerate() {
            if *found != seq as u64 {
                break;
            }
            through = Some(*found);
        }
        through
    }

    fn settled(&self, journal: JournalId, run: u64) -> bool {
        self.known
            .get(&journal)
            .is_some_and(|known| known.run == run && is_settled(&known.first_seqs, |stream| self.accepted_through(journal, stream)))
    }

    fn may_grant(&mut self, now: u64, mutant: Option<Mutant>) -> bool {
        if mutant == Some(Mutant::NoRecountAfterRestore) {
            return true;
        }
        let declared: Vec<_> = self.recount.iter().filter(|(_, declared)| **declared).map(|(journal, _)| *journal).collect();
        for journal in declared {
            let run = self.known.get(&journal).map_or(0, |known| known.run);
            if self.settled(journal, run) {
                self.recount.remove(&journal);
            }
        }
        self.recount.is_empty() && self.restored_at.is_none_or(|at| now >= at + LASTS_NS)
    }

    /// Serves an exchange; `None` where it is refused.
    pub fn exchange(&mut self, input: &Exchange, now: u64, truths: &mut [Truth], mutant: Option<Mutant>) -> Result<Option<Grants>, String> {
        self.seen.insert(input.journal);
        let known = self.known.get(&input.journal);
        match Turn::of(input.number, known.map(|known| known.last)) {
            Turn::Again => return Ok(known.map(|known| known.answer.clone())),
            Turn::Old if mutant == Some(Mutant::TakeOldExchanges) => (),
            Turn::Old => return Ok(None),
            Turn::New => (),
        }
        let mut answer = Grants { journal: input.journal, number: input.number, epoch: self.epoch, slots: Vec::new(), recalls: Vec::new() };
        let entry = Known { last: input.number, answer: answer.clone(), run: input.run, first_seqs: input.first_seqs.clone() };
        self.known.insert(input.journal, entry);
        if input.epoch == Some(self.epoch)
            && let Some(declared) = self.recount.get_mut(&input.journal)
        {
            *declared = true;
        }
        if input.epoch.is_some_and(|epoch| epoch != self.epoch) && mutant != Some(Mutant::NoRecountAfterRestore) {
            // What was held under another epoch is declared under this one next; until then nothing is known.
            answer.slots = vec![Received { granted: 0, elsewhere: 1, lasts_ns: 0 }; input.slots.len()];
            self.known.entry(input.journal).and_modify(|known| known.answer = answer.clone());
            return Ok(Some(answer));
        }
        let may_grant = self.may_grant(now, mutant);
        for (slot, plan) in &input.slots {
            let granted = self.serve(*slot, input.journal, plan, now, may_grant, &mut truths[*slot], mutant)?;
            answer.slots.push(granted.0);
            answer.recalls.extend(granted.1.then_some(*slot));
        }
        if let Some(known) = self.known.get_mut(&input.journal) {
            known.answer = answer.clone();
        }
        Ok(Some(answer))
    }

    #[allow(clippy::too_many_arguments, reason = "what the portal loads for one slot")]
    fn serve(
        &mut self,
        slot: usize,
        journal: JournalId,
        plan: &Plan,
        now: u64,
        may_grant: bool,
        truth: &mut Truth,
        mutant: Option<Mutant>,
    ) -> Result<(Received, bool), String> {
        let mut ledger = std::mem::take(&mut self.ledgers[slot]);
        for holding in &mut ledger.holdings {
            if let Some(known) = self.known.get(&holding.journal) {
                holding.catch_up(known.run, self.settled(holding.journal, known.run));
            }
        }
        self.ledgers[slot] = ledger;
        let ledger = &mut self.ledgers[slot];
        if mutant == Some(Mutant::RegrantEndedLeases) {
            let ended = |holding: &quota::Holding| holding.expires_at <= timestamp(now);
            ledger
                .holdings
                .iter_mut()
                .filter(|it| ended(it))
                .for_each(|it| (it.granted, it.earlier) = (it.given_back + it.proven - it.exposed, 0));
        }
        if mutant == Some(Mutant::SettleAtRestart) {
            ledger.holding_mut(journal, timestamp(now)).catch_up(plan.declared.run, true);
        }
        let ask = Ask {
            journal,
            want: plan.want.into(),
            needed: plan.needed.into(),
            give_back: plan.give_back.into(),
            held: plan.held.into(),
            declared: Some(Declared { ..plan.declared }),
        };
        let answer = ledger.exchange(&ask, Circumstances { now: timestamp(now), lasts: LASTS, may_grant });
        if let Some(holding) = ledger.holding(journal) {
            let ends = holding.expires_at.micros() as u64 * 1_000;
            let known = truth.ends.entry((journal, plan.declared.run)).or_default();
            *known = (*known).max(ends);
        }
        let blind = mutant == Some(Mutant::UsedUpWhenNothingIsFree) && answer.granted == 0;
        let elsewhere = if blind { 0 } else { answer.elsewhere };
        let received = Received { granted: answer.granted as i64, elsewhere: elsewhere as i64, lasts_ns: LASTS_NS };
        if plan.want > 0 && received.granted == 0 && received.elsewhere == 0 {
            truth.judge_used_up(plan.held, plan.needed)?;
        }
        Ok((received, answer.recall))
    }

    /// Takes a segment once.
    pub fn accept(&mut self, batch: &Batch, now: u64, mutant: Option<Mutant>) -> u32 {
        self.seen.insert(batch.journal);
        let news = self.accepted.insert((batch.journal, batch.stream, batch.seq));
        if !news && mutant != Some(Mutant::CountSegmentsTwice) {
            return self.epoch;
        }
        let from = if mutant == Some(Mutant::MixRuns) { SegmentRun { before: false, ..batch.from } } else { batch.from };
        for (slot, units) in &batch.units {
            let ledger = &mut self.ledgers[*slot];
            ledger.used += i128::from(*units);
            ledger.holding_mut(batch.journal, timestamp(now)).prove(Some(from), (*units).into());
        }
        self.epoch
    }

    pub fn has(&self, journal: JournalId, stream: u16, seq: u64) -> bool {
        self.accepted.contains(&(journal, stream, seq))
    }

    /// An operator writes off what a journal holds of a quota. Returns how much that was.
    pub fn write_off(&mut self, slot: usize, journal: JournalId, now: u64) -> i64 {
        self.ledgers[slot].write_off(journal, timestamp(now)).map_or(0, |units| units as i64)
    }
}
