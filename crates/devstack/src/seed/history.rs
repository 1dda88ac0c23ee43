//! Usage of the past, made up: the same input gives the same usage. It has a rhythm of hours and weekdays, growth, errors, bursts and one bad evening,
//! and comes as the batches that a gateway would have sent, so that it is taken, summed and billed like any other.
//!
//! Hours that lie further back than [`FINE_DAYS`] are one row a key of the fold, later ones four: charts of the last day show quarters of an hour.

use std::collections::BTreeMap;

use calendar::{Anchor, Cadence, Timestamp};
use gateway_control::{
    FORMAT,
    credential::KeyDigest,
    units::Micros,
    usage::{AnsweredBy, FOLD_VERSION, LatencyRow, Mode, RowKey, SegmentRef, UsageBatch, UsageRow, latency_bucket},
};
use ids::{ApiKeyId, ApplicationId, JournalId, MeterId, NamespaceId, PlanVersionId, RouteId, SubscriptionId};
use sha2::{Digest, Sha256};

/// How many days before now are made in quarters of an hour.
const FINE_DAYS: i64 = 3;
const HOUR: i64 = 3600;
const QUARTER: i64 = 900;
const DAY: i64 = 24 * HOUR;

/// Calls of an hour of the day, in percent of the busiest.
const HOURS: [u64; 24] = [18, 12, 9, 8, 10, 18, 34, 58, 82, 96, 100, 98, 92, 95, 99, 97, 90, 78, 66, 58, 50, 42, 33, 25];
/// Calls of a weekday in percent, from Monday on.
const WEEKDAYS: [u64; 7] = [98, 104, 106, 103, 96, 54, 46];
/// How the latencies of a route lie around its median: percent of the median, and how many of 100 calls.
const SPREAD: [(u64, u64); 8] = [(62, 10), (81, 20), (97, 22), (112, 20), (140, 14), (190, 8), (310, 4), (640, 2)];

/// What calls what, how often.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// Whose calls.
    pub caller: Caller,
    /// The route.
    pub route: RouteId,
    /// The meters that a call moves, with the units of a call: least and most.
    pub meters: Vec<(MeterId, u64, u64)>,
    /// Calls in the busiest hour at the end of the history.
    pub peak_per_hour: u64,
    /// The status of what succeeds.
    pub success: u16,
    /// Calls of 1000 that the upstream answers with 400 or 404.
    pub client_error_per_mille: u64,
    /// The median latency in microseconds.
    pub median_micros: u64,
}

/// Whose calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant's namespace.
    pub namespace: NamespaceId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// Its plan version.
    pub plan_version: PlanVersionId,
    /// The application.
    pub application: ApplicationId,
    /// Its keys, with their shares of 100 calls.
    pub api_keys: Vec<(ApiKeyId, u64)>,
    /// From where its periods are counted.
    pub anchor: Anchor,
    /// How long a period lasts.
    pub cadence: Cadence,
    /// When it began to call.
    pub from: Timestamp,
}

/// The batches of a history, one a day, from the first caller's beginning up to `now`.
#[derive(Debug)]
pub struct History {
    journal: JournalId,
    traffic: Vec<Traffic>,
    now: Timestamp,
    day: i64,
    seq: u64,
    next_receipt: u64,
    previous: KeyDigest,
}

impl History {
    /// The history of this traffic in a journal of its own.
    pub fn new(journal: JournalId, traffic: Vec<Traffic>, now: Timestamp) -> Self {
        let first = traffic.iter().map(|traffic| traffic.caller.from.seconds()).min().unwrap_or(now.seconds());
        let day = first.div_euclid(DAY) * DAY;
        Self { journal, traffic, now, day, seq: 0, next_receipt: 1, previous: KeyDigest([0; 32]) }
    }

    fn batch(&mut self, day: i64) -> UsageBatch {
        let mut fold = Fold::default();
        let fine_from = self.now.seconds() - FINE_DAYS * DAY;
        let mut at = day;
        while at < day + DAY {
            let step = if at >= fine_from { QUARTER } else { HOUR };
            if at + step <= self.now.seconds() {
                for traffic in self.traffic.iter().filter(|traffic| traffic.caller.from.seconds() <= at) {
                    fold.add(traffic, at, step, self.now.seconds());
                }
            }
            at += step;
        }
        let first_receipt = self.next_receipt;
        self.next_receipt += fold.calls;
        let digest = KeyDigest(Sha256::digest(format!("{}/0/{}", self.journal, self.seq)).into());
        let segment = SegmentRef { journal_id: self.journal, stream: 0, seq: self.seq, segment_digest: digest, prev_digest: self.previous };
        self.previous = digest;
        self.seq += 1;
        UsageBatch {
            format: FORMAT,
            fold_version: FOLD_VERSION,
            segment,
            next_receipt: self.next_receipt,
            final_receipts: if fold.calls > 0 { vec![(first_receipt, self.next_receipt - 1)] } else { Vec::new() },
            records: fold.calls,
            rows: fold.rows.into_iter().map(|(key, sums)| UsageRow { key, ..sums }).collect(),
            latency: fold
                .latency
                .into_iter()
                .map(|((namespace, subscription, route, minute), histogram)| LatencyRow {
                    namespace,
                    subscription,
                    route,
                    minute,
                    histogram: histogram.into_iter().collect(),
                })
                .collect(),
            run: None,
        }
    }
}

impl Iterator for History {
    type Item = UsageBatch;

    fn next(&mut self) -> Option<UsageBatch> {
        if self.day >= self.now.seconds() {
            return None;
        }
        let day = self.day;
        self.day += DAY;
        Some(self.batch(day))
    }
}

/// One batch in the making.
#[derive(Debug, Default)]
struct Fold {
    rows: BTreeMap<RowKey, UsageRow>,
    latency: BTreeMap<(NamespaceId, SubscriptionId, RouteId, Timestamp), BTreeMap<u16, u64>>,
    calls: u64,
}

impl Fold {
    /// The calls of one route in `step` seconds from `at`.
    fn add(&mut self, traffic: &Traffic, at: i64, step: i64, now: i64) {
        let mut random = Random::of(&[
            u64::from_be_bytes(half(traffic.route.bytes())),
            u64::from_be_bytes(half(traffic.caller.subscription.bytes())),
            at.cast_unsigned(),
        ]);
        let hour = at.div_euclid(HOUR);
        let burst = burst_percent(hour, traffic);
        let volume = traffic.peak_per_hour * u64::try_from(step).unwrap_or(0) * HOURS[hour_of_day(at)] * WEEKDAYS[weekday(at)] / 100 / 100;
        let volume = volume * growth_percent(traffic, at, now) / 100 * burst / 100 * random.between(78, 122) / 100;
        // What is left of a call is a call with that probability, so that quiet routes are not silent.
        let calls = volume / HOUR.unsigned_abs() + u64::from(random.below(HOUR.unsigned_abs()) < volume % HOUR.unsigned_abs());
        if calls == 0 {
            return;
        }
        let minute = Timestamp::from_seconds(at + i64::try_from(random.below(step.unsigned_abs() / 60)).unwrap_or(0) * 60);
        let failed = random.share(calls, server_error_per_mille(hour));
        let refused = random.share(calls - failed, if burst > 100 { 24 } else { 0 });
        let mistaken = random.share(calls - failed - refused, traffic.client_error_per_mille);
        let client_error = if random.below(4) == 0 { 400 } else { 404 };
        let parts = [
            (traffic.success, AnsweredBy::Upstream, calls - failed - refused - mistaken),
            (client_error, AnsweredBy::Upstream, mistaken),
            (429, AnsweredBy::Gateway, refused),
            (if failed > 3 { 502 } else { 500 }, if failed > 3 { AnsweredBy::Gateway } else { AnsweredBy::Upstream }, failed),
        ];
        for (status, answered_by, count) in parts {
            for (key, count) in shares(&traffic.caller.api_keys, count) {
                self.add_rows(traffic, key, status, answered_by, minute, count, &mut random);
            }
        }
        let slow = if failed > 0 { 3 } else { 1 };
        self.add_latency(traffic, minute, calls - failed - refused, traffic.median_micros * slow * random.between(90, 115) / 100);
    }

    #[allow(clippy::too_many_arguments, reason = "each is a part of the row's key")]
    fn add_rows(
        &mut self,
        traffic: &Traffic,
        api_key: ApiKeyId,
        status: u16,
        answered_by: AnsweredBy,
        minute: Timestamp,
        count: u64,
        random: &mut Random,
    ) {
        if count == 0 {
            return;
        }
        self.calls += count;
        let caller = &traffic.caller;
        for (meter, least, most) in &traffic.meters {
            let key = RowKey {
                namespace: caller.namespace,
                subscription: caller.subscription,
                plan_version: caller.plan_version,
                period_start: caller.anchor.period_at(caller.cadence, minute).from,
                application: caller.application,
                api_key,
                route: traffic.route,
                meter: *meter,
                dimensions: Vec::new(),
                status,
                answered_by,
                mode: Mode::Live,
                minute,
            };
            let succeeded = status < 400;
            let (least, most) = if succeeded {
                (*least, *most)
            } else if *most == 1 {
                (u64::from(answered_by == AnsweredBy::Upstream), 1)
            } else {
                (0, 0)
            };
            let each = if least == most {
                least
            } else if succeeded {
                random.between(least + (most - least) / 4, most - (most - least) / 4)
            } else {
                least
            };
            let units = |units: u64| Micros::units(i64::try_from(units).unwrap_or(i64::MAX));
            let row = UsageRow {
                key: key.clone(),
                count,
                incomplete: 0,
                sum: units(each * count),
                min: units(if count == 1 { each } else { least.min(each) }),
                max: units(if count == 1 || each == 0 { each } else { most.max(each) }),
                last: units(each),
                last_at: minute.plus(std::time::Duration::from_secs(random.below(59))),
                uniques: Vec::new(),
            };
            self.rows.insert(key, row);
        }
    }

    fn add_latency(&mut self, traffic: &Traffic, minute: Timestamp, calls: u64, median: u64) {
        if calls == 0 {
            return;
        }
        let histogram = self.latency.entry((traffic.caller.namespace, traffic.caller.subscription, traffic.route, minute)).or_default();
        let mut left = calls;
        for (percent, share) in SPREAD.iter().rev() {
            let count = (calls * share / 100).min(left);
            left -= count;
            if count > 0 {
                *histogram.entry(latency_bucket(median * percent / 100)).or_default() += count;
            }
        }
        if left > 0 {
            *histogram.entry(latency_bucket(median)).or_default() += left;
        }
    }
}

/// A count shared among keys.
fn shares(keys: &[(ApiKeyId, u64)], count: u64) -> Vec<(ApiKeyId, u64)> {
    let mut left = count;
    let mut parts: Vec<(ApiKeyId, u64)> = keys
        .iter()
        .map(|(key, share)| {
            let part = (count * share / 100).min(left);
            left -= part;
            (*key, part)
        })
        .collect();
    if let Some(first) = parts.first_mut() {
        first.1 += left;
    }
    parts
}

/// From 55 % at the beginning to 100 % now.
fn growth_percent(traffic: &Traffic, at: i64, now: i64) -> u64 {
    let from = traffic.caller.from.seconds();
    let elapsed = (at - from).clamp(0, (now - from).max(1)).unsigned_abs();
    55 + 45 * elapsed / (now - from).max(1).unsigned_abs()
}

/// Every now and then a route is called three times as often for an hour.
fn burst_percent(hour: i64, traffic: &Traffic) -> u64 {
    let mut random = Random::of(&[hour.cast_unsigned(), u64::from_be_bytes(half(traffic.route.bytes())), 0xb0]);
    if random.below(170) == 0 { 310 } else { 100 }
}

/// A call of a thousand fails at the server, and every twelfth day there is a bad hour in the evening.
fn server_error_per_mille(hour: i64) -> u64 {
    if hour.div_euclid(24).rem_euclid(12) == 5 && hour.rem_euclid(24) == 19 { 140 } else { 2 }
}

fn hour_of_day(at: i64) -> usize {
    usize::try_from(at.rem_euclid(DAY) / HOUR).unwrap_or(0)
}

/// 0 is Monday: the Unix epoch was a Thursday.
fn weekday(at: i64) -> usize {
    usize::try_from((at.div_euclid(DAY) + 3).rem_euclid(7)).unwrap_or(0)
}

fn half(bytes: [u8; 16]) -> [u8; 8] {
    let mut half = [0; 8];
    half.copy_from_slice(&bytes[8..]);
    half
}

/// SplitMix64: small, good enough for made-up traffic, and the same everywhere.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn of(seeds: &[u64]) -> Self {
        let mut random = Self(0x005e_ed0f_de30);
        for seed in seeds {
            random.0 ^= *seed;
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 where that is 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// So many of a thousand; what is left of a unit is one with that probability.
    fn share(&mut self, of: u64, per_mille: u64) -> u64 {
        of * per_mille / 1000 + u64::from(self.below(1000) < of * per_mille % 1000)
    }

    /// A number of `low..=high`.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }
}
