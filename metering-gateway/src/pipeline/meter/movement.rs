//! Whether anything passes on an exchange.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{Exchange, Open};
use crate::guard::lifeline::Lifeline;

/// Whether something passes on an exchange. What passes is only counted; the core's timer compares.
#[derive(Debug)]
pub(super) struct Movement {
    pub(super) beats: Cell<u64>,
    pub(super) beats_before: Cell<u64>,
    pub(super) still_since: Cell<Instant>,
    /// The upstream, or the tunnel, is the one to go on, and hears of a stop.
    pub(super) listens: Cell<bool>,
    /// The tick of the core at which whoever drives the exchange wants to be woken.
    pub(super) wake_at: Cell<u64>,
    /// Ends what carries the exchange when nobody listens.
    pub(super) line: Option<Lifeline>,
}

impl Exchange {
    /// For the request's body, to tell that it passes.
    pub fn pulse(&self) -> Pulse {
        Pulse(self.0.clone())
    }
}

impl Movement {
    pub(super) fn still_for(&self, now: Instant) -> Duration {
        let beats = self.beats.get();
        if self.beats_before.replace(beats) != beats {
            self.still_since.set(now);
        }
        now.saturating_duration_since(self.still_since.get())
    }
}

/// Tells an exchange that something passed.
#[derive(Debug, Clone)]
pub struct Pulse(pub(super) Rc<Open>);

impl Pulse {
    /// Something passed.
    pub fn beat(&self) {
        self.0.beat();
    }

    /// Has the exchange woken at a tick of the core, for whoever waits for something in it; `u64::MAX` for never.
    pub fn wake_at(&self, tick: u64) {
        self.0.movement.wake_at.set(tick);
    }

    /// Whether the answer has begun.
    pub fn is_answered(&self) -> bool {
        self.0.state.borrow().head.is_some()
    }
}
