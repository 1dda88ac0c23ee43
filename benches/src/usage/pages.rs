//! How fast the usage page is with ninety days of usage of ten thousand tenants, for the largest of them and for the median one.
//!
//! The usage is generated in SQL (`generated.sql`); the pages are asked for over HTTP, one after the other, as a signed-in person, in a portal process.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{
    stand::{Stand, table_bytes},
    tenants::Tenants,
};
use crate::runs::say;

/// The tables whose sizes are told.
const TABLES: [&str; 8] = [
    "usage_rows",
    "usage_rollup_15m",
    "usage_rollup_day",
    "usage_route_hour",
    "usage_route_day",
    "usage_latency_hour",
    "usage_latency_day",
    "usage_segments",
];
/// The pages: what they are called, and their query.
const PAGES: [(&str, &str); 3] = [("24 hours", "?range=24h"), ("7 days", "?range=7d"), ("30 days", "?range=30d")];
const WARM_UPS: usize = 20;

/// What was found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Pages {
    /// Tenants.
    pub tenants: usize,
    /// Usage rows that the sums are of.
    pub summed_rows: i64,
    /// Of them, in `usage_rows`: those of the last days.
    pub rows: i64,
    /// So many days.
    pub row_days: u32,
    /// Name, rows, bytes of rows, bytes of indexes.
    pub tables: Vec<(String, i64, i64, i64)>,
    /// How often each page was asked for.
    pub requests: usize,
    /// By tenant and page.
    pub pages: Vec<Page>,
}

/// One page of one tenant.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    /// `largest` or `median`.
    pub tenant: String,
    /// Rows of the tenant.
    pub rows: i64,
    /// The page's range.
    pub range: String,
    /// Microseconds.
    pub p50: u64,
    /// Microseconds.
    pub p99: u64,
    /// Microseconds.
    pub most: u64,
}

/// Generates the usage where it is not there yet, and measures.
///
/// # Errors
/// When something does not start or a page is not what it should be.
pub async fn run(folder: &Path, (rows, row_days): (u64, u32), requests: usize) -> anyhow::Result<Pages> {
    // The log of what is generated must not need more room than the tables.
    let stand = Stand::start_with(folder, &["max_wal_size=2GB"]).await?;
    let tenants = Tenants::new(10_000);
    let is_there: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM users WHERE email = 'reader@tenant.example')").fetch_one(&stand.pool).await?;
    if !is_there {
        tenants.write(&stand.pool, 0).await?;
        generate(stand.postgres.url(), rows, row_days).await?;
    }
    let portal = stand.portal("portal")?;
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
    let mut pages = Vec::new();
    for (tenant, n) in [("largest", 1), ("median", tenants.count() / 2)] {
        let of_tenant: i64 =
            sqlx::query_scalar("SELECT 15 * count(*) FROM usage_rollup_15m WHERE namespace_id = (SELECT id FROM tenants WHERE name = $1)")
                .bind(format!("Tenant {n}"))
                .fetch_one(&stand.pool)
                .await?;
        for (range, query) in PAGES {
            let url = format!("http://{}/usage{query}", portal.address);
            let mut times = Vec::new();
            for number in 0..requests + WARM_UPS {
                let started = Instant::now();
                let answer = client.get(&url).header("cookie", format!("tollkeeper_session=tenant-{n}")).send().await?;
                ensure!(answer.status().is_success(), "{url} was answered with {}", answer.status());
                let page = answer.text().await?;
                if number >= WARM_UPS {
                    times.push(started.elapsed());
                }
                ensure!(page.contains("/forecast/v1/"), "the page shows no route:\n{page}");
            }
            pages.push(page(tenant, of_tenant, range, times)?);
            say(&format!("{:?}", pages.last()));
        }
    }
    for line in stand.slowest_statements().await? {
        say(&line);
    }
    let mut tables = Vec::new();
    for table in TABLES {
        let (heap, indexes) = table_bytes(&stand.pool, table).await?;
        let sql = format!(
            "SELECT sum(greatest(reltuples, 0))::bigint FROM pg_class
             WHERE oid IN (SELECT relid FROM pg_partition_tree('{table}') WHERE isleaf UNION SELECT '{table}'::regclass) AND relkind = 'r'"
        );
        let count = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&stand.pool).await?;
        tables.push((table.to_owned(), count, heap, indexes));
    }
    let summed_rows = sqlx::query_scalar("SELECT 15 * count(*) FROM usage_rollup_15m").fetch_one(&stand.pool).await?;
    let rows = sqlx::query_scalar("SELECT coalesce(sum(rows), 0)::bigint FROM usage_segments").fetch_one(&stand.pool).await?;
    drop(portal);
    stand.postgres.stop().await?;
    Ok(Pages { tenants: tenants.count(), summed_rows, rows, row_days, tables, requests, pages })
}

fn page(tenant: &str, rows: i64, range: &str, mut times: Vec<Duration>) -> anyhow::Result<Page> {
    times.sort_unstable();
    let at = |per_hundred: usize| times.get((times.len() * per_hundred).div_ceil(100).saturating_sub(1)).map(Duration::as_micros);
    let micros = |time: Option<u128>| anyhow::Ok(u64::try_from(time.context("nothing was measured")?)?);
    Ok(Page { tenant: tenant.into(), rows, range: range.into(), p50: micros(at(50))?, p99: micros(at(99))?, most: micros(at(100))? })
}

async fn generate(url: &str, rows: u64, row_days: u32) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    for statement in
        include_str!("generated.sql").replace("$ROWS", &rows.to_string()).replace("$DAYS", &row_days.to_string()).split("\n--------\n")
    {
        let started = Instant::now();
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.with_context(|| statement.to_owned())?;
        let first = statement.lines().find(|line| !line.starts_with("--")).unwrap_or_default();
        say(&format!("{:6.1} s  {first}", started.elapsed().as_secs_f64()));
    }
    connection.close().await?;
    Ok(())
}
