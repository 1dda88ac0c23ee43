//! An exchange that switched protocols: bytes pass both ways, and of a WebSocket the messages are counted.
//!
//! A server's close frame is the end of a WebSocket's answer: the final record is appended before the frame is handed on (SEMANTICS M1). What follows it is
//! not counted, and the connections are closed soon after.
//!
//! When the gateway ends the exchange, a WebSocket is closed with 1008 (policy violation) between two frames, on both sides; any other protocol is cut.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::Poll,
    time::Duration,
};

use journal::Outcome;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    time::Instant,
};

use super::{
    caller::Switching,
    meter::{Exchange, Stop},
    websocket::{FrameCounter, close_frame},
};
use crate::http1::Tunneled;

/// How much is read at once from each side.
const BUFFER_BYTES: usize = 16 * 1024;
/// How long the last frame may take to be sent when the gateway ends an exchange.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a server may go on after its caller has stopped sending on a WebSocket, and how long a side may stay after the server's close frame.
const LINGER: Duration = Duration::from_secs(5);
/// RFC 6455, 7.4.1: the endpoint ends the connection because its policy was violated.
const POLICY_VIOLATION: u16 = 1008;
/// RFC 6455, 7.4.1: the endpoint is going away.
const GOING_AWAY: u16 = 1001;

type Side = Tunneled;

/// One direction of a tunnel.
struct Direction {
    from: ReadHalf<Side>,
    to: WriteHalf<Side>,
    frames: Option<FrameCounter>,
    /// Whether this is the way of the answer.
    to_caller: bool,
    /// What was read has not been passed on whole, so the receiver may be inside a frame.
    unsent: bool,
    /// When a side was gone, and which.
    gone: Option<(Instant, Whose)>,
}

/// A side of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Caller,
    Upstream,
}

/// How a direction ended.
enum End {
    /// The sender has nothing more to send.
    Finished,
    /// A connection broke.
    Broken,
}

/// The caller's side of a tunnel.
#[derive(Debug)]
pub struct Tunnel {
    /// The caller's connection.
    pub caller: Switching,
    /// What is metered.
    pub exchange: Exchange,
    /// When it has taken longer than its route allows.
    pub overdue: Option<Instant>,
}

impl Tunnel {
    /// Drives the tunnel to its end and settles the exchange.
    pub async fn run(self, upstream: Tunneled, is_websocket: bool) {
        let Self { caller, exchange, overdue } = self;
        match caller.done().await {
            Ok(caller) => carry(caller, upstream, exchange, (is_websocket, overdue)).await,
            Err(error) => {
                tracing::debug!(%error, "a switch of protocols failed");
                exchange.settle(Outcome::Broken);
            }
        }
    }
}

async fn carry(caller: Side, upstream: Side, exchange: Exchange, (is_websocket, overdue): (bool, Option<Instant>)) {
    if is_websocket {
        exchange.becomes_websocket();
    }
    let (from_caller, to_caller) = tokio::io::split(caller);
    let (from_upstream, to_upstream) = tokio::io::split(upstream);
    let frames = || is_websocket.then(FrameCounter::default);
    let mut up = Direction { from: from_caller, to: to_upstream, frames: frames(), to_caller: false, unsent: false, gone: None };
    let mut down = Direction { from: from_upstream, to: to_caller, frames: frames(), to_caller: true, unsent: false, gone: None };
    match drive(&mut up, &mut down, &exchange, overdue).await {
        Ok(outcome) => exchange.settle(without_goodbye(&up, &down).unwrap_or(outcome)),
        Err(stop) => {
            exchange.settle(Outcome::Broken);
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, close(&mut up, &mut down, stop)).await;
        }
    }
}

/// A WebSocket on which nobody sent a close frame (RFC 6455, 7.1.5) was broken off by the side that was gone first.
fn without_goodbye(up: &Direction, down: &Direction) -> Option<Outcome> {
    let closed = |direction: &Direction| direction.frames.as_ref().is_none_or(FrameCounter::is_closed);
    if closed(up) || closed(down) {
        return None;
    }
    let first = [up, down].into_iter().filter_map(|direction| direction.gone).min_by_key(|(at, _)| *at)?;
    Some(match first.1 {
        Whose::Caller => Outcome::Aborted,
        Whose::Upstream => Outcome::Broken,
    })
}

/// Passes bytes until both directions have ended, one broke, or the gateway wants the exchange to end. A WebSocket also ends when the server closes,
/// because nothing that a caller could still send would be answered.
async fn drive(up: &mut Direction, down: &mut Direction, exchange: &Exchange, overdue: Option<Instant>) -> Result<Outcome, Stop> {
    let is_websocket = down.frames.is_some();
    let mut overdue = overdue.map(|at| Box::pin(tokio::time::sleep_until(at)));
    let mut linger = pin!(tokio::time::sleep(LINGER));
    let mut copy_up = pin!(up.copy(exchange));
    let mut copy_down = pin!(down.copy(exchange));
    let (mut up_end, mut down_end, mut is_closed) = (None, None, false);
    poll_fn(|cx| {
        if let Some(stop) = exchange.stopped() {
            return Poll::Ready(Err(stop));
        }
        if overdue.as_mut().is_some_and(|overdue| overdue.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Err(Stop::Overdue));
        }
        exchange.wake_with(cx.waker());
        if up_end.is_none()
            && let Poll::Ready(end) = copy_up.as_mut().poll(cx)
        {
            up_end = Some(end);
            linger.as_mut().reset(tokio::time::Instant::now() + LINGER);
        }
        if down_end.is_none()
            && let Poll::Ready(end) = copy_down.as_mut().poll(cx)
        {
            down_end = Some(end);
        }
        if is_websocket && !is_closed && exchange.is_settled() {
            is_closed = true;
            linger.as_mut().reset(tokio::time::Instant::now() + LINGER);
        }
        match (&up_end, &down_end) {
            (Some(End::Broken), _) => Poll::Ready(Ok(Outcome::Aborted)),
            (_, Some(End::Broken)) => Poll::Ready(Ok(Outcome::Broken)),
            (Some(End::Finished), Some(End::Finished)) => Poll::Ready(Ok(Outcome::Complete)),
            (None, Some(End::Finished)) if is_websocket => Poll::Ready(Ok(Outcome::Complete)),
            (Some(End::Finished), None) if is_websocket => linger.as_mut().poll(cx).map(|()| Ok(Outcome::Aborted)),
            (None, None) if is_closed => linger.as_mut().poll(cx).map(|()| Ok(Outcome::Complete)),
            _ => Poll::Pending,
        }
    })
    .await
}

impl Direction {
    fn sender(&self) -> Whose {
        if self.to_caller { Whose::Upstream } else { Whose::Caller }
    }

    async fn copy(&mut self, exchange: &Exchange) -> End {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let read = match self.from.read(&mut buffer).await {
                Ok(0) => {
                    self.gone = Some((Instant::now(), self.sender()));
                    // A side that cannot be shut down is gone, which its own direction finds out.
                    let _ = self.to.shutdown().await;
                    return End::Finished;
                }
                Ok(read) => read,
                Err(_) => {
                    self.gone = Some((Instant::now(), self.sender()));
                    return End::Broken;
                }
            };
            let messages = self.frames.as_mut().map_or(0, |frames| frames.take(&buffer[..read]));
            exchange.body_bytes(if self.to_caller { read } else { 0 });
            exchange.messages(messages);
            if self.to_caller && self.frames.as_ref().is_some_and(FrameCounter::is_closed) {
                exchange.settle(Outcome::Complete);
            }
            self.unsent = true;
            if self.to.write_all(&buffer[..read]).await.is_err() {
                self.gone = Some((Instant::now(), if self.to_caller { Whose::Caller } else { Whose::Upstream }));
                return End::Broken;
            }
            self.unsent = false;
        }
    }

    /// Closes this direction's receiver, with a close frame if it is a WebSocket and between two frames.
    async fn say_goodbye(&mut self, code: u16, reason: &str, masked: bool) -> io::Result<()> {
        if let Some(frames) = &self.frames
            && frames.at_boundary()
            && !self.unsent
            && !frames.is_closed()
        {
            self.to.write_all(&close_frame(code, reason, masked)).await?;
        }
        self.to.shutdown().await
    }
}

async fn close(up: &mut Direction, down: &mut Direction, stop: Stop) {
    let (code, reason) = match stop {
        Stop::Revoked => (POLICY_VIOLATION, "the API key, its subscription or this API is no longer valid"),
        Stop::QuotaUsedUp => (POLICY_VIOLATION, "the quota is used up"),
        Stop::Draining => (GOING_AWAY, "the gateway is stopping"),
        Stop::Overdue => (GOING_AWAY, "the call took too long"),
        Stop::Idle => (GOING_AWAY, "nothing passed for too long"),
    };
    let (to_caller, to_upstream) = tokio::join!(down.say_goodbye(code, reason, false), up.say_goodbye(code, reason, true));
    for error in [to_caller.err(), to_upstream.err()].into_iter().flatten() {
        tracing::debug!(%error, "a side was gone before it could be told that the exchange ends");
    }
}
