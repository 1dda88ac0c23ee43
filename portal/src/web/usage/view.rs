//! What the usage page shows, as text and chart data.

use calendar::TimeZone;
use serde_json::json;

use crate::{
    catalog::meter::plural,
    error::Result,
    usage::query::{Latency, MeterTotal, RouteTotal, Series, Slot, Totals},
};

/// The chart of calls over time with its table.
#[derive(Debug, Clone)]
pub struct ChartView {
    /// For `charts.js`; its shape stands in `templates/README.md`.
    pub json: String,
    /// The columns of the table.
    pub columns: Vec<String>,
    /// The rows of the table that have calls.
    pub rows: Vec<ChartRow>,
    /// Whether rows are calendar days, which are not moved into the viewer's zone.
    pub by_day: bool,
}

/// A slot of the chart.
#[derive(Debug, Clone)]
pub struct ChartRow {
    /// The day, or the instant at which the slot starts.
    pub start: String,
    /// Calls per column.
    pub cells: Vec<i64>,
    /// All of them.
    pub total: i64,
}

impl ChartView {
    /// The chart of a series.
    pub fn new(series: &Series, zone: &TimeZone) -> Result<Self> {
        let by_day = series.slot == Slot::Day;
        let labels: Vec<String> =
            series.starts.iter().map(|start| if by_day { zone.date_at(*start).to_string() } else { start.to_string() }).collect();
        let chart = json!({
            "type": "bar",
            "stacked": true,
            "time": match series.slot { Slot::Day => "day", Slot::Hour => "hours", Slot::QuarterHour => "minute" },
            "unit": "calls",
            "labels": labels,
            "series": series.groups.iter().map(|group| json!({
                "name": group.label,
                "values": group.calls,
                "tone": if group.key == "5xx" { "error" } else { "" },
            })).collect::<Vec<_>>(),
            "empty": "No calls in this time.",
        });
        let rows = labels
            .into_iter()
            .enumerate()
            .map(|(index, start)| ChartRow {
                start,
                cells: series.groups.iter().map(|group| group.calls[index]).collect(),
                total: series.total(index),
            })
            .filter(|row| row.total > 0)
            .collect();
        Ok(Self {
            json: serde_json::to_string(&chart)?,
            columns: series.groups.iter().map(|group| group.label.clone()).collect(),
            rows,
            by_day,
        })
    }
}

/// The sums of the range.
#[derive(Debug, Clone)]
pub struct TotalsView {
    /// Calls.
    pub calls: i64,
    /// Calls that failed, such as `1.3`.
    pub error_percent: String,
    /// How many of them were the caller's and the server's faults.
    pub failed_hint: String,
    /// Units per meter.
    pub meters: Vec<MeterView>,
    /// Calls per status.
    pub statuses: Vec<(String, i64, u64)>,
}

/// The units of a meter.
#[derive(Debug, Clone)]
pub struct MeterView {
    /// Its name.
    pub name: String,
    /// `tokens`.
    pub units: String,
    /// All units.
    pub total: String,
    /// Billable units.
    pub billable: String,
}

impl TotalsView {
    /// The sums as text.
    pub fn new(totals: &Totals) -> Self {
        let per_mille = totals.error_per_mille();
        Self {
            calls: totals.calls,
            error_percent: format!("{}.{}", per_mille / 10, per_mille % 10),
            failed_hint: format!("{} × 4xx, {} × 5xx", totals.client_errors, totals.server_errors),
            meters: totals.by_meter.iter().map(MeterView::new).collect(),
            statuses: totals.by_status.iter().map(|share| (share.label.clone(), share.calls, percent(share.calls, totals.calls))).collect(),
        }
    }
}

impl MeterView {
    fn new(meter: &MeterTotal) -> Self {
        Self { name: meter.name.clone(), units: plural(&meter.unit), total: meter.units.to_string(), billable: meter.billable.to_string() }
    }
}

/// A route with its share of errors.
#[derive(Debug, Clone)]
pub struct RouteView {
    /// The sums.
    pub route: RouteTotal,
    /// Of the busiest route's calls, in percent.
    pub bar_percent: u64,
    /// Failed calls in percent, such as `1.3`.
    pub error_percent: String,
}

/// Routes with their bars.
pub fn routes(routes: Vec<RouteTotal>) -> Vec<RouteView> {
    let most = routes.first().map_or(1, |route| route.calls.max(1));
    routes
        .into_iter()
        .map(|route| {
            let per_mille = (route.errors * 1000 + route.calls / 2).checked_div(route.calls).unwrap_or(0);
            RouteView { bar_percent: percent(route.calls, most), error_percent: format!("{}.{}", per_mille / 10, per_mille % 10), route }
        })
        .collect()
}

fn percent(part: i64, whole: i64) -> u64 {
    u64::try_from((part * 100).checked_div(whole).unwrap_or(0)).unwrap_or(0)
}

/// Latency as text.
#[derive(Debug, Clone)]
pub struct LatencyView {
    /// Half of the calls were faster.
    pub p50: String,
    /// 95 of 100.
    pub p95: String,
    /// 99 of 100.
    pub p99: String,
}

impl LatencyView {
    /// Milliseconds, seconds from one second on.
    pub fn new(latency: Latency) -> Self {
        Self { p50: duration(latency.p50_micros), p95: duration(latency.p95_micros), p99: duration(latency.p99_micros) }
    }
}

/// Three digits at most, with the unit.
fn duration(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        10_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_three_digits() {
        for (micros, text) in
            [(999, "999 µs"), (1_250, "1.2 ms"), (9_999, "9.9 ms"), (84_700, "84 ms"), (999_999, "999 ms"), (1_950_000, "1.9 s")]
        {
            assert_eq!(duration(micros), text);
        }
    }
}
