//! Leases of the next period are fetched before it begins (SEMANTICS Q3), each gateway and quota at its own instant: else all would ask at midnight.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use calendar::Timestamp;
use gateway_control::lease::QuotaSlot;

use super::quota::QuotaCell;
use crate::shared::Shared;

/// The latest that a lease is fetched before its period begins.
const AT_LEAST: Duration = Duration::from_secs(5);
/// How far the instants are spread. A lease that is fetched as early as can be is renewed in time.
const SPREAD: Duration = Duration::from_secs(40);
/// A quota that nobody used for so long is not fetched ahead.
const USED_WITHIN: Duration = Duration::from_secs(600);
/// How long what was fetched is kept after its period's beginning without being used.
const KEPT: Duration = Duration::from_secs(5);

/// The cell of the period after a cell's own, when it is time to fetch leases of it; once only.
pub fn next_period(shared: &Shared, cell: &QuotaCell, now: Timestamp) -> Option<Arc<QuotaCell>> {
    let next_end = *cell.next_period_end.get()?;
    let left = cell.period_end.since(now);
    if left.is_zero() || left > lead(shared, &cell.slot) || cell.is_fetched_ahead.load(Ordering::Acquire) {
        return None;
    }
    let now_ns = shared.monotonic_ns();
    if now_ns.saturating_sub(cell.used_ns()) > nanos(USED_WITHIN) {
        return None;
    }
    cell.is_fetched_ahead.store(true, Ordering::Release);
    let next = shared.quotas.get(QuotaSlot { period_start: cell.period_end, ..cell.slot }, next_end, cell.limit());
    next.note_reserve(cell.largest_call());
    next.need(cell.largest_call(), now_ns);
    next.keep_until(now_ns.saturating_add(nanos(left + KEPT)));
    Some(next)
}

/// How long before the period's end this gateway fetches this quota.
fn lead(shared: &Shared, slot: &QuotaSlot) -> Duration {
    let mut hasher = DefaultHasher::new();
    (shared.journal_id(), slot).hash(&mut hasher);
    AT_LEAST + Duration::from_millis(hasher.finish() % u64::try_from(SPREAD.as_millis()).unwrap_or(1))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
