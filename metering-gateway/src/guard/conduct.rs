//! What happened on a connection so far, and when it is to be closed.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::lifeline::Lifeline;
use crate::pipeline::body::{AnswerBody, AnswerError};

/// So many calls may be cancelled on a connection before it matters what share of all they are.
const FREE_CANCELS: u64 = 200;

/// A connection's calls. Clones share the figures.
#[derive(Debug, Clone, Default)]
pub struct Conduct(Rc<Figures>);

#[derive(Debug, Default)]
struct Figures {
    /// Calls that were asked.
    asked: Cell<u64>,
    /// Calls whose answer has not been handed over yet.
    open: Cell<u64>,
    /// Calls that the caller cancelled.
    cancelled: Cell<u64>,
    /// `asked` when [`Conduct::rested`] was last asked.
    asked_before: Cell<u64>,
    /// Cut when the connection is to be closed at once.
    line: Lifeline,
}

impl Conduct {
    /// A call begins.
    pub fn begin(&self) -> OpenCall {
        self.0.asked.set(self.0.asked.get() + 1);
        self.0.open.set(self.0.open.get() + 1);
        OpenCall { conduct: self.clone(), ended: false, is_own: false }
    }

    /// Whether anything was asked.
    pub fn has_asked(&self) -> bool {
        self.0.asked.get() > 0
    }

    /// Whether the connection had no call since this was last asked, and has none now.
    pub fn rested(&self) -> bool {
        let asked = self.0.asked.get();
        self.0.asked_before.replace(asked) == asked && self.0.open.get() == 0
    }

    /// Ready once the connection is to be closed because most of its calls were cancelled: each cost an upstream connection and nobody wanted it
    /// (CVE-2023-44487).
    pub fn poll_misused(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.line.poll_cut(cx)
    }

    fn cancel(&self) {
        let cancelled = self.0.cancelled.get() + 1;
        self.0.cancelled.set(cancelled);
        if cancelled > FREE_CANCELS && cancelled * 2 > self.0.asked.get() {
            self.0.line.cut();
        }
    }
}

/// A call whose answer has not been handed over. Dropped before, it was cancelled.
#[derive(Debug)]
pub struct OpenCall {
    conduct: Conduct,
    ended: bool,
    /// The answer is the gateway's own: it cost nothing but itself, so it does not matter whether it is taken.
    is_own: bool,
}

impl OpenCall {
    /// The whole answer was handed to the HTTP layer, or it will never be whole.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.conduct.0.open.set(self.conduct.0.open.get() - 1);
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if !self.ended && !self.is_own {
            self.conduct.cancel();
        }
        self.end();
    }
}

/// An answer's body that tells when it was handed over.
#[derive(Debug)]
pub struct WatchedBody {
    inner: AnswerBody,
    call: OpenCall,
}

impl WatchedBody {
    /// Watches the answer of a call.
    pub fn new(inner: AnswerBody, mut call: OpenCall) -> Self {
        call.is_own = matches!(inner, AnswerBody::Own(_));
        if inner.is_end_stream() {
            call.end();
        }
        Self { inner, call }
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            // What the upstream or the gateway broke off is not the caller's doing.
            Poll::Ready(None | Some(Err(_))) => self.call.end(),
            Poll::Ready(Some(Ok(_))) if self.inner.is_end_stream() => self.call.end(),
            _ => (),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn answered(conduct: &Conduct) {
        let call = conduct.begin();
        drop(WatchedBody::new(AnswerBody::empty(), call));
    }

    fn is_misused(conduct: &Conduct) -> bool {
        conduct.poll_misused(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_connection_rests_when_nothing_is_asked_or_open() {
        let conduct = Conduct::default();
        assert!(conduct.rested());
        answered(&conduct);
        assert!(!conduct.rested(), "something was asked meanwhile");
        assert!(conduct.rested());
        let open = conduct.begin();
        assert!(!conduct.rested());
        assert!(!conduct.rested(), "a call is open");
        drop(WatchedBody::new(AnswerBody::empty(), open));
        assert!(conduct.rested());
    }

    #[test]
    fn cancelling_is_no_misuse_before_it_is_most_of_what_is_done() {
        let (fair, foul) = (Conduct::default(), Conduct::default());
        for _ in 0..FREE_CANCELS {
            drop(fair.begin());
            drop(foul.begin());
        }
        assert!(!is_misused(&fair) && !is_misused(&foul));
        (0..FREE_CANCELS + 2).for_each(|_| answered(&fair));
        drop(fair.begin());
        drop(foul.begin());
        assert!(!is_misused(&fair) && is_misused(&foul));
    }
}
