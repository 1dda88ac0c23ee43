//! What goes wrong.

use ids::JournalId;
use quota::MICROUNITS_PER_UNIT;

use super::{Event, MILLI, SECOND, World};
use crate::{gateway::Disk, portal::Portal};

impl World {
    pub(super) fn trouble(&mut self) {
        let pause = self.random.range(1, 40) * SECOND;
        self.at(pause, Event::Trouble);
        let gateway = self.random.pick(self.gateways.len());
        let for_a_while = if self.random.once_in(3) { self.random.range(60, 150) } else { self.random.range(0, 20) } * SECOND;
        let kind = self.random.range(0, 10);
        self.history.push(format!("trouble {kind} at {} ms with gateway {gateway} for {} ms", self.now / MILLI, for_a_while / MILLI));
        match kind {
            0..=2 => {
                self.crash(gateway, false);
                self.at(for_a_while, Event::Mend(gateway));
            }
            3 => {
                self.crash(gateway, true);
                self.at(for_a_while, Event::Mend(gateway));
            }
            4 if self.random.once_in(2) => self.cut_at_answer = Some((gateway, for_a_while)),
            4 => {
                self.gateways[gateway].is_cut = true;
                self.at(for_a_while, Event::Mend(gateway));
            }
            5 => {
                self.portal_is_up = false;
                self.at(for_a_while, Event::PortalUp);
            }
            6 if !self.portal.is_recounting() => {
                self.backup = Some((self.portal.clone(), self.lost.len()));
            }
            7 => self.restore(),
            8 => self.change_limit(),
            _ => self.write_off_something(),
        }
    }

    pub(super) fn crash(&mut self, gateway: usize, lose_disk: bool) {
        let Some(process) = self.gateways[gateway].process.take() else { return };
        self.report.crashes += 1;
        // What runs is broken off: it is neither recorded nor billed.
        for (slot, reserved, lease, _) in process.running.into_values().flat_map(|running| running.reserved) {
            self.truths[slot].admitted -= reserved;
            if lease.is_none() {
                self.truths[slot].exposed -= reserved;
            }
        }
        // A disk that is lost together with what the database had of it is more than anybody can count.
        let is_known = !self.portal.is_recounting()
            && self.gateways[gateway].disk.is_known(|journal, stream, seq| self.portal.has(journal, stream, seq));
        if lose_disk && is_known {
            self.report.lost_disks += 1;
            let fresh = Disk::new(&mut self.random);
            self.lost.push(std::mem::replace(&mut self.gateways[gateway].disk, fresh));
        }
    }

    /// A gateway that is newer than the backup and down, or that lost its disk since, cannot be known to a restored ledger.
    pub(super) fn restore(&mut self) {
        let Some((backup, lost_before)) = self.backup.take() else { return };
        let knows_all = self.portal.seen.iter().all(|journal| backup.seen.contains(journal)) && lost_before == self.lost.len();
        if !knows_all || self.portal.is_recounting() {
            return;
        }
        self.report.restores += 1;
        self.history.push("the database is restored".to_owned());
        self.portal = Portal::restore(backup, &self.portal, self.now);
    }

    pub(super) fn change_limit(&mut self) {
        let slot = self.random.pick(self.truths.len());
        if self.portal.is_recounting() {
            return;
        }
        let limit = self.random.range(0, 200) as i64 * MICROUNITS_PER_UNIT;
        self.history.push(format!("the limit of quota {slot} becomes {limit}"));
        self.report.lowered += u64::from(limit < self.truths[slot].limit);
        let ledger = &mut self.portal.ledgers[slot];
        self.truths[slot].set_limit(limit, (ledger.used + ledger.outstanding()) as i64);
        ledger.limit = limit.into();
    }

    pub(super) fn write_off_something(&mut self) {
        let slot = self.random.pick(self.truths.len());
        let holdings = &self.portal.ledgers[slot].holdings;
        if holdings.is_empty() || self.portal.is_recounting() || !self.portal_is_up {
            return;
        }
        let journal = holdings[self.random.pick(holdings.len())].journal;
        self.write_off(slot, journal);
    }

    pub(super) fn write_off(&mut self, slot: usize, journal: JournalId) {
        let units = self.portal.write_off(slot, journal, self.now);
        self.report.written_off += u64::from(units > 0);
        self.history.push(format!("{units} of quota {slot} are written off, held by {journal}"));
        self.truths[slot].written_off += units;
    }
}
