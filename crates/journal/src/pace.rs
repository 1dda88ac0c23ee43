//! Work beside calls, in short pieces: a thread that serves may wait for the same processor, and would wait for all of it.

use std::time::{Duration, Instant};

/// Who had to wait for the processor has it for an eighth as long: so work that must keep up with calls has a ninth of a processor that calls want whole.
/// Without it, schedulers that count a yield as a used time slice (EEVDF, Linux 6.6 and later) would give a piece of microseconds for each turn of milliseconds.
const SHARE: u32 = 8;
/// The longest that it has it: the most that a call waits for it.
const LONGEST: Duration = Duration::from_millis(1);

/// Lets other threads have the processor after each so many units of work, whatever a unit is: records, bytes, comparisons. Where nobody waits, that costs half
/// a microsecond; pieces of some ten microseconds are worth it. Where others keep the processor for long, pieces grow with that.
#[derive(Debug)]
pub struct Pace {
    piece: usize,
    left: usize,
    /// Until then the processor is due to this thread.
    due_until: Option<Instant>,
}

impl Pace {
    /// Pieces of so many units.
    pub const fn new(piece: usize) -> Self {
        Self { piece, left: piece, due_until: None }
    }

    /// So many units have been done.
    #[inline]
    pub fn done(&mut self, units: usize) {
        self.left = self.left.saturating_sub(units);
        if self.left == 0 {
            self.left = self.piece;
            self.give_way();
        }
    }

    /// Items of which each is a unit.
    pub fn over<T>(mut self, items: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
        items.into_iter().inspect(move |_| self.done(1))
    }

    #[cold]
    fn give_way(&mut self) {
        let asked = Instant::now();
        if self.due_until.is_none_or(|until| until <= asked) {
            std::thread::yield_now();
            self.waited(asked, Instant::now());
        }
    }

    /// The processor was others' for so long.
    fn waited(&mut self, from: Instant, until: Instant) {
        self.due_until = Some(until + (until.saturating_duration_since(from) / SHARE).min(LONGEST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waited_long_goes_on_for_a_part_of_it() {
        let mut pace = Pace::new(1);
        let now = Instant::now();
        for (waited_micros, due_micros) in [(0, 0), (80, 10), (8_000, 1_000), (1_000_000, 1_000)] {
            let back = now + Duration::from_micros(waited_micros);
            pace.waited(now, back);
            assert_eq!(pace.due_until, Some(back + Duration::from_micros(due_micros)));
        }
    }

    #[test]
    fn nobody_is_let_through_before_the_piece_is_done_or_while_the_processor_is_due() {
        let mut pace = Pace::new(3);
        pace.done(2);
        assert_eq!(pace.due_until, None);
        pace.done(5);
        assert!(pace.due_until.is_some(), "more than what was left of the piece ends it, too");
        let far = Instant::now() + Duration::from_secs(60);
        pace.due_until = Some(far);
        pace.done(3);
        assert_eq!(pace.due_until, Some(far));
    }
}
