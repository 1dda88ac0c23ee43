//! The world: events in the order of their times, and what goes wrong. After a while everything heals, and what must be true then is checked.

mod calls;
mod finish;
mod trouble;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use ids::JournalId;
use quota::MICROUNITS_PER_UNIT;

use crate::{
    gateway::{Disk, Gateway},
    mutant::Mutant,
    portal::{Batch, Exchange, Grants, Portal},
    random::Random,
    truth::Truth,
};

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;
const LOOK: u64 = 500 * MILLI;
const RESEND: u64 = 400 * MILLI;
const SEAL: u64 = SECOND;
const HEARTBEAT: u64 = SECOND;
/// How long a call waits for a lease.
const LEASE_WAIT: u64 = 50 * MILLI;
/// How often a call that waits asks again.
const ASK_AGAIN: u64 = 10 * MILLI;
/// How soon a call gets what idle gateways hold, once everything is well.
const SERVED_WITHIN: u64 = SECOND;

#[derive(Debug, Clone)]
enum Event {
    Look(usize),
    Seal(usize),
    Heartbeat(usize),
    NextCall,
    Wait { gateway: usize, call: Call },
    End { gateway: usize, run: u64, call: u64 },
    ToPortal(usize, Box<Exchange>),
    ToGateway(usize, Box<Grants>),
    Resend(usize, u64),
    Batch(usize, Box<Batch>),
    Ack { gateway: usize, journal: JournalId, stream: u16, seq: u64, epoch: u32 },
    Recall(usize, usize),
    Trouble,
    Mend(usize),
    PortalUp,
}

/// A call that wants units of some quotas.
#[derive(Debug, Clone)]
struct Call {
    /// (quota, reserved, used)
    units: Vec<(usize, i64, i64)>,
    lasts: u64,
    made_at: u64,
    deadline: u64,
    /// It belongs to the end of the run, and must be served or denied by the ledger's word.
    is_last: bool,
}

/// What happened, summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    pub admitted: u64,
    pub used_up: u64,
    pub unknown: u64,
    pub exposed: u64,
    pub crashes: u64,
    pub lost_disks: u64,
    pub restores: u64,
    pub recalls: u64,
    pub written_off: u64,
    pub lowered: u64,
    pub late: u64,
    pub events: u64,
}

impl Report {
    pub fn add(&mut self, other: &Self) {
        self.admitted += other.admitted;
        self.used_up += other.used_up;
        self.unknown += other.unknown;
        self.exposed += other.exposed;
        self.crashes += other.crashes;
        self.lost_disks += other.lost_disks;
        self.restores += other.restores;
        self.recalls += other.recalls;
        self.written_off += other.written_off;
        self.lowered += other.lowered;
        self.late += other.late;
        self.events += other.events;
    }
}

pub struct World {
    random: Random,
    mutant: Option<Mutant>,
    now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: HashMap<u64, Event>,
    gateways: Vec<Gateway>,
    portal: Portal,
    portal_is_up: bool,
    /// A backup, and how many disks were lost before it.
    backup: Option<(Portal, usize)>,
    truths: Vec<Truth>,
    /// How much each gateway may admit of a quota without a lease; zero for strict quotas.
    allowed: Vec<i64>,
    lost: Vec<Disk>,
    /// The next grant to this gateway is lost, and it is cut off for so long.
    cut_at_answer: Option<(usize, u64)>,
    is_well: bool,
    calls: u64,
    /// The mean time between calls.
    pace: u64,
    last_calls: Vec<bool>,
    /// The troubles, for a reader.
    history: Vec<String>,
    report: Report,
}

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut random = Random::new(seed);
        let slots = random.range(1, 4) as usize;
        let limits: Vec<i64> = (0..slots).map(|_| random.range(1, 150) as i64 * MICROUNITS_PER_UNIT).collect();
        let allowed = (0..slots).map(|_| if random.once_in(4) { random.range(1, 6) as i64 * MICROUNITS_PER_UNIT } else { 0 }).collect();
        let mut world = Self {
            mutant,
            now: SECOND,
            order: 0,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            gateways: Vec::new(),
            portal: Portal::new(&limits),
            portal_is_up: true,
            backup: None,
            truths: limits.iter().map(|limit| Truth::new(*limit)).collect(),
            allowed,
            lost: Vec::new(),
            cut_at_answer: None,
            is_well: false,
            calls: 0,
            pace: [200, 400, 800][random.pick(3)] * MILLI,
            last_calls: Vec::new(),
            history: Vec::new(),
            report: Report::default(),
            random,
        };
        for gateway in 0..world.random.range(1, 5) as usize {
            let disk = Disk::new(&mut world.random);
            world.gateways.push(Gateway { disk, process: None, starts: 0, is_cut: false });
            world.start(gateway);
        }
        world.at(0, Event::NextCall);
        world.at(5 * SECOND, Event::Trouble);
        world
    }

    fn at(&mut self, after: u64, event: Event) {
        self.order += 1;
        self.events.insert(self.order, event);
        self.queue.push(Reverse((self.now + after, self.order)));
    }

    fn until(&mut self, end: u64) -> Result<(), String> {
        while let Some(Reverse((at, order))) = self.queue.peek().copied().filter(|Reverse((at, _))| *at <= end) {
            self.queue.pop();
            self.now = at;
            self.report.events += 1;
            if let Some(event) = self.events.remove(&order) {
                self.happen(event)?;
            }
        }
        self.now = end;
        Ok(())
    }

    /// One whole run.
    pub fn run(mut self) -> Result<Report, String> {
        match self.live() {
            Ok(()) => Ok(self.report),
            Err(fault) => Err(format!("{fault}\nat {} ms\n{}", self.now / MILLI, self.state())),
        }
    }

    /// What a reader of a failure needs to see.
    fn state(&self) -> String {
        let mut text = self.history.join("\n");
        for (slot, ledger) in self.portal.ledgers.iter().enumerate() {
            text.push_str(&format!("\nquota {slot}: {:?}\n  {ledger:?}", self.truths[slot]));
            for gateway in &self.gateways {
                let cell = gateway.process.as_ref().map(|process| (process.run, &process.cells[slot]));
                text.push_str(&format!("\n  {} {cell:?}", gateway.disk.journal));
            }
        }
        text
    }

    fn live(&mut self) -> Result<(), String> {
        let trouble_for = self.random.range(30, 240) * SECOND;
        self.until(trouble_for)?;
        self.heal();
        // Long calls end, leases too whose answers were lost, journals arrive, a restored ledger is counted again.
        self.until(self.now + 105 * SECOND)?;
        self.forget_lost_journals();
        self.until(self.now + 5 * SECOND)?;
        for slot in 0..self.truths.len() {
            self.spend_the_rest(slot)?;
        }
        self.until(self.now + 20 * SECOND)?;
        self.judge()
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Look(gateway) => {
                self.at(LOOK, Event::Look(gateway));
                self.step(gateway);
            }
            Event::Seal(gateway) => {
                self.at(SEAL, Event::Seal(gateway));
                self.seal(gateway);
            }
            Event::Heartbeat(gateway) => {
                self.at(HEARTBEAT, Event::Heartbeat(gateway));
                if self.portal_is_up && !self.gateways[gateway].is_cut {
                    self.portal.seen.insert(self.gateways[gateway].disk.journal);
                    let epoch = self.portal.epoch;
                    self.gateways[gateway].hear_epoch(epoch);
                }
            }
            Event::NextCall if !self.is_well => self.next_call()?,
            Event::NextCall => (),
            Event::Wait { gateway, call } => self.admit(gateway, call)?,
            Event::End { gateway, run, call } => self.end(gateway, run, call),
            Event::ToPortal(gateway, exchange) => self.serve(gateway, &exchange)?,
            Event::ToGateway(gateway, answer) => self.receive(gateway, &answer)?,
            Event::Resend(gateway, number) => self.resend(gateway, number),
            Event::Batch(gateway, batch) => self.accept(gateway, &batch),
            Event::Ack { gateway, journal, stream, seq, epoch } => {
                if self.gateways[gateway].disk.journal == journal && self.gateways[gateway].process.is_some() {
                    self.gateways[gateway].acked(stream, seq, epoch);
                }
            }
            Event::Recall(gateway, slot) => {
                if let Some(process) = &mut self.gateways[gateway].process {
                    process.cells[slot].recalled = true;
                    self.step(gateway);
                }
            }
            Event::Trouble if !self.is_well => self.trouble(),
            Event::Trouble => (),
            Event::Mend(gateway) => {
                self.gateways[gateway].is_cut = false;
                if self.gateways[gateway].process.is_none() {
                    self.start(gateway);
                }
            }
            Event::PortalUp => self.portal_is_up = true,
        }
        Ok(())
    }

    // Messages.

    /// Delays of one message: none if it is lost, two if it is doubled.
    fn delays(&mut self) -> Vec<u64> {
        let quick = |random: &mut Random| random.range(1, 10) * MILLI;
        if self.is_well {
            return vec![quick(&mut self.random)];
        }
        let copies = match self.random.range(0, 20) {
            0..=1 => 0,
            2..=3 => 2,
            _ => 1,
        };
        (0..copies).map(|_| if self.random.once_in(12) { self.random.range(1, 20_000) * MILLI } else { quick(&mut self.random) }).collect()
    }

    fn send(&mut self, event: Event) {
        for delay in self.delays() {
            self.at(delay, event.clone());
        }
    }

    fn start(&mut self, gateway: usize) {
        let slots = self.truths.len();
        if self.gateways[gateway].starts == 0 {
            let phase = self.random.range(0, LOOK);
            self.at(phase, Event::Look(gateway));
            self.at(phase * 2, Event::Seal(gateway));
            self.at(phase, Event::Heartbeat(gateway));
        }
        self.gateways[gateway].start(slots, self.now, &mut self.random);
        self.step(gateway);
    }

    fn step(&mut self, gateway: usize) {
        if let Some(exchange) = self.gateways[gateway].next_exchange(self.now, false, self.mutant) {
            self.at(RESEND, Event::Resend(gateway, exchange.number));
            self.send(Event::ToPortal(gateway, Box::new(exchange)));
        }
    }

    fn resend(&mut self, gateway: usize, number: u64) {
        let flight = self.gateways[gateway].process.as_ref().and_then(|process| process.flight.as_ref());
        let Some(flight) = flight.filter(|flight| flight.exchange.number == number) else { return };
        let exchange = flight.exchange.clone();
        self.at(RESEND, Event::Resend(gateway, number));
        self.send(Event::ToPortal(gateway, Box::new(exchange)));
    }

    fn serve(&mut self, gateway: usize, exchange: &Exchange) -> Result<(), String> {
        if !self.portal_is_up || self.gateways[gateway].is_cut {
            return Ok(());
        }
        let Some(answer) = self.portal.exchange(exchange, self.now, &mut self.truths, self.mutant)? else { return Ok(()) };
        for slot in answer.recalls.clone() {
            self.report.recalls += 1;
            for other in 0..self.gateways.len() {
                if self.mutant != Some(Mutant::DeafToRecalls) && !self.gateways[other].is_cut {
                    self.send(Event::Recall(other, slot));
                }
            }
        }
        let has_grant = answer.slots.iter().any(|received| received.granted > 0);
        if let Some((_, for_a_while)) = self.cut_at_answer.take_if(|(cut, _)| *cut == gateway && has_grant && !self.is_well) {
            self.gateways[gateway].is_cut = true;
            self.at(for_a_while, Event::Mend(gateway));
            return Ok(());
        }
        self.send(Event::ToGateway(gateway, Box::new(answer)));
        Ok(())
    }

    fn receive(&mut self, gateway: usize, answer: &Grants) -> Result<(), String> {
        if self.gateways[gateway].is_cut {
            return Ok(());
        }
        if !self.gateways[gateway].receive(answer, self.now, self.mutant) {
            self.report.late += 1;
            return Ok(());
        }
        self.leases_end_in_time(gateway)?;
        self.step(gateway);
        Ok(())
    }

    /// By the gateway's clock, which drifts, no lease lasts longer than the ledger thinks.
    fn leases_end_in_time(&self, gateway: usize) -> Result<(), String> {
        let Gateway { process: Some(process), disk, .. } = &self.gateways[gateway] else { return Ok(()) };
        for (cell, truth) in process.cells.iter().zip(&self.truths) {
            let end = truth.ends.get(&(disk.journal, process.run)).copied().unwrap_or(0).max(self.now);
            // A lease with nothing left, all of it proven, is not the ledger's any more.
            if cell.lease.as_ref().is_some_and(|lease| lease.remaining() > 0 && !lease.has_expired(process.clock(end))) {
                return Err(format!("a lease can be spent after its end at {} ms", end / MILLI));
            }
        }
        Ok(())
    }

    fn seal(&mut self, gateway: usize) {
        if self.gateways[gateway].process.is_none() {
            return;
        }
        self.gateways[gateway].disk.seal();
        for batch in self.gateways[gateway].batches() {
            self.send(Event::Batch(gateway, Box::new(batch)));
        }
    }

    fn accept(&mut self, gateway: usize, batch: &Batch) {
        if !self.portal_is_up || self.gateways[gateway].is_cut {
            return;
        }
        let epoch = self.portal.accept(batch, self.now, self.mutant);
        let Batch { journal, stream, seq, .. } = *batch;
        self.send(Event::Ack { gateway, journal, stream, seq, epoch });
    }
}
