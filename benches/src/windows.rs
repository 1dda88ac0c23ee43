//! Latencies in windows that take turns: machines change within minutes, and what is compared lies seconds apart.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{open_loop::Latencies, runs::median};

/// How many windows each gets.
pub const WINDOWS: usize = 20;
/// How long one is.
pub const WINDOW: Duration = Duration::from_secs(2);

/// What was measured of one, window by window.
#[derive(Debug, Default)]
pub struct Windows(Vec<Latencies>);

/// How a figure compares with another that was measured in turns with it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Ratio {
    /// The geometric mean of the pairs.
    pub mean: f64,
    /// Two standard errors below.
    pub low: f64,
    /// Two standard errors above.
    pub high: f64,
}

impl Windows {
    /// Another window.
    pub fn push(&mut self, window: Latencies) {
        self.0.push(window);
    }

    /// Of each figure the median.
    pub fn median(&self) -> Latencies {
        let of = |pick: fn(&Latencies) -> u64| median(&self.0, |window| pick(window) as f64) as u64;
        Latencies { p50: of(|window| window.p50), p99: of(|window| window.p99), p999: of(|window| window.p999) }
    }

    /// How p99 compares with another's.
    pub fn p99_against(&self, other: &Self) -> Ratio {
        self.against(other, |window| window.p99)
    }

    /// How p99.9 compares with another's.
    pub fn p999_against(&self, other: &Self) -> Ratio {
        self.against(other, |window| window.p999)
    }

    fn against(&self, other: &Self, pick: fn(&Latencies) -> u64) -> Ratio {
        let logs: Vec<f64> = self.0.iter().zip(&other.0).map(|(one, other)| (pick(one) as f64 / pick(other) as f64).ln()).collect();
        let count = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let error = (logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0) / count).sqrt();
        Ratio { mean: mean.exp(), low: (mean - 2.0 * error).exp(), high: (mean + 2.0 * error).exp() }
    }
}
