//! Work beside calls, in short pieces: a thread that serves may wait for the same processor, and would wait for all of it.

/// Lets other threads have the processor after each so many units of work, whatever a unit is: records, rows, bytes. Where nobody waits, that costs half a
/// microsecond; pieces of some ten microseconds are worth it.
#[derive(Debug)]
pub struct Pace {
    piece: usize,
    left: usize,
}

impl Pace {
    /// Pieces of so many units.
    pub const fn new(piece: usize) -> Self {
        Self { piece, left: piece }
    }

    /// So many units have been done.
    #[inline]
    pub fn done(&mut self, units: usize) {
        self.left = self.left.saturating_sub(units);
        if self.left == 0 {
            self.left = self.piece;
            std::thread::yield_now();
        }
    }

    /// Items of which each is a unit.
    pub fn over<T>(mut self, items: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
        items.into_iter().inspect(move |_| self.done(1))
    }
}
