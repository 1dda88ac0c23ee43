//! What a batch adds to quotas, and which rows count. Pure.
//!
//! The map is ordered by key, and every transaction writes in that order: two that move the same quotas wait for each other and never in a circle.

use std::collections::BTreeMap;

use calendar::Timestamp;
use gateway_control::{
    policy::BillableRule,
    usage::{AnsweredBy, Mode, UsageRow},
};
use ids::{MeterId, NamespaceId, SubscriptionId};

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

/// Whether a row counts: the plan version's rule bills its status, an upstream answered, and it is not a test (SEMANTICS M8).
pub(super) fn is_billable(row: &UsageRow, rule: &BillableRule) -> bool {
    row.key.mode == Mode::Live && row.key.answered_by == AnsweredBy::Upstream && rule.bills(row.key.status)
}

/// The micro-units by which rows move quotas: those of the rows that count.
pub(super) fn used_by<'a>(rows: impl IntoIterator<Item = (&'a UsageRow, bool)>) -> BTreeMap<LedgerKey, i128> {
    let mut used = BTreeMap::new();
    for (row, billable) in rows {
        if billable && row.sum.0 > 0 {
            *used.entry(LedgerKey::of(row)).or_default() += row.sum.0;
        }
    }
    used
}
