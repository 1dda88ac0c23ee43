//! A socket whose writes give up on a caller that reads nothing.
//!
//! The kernel and the HTTP layer buffer a bounded part of an answer; then a write waits until the caller reads. Without a bound a caller that never
//! reads would hold its connection, its answer and the upstream's connection for ever. The timer is armed when a write has to wait, so a caller that
//! reads costs nothing.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// A socket whose writes time out.
pub struct PatientStream<S> {
    inner: S,
    patience: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl<S> fmt::Debug for PatientStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatientStream").field("patience", &self.patience).field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl<S> PatientStream<S> {
    /// Bounds how long a write may wait for the reader, if anything does.
    pub fn new(inner: S, patience: Option<Duration>) -> Self {
        Self { inner, patience, timer: None, waiting: false }
    }

    /// The socket.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The socket, for somebody else.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// What a write came to: done, or it waits and its time runs.
    fn outcome<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = false;
            return polled;
        }
        let Some(patience) = self.patience else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + patience)));
        if !std::mem::replace(&mut self.waiting, true) {
            timer.as_mut().reset(Instant::now() + patience);
        }
        timer.as_mut().poll(cx).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the caller reads nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PatientStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PatientStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.outcome(cx, polled)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, pieces: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, pieces);
        self.outcome(cx, polled)
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn a_reader_that_stops_is_given_up_and_one_that_reads_is_not() {
        let (near, mut far) = duplex(4);
        let mut stream = PatientStream::new(near, Some(Duration::from_millis(500)));
        for _ in 0..5 {
            stream.write_all(b"full").await.expect("room");
            let waiting = tokio::time::timeout(Duration::from_millis(10), stream.write_all(b"more")).await;
            assert!(waiting.is_err(), "it waits for its reader");
            let mut read = [0; 4];
            far.read_exact(&mut read).await.expect("what was written");
            // Every write that succeeds starts the patience anew.
        }
        stream.write_all(b"full").await.expect("room");
        let error = stream.write_all(b"more").await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
