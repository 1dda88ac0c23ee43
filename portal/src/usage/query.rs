//! What pages, exports and invoices ask of accepted usage. Everything is read from the sums and belongs to one tenant.
//!
//! **Calls and units.** One call moves every meter of its route, and each meter has a row of its own. A number of calls is therefore the largest count
//! over the meters of the same slot, subscription, route and status (and key, where keys are asked for), never their sum. Units are summed per meter, as
//! the meter aggregates.
//!
//! **Which sums.** A question that names a key or an application is answered by the sums by key; all others by those by route, which are many times fewer.

use std::collections::HashSet;

use calendar::{Period, TimeZone, Timestamp};
use gateway_control::usage::Mode;
use ids::{ApiKeyId, ApiProductId, ApplicationId, PlanId, RouteId, SubscriptionId, TenantId};

pub use super::figures::{
    Breakdown, BreakdownRow, Charge, Facets, Latency, MeterTotal, PeriodUnits, RouteTotal, Series, SeriesGroup, Share, Stack, Totals,
};
use super::{
    calls::Calls,
    charge_store, corrections, facet_store,
    latency::Cover,
    latency_store,
    parts::{self, Parts},
    query_store as store, route_store,
};
use crate::{
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
};

/// The longest range of one question, in days.
pub const MAX_RANGE_DAYS: i64 = 400;
/// The longest range over which latency is merged, in days.
pub const MAX_LATENCY_DAYS: i64 = 31;
/// The most rows of [`top_routes`].
pub const MAX_TOP_ROUTES: i64 = 50;

const SECONDS_PER_DAY: i64 = 86_400;

/// Which usage is meant. What is `None` is not filtered.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of one API product.
    pub product: Option<ApiProductId>,
    /// Of one application.
    pub application: Option<ApplicationId>,
    /// Of one key.
    pub api_key: Option<ApiKeyId>,
    /// Admitted under any version of a plan.
    pub plan: Option<PlanId>,
    /// Of one subscription.
    pub subscription: Option<SubscriptionId>,
    /// Statuses of one class: 2 for 2xx.
    pub status_class: Option<i16>,
    /// Live or test.
    pub mode: Option<Mode>,
}

/// How wide a slot of a series is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// 15 minutes.
    QuarterHour,
    /// An hour.
    Hour,
    /// A calendar day in the tenant's time zone.
    Day,
}

impl Slot {
    /// The narrowest slot that leaves a chart readable.
    pub fn for_range(range: Period) -> Self {
        let seconds = range.to.seconds() - range.from.seconds();
        if seconds <= 26 * 3600 {
            Self::QuarterHour
        } else if seconds <= 9 * SECONDS_PER_DAY {
            Self::Hour
        } else {
            Self::Day
        }
    }

    /// What `date_trunc` cuts to. Rollups are per 15 minutes, so that cutting to the minute leaves them as they are.
    const fn unit(self) -> &'static str {
        match self {
            Self::QuarterHour => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// A question: whose usage, when, cut how.
#[derive(Debug, Clone)]
pub struct Query {
    /// Whose.
    pub tenant: TenantId,
    /// When. Its start is moved back to the start of its slot.
    pub range: Period,
    /// The width of a slot.
    pub slot: Slot,
    /// Where days start.
    pub zone: TimeZone,
    /// Which.
    pub filter: Filter,
}

impl Query {
    /// All usage of a tenant in a range.
    pub fn new(tenant: TenantId, range: Period, zone: TimeZone) -> Self {
        Self { tenant, range, slot: Slot::for_range(range), zone, filter: Filter::default() }
    }

    /// Whether daily sums answer it: they are kept per UTC day.
    fn daily(&self) -> bool {
        self.slot == Slot::Day && self.zone == TimeZone::UTC
    }

    /// Whether sums by route answer it.
    fn by_route(&self) -> bool {
        self.filter.api_key.is_none() && self.filter.application.is_none()
    }

    /// From the start of the first slot; with daily sums, to the end of a day.
    fn whole(&self) -> Period {
        let to = if self.daily() { parts::ceil(self.range.to, SECONDS_PER_DAY) } else { self.range.to };
        Period { from: self.from(), to }
    }

    /// The sums that hold the calls of slots which begin at `starts`: those of hours where no slot begins within one.
    fn parts_for(&self, starts: &[Timestamp]) -> Parts {
        if self.daily() {
            Parts::by_days(self.whole())
        } else if starts.iter().skip(1).all(|start| start.seconds() % 3600 == 0) {
            Parts::by_hours(self.whole())
        } else {
            Parts::by_quarters(self.whole())
        }
    }

    fn route_bounds(&self, parts: Parts) -> route_store::Bounds<'_> {
        route_store::Bounds { tenant: self.tenant, parts, filter: &self.filter }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.range.from >= self.range.to {
            return Err(Error::invalid("to", "The end must come after the start."));
        }
        if self.range.to.seconds() - self.range.from.seconds() > MAX_RANGE_DAYS * SECONDS_PER_DAY {
            return Err(Error::invalid("from", format!("Choose a range of at most {MAX_RANGE_DAYS} days.")));
        }
        Ok(())
    }

    pub(super) fn bounds(&self) -> store::Bounds<'_> {
        store::Bounds {
            tenant: self.tenant,
            from: self.from(),
            to: self.range.to,
            unit: self.slot.unit(),
            zone: self.zone.name(),
            daily: self.daily(),
            filter: &self.filter,
        }
    }

    /// The start of the slot that holds the range's start. An hour of a zone that is not on the hour starts where Postgres cuts it, so the start moves
    /// back to a quarter only and the first slot may be part of an hour.
    pub(super) fn from(&self) -> Timestamp {
        match self.slot {
            Slot::QuarterHour | Slot::Hour => self.range.from.floor_quarter_hour(),
            Slot::Day => self.zone.start_of(self.zone.date_at(self.range.from)),
        }
    }
}

/// All that a page shows of the calls and units of a question.
#[derive(Debug)]
pub struct Overview {
    /// Calls over time.
    pub series: Series,
    /// The sums of the range.
    pub totals: Totals,
    /// The busiest routes.
    pub routes: Vec<RouteTotal>,
}

/// Calls over time, totals and the busiest routes, from one look at the sums.
pub async fn overview(tx: &mut Tx, actor: &Actor, query: &Query, stack: Stack, routes: i64) -> Result<Overview> {
    let calls = calls(tx, actor, query).await?;
    let by_meter = totals_by_meter(tx, query).await?;
    Ok(Overview { series: calls.series(stack), totals: totals_of(&calls, by_meter), routes: calls.top_routes(bounded(routes)) })
}

async fn calls(tx: &mut Tx, actor: &Actor, query: &Query) -> Result<Calls> {
    actor.require(Permission::View(query.tenant))?;
    query.check()?;
    let bounds = query.bounds();
    let starts = store::slots(tx, &bounds).await?;
    let cells = if query.by_route() {
        route_store::cells(tx, &query.route_bounds(query.parts_for(&starts)), &starts).await?
    } else {
        store::cells(tx, &bounds).await?
    };
    let ids: HashSet<RouteId> = cells.iter().map(|cell| cell.route).collect();
    let routes = store::routes(tx, &ids.into_iter().collect::<Vec<_>>()).await?;
    Ok(Calls { slot: query.slot, starts, cells, routes: routes.into_iter().map(|route| (route.route, route)).collect() })
}

async fn totals_by_meter(tx: &mut Tx, query: &Query) -> Result<Vec<MeterTotal>> {
    if query.by_route() {
        return route_store::totals_by_meter(tx, &query.route_bounds(Parts::by_days(query.whole()))).await;
    }
    store::totals_by_meter(tx, &query.bounds()).await
}

fn totals_of(calls: &Calls, by_meter: Vec<MeterTotal>) -> Totals {
    let by_status = calls.by_status();
    let of_class = |class: char| by_status.iter().filter(|share| share.key.starts_with(class)).map(|share| share.calls).sum();
    Totals {
        calls: by_status.iter().map(|share| share.calls).sum(),
        client_errors: of_class('4'),
        server_errors: of_class('5'),
        by_product: calls.by_product(),
        by_meter,
        by_status,
    }
}

fn bounded(routes: i64) -> usize {
    usize::try_from(routes.clamp(1, MAX_TOP_ROUTES)).unwrap_or(1)
}

/// Calls over time.
pub async fn series(tx: &mut Tx, actor: &Actor, query: &Query, stack: Stack) -> Result<Series> {
    Ok(calls(tx, actor, query).await?.series(stack))
}

/// The sums of a range.
pub async fn totals(tx: &mut Tx, actor: &Actor, query: &Query) -> Result<Totals> {
    let calls = calls(tx, actor, query).await?;
    Ok(totals_of(&calls, totals_by_meter(tx, query).await?))
}

/// The busiest routes.
pub async fn top_routes(tx: &mut Tx, actor: &Actor, query: &Query, limit: i64) -> Result<Vec<RouteTotal>> {
    Ok(calls(tx, actor, query).await?.top_routes(bounded(limit)))
}

/// Percentiles of latency, by whole hours, over at most the last [`MAX_LATENCY_DAYS`] days of the range; `None` without answered calls. Latency is kept per subscription
/// and route: a filter by key, status or mode does not narrow it, so that the answer is `None` then too, rather than that of other calls.
pub async fn latency(tx: &mut Tx, actor: &Actor, query: &Query) -> Result<Option<Latency>> {
    actor.require(Permission::View(query.tenant))?;
    query.check()?;
    let filter = &query.filter;
    if filter.api_key.is_some() || filter.status_class.is_some() || filter.mode.is_some() {
        return Ok(None);
    }
    let earliest = Timestamp::from_seconds(query.range.to.seconds() - MAX_LATENCY_DAYS * SECONDS_PER_DAY);
    let cover = Cover::of(query.from().max(earliest), query.range.to);
    let histogram = latency_store::histogram(tx, query, cover).await?;
    Ok(percentiles(&histogram))
}

/// Percentiles of a histogram in rising order of buckets.
fn percentiles(histogram: &[(u16, u64)]) -> Option<Latency> {
    use gateway_control::usage::latency_of;
    let calls: u64 = histogram.iter().map(|(_, count)| count).sum();
    let at = |per_hundred: u64| {
        // The nearest-rank percentile: the smallest latency that at least so many calls do not pass.
        let rank = (calls * per_hundred).div_ceil(100);
        let mut seen = 0;
        let bucket = histogram.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        })?;
        Some((latency_of(bucket.0) + latency_of(bucket.0.saturating_add(1))) / 2)
    };
    (calls > 0).then_some(())?;
    Some(Latency { p50_micros: at(50)?, p95_micros: at(95)?, p99_micros: at(99)?, calls })
}

/// The zone in which a tenant's days start.
pub async fn zone_of(tx: &mut Tx, actor: &Actor, tenant: TenantId) -> Result<TimeZone> {
    actor.require(Permission::View(tenant))?;
    let name = facet_store::time_zone(tx, tenant).await?.ok_or_else(|| Error::not_found("This organization"))?;
    name.parse().map_err(Error::internal)
}

/// Whether the tenant has ever used anything.
pub async fn any(tx: &mut Tx, actor: &Actor, tenant: TenantId) -> Result<bool> {
    actor.require(Permission::View(tenant))?;
    facet_store::any(tx, tenant).await
}

/// The path of a `GET` route that a live subscription of the tenant covers, the one with the fewest parameters: for the first call's
/// `curl`, which speaks no WebSocket.
pub async fn sample_path(tx: &mut Tx, actor: &Actor, tenant: TenantId) -> Result<Option<String>> {
    actor.require(Permission::View(tenant))?;
    facet_store::sample_path(tx, tenant).await
}

/// What the filters offer.
pub async fn facets(tx: &mut Tx, actor: &Actor, tenant: TenantId) -> Result<Facets> {
    actor.require(Permission::View(tenant))?;
    facet_store::facets(tx, tenant).await
}

/// The billable units of a subscription's period per meter, as the meter aggregates, for rating. The period is named by its start, which is what
/// usage carries (SEMANTICS M5), so that a call admitted in a period counts in it however late it arrives.
pub async fn period_units(
    tx: &mut Tx,
    actor: &Actor,
    tenant: TenantId,
    subscription: SubscriptionId,
    period_start: Timestamp,
) -> Result<Vec<PeriodUnits>> {
    actor.require(Permission::View(tenant))?;
    let mut units = charge_store::period_units(tx, tenant, subscription, period_start).await?;
    corrections::add_to(tx, tenant, subscription, period_start, &mut units).await?;
    Ok(units)
}

/// The billable usage behind a charge, by day, route and key.
pub async fn breakdown(tx: &mut Tx, actor: &Actor, charge: &Charge) -> Result<Breakdown> {
    actor.require(Permission::View(charge.tenant))?;
    Ok(Breakdown {
        by_day: charge_store::charge_by_day(tx, charge).await?,
        by_route: charge_store::charge_by_route(tx, charge).await?,
        by_key: charge_store::charge_by_key(tx, charge).await?,
    })
}

#[cfg(test)]
mod tests {
    use gateway_control::usage::latency_bucket;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A percentile of the merged histogram is that of the sorted latencies, within a bucket's width.
        #[test]
        fn percentiles_are_those_of_the_sorted_latencies(mut latencies in prop::collection::vec(1_u64..60_000_000, 1..200)) {
            let mut histogram = std::collections::BTreeMap::new();
            for micros in &latencies {
                *histogram.entry(latency_bucket(*micros)).or_insert(0) += 1;
            }
            let histogram: Vec<_> = histogram.into_iter().collect();
            let found = percentiles(&histogram).expect("there are calls");
            latencies.sort_unstable();
            for (per_hundred, micros) in [(50, found.p50_micros), (95, found.p95_micros), (99, found.p99_micros)] {
                let exact = latencies[(latencies.len() * per_hundred).div_ceil(100) - 1];
                prop_assert!(micros.abs_diff(exact) * 15 <= exact + 15, "p{}: {} for {}", per_hundred, micros, exact);
            }
        }
    }

    #[test]
    fn no_calls_have_no_percentiles() {
        assert_eq!(percentiles(&[]), None);
    }

    #[test]
    fn slots_follow_the_range() {
        let slot = |hours: i64| Slot::for_range(Period { from: Timestamp::UNIX_EPOCH, to: Timestamp::from_seconds(hours * 3600) });
        assert_eq!(slot(24), Slot::QuarterHour);
        assert_eq!(slot(7 * 24), Slot::Hour);
        assert_eq!(slot(30 * 24), Slot::Day);
    }
}
