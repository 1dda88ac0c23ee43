//! Hard quotas: what this gateway holds of each, and what the ledger last said of it (SEMANTICS Q2 to Q5).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use calendar::Timestamp;
use gateway_control::lease::QuotaSlot;
use quota::{Lease, WhenUnreachable};
use tokio::sync::{Notify, watch};

/// What the ledger last said of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerWord {
    /// Nothing yet, or that units are elsewhere, or it did not answer.
    Unknown = 0,
    /// It granted what was asked for, or a part.
    Granted = 1,
    /// The quota is used up.
    UsedUp = 2,
}

/// One hard quota of one subscription in one period, on this gateway.
#[derive(Debug)]
pub struct QuotaCell {
    /// Which one.
    pub slot: QuotaSlot,
    /// Its period's end: nothing is spent after it.
    pub period_end: Timestamp,
    /// What may be spent without asking. A lease that has expired is replaced, never revived.
    pub lease: ArcSwapOption<Lease>,
    word: AtomicU8,
    /// The exchange that gave the word, so that a waiting call knows a new word from the old one.
    pub answered: watch::Sender<u64>,
    limit: AtomicI64,
    /// What the ledger counted as used, and what this gateway had spent by then.
    used: AtomicI64,
    /// What calls took and the ledger has not counted yet, about; for the headers only.
    spent_since: AtomicI64,
    /// The most that a waiting call needs; the next exchange asks for at least this.
    needed: AtomicI64,
    /// The most that one call reserves: a lease smaller than that is of no use.
    largest_call: AtomicI64,
    queued: AtomicBool,
    /// What was admitted without a lease while the portal was away.
    pub exposed: AtomicI64,
    /// When a call last took or wanted units, on the gateway's monotonic clock.
    last_use_ns: AtomicU64,
    /// When the ledger last answered.
    heard_ns: AtomicU64,
}

impl QuotaCell {
    fn new(slot: QuotaSlot, period_end: Timestamp, limit: i64) -> Self {
        Self {
            slot,
            period_end,
            lease: ArcSwapOption::empty(),
            word: AtomicU8::new(0),
            answered: watch::Sender::new(0),
            limit: AtomicI64::new(limit),
            used: AtomicI64::new(0),
            spent_since: AtomicI64::new(0),
            needed: AtomicI64::new(0),
            largest_call: AtomicI64::new(0),
            queued: AtomicBool::new(false),
            exposed: AtomicI64::new(0),
            last_use_ns: AtomicU64::new(0),
            heard_ns: AtomicU64::new(0),
        }
    }

    /// Takes all of `amount` from the lease or nothing. `Some` is the lease, into which what is not used goes back.
    pub fn try_take(&self, amount: i64, now_ns: u64) -> Option<Arc<Lease>> {
        let lease = self.lease.load();
        lease.as_ref()?.try_take(amount, now_ns).ok()?;
        self.spent_since.fetch_add(amount, Ordering::Relaxed);
        self.last_use_ns.store(now_ns, Ordering::Relaxed);
        arc_swap::Guard::into_inner(lease)
    }

    /// What a call took is not spent after all; for the headers only.
    pub fn unspend(&self, amount: i64) {
        self.spent_since.fetch_sub(amount, Ordering::Relaxed);
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
        self.last_use_ns.store(now_ns, Ordering::Relaxed);
    }

    /// What waiting calls need; asked for and forgotten.
    pub fn take_needed(&self) -> i64 {
        self.needed.swap(0, Ordering::AcqRel)
    }

    /// When it was last used.
    pub fn last_use_ns(&self) -> u64 {
        self.last_use_ns.load(Ordering::Relaxed)
    }

    /// What the ledger last said.
    pub fn word(&self) -> LedgerWord {
        match self.word.load(Ordering::Acquire) {
            1 => LedgerWord::Granted,
            2 => LedgerWord::UsedUp,
            _ => LedgerWord::Unknown,
        }
    }

    /// When the ledger last answered.
    pub fn heard_ns(&self) -> u64 {
        self.heard_ns.load(Ordering::Acquire)
    }

    /// Takes the ledger's word in, with the limit and what it counted as used.
    pub fn hear(&self, word: LedgerWord, figures: Option<(i64, i64)>, now_ns: u64) {
        self.heard_ns.store(now_ns, Ordering::Release);
        if let Some((limit, used)) = figures {
            self.limit.store(limit, Ordering::Release);
            // What the ledger has counted meanwhile is no longer to be added to it.
            let counted = used.saturating_sub(self.used.swap(used, Ordering::AcqRel)).max(0);
            let less = |spent: i64| Some(spent.saturating_sub(counted).max(0));
            let _ = self.spent_since.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        }
        self.word.store(word as u8, Ordering::Release);
        self.answered.send_modify(|count| *count += 1);
    }

    /// The limit as last known, in micro-units.
    pub fn limit(&self) -> i64 {
        self.limit.load(Ordering::Acquire)
    }

    /// What is used as far as this gateway knows: the ledger's count and what was spent here since.
    pub fn used(&self) -> i64 {
        let used = self.used.load(Ordering::Acquire).saturating_add(self.spent_since.load(Ordering::Acquire));
        used.clamp(0, self.limit().max(0))
    }
}

/// All quota cells, and the queue of those that want an exchange.
#[derive(Debug, Default)]
pub struct Quotas {
    cells: Mutex<HashMap<QuotaSlot, Arc<QuotaCell>, foldhash::fast::RandomState>>,
    queue: Mutex<Vec<Arc<QuotaCell>>>,
    /// Wakes the task that exchanges.
    pub wake: Notify,
}

impl Quotas {
    /// The cell of a quota, new or known.
    pub fn get(&self, slot: QuotaSlot, period_end: Timestamp, limit: i64) -> Arc<QuotaCell> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        cells.entry(slot).or_insert_with(|| Arc::new(QuotaCell::new(slot, period_end, limit))).clone()
    }

    /// All cells.
    pub fn all(&self) -> Vec<Arc<QuotaCell>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Forgets a cell whose period is over and which holds nothing.
    pub fn forget(&self, slot: &QuotaSlot) {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner).remove(slot);
    }

    /// Asks for an exchange. Many calls that ask at once make one.
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
