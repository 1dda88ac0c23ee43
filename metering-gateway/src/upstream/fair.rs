//! A connection to an upstream that cannot keep its core to itself: an upstream that sends without end, such as one interim answer after another, is read
//! in turn with everybody else.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So many reads in a row may find something before the others have their turn. The runtime's own bound is sixteen times as high.
const READS_IN_A_ROW: u32 = 8;

/// A byte stream that is read in turn.
#[derive(Debug)]
pub struct FairStream<S> {
    inner: S,
    in_a_row: u32,
}

impl<S> FairStream<S> {
    /// Reads in turn.
    pub fn new(inner: S) -> Self {
        Self { inner, in_a_row: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FairStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.in_a_row >= READS_IN_A_ROW {
            self.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.in_a_row = if polled.is_ready() { self.in_a_row + 1 } else { 0 };
        ready!(polled)?;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FairStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, pieces: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn the_others_have_their_turn() {
        let (turns, read) = (Cell::new(0), Cell::new(0));
        let reading = async {
            let mut endless = FairStream::new(tokio::io::repeat(1));
            for _ in 0..80 {
                endless.read_exact(&mut [0]).await.expect("without an end");
                read.set(read.get() + 1);
            }
        };
        let other = async {
            while read.get() < 80 {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(reading, other);
        // Eight reads in a row, eighty reads: ten turns, of which the first and the last may fall together.
        assert!(turns.get() >= 8, "{} turns", turns.get());
    }
}
