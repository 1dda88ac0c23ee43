//! The SQL of partitions. Names of tables cannot be parameters: they are put together here from constants and dates, and from nothing else.

use calendar::Timestamp;
use jiff::civil::Date;
use sqlx::AssertSqlSafe;

use crate::{db::Tx, error::Result};

/// The partitioned tables.
pub(super) const TABLES: [&str; 2] = ["usage_rows", "usage_latency"];
/// The key of the advisory lock under which partitions are made: "parts" in ASCII.
const LOCK: i64 = 0x70_61_72_74_73;

/// Whoever makes partitions does so alone.
pub(super) async fn lock(tx: &mut Tx) -> Result<()> {
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", LOCK).execute(&mut **tx).await?;
    Ok(())
}

/// Waits until nobody makes partitions, and keeps others from it until the transaction ends.
pub(super) async fn lock_shared(tx: &mut Tx) -> Result<()> {
    sqlx::query!("SELECT pg_advisory_xact_lock_shared($1)", LOCK).execute(&mut **tx).await?;
    Ok(())
}

/// Makes one month of one table; `false` if it is there. Rows of that month that are in the default partition move.
pub(super) async fn make(tx: &mut Tx, table: &'static str, from: Date, to: Date) -> Result<bool> {
    let name = format!("{table}_{:04}_{:02}", from.year(), from.month());
    let exists = sqlx::query_scalar!(r#"SELECT to_regclass($1) IS NOT NULL AS "exists!""#, name).fetch_one(&mut **tx).await?;
    if exists {
        return Ok(false);
    }
    let (from, to) = (format!("'{from} 00:00:00+00'"), format!("'{to} 00:00:00+00'"));
    // Only so may rows be deleted: those that move. Attaching looks through the default partition once; a matching CHECK spares it a second look at the new one.
    let sql = format!(
        "CREATE TABLE {name} (LIKE {table} INCLUDING ALL, CHECK (minute >= {from} AND minute < {to}));
         SET LOCAL tollkeeper.moves_rows = 'on';
         WITH moved AS (DELETE FROM {table}_default WHERE minute >= {from} AND minute < {to} RETURNING *) INSERT INTO {name} SELECT * FROM moved;
         SET LOCAL tollkeeper.moves_rows = 'off';
         ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to});"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **tx).await?;
    Ok(true)
}

/// The months of a table that are there, the oldest first.
pub(super) async fn months(tx: &mut Tx, table: &'static str) -> Result<Vec<Date>> {
    let names = sqlx::query_scalar!(
        r#"SELECT c.relname::text AS "name!" FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass($1)"#,
        table
    )
    .fetch_all(&mut **tx)
    .await?;
    let month = |name: &String| {
        let (year, month) = name.strip_prefix(table)?.strip_prefix('_')?.split_once('_')?;
        Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok()
    };
    let mut months: Vec<Date> = names.iter().filter_map(month).collect();
    months.sort_unstable();
    Ok(months)
}

/// Drops one month of one table. Waits five seconds at most for those who use the table, because everybody else waits behind.
pub(super) async fn drop(tx: &mut Tx, table: &'static str, month: Date) -> Result<()> {
    let sql = format!("SET LOCAL lock_timeout = '5s'; DROP TABLE {table}_{:04}_{:02};", month.year(), month.month());
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **tx).await?;
    Ok(())
}

/// The start of the earliest period of a subscription that is not closed.
pub(super) async fn earliest_open(tx: &mut Tx) -> Result<Option<Timestamp>> {
    Ok(sqlx::query_scalar!("SELECT min(open_from) FROM subscriptions WHERE canceled_at IS NULL OR open_from < canceled_at")
        .fetch_one(&mut **tx)
        .await?)
}

/// Notes that rows before a time are gone.
pub(super) async fn set_rows_from(tx: &mut Tx, at: Timestamp) -> Result<()> {
    sqlx::query!("UPDATE usage_retention SET rows_from = greatest(rows_from, $1)", at).execute(&mut **tx).await?;
    Ok(())
}

/// Since when rows are there; `None` if none were ever dropped.
pub(super) async fn rows_from(tx: &mut Tx) -> Result<Option<Timestamp>> {
    Ok(sqlx::query_scalar!("SELECT rows_from FROM usage_retention").fetch_one(&mut **tx).await?)
}
