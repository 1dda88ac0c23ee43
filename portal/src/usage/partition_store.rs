//! The SQL of partitions. Names of tables cannot be parameters: they are put together here from constants and dates, and from nothing else.

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

/// Makes one month of one table; `false` if it is there. Rows of that month that are in the default partition move.
pub(super) async fn make(tx: &mut Tx, table: &'static str, from: Date, to: Date) -> Result<bool> {
    let name = format!("{table}_{:04}_{:02}", from.year(), from.month());
    let exists = sqlx::query_scalar!(r#"SELECT to_regclass($1) IS NOT NULL AS "exists!""#, name).fetch_one(&mut **tx).await?;
    if exists {
        return Ok(false);
    }
    let (from, to) = (format!("'{from} 00:00:00+00'"), format!("'{to} 00:00:00+00'"));
    // Attaching looks through the default partition once; a matching CHECK spares it a second look at the new one.
    let sql = format!(
        "CREATE TABLE {name} (LIKE {table} INCLUDING ALL, CHECK (minute >= {from} AND minute < {to}));
         WITH moved AS (DELETE FROM {table}_default WHERE minute >= {from} AND minute < {to} RETURNING *) INSERT INTO {name} SELECT * FROM moved;
         ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to});"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **tx).await?;
    Ok(true)
}
