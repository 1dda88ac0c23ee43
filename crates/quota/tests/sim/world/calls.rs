//! Calls: they take all that they reserve or nothing, wait for the ledger, and settle.

use quota::MICROUNITS_PER_UNIT;

use super::{ASK_AGAIN, Call, Event, LEASE_WAIT, MILLI, SERVED_WITHIN, World};
use crate::{
    gateway::{Gateway, Reserved, Running, STREAMS},
    mutant::Mutant,
};

impl World {
    pub(super) fn next_call(&mut self) -> Result<(), String> {
        let gap = self.random.range(0, self.pace * 2);
        // Now and then many come at once.
        let alone = self.random.once_in(3);
        self.at(if alone { gap } else { gap / 40 }, Event::NextCall);
        let gateway = self.random.pick(self.gateways.len());
        let units = (0..self.truths.len()).filter_map(|slot| {
            let reserve = [1, 1, 1, 2, 5, 20][self.random.pick(6)] * MICROUNITS_PER_UNIT / [1, 1, 1, 4][self.random.pick(4)];
            let used = match self.random.range(0, 4) {
                0 => 0,
                1 => self.random.range(0, reserve as u64 + 1) as i64,
                _ => reserve,
            };
            (!self.random.once_in(3)).then_some((slot, reserve, used))
        });
        let units = units.collect();
        let lasts = if self.random.once_in(10) { self.random.range(1, 90_000) } else { self.random.range(1, 100) } * MILLI;
        let call = Call { units, lasts, made_at: self.now, deadline: self.now + LEASE_WAIT, is_last: false };
        self.admit(gateway, call)
    }

    /// Takes all or nothing; waits for the ledger where a lease is short.
    pub(super) fn admit(&mut self, gateway: usize, call: Call) -> Result<(), String> {
        let now = self.now;
        let Some(process) = &mut self.gateways[gateway].process else { return Ok(()) };
        let now_ns = process.clock(now);
        let mut reserved = Vec::new();
        let mut short = Vec::new();
        for (slot, reserve, used) in &call.units {
            let cell = &mut process.cells[*slot];
            cell.largest_call = cell.largest_call.max(*reserve);
            match cell.take(*reserve, now_ns) {
                Some(lease) => reserved.push((*slot, *reserve, Some(lease), *used)),
                None => short.push((*slot, *reserve, *used)),
            }
        }
        if !short.is_empty() {
            let undo = self.mutant != Some(Mutant::DeniedCallTakes);
            reserved.drain(..).filter(|_| undo).for_each(|(_, units, lease, _)| lease.iter().for_each(|lease| lease.give_back(units)));
            if short.iter().any(|(slot, reserve, _)| process.cells[*slot].is_used_up(*reserve, now_ns)) {
                self.report.used_up += 1;
                return self.answered(&call, false);
            }
            if now < call.deadline {
                short.iter().for_each(|(slot, reserve, _)| process.cells[*slot].need(*reserve, now_ns));
                self.at(ASK_AGAIN, Event::Wait { gateway, call });
                self.step(gateway);
                return Ok(());
            }
            let may = |(slot, reserve, _): &(usize, i64, i64)| process.cells[*slot].exposed + reserve <= self.allowed[*slot];
            if call.is_last || short.len() < call.units.len() || !short.iter().all(may) {
                self.report.unknown += 1;
                return self.retry(gateway, call);
            }
            for (slot, reserve, used) in &short {
                process.cells[*slot].exposed += reserve;
                self.truths[*slot].exposed += reserve;
                self.truths[*slot].admitted += reserve;
                reserved.push((*slot, *reserve, None, *used));
            }
            self.report.exposed += 1;
        }
        self.run_call(gateway, call, reserved)
    }

    pub(super) fn run_call(&mut self, gateway: usize, call: Call, reserved: Vec<Reserved>) -> Result<(), String> {
        let journal = self.gateways[gateway].disk.journal;
        let Some(process) = &mut self.gateways[gateway].process else { return Ok(()) };
        for (slot, units, lease, _) in &reserved {
            if lease.is_some() {
                self.truths[*slot].take(*units, journal, process.run, self.now)?;
            }
        }
        self.calls += 1;
        self.report.admitted += 1;
        let stream = self.random.pick(STREAMS);
        process.running.insert(self.calls, Running { reserved, stream });
        let event = Event::End { gateway, run: process.run, call: self.calls };
        self.at(call.lasts, event);
        self.answered(&call, true)
    }

    pub(super) fn end(&mut self, gateway: usize, run: u64, call: u64) {
        let Gateway { process, disk, .. } = &mut self.gateways[gateway];
        let Some(process) = process.as_mut().filter(|process| process.run == run) else { return };
        let Some(running) = process.running.remove(&call) else { return };
        for (slot, reserved, lease, used) in running.reserved {
            self.truths[slot].finish(reserved, used);
            let cell = &mut process.cells[slot];
            cell.finished += used;
            match lease {
                Some(lease) => lease.give_back(reserved - used),
                None => {
                    cell.exposed -= reserved - used;
                    self.truths[slot].exposed -= reserved - used;
                }
            }
            if used > 0 {
                disk.open[running.stream].units.push((slot, used));
            }
        }
    }

    /// A call at the end of the run that got no word comes again.
    pub(super) fn retry(&mut self, gateway: usize, call: Call) -> Result<(), String> {
        if !call.is_last {
            return Ok(());
        }
        if self.now - call.made_at > SERVED_WITHIN {
            let waited = (self.now - call.made_at) / MILLI;
            return Err(format!(
                "the last unit is out of reach: a call at gateway {gateway} was neither served nor denied for {waited} ms"
            ));
        }
        let deadline = self.now + LEASE_WAIT;
        self.at(ASK_AGAIN, Event::Wait { gateway, call: Call { deadline, ..call } });
        Ok(())
    }

    pub(super) fn answered(&mut self, call: &Call, admitted: bool) -> Result<(), String> {
        if call.is_last {
            self.last_calls.push(admitted);
        }
        Ok(())
    }
}
