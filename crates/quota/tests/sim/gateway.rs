//! A gateway: its disk, and its process with the real books and leases.

use std::{collections::BTreeMap, sync::Arc};

use ids::{JournalId, Uuid};
use quota::{Book, EpochWatch, Lease, Look, NANOS_PER_SECOND, SegmentRun, Word};

use crate::{
    mutant::Mutant,
    portal::{Batch, Exchange, Grants},
    random::Random,
};

/// Streams of a journal.
pub const STREAMS: usize = 2;
/// How long the ledger's word that a quota is used up is taken for true.
const USED_UP_HOLDS_NS: u64 = 1_000_000_000;

/// A stretch of a journal's stream.
#[derive(Debug, Clone, Default)]
pub struct Segment {
    pub units: Vec<(usize, i64)>,
    pub acked: bool,
}

/// What survives a crash, unless the disk is lost.
#[derive(Debug, Clone)]
pub struct Disk {
    pub journal: JournalId,
    /// The number of the last exchange.
    pub number: u64,
    pub sealed: [Vec<Segment>; STREAMS],
    pub open: [Segment; STREAMS],
    /// The ledger's epoch as the shipper knows it.
    pub epoch: Option<u32>,
}

impl Disk {
    pub fn new(random: &mut Random) -> Self {
        let journal = JournalId::from_uuid(Uuid::from_u128((u128::from(random.next()) << 64) | u128::from(random.next())));
        Self { journal, number: 0, sealed: Default::default(), open: Default::default(), epoch: None }
    }

    pub fn seal(&mut self) {
        for (open, sealed) in self.open.iter_mut().zip(&mut self.sealed) {
            if !open.units.is_empty() {
                sealed.push(std::mem::take(open));
            }
        }
    }

    /// Whether the portal has all that it has acknowledged.
    pub fn is_known(&self, has: impl Fn(JournalId, u16, u64) -> bool) -> bool {
        self.sealed.iter().enumerate().all(|(stream, segments)| {
            segments.iter().enumerate().all(|(seq, segment)| !segment.acked || has(self.journal, stream as u16, seq as u64))
        })
    }

    /// All that was recorded of a quota and is still here or has been accepted.
    pub fn recorded(&self, slot: usize, counts: impl Fn(u16, u64) -> bool) -> i64 {
        let of = |segment: &Segment| segment.units.iter().filter(|(of, _)| *of == slot).map(|(_, units)| units).sum::<i64>();
        let sealed = self
            .sealed
            .iter()
            .enumerate()
            .flat_map(|(stream, segments)| segments.iter().enumerate().map(move |(seq, segment)| (stream as u16, seq as u64, segment)));
        sealed.filter(|(stream, seq, _)| counts(*stream, *seq)).map(|(_, _, segment)| of(segment)).sum()
    }
}

/// One quota on one gateway.
#[derive(Debug, Default)]
pub struct Cell {
    pub book: Book,
    pub lease: Option<Arc<Lease>>,
    pub needed: i64,
    taken_ns: u64,
    used_ns: u64,
    pub largest_call: i64,
    pub exposed: i64,
    pub finished: i64,
    pub recalled: bool,
    used_up: Option<(i64, u64)>,
    /// What a mutant did not give back, or declares as never granted.
    hidden: i64,
    forgotten: quota::Declared,
}

impl Cell {
    pub fn take(&mut self, units: i64, now_ns: u64) -> Option<Arc<Lease>> {
        let lease = self.lease.as_ref()?;
        lease.try_take(units, now_ns).ok()?;
        self.taken_ns = now_ns;
        self.used_ns = now_ns;
        Some(lease.clone())
    }

    pub fn need(&mut self, units: i64, now_ns: u64) {
        self.needed = self.needed.max(units);
        self.used_ns = now_ns;
    }

    pub fn is_used_up(&self, units: i64, now_ns: u64) -> bool {
        self.used_up.is_some_and(|(from, heard_ns)| units >= from && now_ns.saturating_sub(heard_ns) < USED_UP_HOLDS_NS)
    }
}

/// Of a quota: how much a call reserved, of which lease if of one, and how much it uses in the end.
pub type Reserved = (usize, i64, Option<Arc<Lease>>, i64);

/// A running call.
#[derive(Debug)]
pub struct Running {
    pub reserved: Vec<Reserved>,
    pub stream: usize,
}

/// An exchange that is not answered yet.
#[derive(Debug, Clone)]
pub struct Flight {
    pub exchange: Exchange,
    pub sent_ns: u64,
}

#[derive(Debug)]
pub struct Process {
    pub run: u64,
    first_seqs: Vec<(u16, u64)>,
    pub cells: Vec<Cell>,
    pub flight: Option<Flight>,
    epoch: EpochWatch<u32>,
    said_hello: bool,
    pub running: BTreeMap<u64, Running>,
    /// What the monotonic clock showed at time zero, and its drift in millionths.
    origin_ns: u64,
    drift: i64,
    started: u64,
}

#[derive(Debug)]
pub struct Gateway {
    pub disk: Disk,
    pub process: Option<Process>,
    pub starts: u64,
    /// Cut off from the portal.
    pub is_cut: bool,
}

impl Gateway {
    pub fn start(&mut self, slots: usize, now: u64, random: &mut Random) {
        self.disk.seal();
        self.starts += 1;
        // The number of a run is one of its journal's exchanges: it is on the disk before anything is sent.
        self.disk.number += 1;
        self.process = Some(Process {
            run: self.disk.number,
            first_seqs: self.disk.sealed.iter().enumerate().map(|(stream, segments)| (stream as u16, segments.len() as u64)).collect(),
            cells: (0..slots).map(|_| Cell::default()).collect(),
            flight: None,
            epoch: EpochWatch::default(),
            said_hello: false,
            running: BTreeMap::new(),
            origin_ns: random.range(0, 1 << 50),
            // Crystals are good to 100 millionths; these are ten times worse.
            drift: random.range(0, 2_001) as i64 - 1_000,
            started: now,
        });
    }

    /// The next exchange, if there is anything to exchange.
    pub fn next_exchange(&mut self, now: u64, leaving: bool, mutant: Option<Mutant>) -> Option<Exchange> {
        let process = self.process.as_mut().filter(|process| process.flight.is_none())?;
        let now_ns = process.clock(now);
        let (run, declare) = (process.run, process.epoch.must_declare());
        let mut slots = Vec::new();
        for (slot, cell) in process.cells.iter_mut().enumerate() {
            let ended = cell.lease.as_ref().is_none_or(|lease| lease.has_expired(now_ns));
            let look = Look {
                now_ns,
                run,
                needed: std::mem::take(&mut cell.needed),
                largest_call: cell.largest_call,
                taken_ns: cell.taken_ns,
                used_ns: cell.used_ns,
                // Some give back soon, some late.
                idle_ns: if run % 2 == 0 { 2 * NANOS_PER_SECOND } else { 30 * NANOS_PER_SECOND },
                recalled: std::mem::take(&mut cell.recalled),
                leaving,
                declare,
                exposed: cell.exposed,
                finished: cell.finished,
            };
            let plan = cell.book.plan(&look);
            cell.lease = cell.book.lease().cloned();
            slots.extend(plan.map(|mut plan| {
                cell.misdeclare(&mut plan, ended, mutant);
                (slot, plan)
            }));
        }
        if slots.is_empty() && process.said_hello && !declare {
            return None;
        }
        process.said_hello = true;
        self.disk.number += 1;
        let exchange = Exchange {
            journal: self.disk.journal,
            number: self.disk.number,
            run,
            first_seqs: process.first_seqs.clone(),
            epoch: process.epoch.declared(),
            slots,
        };
        process.flight = Some(Flight { exchange: exchange.clone(), sent_ns: now_ns });
        Some(exchange)
    }

    /// Takes an answer in; false if it is not the one that is waited for.
    pub fn receive(&mut self, answer: &Grants, now: u64, mutant: Option<Mutant>) -> bool {
        let Some(process) = &mut self.process else { return false };
        let Some(flight) =
            process.flight.take_if(|flight| (flight.exchange.journal, flight.exchange.number) == (answer.journal, answer.number))
        else {
            return false;
        };
        let now_ns = process.clock(now);
        let sent_ns = if mutant == Some(Mutant::TimeFromAnswer) { now_ns } else { flight.sent_ns };
        for ((slot, plan), received) in flight.exchange.slots.iter().zip(&answer.slots) {
            let cell = &mut process.cells[*slot];
            cell.book.receive(received, sent_ns, now_ns);
            cell.lease = cell.book.lease().cloned();
            match plan.word(received) {
                Word::UsedUp { from } => cell.used_up = Some((from, now_ns)),
                Word::Granted | Word::Elsewhere => cell.used_up = None,
                Word::Nothing => (),
            }
        }
        process.epoch.answered(flight.exchange.epoch, Some(answer.epoch));
        true
    }

    /// What waits to be shipped.
    pub fn batches(&self) -> Vec<Batch> {
        let Some(process) = &self.process else { return Vec::new() };
        let mut batches = Vec::new();
        for (stream, segments) in self.disk.sealed.iter().enumerate() {
            let first = process.first_seqs[stream].1;
            for (seq, segment) in segments.iter().enumerate().filter(|(_, segment)| !segment.acked) {
                let from = SegmentRun { run: process.run, before: (seq as u64) < first };
                let (stream, seq) = (stream as u16, seq as u64);
                batches.push(Batch { journal: self.disk.journal, stream, seq, from, units: segment.units.clone() });
            }
        }
        batches
    }

    pub fn acked(&mut self, stream: u16, seq: u64, epoch: u32) {
        self.hear_epoch(epoch);
        if let Some(segment) = self.disk.sealed[usize::from(stream)].get_mut(seq as usize) {
            segment.acked = true;
        }
    }

    /// A heartbeat, or an ack, tells the ledger's epoch. Under a new one, everything is shipped again, by a gateway that has nothing new to ship too.
    pub fn hear_epoch(&mut self, epoch: u32) {
        if self.disk.epoch.is_some_and(|known| known != epoch) {
            self.disk.sealed.iter_mut().flatten().for_each(|segment| segment.acked = false);
        }
        self.disk.epoch = Some(epoch);
        if let Some(process) = &mut self.process {
            process.epoch.hear(epoch);
        }
    }
}

impl Process {
    /// The monotonic clock.
    pub fn clock(&self, now: u64) -> u64 {
        let passed = now - self.started;
        self.origin_ns + passed.saturating_add_signed(passed as i64 / 1_000_000 * self.drift)
    }
}

impl Cell {
    /// The mistakes of mutants in what is declared.
    fn misdeclare(&mut self, plan: &mut quota::Plan, ended: bool, mutant: Option<Mutant>) {
        match mutant {
            Some(Mutant::ForgetEndedLeases) if ended => self.hidden += std::mem::take(&mut plan.give_back),
            Some(Mutant::ForgetTotals) if ended => self.forgotten = plan.declared,
            _ => (),
        }
        plan.declared.given_back -= self.hidden + self.forgotten.given_back;
        plan.declared.granted -= self.forgotten.granted;
        plan.declared.finished -= self.forgotten.finished;
    }
}
