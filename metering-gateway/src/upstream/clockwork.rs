//! What all connections of one core share: a coarse clock, randomness, and a way to the other cores.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use super::shared::Upstreams;

/// How long a tick of the coarse clock lasts.
const TICK: Duration = Duration::from_millis(100);

/// What all connections of one core share.
#[derive(Debug)]
pub struct Clockwork {
    /// What the cores share.
    pub upstreams: Arc<Upstreams>,
    /// Tenths of a second, as the core's timer counts them: enough to tell how long a connection was idle, and free to read.
    pub ticks: Cell<u64>,
    /// For how many ticks a connection may be idle.
    pub idle_ticks: u64,
    /// Connections that are open.
    pub open: Rc<Cell<usize>>,
    age_ticks: u64,
    random: Cell<u64>,
}

impl Clockwork {
    /// Starts at zero.
    pub fn new(upstreams: Arc<Upstreams>) -> Rc<Self> {
        let ticks = |time: Duration| u64::try_from(time.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut seed = [0; 8];
        // Without randomness every core draws the same, which spreads calls a little worse and harms nothing.
        let _ = getrandom::fill(&mut seed);
        Rc::new(Self {
            ticks: Cell::new(0),
            idle_ticks: ticks(upstreams.config.idle_timeout),
            age_ticks: ticks(upstreams.config.max_age),
            open: Rc::default(),
            random: Cell::new(u64::from_le_bytes(seed)),
            upstreams,
        })
    }

    /// The tick at which a time from now is over: never too early, and a fifth of a second late at most.
    pub fn after(&self, time: Duration) -> u64 {
        let ticks = u64::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u64::MAX);
        self.ticks.get().saturating_add(ticks).saturating_add(1)
    }

    /// A number that is hard to foresee from the outside (SplitMix64).
    fn draw(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&self, count: usize) -> usize {
        usize::try_from((u128::from(self.draw()) * count as u128) >> 64).unwrap_or(0)
    }

    /// Two different places among `count`; the same one twice if there is only one.
    pub fn draw_two(&self, count: usize) -> (usize, usize) {
        let one = self.below(count);
        let other = self.below(count.saturating_sub(1));
        (one, if other >= one && count > 1 { other + 1 } else { other })
    }

    /// When a connection that is made now becomes too old: those that were made together end apart.
    pub fn expiry(&self) -> u64 {
        let spread = usize::try_from(self.age_ticks / 5).unwrap_or(0);
        self.ticks.get() + self.age_ticks - self.age_ticks / 10 + self.below(spread.max(1)) as u64
    }
}
