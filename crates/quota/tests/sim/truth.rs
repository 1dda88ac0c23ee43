//! What really happened, known to nobody in the simulation: the promises are judged by it.

use std::collections::HashMap;

use ids::JournalId;

/// The truth of one quota, in micro-units.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    pub limit: i64,
    /// The most that may be admitted by the ledger: the limit, and what was out when it was lowered.
    pub bound: i64,
    /// What an operator wrote off: it may be spent again, should it have been spent after all.
    pub written_off: i64,
    /// Reservations of running calls, and what ended calls used.
    pub admitted: i64,
    /// What ended calls used.
    pub finished: i64,
    /// What was admitted without a lease, as the plan allows.
    pub exposed: i64,
    /// Until when each run of a journal may spend its lease, by the ledger's clock.
    pub ends: HashMap<(JournalId, u64), u64>,
}

impl Truth {
    pub fn new(limit: i64) -> Self {
        Self { limit, bound: limit, ..Self::default() }
    }

    /// Units were taken from a lease.
    pub fn take(&mut self, units: i64, journal: JournalId, run: u64, now: u64) -> Result<(), String> {
        self.admitted += units;
        let end = self.ends.get(&(journal, run)).copied().unwrap_or(0);
        if now >= end {
            return Err(format!("a lease was spent at {now} that ended at {end}"));
        }
        if self.admitted > self.bound + self.written_off + self.exposed {
            let Self { admitted, bound, written_off, exposed, .. } = self;
            return Err(format!(
                "over the limit: {admitted} micro-units are admitted, {bound} may be, {written_off} were written off, {exposed} had no lease"
            ));
        }
        Ok(())
    }

    /// A call has ended that had reserved so much.
    pub fn finish(&mut self, reserved: i64, used: i64) {
        self.admitted -= reserved - used;
        self.finished += used;
    }

    /// The ledger said "used up" to a gateway that held so much and needed more.
    pub fn judge_used_up(&self, held: i64, needed: i64) -> Result<(), String> {
        let left = self.limit - self.finished - held;
        if left >= needed.max(1) {
            return Err(format!("a false \"used up\": {left} micro-units are not used by any call that has ended, {needed} are needed"));
        }
        Ok(())
    }

    /// The limit is changed while the ledger counts so much as used or out.
    pub fn set_limit(&mut self, limit: i64, committed: i64) {
        self.bound = if limit < self.limit { committed.min(self.bound).max(limit) } else { self.bound.max(limit) };
        self.limit = limit;
    }
}
