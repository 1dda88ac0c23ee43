//! What one core's stages share. It never leaves its thread, so nothing in it is locked.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use calendar::Timestamp;
use http::HeaderValue;
use journal::StreamWriter;

use crate::{
    limits::{places::Places, turns::Turns},
    metrics::CoreMetrics,
    observe::trace::TraceIds,
    pipeline::{grant::Grants, meter::OpenExchanges},
    policy::index::Index,
    shared::Shared,
    turn,
    upstream::Pool,
};

/// One core.
#[derive(Debug)]
pub struct Core {
    /// What all cores share.
    pub shared: Arc<Shared>,
    /// This core's counters.
    pub metrics: Arc<CoreMetrics>,
    /// This core's journal stream; `None` once it is closed.
    pub writer: RefCell<Option<StreamWriter>>,
    /// This core's connections to upstreams.
    pub pool: Pool,
    /// Admitted exchanges that have no final record yet.
    pub exchanges: OpenExchanges,
    /// Places for open calls.
    pub places: Places,
    /// Namespaces take turns.
    pub turns: Turns,
    /// What keys may do on routes, as resolved before.
    pub grants: Grants,
    /// Ids of traces and spans.
    pub trace_ids: TraceIds,
    /// The date as answers have it, written by the core's timer.
    date: RefCell<String>,
    index: RefCell<Rc<HeldIndex>>,
    next_id: Cell<u64>,
    /// The first half of the ids of calls, in hexadecimal digits.
    id_base: [u8; 16],
}

impl Core {
    /// Sets a core up.
    pub fn new(shared: Arc<Shared>, metrics: Arc<CoreMetrics>, writer: StreamWriter, id_base: u64) -> Rc<Self> {
        let config = &shared.config;
        let places = Places::new(config.max_open_calls, config.max_connections, config.core_count(), config.namespace_share_percent);
        let index = RefCell::new(Rc::new(HeldIndex(shared.policy.index().load_full())));
        let mut id_digits = [0; 16];
        hex::encode_to_slice(id_base.to_be_bytes(), &mut id_digits).expect("two digits for each byte");
        let core = Rc::new(Self {
            metrics,
            writer: RefCell::new(Some(writer)),
            pool: Pool::new(shared.upstreams.clone()),
            places,
            turns: Turns::default(),
            shared,
            exchanges: OpenExchanges::default(),
            grants: Grants::default(),
            trace_ids: TraceIds::new(id_base),
            date: RefCell::default(),
            index,
            next_id: Cell::new(0),
            id_base: id_digits,
        });
        core.tell_date(core.now());
        core
    }

    /// The newest policy. The shared counter of the index is touched once a change, not once a call.
    pub fn index(&self) -> Rc<HeldIndex> {
        let newest = self.shared.policy.index().load();
        let mut held = self.index.borrow_mut();
        if !Arc::ptr_eq(&newest, &held.0) {
            *held = Rc::new(HeldIndex(arc_swap::Guard::into_inner(newest)));
        }
        held.clone()
    }

    /// Writes the date anew.
    pub fn tell_date(&self, now: Timestamp) {
        let since = Duration::from_micros(u64::try_from(now.micros()).unwrap_or(0));
        *self.date.borrow_mut() = httpdate::fmt_http_date(std::time::UNIX_EPOCH + since);
    }

    /// The date as answers have it (RFC 9110, 6.6.1), a tenth of a second old at most.
    pub fn with_date<T>(&self, with: impl FnOnce(&[u8]) -> T) -> T {
        with(self.date.borrow().as_bytes())
    }

    /// The current instant.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// The time of the turn on the gateway's monotonic clock, for limits.
    pub fn monotonic_ns(&self) -> u64 {
        self.shared.monotonic_ns_at(turn::now())
    }

    /// A new id for a call: random for the process and core, then counting.
    pub fn request_id(&self) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let count = self.next_id.get();
        self.next_id.set(count + 1);
        let mut digits = [0; 32];
        digits[..16].copy_from_slice(&self.id_base);
        for (pair, byte) in digits[16..].as_chunks_mut::<2>().0.iter_mut().zip(count.to_be_bytes()) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        HeaderValue::from_bytes(&digits).expect("hexadecimal digits are a header value")
    }
}

/// The index as this core holds it. Calls count their references on the core's own counter, which no other core writes.
#[derive(Debug)]
pub struct HeldIndex(Arc<Index>);

impl std::ops::Deref for HeldIndex {
    type Target = Index;

    fn deref(&self) -> &Index {
        &self.0
    }
}

/// A map for the path of a call, whose keys callers cannot choose.
pub type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
