//! Sums of a batch: per 15 minutes, per UTC day, and per quota. Pure.
//!
//! The maps are ordered by key, and every transaction writes in that order: two that touch the same sums wait for each other and never in a circle.

use std::collections::{BTreeMap, HashMap};

use calendar::Timestamp;
use gateway_control::{
    policy::BillableRule,
    usage::{AnsweredBy, Mode, UsageRow},
};
use ids::{ApiKeyId, ApplicationId, MeterId, NamespaceId, PlanVersionId, RouteId, SubscriptionId};

/// What a rollup row is kept apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RollupKey {
    pub namespace: NamespaceId,
    pub subscription: SubscriptionId,
    pub bucket: Timestamp,
    pub meter: MeterId,
    pub route: RouteId,
    pub api_key: ApiKeyId,
    pub status: u16,
    pub mode: Mode,
    pub billable: bool,
    pub plan_version: PlanVersionId,
    pub period_start: Timestamp,
    pub application: ApplicationId,
}

/// The sums of a [`RollupKey`], quantities in micro-units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sums {
    pub count: u64,
    pub sum: i128,
    pub min: i128,
    pub max: i128,
    pub last: i128,
    pub last_at: Timestamp,
}

/// One quota of one subscription in one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LedgerKey {
    pub namespace: NamespaceId,
    pub subscription: SubscriptionId,
    pub meter: MeterId,
    pub period_start: Timestamp,
}

impl LedgerKey {
    /// The quota that a row moves.
    pub(super) fn of(row: &UsageRow) -> Self {
        let key = &row.key;
        Self { namespace: key.namespace, subscription: key.subscription, meter: key.meter, period_start: key.period_start }
    }
}

/// What a batch adds.
#[derive(Debug, Default)]
pub(super) struct Rollup {
    pub quarter_hours: BTreeMap<RollupKey, Sums>,
    pub days: BTreeMap<RollupKey, Sums>,
    /// Billable micro-units.
    pub used: BTreeMap<LedgerKey, i128>,
}

/// Whether a row counts: the plan version's rule bills its status, an upstream answered, and it is not a test (SEMANTICS M8).
pub(super) fn is_billable(row: &UsageRow, rule: &BillableRule) -> bool {
    row.key.mode == Mode::Live && row.key.answered_by == AnsweredBy::Upstream && rule.bills(row.key.status)
}

/// Sums rows whose plan versions' rules are all in `rules`; a row of another plan version is not billable.
pub(super) fn roll_up<'a>(rows: impl IntoIterator<Item = &'a UsageRow>, rules: &HashMap<PlanVersionId, BillableRule>) -> Rollup {
    let mut rollup = Rollup::default();
    for row in rows {
        let billable = rules.get(&row.key.plan_version).is_some_and(|rule| is_billable(row, rule));
        add(&mut rollup.quarter_hours, key_of(row, row.key.minute.floor_quarter_hour(), billable), row);
        add(&mut rollup.days, key_of(row, floor_day(row.key.minute), billable), row);
        if billable && row.sum.0 > 0 {
            *rollup.used.entry(LedgerKey::of(row)).or_default() += row.sum.0;
        }
    }
    rollup
}

fn key_of(row: &UsageRow, bucket: Timestamp, billable: bool) -> RollupKey {
    let key = &row.key;
    RollupKey {
        namespace: key.namespace,
        subscription: key.subscription,
        bucket,
        meter: key.meter,
        route: key.route,
        api_key: key.api_key,
        status: key.status,
        mode: key.mode,
        billable,
        plan_version: key.plan_version,
        period_start: key.period_start,
        application: key.application,
    }
}

fn add(sums: &mut BTreeMap<RollupKey, Sums>, key: RollupKey, row: &UsageRow) {
    let news = Sums { count: row.count, sum: row.sum.0, min: row.min.0, max: row.max.0, last: row.last.0, last_at: row.last_at };
    sums.entry(key)
        .and_modify(|known| {
            known.count = known.count.saturating_add(news.count);
            known.sum += news.sum;
            known.min = known.min.min(news.min);
            known.max = known.max.max(news.max);
            if news.last_at >= known.last_at {
                (known.last, known.last_at) = (news.last, news.last_at);
            }
        })
        .or_insert(news);
}

fn floor_day(at: Timestamp) -> Timestamp {
    Timestamp::from_seconds(at.seconds().div_euclid(86_400) * 86_400)
}
