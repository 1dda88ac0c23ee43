//! The background task that takes and gives back leases (SEMANTICS Q2, Q3): one exchange at a time, for all quotas that want something.
//!
//! [`quota::Book`] decides what to ask for, give back and declare; here are the numbers, the messages and the clock. An exchange's number is on the disk
//! before it is sent, so that a number is never used for two exchanges of one journal. An exchange whose answer was lost is sent again under its number,
//! with the same body, and gets the same answer; its lease is timed from the first sending, because the ledger counts from when it first heard of it.
//! Numbers are taken from the disk in blocks: what is left of a block when the process ends is never used.

use std::{
    collections::HashMap,
    fs, io,
    path::PathBuf,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use gateway_control::{
    FORMAT,
    lease::{LeaseExchange, LeaseGrant, LeaseGrants, LeaseRun, LeaseWant, QuotaSlot},
};
use ids::Uuid;
use quota::{Book, EpochWatch, Look, NANOS_PER_SECOND, Plan, Received};
use reqwest::StatusCode;
use tokio_util::sync::CancellationToken;

use super::{
    ahead,
    quota::{Figures, QuotaCell, Quotas},
    rounds::Rounds,
};
use crate::{
    portal::{Backoff, Portal, PortalError},
    shared::Shared,
};

/// How often each lease is looked at, beside when a call wants something.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long quotas that are running low wait for others, so that many share an exchange. A call that waits for one does not.
const GATHER: Duration = Duration::from_millis(10);
/// How many numbers are taken at once.
const BLOCK: u64 = 1_000;
/// A cell whose period ended so long ago is forgotten once all its calls have ended.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// How many numbers are passed over when the portal knows a higher one than the gateway.
const NUMBERS_SKIPPED: u64 = 1_000_000;
/// The most slots of one exchange.
const MAX_SLOTS: usize = 1_000;

/// The task.
#[derive(Debug)]
pub struct LeaseExchanger {
    shared: Arc<Shared>,
    portal: Portal,
    number_path: PathBuf,
    exchange: u64,
    /// The last number that is taken.
    taken: u64,
    books: HashMap<QuotaSlot, Book, foldhash::fast::RandomState>,
    epoch: EpochWatch<Uuid>,
    /// After how long an unused lease goes back.
    idle_ns: u64,
    /// The epoch under which everything has been declared.
    declared_under: Option<Uuid>,
    /// What is left to declare after the epoch has changed.
    to_declare: Vec<Arc<QuotaCell>>,
    /// Whether the portal has heard of this run.
    is_known: bool,
}

/// One slot's part of an exchange.
struct Planned {
    cell: Arc<QuotaCell>,
    plan: Plan,
}

impl LeaseExchanger {
    /// Goes on after the last exchange of the journal.
    ///
    /// # Errors
    /// When the number of the last exchange cannot be read, or this run's not be written.
    pub fn new(shared: Arc<Shared>, portal: Portal) -> io::Result<Self> {
        let number_path = shared.config.data_dir.join("lease-exchange");
        let last: u64 = match fs::read_to_string(&number_path) {
            Ok(text) => text
                .trim()
                .parse()
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{} holds no number", number_path.display())))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let mut exchanger = Self {
            idle_ns: u64::try_from(shared.config.lease_idle.as_nanos()).unwrap_or(u64::MAX),
            shared,
            portal,
            number_path,
            exchange: last,
            taken: last,
            books: HashMap::default(),
            epoch: EpochWatch::default(),
            declared_under: None,
            to_declare: Vec::new(),
            is_known: false,
        };
        exchanger.begin_run(last + 1)?;
        Ok(exchanger)
    }

    /// A run takes one of the journal's numbers, which is on the disk before anything is recorded under it.
    fn begin_run(&mut self, number: u64) -> io::Result<()> {
        self.exchange = number;
        self.take_numbers()?;
        self.shared.quotas.run.store(number, Ordering::Release);
        Ok(())
    }

    /// Exchanges until it is told to stop, then gives everything back, for as long as `give_back_within`.
    pub async fn run(mut self, stop: CancellationToken, give_back_within: Duration) {
        let shared = self.shared.clone();
        let mut rounds = Rounds::new(LOOK_INTERVAL);
        let mut asked = pin!(asked(&shared.quotas));
        loop {
            let cells = tokio::select! {
                () = stop.cancelled() => break,
                cells = &mut asked => {
                    asked.set(self::asked(&shared.quotas));
                    cells
                }
                cells = rounds.next(|| shared.quotas.all()) => cells,
            };
            self.hear_epoch();
            let plan = self.plan(cells, false);
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.exchange_plan(plan) => (),
            }
        }
        let finish = async {
            let mut cells = self.shared.quotas.all();
            while !cells.is_empty() {
                let rest = cells.split_off(cells.len().min(MAX_SLOTS));
                let plan = self.plan(cells, true);
                self.exchange_plan(plan).await;
                cells = rest;
            }
        };
        if tokio::time::timeout(give_back_within, finish).await.is_err() {
            tracing::warn!("leases could not be given back in time; they count as spent until this journal's next start");
        }
    }

    fn hear_epoch(&mut self) {
        if let Some(epoch) = *self.shared.quotas.epoch.borrow() {
            self.epoch.hear(epoch);
        }
        if self.epoch.must_declare() && self.to_declare.is_empty() {
            self.to_declare = self.shared.quotas.all();
        }
    }

    /// What cells want or give back now; cells that want nothing are left out. What does not fit waits for the next exchange.
    fn plan(&mut self, mut cells: Vec<Arc<QuotaCell>>, stops: bool) -> Vec<Planned> {
        let (now, now_ns) = (self.shared.clock.now(), self.shared.monotonic_ns());
        let declare = self.epoch.must_declare() && !stops;
        if declare {
            let asked = std::mem::take(&mut cells);
            let at = self.to_declare.len().saturating_sub(MAX_SLOTS);
            cells = self.to_declare.split_off(at);
            asked.iter().for_each(|cell| self.shared.quotas.ask(cell));
        }
        let mut planned = Vec::new();
        let mut cells = cells.into_iter();
        while planned.len() < MAX_SLOTS
            && let Some(cell) = cells.next()
        {
            if let Some(next) = ahead::next_period(&self.shared, &cell, now) {
                self.books.insert(next.slot, self.books.get(&cell.slot).map(Book::for_next_period).unwrap_or_default());
                self.shared.quotas.ask(&next);
            }
            let leaving = stops || cell.period_end <= now;
            let look = Look {
                now_ns,
                run: self.shared.quotas.run.load(Ordering::Acquire),
                needed: cell.take_needed(),
                largest_call: cell.largest_call(),
                taken_ns: cell.taken_ns(),
                used_ns: cell.used_ns(),
                idle_ns: self.idle_ns,
                recalled: cell.take_recalled(),
                leaving,
                // What an exchange that was cut off by the stop gave back is in the totals.
                declare: declare || stops,
                // Read before the lease, so that what is counted as returnable is rather too much.
                finished: cell.finished.load(Ordering::Acquire),
                exposed: cell.exposed.load(Ordering::Acquire),
            };
            let book = self.books.entry(cell.slot).or_default();
            let plan = book.plan(&look);
            cell.hand_out(book.lease());
            if leaving && book.is_closed() && plan.is_none() && now.since(cell.period_end) >= FORGET_AFTER {
                self.books.remove(&cell.slot);
                self.shared.quotas.forget(&cell.slot);
            }
            planned.extend(plan.map(|plan| Planned { cell, plan }));
        }
        cells.for_each(|cell| self.shared.quotas.ask(&cell));
        planned
    }

    async fn exchange_plan(&mut self, planned: Vec<Planned>) {
        let declares_all = self.epoch.must_declare() && self.to_declare.is_empty();
        if planned.is_empty() && self.is_known && !declares_all {
            return;
        }
        if declares_all {
            self.declared_under = self.epoch.declared();
        }
        self.exchange += 1;
        if let Err(error) = self.take_numbers() {
            tracing::error!(%error, "no leases are taken because the exchange could not be numbered");
            return self.give_up(&planned);
        }
        let exchange = LeaseExchange {
            format: FORMAT,
            journal_id: self.shared.journal_id(),
            exchange: self.exchange,
            slots: planned.iter().map(Planned::want).collect(),
            run: Some(self.lease_run()),
            ledger_epoch: self.declared_under,
        };
        self.send(&exchange, &planned).await;
    }

    fn lease_run(&self) -> LeaseRun {
        let first_seqs = self.shared.journal.first_seqs().iter();
        // A journal has at most `journal::MAX_STREAMS` streams.
        let first_seqs = first_seqs.map(|(stream, seq)| (u16::try_from(*stream).unwrap_or(u16::MAX), *seq)).collect();
        LeaseRun { number: self.shared.quotas.run.load(Ordering::Acquire), first_seqs }
    }

    /// Sends one exchange, again and again until it is answered, and puts the grants in.
    async fn send(&mut self, exchange: &LeaseExchange, planned: &[Planned]) {
        let mut backoff = Backoff::new(Duration::from_secs(2));
        let sent_ns = self.shared.monotonic_ns();
        loop {
            self.shared.metrics.lease_exchanges.fetch_add(1, Ordering::Relaxed);
            match self.portal.leases(exchange).await {
                Ok(answer) if answer.exchange == exchange.exchange && answer.grants.len() == planned.len() => {
                    return self.answered(planned, &answer, sent_ns);
                }
                Ok(answer) => {
                    tracing::error!(sent = exchange.exchange, answered = answer.exchange, "the portal answered another exchange of leases");
                    self.exchange = self.exchange.max(answer.exchange);
                    return self.give_up(planned);
                }
                Err(error) => {
                    self.shared.metrics.lease_failures.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "an exchange of leases got no answer");
                    unanswered(planned, self.shared.monotonic_ns());
                    match error {
                        // The number's file was lost and the journal's was not: go on well above what was used, as a new run.
                        PortalError::Refused { status: StatusCode::CONFLICT, .. } => {
                            if let Err(error) = self.begin_run(self.exchange.saturating_add(NUMBERS_SKIPPED)) {
                                tracing::error!(%error, "the number of exchanges could not be written");
                            }
                            return self.give_up(planned);
                        }
                        PortalError::Refused { status, .. } if status.is_client_error() => return self.give_up(planned),
                        _ => (),
                    }
                }
            }
            tokio::time::sleep(backoff.delay()).await;
        }
    }

    /// The exchange will not be answered. What it gave back is declared by the next one.
    fn give_up(&mut self, planned: &[Planned]) {
        unanswered(planned, self.shared.monotonic_ns());
        self.epoch.answered(self.declared_under, None);
    }

    fn answered(&mut self, planned: &[Planned], answer: &LeaseGrants, sent_ns: u64) {
        self.is_known = true;
        self.epoch.answered(self.declared_under, Some(answer.ledger_epoch));
        planned.iter().zip(&answer.grants).for_each(|(planned, grant)| self.put_in(planned, grant, sent_ns));
        if self.epoch.must_declare() {
            self.shared.quotas.wake.notify_one();
        }
    }

    fn put_in(&mut self, planned: &Planned, grant: &LeaseGrant, sent_ns: u64) {
        let now_ns = self.shared.monotonic_ns();
        let cell = &planned.cell;
        if grant.slot != cell.slot {
            tracing::error!(?grant, "the portal granted another quota than was wanted");
            return cell.hear_nothing(now_ns);
        }
        let received = Received {
            granted: grant.granted.clamped().max(0),
            elsewhere: grant.elsewhere.clamped(),
            lasts_ns: grant.lasts_ms.saturating_mul(NANOS_PER_SECOND / 1_000),
        };
        let book = self.books.entry(cell.slot).or_default();
        book.receive(&received, sent_ns, now_ns);
        cell.hand_out(book.lease());
        let outstanding = grant.outstanding.map_or(0, |outstanding| outstanding.clamped());
        // A portal that cannot say anything of the quota now does not say what its limit is either.
        let figures = Figures { limit: grant.limit.clamped(), used: grant.used.clamped(), outstanding };
        cell.hear(planned.plan.word(&received), (grant.lasts_ms > 0).then_some(figures), now_ns);
    }

    /// Makes sure that the present number is taken.
    fn take_numbers(&mut self) -> io::Result<()> {
        if self.exchange <= self.taken {
            return Ok(());
        }
        let taken = self.exchange.saturating_add(BLOCK - 1);
        let beside = self.number_path.with_extension("new");
        fs::write(&beside, taken.to_string())?;
        fs::rename(&beside, &self.number_path)?;
        self.taken = taken;
        Ok(())
    }
}

/// Waits until quotas want something, and for others that are about to.
async fn asked(quotas: &Quotas) -> Vec<Arc<QuotaCell>> {
    quotas.wake.notified().await;
    // In time or not, what has asked by then is looked at.
    let _ = tokio::time::timeout(GATHER, quotas.hurry.notified()).await;
    quotas.take_queue()
}

/// Calls that wait are told that there is no answer.
fn unanswered(planned: &[Planned], now_ns: u64) {
    planned.iter().for_each(|planned| planned.cell.hear_nothing(now_ns));
}

impl Planned {
    fn want(&self) -> LeaseWant {
        let Plan { want, needed, give_back, held, declared } = self.plan;
        LeaseWant {
            slot: self.cell.slot,
            want: want.into(),
            needed: needed.into(),
            give_back: give_back.into(),
            held: held.into(),
            declared: Some(declared.into()),
        }
    }
}
