//! Metering: an admitted exchange counts its units and writes its final record before its answer is whole (SEMANTICS M1).
//!
//! When the record is written: where the length of the answer's body is known, before its last frame is handed on; else (chunked, HTTP/2, trailers)
//! before the end of the body is, which is the last chunk or the END_STREAM flag. An answer without a body is recorded before its head. So a client
//! that has the whole answer is always recorded, and no frame is held back while a stream runs.
//!
//! Whatever happens to an exchange, it is settled once: its owner settles it, or dropping the owner does, as aborted.

mod answer;
mod commit;
mod exchanges;
mod interim;
mod movement;
mod tokens;

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use calendar::Period;
use gateway_control::credential::KeyDigest;
use http::{HeaderMap, StatusCode};
use journal::{AnsweredBy, Outcome};

use super::{
    admit::Permit,
    grant::Terms,
    grpc::{Code, MessageTap},
    units::Units,
};
use crate::{
    core::Core,
    guard::lifeline::Lifeline,
    listener::Peer,
    metrics::Finished,
    observe::Observation,
    policy::entries::Source,
    turn,
    upstream::body::Way,
    usage::recorder::{self, Commit, Part},
};

pub use answer::MeteredBody;
pub use exchanges::OpenExchanges;
use movement::Movement;
pub use movement::Pulse;

/// The status that is recorded when the caller left before any answer began.
const CLIENT_CLOSED: u16 = 499;

/// How young an exchange must be to be left alone when its permit no longer holds.
const RECHECK_GRACE: Duration = Duration::from_millis(300);

/// Why the gateway ends an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The key, the subscription or the route is no more.
    Revoked,
    /// A hard quota is used up.
    QuotaUsedUp,
    /// The gateway is stopping, and the exchange would not end by itself or `drain_timeout` is over.
    Draining,
    /// Nothing passed either way for `idle_timeout`, or for as long as the route allows.
    Idle,
    /// It took longer than the route allows.
    Overdue,
}

/// Why what was done for an exchange was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The gateway wants it to end.
    Stopped(Stop),
    /// Its time is over.
    TimedOut,
}

/// An admitted exchange. Dropped before it is settled, it is recorded as aborted by its caller.
#[derive(Debug)]
pub struct Exchange(Rc<Open>);

/// An exchange's state, which the core's timer sees too.
#[derive(Debug)]
pub struct Open {
    core: Rc<Core>,
    slot: Cell<usize>,
    websocket: Cell<bool>,
    state: RefCell<State>,
    stop: Cell<Option<Stop>>,
    /// How often the core's timer has seen it since it was told to end.
    seen_stopped: Cell<u8>,
    peer: Rc<Peer>,
    waker: RefCell<Option<Waker>>,
    movement: Movement,
    /// What the end of the answer waits for.
    commit: Cell<Option<Commit>>,
}

#[derive(Debug)]
struct State {
    permit: Permit,
    digest: KeyDigest,
    units: Units,
    is_grpc: bool,
    /// The head of a gRPC answer holds its code, so that nothing follows it.
    has_code: bool,
    head: Option<(u16, AnsweredBy)>,
    /// How long the upstream took to begin its answer.
    upstream_time: Option<Duration>,
    observed: Option<Observation>,
    period: Period,
    part_started: Instant,
    /// By what new calls are charged since the policy has changed; absent until it has.
    terms: Option<Box<Terms>>,
    settled: bool,
}

impl Exchange {
    /// Opens an admitted exchange and registers it with its core.
    pub fn open(core: &Rc<Core>, peer: Rc<Peer>, permit: Permit, digest: KeyDigest, is_grpc: bool, observed: Option<Observation>) -> Self {
        let period = permit.period;
        let units = Units::new(&permit.grant.route);
        let part_started = permit.started;
        let state = State {
            permit,
            digest,
            units,
            is_grpc,
            has_code: false,
            head: None,
            upstream_time: None,
            observed,
            period,
            part_started,
            terms: None,
            settled: false,
        };
        let open = Rc::new(Open {
            core: core.clone(),
            slot: Cell::new(0),
            websocket: Cell::new(false),
            state: RefCell::new(state),
            stop: Cell::new(None),
            seen_stopped: Cell::new(0),
            peer,
            waker: RefCell::new(None),
            movement: Movement {
                beats: Cell::new(0),
                beats_before: Cell::new(0),
                still_since: Cell::new(part_started),
                listens: Cell::new(false),
                wake_at: Cell::new(u64::MAX),
                line: Lifeline::current(),
            },
            commit: Cell::new(None),
        });
        core.exchanges.insert(&open);
        Self(open)
    }

    /// The request goes to the upstream.
    pub fn sent(&self) {
        let state = self.0.state.borrow();
        if let Some(observed) = &state.observed {
            observed.sent(&state.permit.grant);
        }
    }

    /// The request went to an address of the upstream, or to none.
    pub fn went(&self, way: Way) {
        self.0.state.borrow().observed.iter().for_each(|observed| observed.went(way));
    }

    /// The head of the answer is known.
    pub fn head(&self, status: StatusCode, answered_by: AnsweredBy, headers: &HeaderMap) {
        self.0.beat();
        let mut state = self.0.state.borrow_mut();
        state.head = Some((status.as_u16(), answered_by));
        if answered_by == AnsweredBy::Upstream {
            state.upstream_time = Some(turn::now() - state.permit.started);
            if let Some(observed) = &state.observed {
                observed.head(status.as_u16());
            }
            if state.is_grpc
                && let Some(code) = Code::read(headers)
            {
                state.has_code = true;
                state.head = Some((code.status().as_u16(), answered_by));
            }
            let State { units, permit, .. } = &mut *state;
            units.head(headers, &permit.grant.route, &self.0.core.metrics);
        }
    }

    /// Bytes of the answer's body were handed on.
    pub fn body_bytes(&self, count: usize) {
        self.0.beat();
        let mut state = self.0.state.borrow_mut();
        state.units.body_bytes += count as u64;
        if let Some(observed) = &state.observed {
            observed.body_bytes(count);
        }
    }

    /// Messages of a WebSocket or of a gRPC call were handed on.
    pub fn messages(&self, count: u64) {
        self.0.messages(count);
    }

    /// A gRPC call has ended with a code: says with which outcome. A failure before the first message is recorded with the status that the code stands
    /// for; after it, as an answer that broke off.
    pub fn ended_with(&self, code: Code) -> Outcome {
        if code == Code::OK {
            return Outcome::Complete;
        }
        let mut state = self.0.state.borrow_mut();
        if state.units.body_bytes > 0 {
            return Outcome::Broken;
        }
        if let Some((status, _)) = &mut state.head {
            *status = code.status().as_u16();
        }
        Outcome::Complete
    }

    /// Whether the head of a gRPC answer held its code.
    pub fn has_code(&self) -> bool {
        self.0.state.borrow().has_code
    }

    /// Whether it is a gRPC call.
    pub fn is_grpc(&self) -> bool {
        self.0.state.borrow().is_grpc
    }

    /// For the body of a gRPC request, if the route's meters count messages.
    pub fn message_tap(&self) -> Option<MessageTap> {
        let state = self.0.state.borrow();
        let counts = state.permit.grant.route.meters.iter().any(|meter| meter.source == Source::Messages);
        (state.is_grpc && counts).then(|| MessageTap::new(self.0.clone()))
    }

    /// Does something for the exchange, unless the gateway wants it to end or its time is over.
    ///
    /// # Errors
    /// With why it was given up.
    pub async fn unless_ended<T>(
        &self,
        deadline: Option<tokio::time::Instant>,
        mut task: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Ended> {
        let mut over = deadline.map(|at| Box::pin(tokio::time::sleep_until(at)));
        poll_fn(|cx| {
            if let Some(stop) = self.stopped() {
                return Poll::Ready(Err(Ended::Stopped(stop)));
            }
            if let Poll::Ready(done) = task.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            if over.as_mut().is_some_and(|over| over.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(Err(Ended::TimedOut));
            }
            self.wake_with(cx.waker());
            Poll::Pending
        })
        .await
    }

    /// The trailers of the answer.
    pub fn trailers(&self, trailers: &HeaderMap) {
        let mut state = self.0.state.borrow_mut();
        let State { units, permit, .. } = &mut *state;
        units.declared_in(trailers, &permit.grant.route, &self.0.core.metrics);
    }

    /// Whether the gateway wants the exchange to end.
    pub fn stopped(&self) -> Option<Stop> {
        self.0.stop.get()
    }

    /// Whoever drives the exchange is woken by this when [`Self::stopped`] changes.
    pub fn wake_with(&self, waker: &Waker) {
        self.0.movement.listens.set(true);
        let mut held = self.0.waker.borrow_mut();
        if !held.as_ref().is_some_and(|held| held.will_wake(waker)) {
            *held = Some(waker.clone());
        }
    }

    /// A frame was handed on, and the next one is asked for when the caller has room.
    pub fn handed_on(&self) {
        self.0.movement.listens.set(false);
        self.0.beat();
    }

    /// Writes the final record and settles what was reserved. Once only; later calls change nothing.
    pub fn settle(&self, outcome: Outcome) {
        self.0.settle(outcome);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.settle(Outcome::Aborted);
    }
}

impl Open {
    /// Messages were handed on, either way.
    pub fn messages(&self, count: u64) {
        self.state.borrow_mut().units.messages += count;
    }

    fn beat(&self) {
        let beats = &self.movement.beats;
        beats.set(beats.get().wrapping_add(1));
    }

    /// Nothing has passed for too long: whoever is waited for gets no more time.
    fn give_up(&self) {
        match &self.movement.line {
            Some(line) if !self.movement.listens.get() => line.cut(),
            _ => self.stop(Stop::Idle),
        }
    }

    /// Ends an exchange that was told to end and whose caller does not read, so that nothing can be told to it: its stream, or with HTTP/1.1 its
    /// connection, is closed.
    fn end_stuck(&self) {
        const PATIENCE_TICKS: u8 = 2;
        if self.stop.get().is_none() || self.seen_stopped.get() > PATIENCE_TICKS {
            return;
        }
        self.seen_stopped.set(self.seen_stopped.get() + 1);
        if self.seen_stopped.get() < PATIENCE_TICKS {
            return;
        }
        self.settle(Outcome::Broken);
        match &self.movement.line {
            Some(line) => line.cut(),
            None => self.peer.cut(),
        }
    }

    fn settle(&self, outcome: Outcome) {
        let mut state = self.state.borrow_mut();
        if std::mem::replace(&mut state.settled, true) {
            return;
        }
        let State { permit, units, head, period, upstream_time, observed, .. } = &mut *state;
        let (status, answered_by) = head.unwrap_or((CLIENT_CLOSED, AnsweredBy::Gateway));
        let billable = answered_by == AnsweredBy::Upstream && permit.grant.plan.billable.bills(status);
        let elapsed = turn::now() - permit.started;
        let meters = units.finish(&permit.grant.route, elapsed, (answered_by, outcome), &self.core.metrics);
        let part = Part { status, answered_by, outcome, elapsed, period_start: period.from, meters: &meters };
        self.commit.set(recorder::finish(&self.core, permit, &part));
        permit.settle(&meters, billable);
        self.core.exchanges.remove(self.slot.get());
        self.core.metrics.finished(&Finished { status, answered_by, outcome, elapsed, upstream_time: *upstream_time });
        if let Some(observed) = observed.take() {
            observed.ended(status, answered_by, outcome);
        }
    }

    fn stop(&self, why: Stop) {
        if self.stop.replace(Some(why)).is_none() {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}
