//! The clock of a core's turn.
//!
//! A core wakes up, does what has come for many calls, and sleeps again. Each call wants to know the time at ten places, and reading the system's clock each time
//! would cost as much as finding out whose key it is. So a core reads it when it first needs it after it slept, and again after so many uses that the
//! time it has is never older than what a handful of calls take.

use std::{cell::Cell, time::Instant};

/// How often a reading is used. A call uses about seven, so that it is as old as the work for some calls at most: a tenth of a millisecond or so.
const MAX_USES: u8 = 32;

#[derive(Clone, Copy)]
enum Clock {
    /// The thread is no core: nobody says when its turns begin.
    NoTurns,
    Unread,
    Read {
        at: Instant,
        uses: u8,
    },
}

thread_local! {
    static CLOCK: Cell<Clock> = const { Cell::new(Clock::NoTurns) };
}

/// A turn of this thread begins: it has slept, or starts.
pub fn begin() {
    CLOCK.set(Clock::Unread);
}

/// The time, as of this turn.
#[inline]
pub fn now() -> Instant {
    let clock = CLOCK.get();
    match clock {
        Clock::Read { at, uses } if uses < MAX_USES => {
            CLOCK.set(Clock::Read { at, uses: uses + 1 });
            at
        }
        Clock::NoTurns => Instant::now(),
        Clock::Unread | Clock::Read { .. } => {
            let at = Instant::now();
            CLOCK.set(Clock::Read { at, uses: 1 });
            at
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ticks() {
        let before = Instant::now();
        while Instant::now() == before {}
    }

    #[test]
    fn a_turn_has_one_time_for_so_many_uses() {
        begin();
        let first = now();
        ticks();
        assert!((1..MAX_USES).all(|_| now() == first));
        assert!(now() > first, "used often enough, the clock is read again");
        let last = now();
        begin();
        ticks();
        assert!(now() > last, "another turn has another time");
    }

    #[test]
    fn who_takes_no_turns_reads_the_clock() {
        let first = now();
        ticks();
        assert!(now() > first);
    }

    #[test]
    fn a_core_that_slept_looks_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().on_thread_unpark(begin).build().expect("a runtime");
        begin();
        runtime.block_on(async {
            let first = now();
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(now() - first >= Duration::from_millis(20));
        });
    }
}
