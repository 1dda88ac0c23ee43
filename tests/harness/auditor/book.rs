//! The book: what each exchange was to be, and what both ends saw of it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use super::connection::Unanswered;

/// In what an exchange consists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// A request and an answer.
    #[default]
    Http,
    /// A WebSocket, on which each message is answered, and which the client closes.
    WebSocket,
    /// A gRPC call, on which each side sends so many messages.
    Grpc,
}

/// What an exchange asks the upstream for.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// `GET` if it does not matter.
    pub method: reqwest::Method,
    /// The path up to the exchange's number, such as `/audit/call`.
    pub path: String,
    /// The status that the upstream answers.
    pub status: u16,
    /// Bytes of the body.
    pub bytes: u64,
    /// In how many chunks of unknown total length the body comes; 0 for one body whose length is declared.
    pub chunks: u32,
    /// How long the upstream waits before the answer, and before each chunk or message.
    pub pause: Duration,
    /// In what it consists.
    pub form: Form,
    /// How many messages each side of a WebSocket or of a gRPC call sends.
    pub messages: u32,
}

/// What came of an exchange, as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Open,
    /// Nothing of it left the client.
    NotSent,
    /// The answer came to its end.
    Whole {
        /// Its status.
        status: u16,
        /// Whether the head is the upstream's.
        by_upstream: bool,
    },
    /// The gateway said that it did not begin it, so that it may be sent again (RFC 9113, 6.8).
    Unprocessed,
    /// The connection or the stream ended first.
    Broken,
}

/// A line of the book.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What was asked for.
    pub plan: Plan,
    /// Whose exchange it is: the place of the key in the list that the load was given.
    pub caller: usize,
    /// What came of it.
    pub fate: Fate,
    /// For how long nothing had passed on the connection when it was sent; nothing for the first on a connection, and for HTTP/2, whose ends say goodbye.
    pub rested: Option<Duration>,
    /// Why it broke, in its client's words.
    pub fault: Option<String>,
    /// How often the upstream saw it.
    pub seen: u32,
    /// Bytes of the body that the upstream gave away.
    pub given: u64,
    /// Bytes of the body that arrived.
    pub received: u64,
    /// Messages that the client sent, and that came to the upstream.
    pub asked: Passed,
    /// Messages that the upstream sent, and that came to the client.
    pub told: Passed,
    /// When how many bytes had arrived, for bodies in chunks.
    pub arrivals: Vec<(Instant, u64)>,
}

/// Messages on their way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// By the sender's count.
    pub sent: u64,
    /// By the receiver's.
    pub came: u64,
}

/// All exchanges by their marks, from 1 on.
#[derive(Debug, Clone, Default)]
pub struct Book(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: Mutex<Vec<Entry>>,
    in_flight: AtomicU64,
}

impl Book {
    /// Opens an exchange and says its mark.
    pub fn open(&self, plan: Plan, caller: usize) -> u64 {
        let mut entries = self.entries();
        entries.push(Entry {
            plan,
            caller,
            fate: Fate::Open,
            rested: None,
            fault: None,
            seen: 0,
            given: 0,
            received: 0,
            asked: Passed::default(),
            told: Passed::default(),
            arrivals: Vec::new(),
        });
        entries.len() as u64
    }

    /// It is sent on a connection on which nothing had passed for so long.
    pub fn rested(&self, mark: u64, rested: Duration) {
        self.entry(mark, |entry| entry.rested = Some(rested));
    }

    /// It broke.
    pub fn broke(&self, mark: u64, fault: impl std::fmt::Debug) {
        self.entry(mark, |entry| entry.fault = Some(format!("{fault:?}")));
    }

    /// What it means for an exchange that no answer came.
    pub(super) fn unanswered(&self, mark: u64, why: Unanswered) -> Fate {
        match why {
            Unanswered::NotSent => Fate::NotSent,
            Unanswered::Unprocessed => Fate::Unprocessed,
            Unanswered::Broken(fault) => {
                self.broke(mark, fault);
                Fate::Broken
            }
        }
    }

    /// What an exchange asks for; the upstream has seen it.
    pub fn seen(&self, mark: u64) -> Option<Plan> {
        let mut entries = self.entries();
        let entry = entries.get_mut(usize::try_from(mark.checked_sub(1)?).ok()?)?;
        entry.seen += 1;
        if entry.seen == 1 && entry.fate == Fate::Open {
            self.0.in_flight.fetch_add(1, SeqCst);
        }
        Some(entry.plan.clone())
    }

    /// The upstream gave bytes of the body away.
    pub fn gave(&self, mark: u64, bytes: u64) {
        self.entry(mark, |entry| entry.given += bytes);
    }

    /// Bytes of the body arrived.
    pub fn received(&self, mark: u64, bytes: u64) {
        self.entry(mark, |entry| {
            entry.received += bytes;
            if entry.plan.chunks > 0 {
                entry.arrivals.push((Instant::now(), entry.received));
            }
        });
    }

    /// The client sends messages.
    pub fn asks(&self, mark: u64, messages: u64) {
        self.entry(mark, |entry| entry.asked.sent += messages);
    }

    /// Messages of the client came to the upstream.
    pub fn was_asked(&self, mark: u64, messages: u64) {
        self.entry(mark, |entry| entry.asked.came += messages);
    }

    /// The upstream sends a message.
    pub fn tells(&self, mark: u64) {
        self.entry(mark, |entry| entry.told.sent += 1);
    }

    /// A message of the upstream came to the client.
    pub fn was_told(&self, mark: u64) {
        self.entry(mark, |entry| entry.told.came += 1);
    }

    /// The exchange ended.
    pub fn ended(&self, mark: u64, fate: Fate) {
        self.entry(mark, |entry| {
            if entry.fate == Fate::Open && entry.seen > 0 {
                self.0.in_flight.fetch_sub(1, SeqCst);
            }
            entry.fate = fate;
        });
    }

    /// How many exchanges the upstream has seen whose clients still wait.
    pub fn in_flight(&self) -> u64 {
        self.0.in_flight.load(SeqCst)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All lines, as they are now.
    pub fn lines(&self) -> Vec<Entry> {
        self.entries().clone()
    }

    /// One line, as it is now.
    pub fn line(&self, mark: u64) -> Option<Entry> {
        self.entries().get(usize::try_from(mark.checked_sub(1)?).ok()?).cloned()
    }

    fn entry(&self, mark: u64, change: impl FnOnce(&mut Entry)) {
        let index = usize::try_from(mark - 1).unwrap_or(usize::MAX);
        if let Some(entry) = self.entries().get_mut(index) {
            change(entry);
        }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
