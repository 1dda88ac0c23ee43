//! The body of a request on its way to the upstream: passed through frame by frame, up to a bound.
//!
//! What was passed on of a small body can be kept, so that the request can be sent once more. The caller's body is then shared by the tries, of which
//! only the newest may read it.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::caller::{CallerBody, CallerFault};
use crate::pipeline::{caller::CallerError, forward::MAX_DISCARDED_BYTES, grpc::MessageTap};

/// The most bytes of a request that are kept for another try.
pub const MAX_KEPT_BYTES: usize = 64 * 1024;

/// Why a request's body could not be passed on.
#[derive(Debug, thiserror::Error)]
pub enum RequestBodyError {
    /// The caller stopped sending, or sent what is not HTTP.
    #[error("the caller's body: {0}")]
    Caller(#[from] CallerError),
    /// It is longer than the gateway allows.
    #[error("the caller's body is too large")]
    TooLarge,
    /// It came too slowly.
    #[error("the caller's body came too slowly")]
    TooSlow,
    /// The request is being sent again elsewhere.
    #[error("the request is sent again on another connection")]
    Superseded,
}

/// What went wrong with a body, for those who only see that the upstream call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyFault {
    /// Nothing.
    #[default]
    None,
    /// The caller failed.
    Caller,
    /// It was too large.
    TooLarge,
    /// It came too slowly.
    TooSlow,
}

/// A request's body with a bound, as one try reads it.
#[derive(Debug)]
pub struct RequestBody {
    source: Rc<Source>,
    try_number: u32,
}

/// What all tries of a request read.
#[derive(Debug)]
pub struct Source {
    reading: RefCell<Reading>,
    fault: Cell<BodyFault>,
    try_number: Cell<u32>,
    /// The caller is waited for.
    waits: Cell<bool>,
    /// When a piece was last passed on.
    passed_on: Cell<Option<Instant>>,
    way: Cell<Way>,
}

/// Where a request went, for those who tell of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Way {
    /// The address of the last try, connected or not; none if there was no address to go to.
    pub address: Option<SocketAddr>,
    /// How many tries there were. Addresses that could not be connected to before another one count for one try with it.
    pub tries: u32,
}

#[derive(Debug)]
struct Reading {
    inner: CallerBody,
    left: u64,
    /// How much more is read and dropped once it is too large, so that the caller gets to read why.
    discarding: Option<u64>,
    keeping: Keeping,
    /// Counts gRPC messages, where they are billed: once, however often they are sent.
    tap: Option<MessageTap>,
}

/// What was passed on and may be needed once more.
#[derive(Debug)]
enum Keeping {
    /// Nothing was read.
    Untouched,
    /// All of it so far; `replayed` pieces have been passed on in the present try.
    All { pieces: Vec<Piece>, bytes: usize, replayed: usize },
    /// It was too much, or nobody asked.
    Lost,
}

#[derive(Debug, Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl RequestBody {
    /// Allows at most `max` bytes.
    pub fn new(inner: CallerBody, max: u64, tap: Option<MessageTap>) -> Self {
        let reading = Reading { inner, left: max, discarding: None, keeping: Keeping::Untouched, tap };
        let source = Source {
            reading: RefCell::new(reading),
            fault: Cell::default(),
            try_number: Cell::new(0),
            waits: Cell::new(false),
            passed_on: Cell::new(None),
            way: Cell::default(),
        };
        Self { source: Rc::new(source), try_number: 0 }
    }

    /// What all tries share.
    pub fn source(&self) -> &Rc<Source> {
        &self.source
    }
}

impl Source {
    /// A request is about to go to an address: for the first time in a try (`begins`), or because another address could not be connected to.
    pub fn goes_to(&self, address: SocketAddr, begins: bool) {
        self.way.set(Way { address: Some(address), tries: self.way.get().tries + u32::from(begins) });
    }

    /// Where the request went.
    pub fn way(&self) -> Way {
        self.way.get()
    }

    /// What went wrong with the body, if anything.
    pub fn fault(&self) -> BodyFault {
        self.fault.get()
    }

    /// Keeps what is passed on from now on, as long as it is small and nothing has been passed on yet.
    pub fn keep(&self) {
        let mut reading = self.reading.borrow_mut();
        if matches!(reading.keeping, Keeping::Untouched) {
            reading.keeping = Keeping::All { pieces: Vec::new(), bytes: 0, replayed: 0 };
        }
    }

    /// Whether the body can be read from its start once more.
    pub fn is_at_hand(&self) -> bool {
        !matches!(self.reading.borrow().keeping, Keeping::Lost)
    }

    /// The request will not be sent again: what was kept is let go.
    pub fn forget(&self) {
        self.reading.borrow_mut().keeping = Keeping::Lost;
    }

    /// The body from its start, for one more try; the try before reads no more. `None` when its start is lost.
    pub fn again(self: &Rc<Self>) -> Option<RequestBody> {
        match &mut self.reading.borrow_mut().keeping {
            Keeping::Untouched => (),
            Keeping::All { replayed, .. } => *replayed = 0,
            Keeping::Lost => return None,
        }
        if self.fault.get() != BodyFault::None {
            return None;
        }
        let try_number = self.try_number.get() + 1;
        self.try_number.set(try_number);
        Some(RequestBody { source: self.clone(), try_number })
    }

    /// After a try that has taken `patience`: how much longer the upstream may take, which is counted from when it had all that there was of the
    /// request. `None`: no longer.
    pub fn patience_left(&self, patience: Duration) -> Option<Duration> {
        if self.waits.get() {
            return Some(patience);
        }
        let left = patience.checked_sub(self.passed_on.get()?.elapsed())?;
        Some(left).filter(|left| !left.is_zero())
    }
}

impl Reading {
    /// The next kept piece that the present try has not passed on.
    fn replay(&mut self) -> Option<Frame<Bytes>> {
        let Keeping::All { pieces, replayed, .. } = &mut self.keeping else { return None };
        let piece = pieces.get(*replayed)?.clone();
        *replayed += 1;
        Some(match piece {
            Piece::Data(data) => Frame::data(data),
            Piece::Trailers(trailers) => Frame::trailers(trailers),
        })
    }

    fn note(&mut self, frame: &Frame<Bytes>) {
        match &mut self.keeping {
            Keeping::Untouched => self.keeping = Keeping::Lost,
            Keeping::All { pieces, bytes, replayed } => {
                let piece = match (frame.data_ref(), frame.trailers_ref()) {
                    (Some(data), _) => Piece::Data(data.clone()),
                    (None, Some(trailers)) => Piece::Trailers(trailers.clone()),
                    (None, None) => return,
                };
                *bytes += frame.data_ref().map_or(0, Bytes::len);
                if *bytes > MAX_KEPT_BYTES {
                    self.keeping = Keeping::Lost;
                    return;
                }
                pieces.push(piece);
                *replayed = pieces.len();
            }
            Keeping::Lost => (),
        }
    }

    fn unreplayed(&self) -> &[Piece] {
        match &self.keeping {
            Keeping::All { pieces, replayed, .. } => pieces.get(*replayed..).unwrap_or_default(),
            _ => &[],
        }
    }

    fn poll(&mut self, fault: &Cell<BodyFault>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        if let Some(frame) = self.replay() {
            return Poll::Ready(Some(Ok(frame)));
        }
        loop {
            let frame = match ready!(self.inner.poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                None if self.discarding.is_some() => return Poll::Ready(Some(Err(RequestBodyError::TooLarge))),
                None => return Poll::Ready(None),
                Some(Err(CallerFault::Broke(error))) => {
                    fault.set(BodyFault::Caller);
                    return Poll::Ready(Some(Err(error.into())));
                }
                Some(Err(CallerFault::TooSlow)) => {
                    fault.set(BodyFault::TooSlow);
                    return Poll::Ready(Some(Err(RequestBodyError::TooSlow)));
                }
            };
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            if let Some(more) = self.discarding {
                match more.checked_sub(length) {
                    Some(more) => self.discarding = Some(more),
                    None => return Poll::Ready(Some(Err(RequestBodyError::TooLarge))),
                }
            } else if let Some(left) = self.left.checked_sub(length) {
                self.left = left;
                if let (Some(tap), Some(data)) = (&mut self.tap, frame.data_ref()) {
                    tap.take(data);
                }
                self.note(&frame);
                return Poll::Ready(Some(Ok(frame)));
            } else {
                fault.set(BodyFault::TooLarge);
                self.discarding = Some(MAX_DISCARDED_BYTES);
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { source, try_number } = &*self;
        if source.try_number.get() != *try_number {
            return Poll::Ready(Some(Err(RequestBodyError::Superseded)));
        }
        let polled = source.reading.borrow_mut().poll(&source.fault, cx);
        source.waits.set(polled.is_pending());
        if polled.is_ready() {
            source.passed_on.set(Some(Instant::now()));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let reading = self.source.reading.borrow();
        reading.unreplayed().is_empty() && reading.discarding.is_none() && reading.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let reading = self.source.reading.borrow();
        let again: u64 = reading.unreplayed().iter().map(|piece| if let Piece::Data(data) = piece { data.len() as u64 } else { 0 }).sum();
        let mut hint = reading.inner.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + again);
        }
        hint.set_lower(hint.lower() + again);
        hint
    }
}
