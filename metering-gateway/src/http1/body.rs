//! A body that is read from a wire, piece by piece, when it is asked for: a slow reader slows its own sender and nobody else.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;

use super::{
    Error, Tunneled, Wire,
    decode::{Decoded, Decoder},
    lines::Lines,
    wire::Inner,
};

/// The body of the message that comes in on a wire.
#[derive(Debug)]
pub struct Body {
    wire: Rc<Wire>,
    lines: Option<Lines>,
}

impl Body {
    /// The body of the message whose head was read last.
    pub fn new(wire: Rc<Wire>) -> Self {
        Self::with_lines(wire, None)
    }

    /// The body of an answer, with those of its fields that are not in a map.
    pub fn with_lines(wire: Rc<Wire>, lines: Option<Lines>) -> Self {
        wire.with(|inner| inner.inbound.has_reader = true);
        Self { wire, lines }
    }

    /// The fields of the answer that are not in a map.
    pub fn lines(&self) -> Option<&Lines> {
        self.lines.as_ref()
    }

    /// The byte stream, once HTTP has ended on it because both sides agreed on another protocol.
    pub fn upgrade(&self) -> oneshot::Receiver<Tunneled> {
        let (heir, tunneled) = oneshot::channel();
        self.wire.with(|inner| inner.heir = Some(heir));
        tunneled
    }
}

impl Inner {
    /// The message is whole, or nobody reads on.
    fn reader_is_done(&mut self) {
        if let Some(waits) = self.inbound.waits.take() {
            waits.wake();
        }
    }

    /// Tells the peer to send the body, behind what it has not been sent yet of the answer before.
    fn say_continue(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.inbound.expects_continue = false;
        self.out().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        match self.poll_flush(cx) {
            Poll::Ready(sent) => sent,
            // Whoever waits for the body sends the rest.
            Poll::Pending => {
                self.left_behind = true;
                Ok(())
            }
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            let decoded = match self.inbound.decoder.decode(&mut self.read, self.eof) {
                Ok(decoded) => decoded,
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            match decoded {
                Decoded::Frame(frame) => {
                    if self.inbound.decoder == Decoder::Ended {
                        self.reader_is_done();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Decoded::End => {
                    self.reader_is_done();
                    return Poll::Ready(None);
                }
                Decoded::More => {
                    if self.inbound.expects_continue {
                        self.say_continue(cx)?;
                    }
                    if let Err(error) = ready!(self.poll_fill(cx)) {
                        return Poll::Ready(Some(Err(error.into())));
                    }
                }
            }
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    #[inline]
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.wire.with(|inner| inner.poll_body(cx))
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.wire.inbound_ended()
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        self.wire.with(|inner| inner.inbound.decoder.remaining()).map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.wire.with(|inner| {
            inner.inbound.has_reader = false;
            inner.reader_is_done();
        });
    }
}
