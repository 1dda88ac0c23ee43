//! Everything heals; then each call must be served or told so, and the sums must agree.

use quota::MICROUNITS_PER_UNIT;

use super::{Call, LEASE_WAIT, MILLI, SECOND, World};

impl World {
    pub(super) fn heal(&mut self) {
        self.is_well = true;
        self.portal_is_up = true;
        for gateway in 0..self.gateways.len() {
            self.gateways[gateway].is_cut = false;
            if self.gateways[gateway].process.is_none() {
                self.start(gateway);
            }
        }
    }

    /// An operator writes off what only lost disks could prove, and tells a restored ledger not to wait for them.
    pub(super) fn forget_lost_journals(&mut self) {
        let lost: Vec<_> = self.lost.iter().map(|disk| disk.journal).collect();
        for journal in lost {
            self.portal.recount.remove(&journal);
            (0..self.truths.len()).for_each(|slot| self.write_off(slot, journal));
        }
    }

    /// Each gateway has just been used; then one of them alone must get all the rest, and hear that it is used up only then.
    pub(super) fn spend_the_rest(&mut self, slot: usize) -> Result<(), String> {
        for gateway in 0..self.gateways.len() {
            self.last_call(gateway, slot, MICROUNITS_PER_UNIT)?;
        }
        let gateway = self.random.pick(self.gateways.len());
        while self.last_call(gateway, slot, MICROUNITS_PER_UNIT)? {}
        // What is left once all usage is in is a part of a unit, and can be had too.
        self.until(self.now + 5 * SECOND)?;
        let left = (self.truths[slot].limit - self.portal.ledgers[slot].used as i64).max(0);
        if left >= MICROUNITS_PER_UNIT || (left > 0 && !self.last_call(gateway, slot, left)?) {
            return Err(format!("the last unit is out of reach: {left} micro-units are left of quota {slot}"));
        }
        Ok(())
    }

    pub(super) fn last_call(&mut self, gateway: usize, slot: usize, reserve: i64) -> Result<bool, String> {
        let units = vec![(slot, reserve, reserve)];
        let call = Call { units, lasts: 0, made_at: self.now, deadline: self.now + LEASE_WAIT, is_last: true };
        self.last_calls.clear();
        self.admit(gateway, call)?;
        while self.last_calls.is_empty() {
            self.until(self.now + MILLI)?;
        }
        self.until(self.now)?;
        Ok(self.last_calls[0])
    }

    pub(super) fn judge(&self) -> Result<(), String> {
        for (slot, truth) in self.truths.iter().enumerate() {
            let ledger = &self.portal.ledgers[slot];
            let live = self.gateways.iter().map(|gateway| gateway.disk.recorded(slot, |_, _| true)).sum::<i64>();
            let lost =
                self.lost.iter().map(|disk| disk.recorded(slot, |stream, seq| self.portal.has(disk.journal, stream, seq))).sum::<i64>();
            if ledger.used != i128::from(live + lost) {
                return Err(format!("quota {slot}: {} used, {} recorded", ledger.used, live + lost));
            }
            if ledger.outstanding() != 0 {
                return Err(format!("quota {slot}: all journals have arrived, and {:?} are still out", ledger.holdings));
            }
            if ledger.used < i128::from(truth.limit) {
                return Err(format!("quota {slot}: denied with {} of {} used", ledger.used, truth.limit));
            }
        }
        Ok(())
    }
}
