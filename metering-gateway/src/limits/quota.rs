//! Hard quotas: what this gateway holds of each, and what the ledger last said of it (SEMANTICS Q2 to Q5).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use calendar::Timestamp;
use gateway_control::lease::QuotaSlot;
use ids::Uuid;
use quota::{Lease, WhenUnreachable, Word};
use tokio::sync::{Notify, watch};

/// What the ledger last said of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerWord {
    /// Nothing yet, or it did not answer.
    Unknown = 0,
    /// It granted what was asked for, or a part.
    Granted = 1,
    /// The quota is used up for what was needed.
    UsedUp = 2,
    /// Nothing is free, and something may come back: it has been recalled.
    Elsewhere = 3,
}

/// What the ledger counted, as of its last answer, in micro-units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// The limit.
    pub limit: i64,
    /// What ingest counted.
    pub used: i64,
    /// What this gateway holds, or has spent and not proven.
    pub outstanding: i64,
}

/// One hard quota of one subscription in one period, on this gateway. What each call reads and writes lies together, at the beginning.
#[derive(Debug)]
#[repr(C)]
pub struct QuotaCell {
    /// What may be spent without asking. A lease that has expired is replaced, never revived.
    pub lease: ArcSwapOption<Lease>,
    /// When a call last took units, on the gateway's monotonic clock.
    taken_ns: AtomicU64,
    limit: AtomicI64,
    used: AtomicI64,
    outstanding: AtomicI64,
    /// What calls that have ended used.
    pub finished: AtomicI64,
    /// Which one.
    pub slot: QuotaSlot,
    /// Its period's end: nothing is spent after it.
    pub period_end: Timestamp,
    /// The end of the period after it, whose leases are fetched ahead.
    pub next_period_end: OnceLock<Timestamp>,
    /// Whether that has been done.
    pub is_fetched_ahead: AtomicBool,
    word: AtomicU8,
    queued: AtomicBool,
    /// Whether the ledger asks for what is not needed here.
    recalled: AtomicBool,
    /// The exchange that gave the word, so that a waiting call knows a new word from the old one.
    pub answered: watch::Sender<u64>,
    /// From which amount on the quota is used up, where the word says so.
    used_up_from: AtomicI64,
    /// The most that a waiting call needs; the next exchange asks for at least this.
    needed: AtomicI64,
    /// The most that one call reserves: a lease smaller than that is of no use.
    largest_call: AtomicI64,
    /// What was admitted without a lease while the portal was away.
    pub exposed: AtomicI64,
    /// When a call last wanted units that were not there.
    wanted_ns: AtomicU64,
    /// When the ledger last answered.
    heard_ns: AtomicU64,
}

impl QuotaCell {
    fn new(slot: QuotaSlot, period_end: Timestamp, limit: i64) -> Self {
        Self {
            slot,
            period_end,
            next_period_end: OnceLock::new(),
            is_fetched_ahead: AtomicBool::new(false),
            lease: ArcSwapOption::empty(),
            word: AtomicU8::new(0),
            used_up_from: AtomicI64::new(0),
            answered: watch::Sender::new(0),
            limit: AtomicI64::new(limit),
            used: AtomicI64::new(0),
            outstanding: AtomicI64::new(0),
            needed: AtomicI64::new(0),
            largest_call: AtomicI64::new(0),
            queued: AtomicBool::new(false),
            exposed: AtomicI64::new(0),
            finished: AtomicI64::new(0),
            recalled: AtomicBool::new(false),
            taken_ns: AtomicU64::new(0),
            wanted_ns: AtomicU64::new(0),
            heard_ns: AtomicU64::new(0),
        }
    }

    /// Takes all of `amount` from the lease or nothing. `Some` is the lease, into which what is not used goes back.
    pub fn try_take(&self, amount: i64, now_ns: u64) -> Option<Arc<Lease>> {
        let lease = self.lease.load();
        lease.as_ref()?.try_take(amount, now_ns).ok()?;
        self.taken_ns.store(now_ns, Ordering::Relaxed);
        arc_swap::Guard::into_inner(lease)
    }

    /// Calls spend this lease from now on. A store has to wait for all who just read: it is made only where something changes.
    pub fn hand_out(&self, lease: Option<&Arc<Lease>>) {
        if self.lease.load().as_ref().map(Arc::as_ptr) != lease.map(Arc::as_ptr) {
            self.lease.store(lease.cloned());
        }
    }

    /// Whether the lease would pay this much now.
    pub fn covers(&self, amount: i64, now_ns: u64) -> bool {
        self.lease.load().as_ref().is_some_and(|lease| !lease.has_expired(now_ns) && lease.remaining() >= amount)
    }

    /// Admits without a lease while the portal is away, up to the plan's stated bound.
    pub fn try_expose(&self, amount: i64, when_unreachable: WhenUnreachable) -> bool {
        let WhenUnreachable::Allow { max_microunits } = when_unreachable else { return false };
        let within = |exposed: i64| exposed.checked_add(amount).filter(|sum| *sum <= max_microunits);
        self.exposed.fetch_update(Ordering::AcqRel, Ordering::Acquire, within).is_ok()
    }

    /// Whether the lease is short enough that more should be fetched in the background.
    pub fn is_low(&self, now_ns: u64, amount: i64) -> bool {
        self.lease.load().as_ref().is_none_or(|lease| lease.has_expired(now_ns) || lease.remaining() < amount.saturating_mul(4))
    }

    /// Notes that calls reserve so much.
    pub fn note_reserve(&self, amount: i64) {
        self.largest_call.fetch_max(amount, Ordering::AcqRel);
    }

    /// The most that one call reserves.
    pub fn largest_call(&self) -> i64 {
        self.largest_call.load(Ordering::Acquire)
    }

    /// Notes that a call needs so much.
    pub fn need(&self, amount: i64, now_ns: u64) {
        self.needed.fetch_max(amount, Ordering::AcqRel);
        self.wanted_ns.fetch_max(now_ns, Ordering::Relaxed);
    }

    /// What waiting calls need; asked for and forgotten.
    pub fn take_needed(&self) -> i64 {
        self.needed.swap(0, Ordering::AcqRel)
    }

    /// When a call last took units.
    pub fn taken_ns(&self) -> u64 {
        self.taken_ns.load(Ordering::Relaxed)
    }

    /// When a call last took or wanted units.
    pub fn used_ns(&self) -> u64 {
        self.taken_ns().max(self.wanted_ns.load(Ordering::Relaxed))
    }

    /// What is fetched ahead is not idle before this.
    pub fn keep_until(&self, at_ns: u64) {
        self.wanted_ns.fetch_max(at_ns, Ordering::Relaxed);
    }

    /// Whether the ledger asks for what is not needed here; heard once.
    pub fn take_recalled(&self) -> bool {
        self.recalled.swap(false, Ordering::AcqRel)
    }

    /// What the ledger last said.
    pub fn word(&self) -> LedgerWord {
        match self.word.load(Ordering::Acquire) {
            1 => LedgerWord::Granted,
            2 => LedgerWord::UsedUp,
            3 => LedgerWord::Elsewhere,
            _ => LedgerWord::Unknown,
        }
    }

    /// Whether the ledger's last word is that a call which reserves this much cannot be served.
    pub fn is_used_up(&self, amount: i64) -> bool {
        self.word() == LedgerWord::UsedUp && amount >= self.used_up_from.load(Ordering::Acquire)
    }

    /// When the ledger last answered.
    pub fn heard_ns(&self) -> u64 {
        self.heard_ns.load(Ordering::Acquire)
    }

    /// Takes in that the ledger did not answer.
    pub fn hear_nothing(&self, now_ns: u64) {
        self.heard_ns.store(now_ns, Ordering::Release);
        self.word.store(LedgerWord::Unknown as u8, Ordering::Release);
        self.answered.send_modify(|count| *count += 1);
    }

    /// Takes the ledger's word in. What was granted has been put into the lease before.
    pub fn hear(&self, word: Word, figures: Option<Figures>, now_ns: u64) {
        if let Some(figures) = figures {
            self.limit.store(figures.limit, Ordering::Release);
            self.used.store(figures.used, Ordering::Release);
            self.outstanding.store(figures.outstanding, Ordering::Release);
        }
        let word = match word {
            Word::Granted => LedgerWord::Granted,
            Word::Elsewhere => LedgerWord::Elsewhere,
            Word::UsedUp { from } => {
                self.used_up_from.store(from, Ordering::Release);
                LedgerWord::UsedUp
            }
            // Nothing was wanted, so nothing is said of what is left.
            Word::Nothing => return,
        };
        self.heard_ns.store(now_ns, Ordering::Release);
        self.word.store(word as u8, Ordering::Release);
        self.answered.send_modify(|count| *count += 1);
    }

    /// The limit as last known, in micro-units.
    pub fn limit(&self) -> i64 {
        self.limit.load(Ordering::Acquire)
    }

    /// What is used as far as this gateway knows: the ledger's count, and what was spent here and is not proven.
    pub fn used(&self) -> i64 {
        let held = self.lease.load().as_ref().map_or(0, |lease| lease.remaining());
        let spent = self.outstanding.load(Ordering::Acquire).saturating_sub(held).max(0);
        self.used.load(Ordering::Acquire).saturating_add(spent).clamp(0, self.limit().max(0))
    }
}

/// All quota cells, and the queue of those that want an exchange.
#[derive(Debug, Default)]
pub struct Quotas {
    cells: Mutex<HashMap<QuotaSlot, Arc<QuotaCell>, foldhash::fast::RandomState>>,
    queue: Mutex<Vec<Arc<QuotaCell>>>,
    /// Wakes the task that exchanges.
    pub wake: Notify,
    /// Tells it that calls wait for its exchange.
    pub hurry: Notify,
    /// The ledger's epoch as last heard, whoever heard it.
    pub epoch: watch::Sender<Option<Uuid>>,
    /// The number of this start of the process among the journal's exchanges; zero before it is known.
    pub run: AtomicU64,
}

impl Quotas {
    /// The cell of a quota, new or known.
    pub fn get(&self, slot: QuotaSlot, period_end: Timestamp, limit: i64) -> Arc<QuotaCell> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        cells.entry(slot).or_insert_with(|| Arc::new(QuotaCell::new(slot, period_end, limit))).clone()
    }

    /// The ledger asks for what is not needed here. A quota of which nothing is held has nothing to give.
    pub fn recall(&self, slot: &QuotaSlot) {
        let cell = self.cells.lock().unwrap_or_else(PoisonError::into_inner).get(slot).cloned();
        if let Some(cell) = cell.filter(|cell| cell.lease.load().is_some()) {
            cell.recalled.store(true, Ordering::Release);
            self.ask_now(&cell);
        }
    }

    /// A heartbeat or an ack named the ledger's epoch.
    pub fn hear_epoch(&self, epoch: Uuid) {
        if self.epoch.send_if_modified(|known| known.replace(epoch) != Some(epoch)) {
            self.wake.notify_one();
        }
    }

    /// All cells.
    pub fn all(&self) -> Vec<Arc<QuotaCell>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Forgets a cell whose period is over and which holds nothing.
    pub fn forget(&self, slot: &QuotaSlot) {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner).remove(slot);
    }

    /// Asks for an exchange at once, because somebody waits for it.
    pub fn ask_now(&self, cell: &Arc<QuotaCell>) {
        self.ask(cell);
        self.hurry.notify_one();
    }

    /// Asks for an exchange soon. Many calls that ask make one.
    pub fn ask(&self, cell: &Arc<QuotaCell>) {
        if !cell.queued.swap(true, Ordering::AcqRel) {
            self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(cell.clone());
            self.wake.notify_one();
        }
    }

    /// The cells that asked since the last time.
    pub fn take_queue(&self) -> Vec<Arc<QuotaCell>> {
        let queue = std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner));
        queue.iter().for_each(|cell| cell.queued.store(false, Ordering::Release));
        queue
    }
}
