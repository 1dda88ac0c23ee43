//! A core's open exchanges, as its timer sees them.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use calendar::Timestamp;

use super::{Exchange, Open, RECHECK_GRACE, Stop};
use crate::core::Core;

/// A core's exchanges that have no final record yet.
#[derive(Debug, Default)]
pub struct OpenExchanges {
    slots: RefCell<Vec<Option<Rc<Open>>>>,
    free: RefCell<Vec<usize>>,
    count: Cell<usize>,
}

impl Exchange {
    /// The exchange has become a WebSocket, which does not end by itself when the gateway stops.
    pub fn becomes_websocket(&self) {
        self.0.websocket.set(true);
    }

    /// Whether it has its final record.
    pub fn is_settled(&self) -> bool {
        self.0.state.borrow().settled
    }
}

impl OpenExchanges {
    pub(super) fn insert(&self, open: &Rc<Open>) {
        let mut slots = self.slots.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(None);
            slots.len() - 1
        });
        open.slot.set(slot);
        slots[slot] = Some(open.clone());
        self.count.set(self.count.get() + 1);
    }

    pub(super) fn remove(&self, slot: usize) {
        if let Some(place) = self.slots.borrow_mut().get_mut(slot)
            && place.take().is_some()
        {
            self.free.borrow_mut().push(slot);
            self.count.set(self.count.get() - 1);
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.get()
    }

    /// The core's timer: interim records of long exchanges, at intervals and at the end of a period; and the end of those whose key has expired.
    pub fn tick(&self, now: Timestamp, interval: Duration, idle_timeout: Duration) {
        let instant = Instant::now();
        for open in self.all() {
            open.end_stuck();
            // Before the head there are bounds of their own.
            let still = open.movement.still_for(instant);
            let too_long = {
                let state = open.state.borrow();
                state.head.is_some() && still >= state.permit.grant.route.idle_timeout(idle_timeout)
            };
            if too_long {
                open.give_up();
            }
            let (due, expired) = {
                let state = open.state.borrow();
                (state.part_started.elapsed() >= interval || !state.period.contains(now), state.permit.grant.key.expired(now))
            };
            if expired {
                open.stop(Stop::Revoked);
            } else if due {
                open.interim(now);
            }
        }
    }

    /// The core's clock has ticked: wakes those who wait for this tick.
    pub fn wake_due(&self, tick: u64) {
        for open in self.slots.borrow().iter().flatten().filter(|open| open.movement.wake_at.get() <= tick) {
            open.movement.wake_at.set(u64::MAX);
            open.wake();
        }
    }

    /// The policy has changed: exchanges whose permit no longer holds are ended, with a final record of what they used; those that the change concerns
    /// otherwise record what they used until now.
    pub fn recheck(&self, core: &Core, now: Timestamp) {
        let index = core.index();
        for open in self.all() {
            let holds = {
                let state = open.state.borrow();
                // A call that was answered in a moment anyway is not cut off; the timer looks again.
                if state.permit.started.elapsed() < RECHECK_GRACE {
                    continue;
                }
                state.permit.grant.still_holds(&index, &state.digest, now)
            };
            if holds {
                open.note_terms(&index, now);
            } else {
                open.stop(Stop::Revoked);
            }
        }
    }

    /// Ends those that are WebSockets.
    pub fn stop_websockets(&self, why: Stop) {
        self.all().iter().filter(|open| open.websocket.get()).for_each(|open| open.stop(why));
    }

    /// Ends all of them.
    pub fn stop_all(&self, why: Stop) {
        self.all().iter().for_each(|open| open.stop(why));
    }

    fn all(&self) -> Vec<Rc<Open>> {
        self.slots.borrow().iter().flatten().cloned().collect()
    }
}
