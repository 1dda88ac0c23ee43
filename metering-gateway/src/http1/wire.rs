//! A byte stream with what was read of it and what is to be sent on it.
//!
//! It belongs to one core and is shared by what reads and what writes, which may be two tasks: each waits for its own direction. Buffers are held only
//! while there is something in them, so that a connection that rests costs its socket and little more.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use super::{Error, Transport, Tunneled, decode::Decoder, departures};
use crate::guard::stream::PatientStream;

/// How much is read at once.
const READ_BYTES: usize = 32 * 1024;
/// So many reads in a row may find something before the others on the core have their turn: a peer that sends without end would keep it to itself.
const READS_IN_A_ROW: u8 = 8;
/// Buffers that are kept for the next message, by number and size.
const MAX_KEPT_BUFFERS: usize = 64;
const MAX_KEPT_BYTES: usize = 32 * 1024;

thread_local! {
    /// Where the core reads to; what was read is copied into memory of its size.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
    /// Empty buffers for what is to be sent.
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A connection.
#[derive(Debug)]
pub struct Wire(RefCell<Inner>);

/// What is known of the message that comes in.
#[derive(Debug)]
pub struct Inbound {
    /// Where its body ends.
    pub decoder: Decoder,
    /// It is read by somebody who may go on.
    pub has_reader: bool,
    /// The peer waits for `100 Continue`.
    pub expects_continue: bool,
    /// Whoever waits for the reader to finish.
    pub waits: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct Inner {
    /// Absent once another protocol has it.
    io: Option<PatientStream<Transport>>,
    is_callers: bool,
    pub(super) read: BytesMut,
    pub(super) eof: bool,
    in_a_row: u8,
    /// What is to be sent: this from `sent` on, then `tail`, then `trail`.
    pub(super) out: Vec<u8>,
    sent: usize,
    pub(super) tail: Bytes,
    pub(super) trail: &'static [u8],
    /// Waits for the end of the turn.
    departing: bool,
    /// The system did not take all of it at the end of the turn: whoever waits for the peer sends the rest.
    pub(super) left_behind: bool,
    /// It cannot be sent.
    broken: Option<io::Error>,
    /// Whoever is told of both.
    sender: Option<Waker>,
    pub(super) inbound: Inbound,
    /// Gets the byte stream when the protocol is switched.
    pub(super) heir: Option<oneshot::Sender<Tunneled>>,
}

impl Wire {
    /// A connection of which `read` was read before. One to a caller has a `patience`: so long a write waits for its reader at most.
    pub fn new(io: Transport, read: BytesMut, patience: Option<Duration>) -> Rc<Self> {
        let is_callers = patience.is_some();
        let inbound = Inbound { decoder: Decoder::Ended, has_reader: false, expects_continue: false, waits: None };
        Rc::new(Self(RefCell::new(Inner {
            io: Some(PatientStream::new(io, patience)),
            is_callers,
            read,
            eof: false,
            in_a_row: 0,
            out: Vec::new(),
            sent: 0,
            tail: Bytes::new(),
            trail: &[],
            departing: false,
            left_behind: false,
            broken: None,
            sender: None,
            inbound,
            heir: None,
        })))
    }

    pub(super) fn with<T>(&self, with: impl FnOnce(&mut Inner) -> T) -> T {
        with(&mut self.0.borrow_mut())
    }

    /// A message with a body comes in.
    pub fn begin_inbound(&self, decoder: Decoder, expects_continue: bool) {
        let inbound = &mut self.0.borrow_mut().inbound;
        *inbound = Inbound { decoder, has_reader: false, expects_continue, waits: inbound.waits.take() };
    }

    /// Whether the message that came in is whole.
    pub fn inbound_ended(&self) -> bool {
        self.0.borrow().inbound.decoder == Decoder::Ended
    }

    /// Whether the message that came in is whole, or somebody reads it who may go on to its end.
    pub fn inbound_may_end(&self) -> bool {
        let inbound = &self.0.borrow().inbound;
        inbound.decoder == Decoder::Ended || inbound.has_reader
    }

    /// Whether nothing is under way in either direction, nothing came unasked, and the peer has not gone. Does not wait.
    pub fn rests(&self) -> bool {
        let inner = &mut *self.0.borrow_mut();
        inner.in_a_row = 0;
        inner.inbound.decoder == Decoder::Ended
            && inner.read.is_empty()
            && inner.queued() == 0
            && inner.poll_fill(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Whether the system has seen the peer go, or anything come. One call of the system.
    pub fn is_silent(&self) -> bool {
        match self.0.borrow().io.as_ref().map(PatientStream::get_ref) {
            Some(Transport::Tcp(stream)) => {
                let peeked = socket2::SockRef::from(stream).peek(&mut [std::mem::MaybeUninit::uninit()]);
                peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            Some(Transport::Other(_)) => true,
            None => false,
        }
    }

    /// Looks at what has been read; says whether nothing more will come.
    pub fn peek<T>(&self, look: impl FnOnce(&[u8]) -> T) -> (T, bool) {
        self.with(|inner| (look(&inner.read), inner.eof))
    }

    /// Looks for a head in what has been read; says whether nothing more will come.
    pub fn read_head<T>(&self, find: impl FnOnce(&mut BytesMut) -> Result<Option<T>, Error>) -> (Result<Option<T>, Error>, bool) {
        self.with(|inner| {
            let found = if inner.read.is_empty() { Ok(None) } else { find(&mut inner.read) };
            (found, inner.eof)
        })
    }

    /// Reads until more is there or the peer has gone, for whoever waits for a message.
    pub fn poll_more(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_fill(cx)
    }

    /// Sends what is to be sent.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_flush(cx)
    }

    /// Has what is to be sent leave at the end of the core's turn. False where it must be sent at once.
    pub(super) fn departs(self: &Rc<Self>, cx: &Context<'_>) -> bool {
        let inner = &mut *self.0.borrow_mut();
        let is_short = inner.tail.is_empty() && inner.trail.is_empty();
        if !is_short || inner.left_behind || !matches!(inner.io.as_ref().map(PatientStream::get_ref), Some(Transport::Tcp(_))) {
            return false;
        }
        if !inner.departing && !departures::join(self, inner.is_callers) {
            return false;
        }
        inner.departing = true;
        if !inner.sender.as_ref().is_some_and(|sender| sender.will_wake(cx.waker())) {
            inner.sender = Some(cx.waker().clone());
        }
        true
    }

    /// The end of the core's turn.
    pub(super) fn depart(&self) {
        let inner = &mut *self.0.borrow_mut();
        inner.departing = false;
        match inner.poll_flush(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => return,
            Poll::Ready(Err(error)) => inner.broken = Some(error),
            Poll::Pending => inner.left_behind = true,
        }
        if let Some(sender) = inner.sender.take() {
            sender.wake();
        }
    }

    /// Says that nothing more will be sent, after what is to be sent.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        ready!(inner.poll_flush(cx))?;
        match &mut inner.io {
            Some(io) => Pin::new(io).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// HTTP ends here; another protocol goes on. `None` if it has been taken before.
    pub fn take(&self) -> Option<Tunneled> {
        let inner = &mut *self.0.borrow_mut();
        let io = inner.io.take()?.into_inner();
        Some(Tunneled::with_read(std::mem::take(&mut inner.read).freeze(), io))
    }

    /// The byte stream goes to who asked for it.
    pub fn hand_over(&self) -> bool {
        let heir = self.with(|inner| inner.heir.take());
        match (heir, self.take()) {
            (Some(heir), Some(tunneled)) => heir.send(tunneled).is_ok(),
            _ => false,
        }
    }
}

impl Inner {
    /// How much waits to be sent.
    pub(super) fn queued(&self) -> usize {
        self.out.len() - self.sent + self.tail.len() + self.trail.len()
    }

    /// A buffer for what is to be sent first.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(4 * 1024));
        }
        &mut self.out
    }

    /// Reads once. Ready when more is there, or the peer has gone.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.in_a_row >= READS_IN_A_ROW {
            self.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.left_behind
            && let Poll::Ready(sent) = self.poll_flush(cx)
        {
            (self.left_behind, self.broken) = (false, sent.err());
        }
        let Some(io) = &mut self.io else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let (read, eof) = (&mut self.read, &mut self.eof);
        let polled = SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
            match buffer.filled() {
                [] => *eof = true,
                filled if read.is_empty() => *read = BytesMut::from(filled),
                filled => read.extend_from_slice(filled),
            }
            Poll::Ready(Ok(()))
        });
        self.in_a_row = if polled.is_ready() { self.in_a_row + 1 } else { 0 };
        match self.broken.take() {
            // What the peer said before it closed the connection counts first.
            Some(broken) if polled.is_pending() => Poll::Ready(Err(broken)),
            broken => {
                self.broken = broken;
                polled
            }
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.queued() > 0 {
            let Some(io) = &mut self.io else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
            let first = &self.out[self.sent..];
            let written = if self.tail.is_empty() && self.trail.is_empty() {
                ready!(Pin::new(io).poll_write(cx, first))?
            } else {
                let pieces = [IoSlice::new(first), IoSlice::new(&self.tail), IoSlice::new(self.trail)];
                ready!(Pin::new(io).poll_write_vectored(cx, &pieces))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        if self.out.capacity() > 0 {
            self.recycle();
        }
        match &mut self.io {
            Some(io) if matches!(io.get_ref(), Transport::Other(_)) => Pin::new(io).poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn advance(&mut self, written: usize) {
        let from_out = written.min(self.out.len() - self.sent);
        self.sent += from_out;
        let from_tail = (written - from_out).min(self.tail.len());
        self.tail.advance(from_tail);
        self.trail = &self.trail[written - from_out - from_tail..];
    }

    fn recycle(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        self.sent = 0;
        if out.capacity() <= MAX_KEPT_BYTES {
            out.clear();
            BUFFERS.with_borrow_mut(|kept| {
                if kept.len() < MAX_KEPT_BUFFERS {
                    kept.push(out);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
