//! The page with the results for usage.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context as _;
use serde::de::DeserializeOwned;

use super::{backlog::Backlog, ingest::Ingest, pages::Pages};

const HEAD: &str = "# Usage: ingest, pages, backlog\n\n\
    Written by `loadtest report-usage` from what `loadtest ingest`, `loadtest usage-pages` and `loadtest backlog` kept; do not edit. Everything ran on one machine: load,\n\
    portal and Postgres shared its cores. Postgres had the settings that `docs/OPERATIONS.md` names for much usage (`shared_buffers=2GB`, `wal_buffers=64MB`,\n\
    `max_wal_size=16GB`, `checkpoint_timeout=15min`; `fsync`, `full_page_writes` and `synchronous_commit` on) and `pg_stat_statements`. Ten thousand tenants; tenant *n* makes calls in proportion to 1/*n*, has 20 keys if it is among the largest and 2 if\n\
    it is not, calls 20 routes, the first ones more often, and gets five different statuses. One meter.\n\n\
    A **usage row** is one row of a batch as it is stored in `usage_rows`: the calls of one key, route, status and minute in one segment.\n";

/// Writes the page from what the measurements kept.
///
/// # Errors
/// When a result cannot be read, or the disk refuses.
pub fn write(results: &Path, page: &Path) -> anyhow::Result<()> {
    let mut text = HEAD.to_owned();
    if let Some(found) = read(results, "ingest", &mut text)? {
        ingest(&mut text, &found);
    }
    if let Some(found) = read(results, "backlog", &mut text)? {
        backlog(&mut text, &found);
    }
    if let Some(found) = read(results, "usage-pages", &mut text)? {
        pages(&mut text, &found);
    }
    fs::write(page, text).with_context(|| format!("cannot write {}", page.display()))
}

fn read<T: DeserializeOwned>(results: &Path, name: &str, text: &mut String) -> anyhow::Result<Option<T>> {
    let path = results.join(name).with_extension("json");
    if !path.exists() {
        line(text, &format!("\nNot measured in this run: `loadtest {name}`."));
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&fs::read_to_string(&path)?).with_context(|| format!("{} cannot be read", path.display()))?))
}

fn ingest(text: &mut String, found: &Ingest) {
    let (tenants, gateways, streams, rows) = found.shape;
    line(text, "\n## Ingest\n");
    line(
        text,
        &format!(
            "{gateways} simulated gateways with {streams} streams each sent batches of {rows} rows of {tenants} tenants as JSON to `POST /control/v1/usage`, each with its latency\n\
             histograms, for {:.0} s, on {} cores. Afterwards the rows, the four tables of sums and the quota ledger were compared with what had been acknowledged: no difference.\n",
            found.seconds, found.cores
        ),
    );
    line(text, "| | measured | target |\n|---|---|---|");
    let mut row = |what: &str, measured: String, target: &str| line(text, &format!("| {what} | {measured} | {target} |"));
    row("usage rows accepted a second", format!("{:.0}", found.rows_per_second), "100,000");
    row("of them in the slowest ten seconds", format!("{:.0}", found.slowest_rows_per_second), "");
    row("latency histograms accepted beside them, a second", format!("{:.0}", found.latency_rows as f64 / found.seconds), "");
    row("batches, refused ones", format!("{}, {}", found.batches, found.refused), "");
    row("a batch until its acknowledgement, p50 and p99", format!("{} and {} ms", found.p50_millis, found.p99_millis), "");
    let (portal, postgres, load) = found.busy;
    row("cores busy: portal, Postgres, load", format!("{portal:.2}, {postgres:.2}, {load:.2}"), "");
    row("until the sums had everything, after the last batch", format!("{:.1} s", found.follow_millis as f64 / 1e3), "");
    let (heap, indexes) = found.bytes_per_row;
    row("bytes a row in `usage_rows`, and in its indexes", format!("{heap:.0}, {indexes:.0}"), "");
}

fn backlog(text: &mut String, found: &Backlog) {
    line(text, "\n## A backlog\n");
    line(
        text,
        &format!(
            "A gateway's journal with {} records in {} segments (no call among them is older than half an hour) became {} usage rows. From the start of the gateway's process until the\n\
             portal had accepted all of it took **{:.0} s** ({:.0} records and {:.0} rows a second), until the sums had it {:.0} s.",
            found.records,
            found.segments,
            found.rows,
            found.seconds,
            found.records as f64 / found.seconds,
            found.rows as f64 / found.seconds,
            found.summed_seconds
        ),
    );
}

fn pages(text: &mut String, found: &Pages) {
    line(text, "\n## Usage pages\n");
    line(
        text,
        &format!(
            "The sums of {} accepted rows of {} tenants over 90 days, generated in SQL (`benches/src/usage/generated.sql`: a key that is used in a quarter of an hour has a row in each\n\
             of its minutes), and of the rows themselves, which no page reads, the {} of the last {} days. The page *Usage* was asked for {} times over HTTP as a signed-in person,\n\
             one request after the other, after 20 that do not count.\n",
            found.summed_rows, found.tenants, found.rows, found.row_days, found.requests
        ),
    );
    line(text, "| tenant | its rows | range | p50 | p99 | slowest | p99 under 50 ms |\n|---|---|---|---|---|---|---|");
    for page in &found.pages {
        let millis = |micros: u64| format!("{:.1} ms", micros as f64 / 1e3);
        let met = if page.p99 < 50_000 { "met" } else { "not met" };
        let times = [page.p50, page.p99, page.most].map(millis).join(" | ");
        line(text, &format!("| {} | {} | {} | {times} | {met} |", page.tenant, page.rows, page.range));
    }
    line(text, "\n| table | rows | size | indexes |\n|---|---|---|---|");
    for (name, rows, heap, indexes) in &found.tables {
        let mib = |bytes: &i64| format!("{:.0} MiB", *bytes as f64 / 1_048_576.0);
        line(text, &format!("| `{name}` | {rows} | {} | {} |", mib(heap), mib(indexes)));
    }
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}
