//! Each of many things is looked at in every round, a few at a time: a thousand in one go take milliseconds, for which a call on the same processor would
//! have to wait.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How many are looked at in one go, where a round has time enough for that.
const AT_ONCE: usize = 100;
/// The most steps of a round.
const MAX_STEPS: usize = 50;
/// How many times as long as the last look took is waited before the next: what somebody waits for comes in between.
const REST: u32 = 3;

/// Rounds of even steps.
#[derive(Debug)]
pub struct Rounds<T> {
    round: Duration,
    /// What is left of this round.
    left: Vec<T>,
    /// How many belong to a step, and how long it takes.
    size: usize,
    step: Duration,
    due: Instant,
    not_before: Instant,
    /// When the last ones were given out, until they have been looked at.
    given_out: Option<Instant>,
}

impl<T> Rounds<T> {
    /// Rounds of a duration, the first one from now on.
    pub fn new(round: Duration) -> Self {
        let now = Instant::now();
        Self { round, left: Vec::new(), size: 0, step: round, due: now, not_before: now, given_out: None }
    }

    /// Waits until some are due, and gives them out. What became due while nobody asked comes with them. A new round has what `all` says then. To be called
    /// when the last ones have been looked at; dropped before it ends, it has given out nothing.
    pub async fn next(&mut self, all: impl FnOnce() -> Vec<T>) -> Vec<T> {
        if let Some(given_out) = self.given_out.take() {
            self.not_before = Instant::now() + given_out.elapsed() * REST;
        }
        sleep_until(self.due.max(self.not_before)).await;
        if self.left.is_empty() {
            self.left = all();
            let steps = (self.left.len() / AT_ONCE).clamp(1, MAX_STEPS);
            self.size = self.left.len().div_ceil(steps);
            self.step = self.round / u32::try_from(steps).unwrap_or(1);
        }
        let overdue = self.due.elapsed().min(self.round).div_duration_f64(self.step) as usize;
        let steps = (overdue + 1).min(self.left.len().div_ceil(self.size.max(1)).max(1));
        // A round that was missed as a whole is not made up for.
        let oldest = Instant::now().checked_sub(self.round).unwrap_or(self.due);
        self.due = (self.due + self.step * u32::try_from(steps).unwrap_or(1)).max(oldest);
        self.given_out = Some(Instant::now());
        let rest = self.left.len().saturating_sub(self.size * steps);
        self.left.split_off(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::{runtime::Builder, time::sleep};

    use super::*;

    const ROUND: Duration = Duration::from_millis(500);

    #[tokio::test(start_paused = true)]
    async fn few_are_looked_at_together() {
        let mut rounds = Rounds::new(ROUND);
        let begin = Instant::now();
        for round in 0..3 {
            assert_eq!(rounds.next(|| (0..150).collect()).await.len(), 150);
            assert_eq!(begin.elapsed(), ROUND * round);
        }
        assert_eq!(rounds.next(Vec::new).await, Vec::<i32>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn many_are_looked_at_a_few_at_a_time() {
        let mut rounds = Rounds::new(ROUND);
        let begin = Instant::now();
        for step in 0..20 {
            assert_eq!(rounds.next(|| (0..1_000).collect()).await.len(), 100);
            assert_eq!(begin.elapsed(), ROUND / 10 * step);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn looks_that_take_long_take_a_quarter_of_the_time() {
        let mut rounds = Rounds::new(ROUND);
        let begin = Instant::now();
        let (mut looks, mut seen) = (0, 0);
        while begin.elapsed() < ROUND * 20 {
            seen += rounds.next(|| (0..1_000).collect()).await.len();
            sleep(ROUND / 10).await;
            looks += 1;
        }
        assert!((48..=51).contains(&looks), "{looks} looks of {:?}", ROUND / 10);
        assert!(seen >= 18_000, "{seen} things seen in 20 rounds: fewer looks, with more in each");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// However long each look takes, each thing is looked at once in a round, and none much later than the rest that a look is followed by.
        #[test]
        fn all_are_looked_at_in_each_round(count in 0_usize..6_000, looks in proptest::collection::vec(0_u64..400, 40)) {
            let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
            let seen = runtime.block_on(async {
                let mut rounds = Rounds::new(ROUND);
                let begin = Instant::now();
                let mut seen = vec![Vec::new(); count];
                for look in &looks {
                    for item in rounds.next(|| (0..count).collect()).await {
                        seen[item].push(begin.elapsed());
                    }
                    sleep(Duration::from_millis(*look)).await;
                }
                seen
            });
            let least = seen.iter().map(Vec::len).min().unwrap_or(0);
            let most = seen.iter().map(Vec::len).max().unwrap_or(0);
            prop_assert!(most - least <= 1, "{least} to {most} looks");
            let longest = seen.iter().flat_map(|times| times.windows(2)).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
            prop_assert!(longest <= ROUND * 2 + Duration::from_millis(400) * (REST + 1) * 2, "{longest:?} between two looks");
        }
    }
}
