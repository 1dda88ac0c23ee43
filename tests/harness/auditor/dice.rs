//! Chance from a seed, so that a run that failed can be told from others.

use std::time::Duration;

/// A small generator (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From the seed in `TOLLKEEPER_FAULT_SEED`, else a new one, which is printed.
    pub fn thrown() -> anyhow::Result<Self> {
        let seed = match crate::variable("TOLLKEEPER_FAULT_SEED") {
            Some(seed) => seed.parse()?,
            None => getrandom::u64().map_err(|error| anyhow::anyhow!("no randomness: {error}"))?,
        };
        #[allow(clippy::print_stdout, reason = "the seed of a run is part of the tests' output")]
        {
            println!("TOLLKEEPER_FAULT_SEED={seed}");
        }
        Ok(Self(seed))
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `from` on and below `to`.
    pub fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.roll() % (to - from).max(1)
    }

    /// A time in milliseconds.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.within(from, to))
    }
}
