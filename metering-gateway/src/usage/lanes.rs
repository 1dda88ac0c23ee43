//! Which segment is offered next. Pure: it knows what waits, what is under way and what is put off, and takes `now`.
//!
//! - Two segments of a stream are under way at once, and a bounded number of all streams, which take turns.
//! - One of the two is the oldest that waits. The other is the newest: after an outage, what is recorded now arrives now, and the backlog is drained
//!   from both ends. The portal takes segments in any order.
//! - A segment that the portal refuses for its own sake is put off, longer each time, and the stream goes on. It stays in the journal.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

/// How many segments are offered at once.
pub const MAX_UNDER_WAY: usize = 6;
/// How many of them are of one stream.
const UNDER_WAY_OF_STREAM: usize = 2;
/// How long a refused segment rests after its first refusal, and after many.
const FIRST_REST: Duration = Duration::from_secs(60);
const LONGEST_REST: Duration = Duration::from_secs(3600);
/// How long a segment rests at which the portal failed again and again while it is there.
const REST_AFTER_FAILURES: Duration = Duration::from_secs(30);
/// How many failures of one segment in a row put it off.
const FAILURES_UNTIL_REST: u32 = 3;
/// How far from the oldest segment that waits others are looked at; so many may rest before a stream waits for one of them.
pub const LOOK_AHEAD: usize = 64;

/// A segment by stream and place.
pub type Place = (u32, u64);

#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    refusals: u32,
}

/// What is under way and what rests.
#[derive(Debug, Default)]
pub struct Lanes {
    under_way: BTreeSet<Place>,
    resting: BTreeMap<Place, Rest>,
    failures: BTreeMap<Place, u32>,
    last_stream: Option<u32>,
}

/// What waits in a stream.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    /// The stream.
    pub stream: u32,
    /// The oldest segments, in their order, at most [`LOOK_AHEAD`].
    pub oldest: Vec<u64>,
    /// The newest one.
    pub newest: Option<u64>,
}

impl Lanes {
    /// The next segment to offer; it is under way then.
    pub fn next(&mut self, waiting: &[Waiting], now: Instant) -> Option<Place> {
        if self.under_way.len() >= MAX_UNDER_WAY {
            return None;
        }
        let after = self.last_stream.map_or(0, |last| waiting.partition_point(|it| it.stream <= last));
        let place = waiting[after..].iter().chain(&waiting[..after]).find_map(|it| self.next_of(it, now))?;
        self.last_stream = Some(place.0);
        self.under_way.insert(place);
        Some(place)
    }

    fn next_of(&self, waiting: &Waiting, now: Instant) -> Option<Place> {
        let stream = waiting.stream;
        let of_stream = self.under_way.range((stream, 0)..=(stream, u64::MAX)).count();
        let is_free = |seq: &u64| {
            let place = (stream, *seq);
            !self.under_way.contains(&place) && self.resting.get(&place).is_none_or(|rest| rest.until <= now)
        };
        let oldest = waiting.oldest.iter().copied().find(is_free);
        let seq = match of_stream {
            0 => oldest,
            count if count < UNDER_WAY_OF_STREAM => waiting.newest.filter(is_free).or(oldest),
            _ => None,
        };
        seq.map(|seq| (stream, seq))
    }

    /// The portal has it, or it has left the journal in another way.
    pub fn done(&mut self, place: Place) {
        self.under_way.remove(&place);
        self.resting.remove(&place);
        self.failures.remove(&place);
    }

    /// The portal refuses it for its own sake: it rests. Answers how often that was.
    pub fn refused(&mut self, place: Place, now: Instant) -> u32 {
        self.under_way.remove(&place);
        let refusals = self.resting.get(&place).map_or(0, |rest| rest.refusals) + 1;
        let rest = FIRST_REST.saturating_mul(1 << (refusals - 1).min(10)).min(LONGEST_REST);
        self.resting.insert(place, Rest { until: now + rest, refusals });
        refusals
    }

    /// It could not be offered. `alone` says that the portal was there and failed at this segment; if it does so again and again, the segment rests.
    pub fn failed(&mut self, place: Place, alone: bool, now: Instant) {
        self.under_way.remove(&place);
        let failures = self.failures.entry(place).or_default();
        *failures = if alone { *failures + 1 } else { 0 };
        if *failures >= FAILURES_UNTIL_REST {
            let refusals = self.resting.get(&place).map_or(0, |rest| rest.refusals);
            self.resting.insert(place, Rest { until: now + REST_AFTER_FAILURES, refusals });
        }
    }

    /// Nothing rests any more.
    pub fn wake_all(&mut self) {
        self.resting.clear();
    }

    /// How many segments rest.
    pub fn resting(&self) -> usize {
        self.resting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(stream: u32, seqs: std::ops::Range<u64>) -> Waiting {
        Waiting { stream, newest: seqs.clone().last(), oldest: seqs.take(LOOK_AHEAD).collect() }
    }

    #[test]
    fn a_stream_is_shipped_from_both_ends() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let all = [waiting(0, 5..500)];
        assert_eq!(lanes.next(&all, now), Some((0, 5)));
        assert_eq!(lanes.next(&all, now), Some((0, 499)));
        assert_eq!(lanes.next(&all, now), None, "two of a stream at once");
        lanes.done((0, 5));
        assert_eq!(lanes.next(&[waiting(0, 6..501)], now), Some((0, 500)), "what was recorded meanwhile does not wait for the backlog");
    }

    #[test]
    fn streams_take_turns() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let all: Vec<_> = (0..4).map(|stream| waiting(stream, 0..10)).collect();
        let places: Vec<_> = std::iter::from_fn(|| lanes.next(&all, now)).collect();
        assert_eq!(places, [(0, 0), (1, 0), (2, 0), (3, 0), (0, 9), (1, 9)]);
        assert_eq!(lanes.under_way.len(), MAX_UNDER_WAY);
    }

    #[test]
    fn a_refused_segment_rests_while_its_stream_goes_on() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let all = [waiting(0, 0..2)];
        assert_eq!(lanes.next(&all, now), Some((0, 0)));
        assert_eq!(lanes.refused((0, 0), now), 1);
        assert_eq!(lanes.next(&all, now), Some((0, 1)));
        lanes.done((0, 1));
        let all = [waiting(0, 0..1)];
        assert_eq!(lanes.next(&all, now), None);
        let later = now + FIRST_REST;
        assert_eq!(lanes.next(&all, later), Some((0, 0)), "it is offered again");
        assert_eq!(lanes.refused((0, 0), later), 2);
        assert_eq!(lanes.next(&all, later + FIRST_REST), None, "and rests longer each time");
        assert_eq!(lanes.next(&all, later + FIRST_REST * 2), Some((0, 0)));
        lanes.done((0, 0));
        assert_eq!(lanes.resting(), 0);
    }

    #[test]
    fn only_what_the_portal_fails_at_alone_is_put_off() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let all = [waiting(0, 0..2)];
        for _ in 0..10 {
            assert_eq!(lanes.next(&all, now), Some((0, 0)), "a portal that is away says nothing of a segment");
            lanes.failed((0, 0), false, now);
        }
        for _ in 0..FAILURES_UNTIL_REST {
            assert_eq!(lanes.next(&all, now), Some((0, 0)));
            lanes.failed((0, 0), true, now);
        }
        assert_eq!(lanes.next(&all, now), Some((0, 1)));
        assert_eq!(lanes.next(&all, now + REST_AFTER_FAILURES), Some((0, 0)));
    }
}
