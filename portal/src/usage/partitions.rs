//! Monthly partitions of the tables that grow without end. They are made ahead and dropped by retention; what has none falls into the default partition and is moved out of it
//! when its month is made, so that usage is never lost for want of a partition.

use std::time::Duration;

use calendar::Timestamp;
use jiff::{ToSpan, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{partition_store as store, watermark};
use crate::{
    app::App,
    db::Tx,
    error::{Error, Result},
    jobs::Job,
};

/// How many months beyond the present one are made.
const MONTHS_AHEAD: i32 = 3;
/// The most months that one call makes.
const MAX_MONTHS: i32 = 240;

/// Makes the partitions of this month and the next ones, where they are missing.
pub async fn make_ahead(tx: &mut Tx, now: Timestamp) -> Result<usize> {
    let ahead = month_of(now).saturating_add(MONTHS_AHEAD.months());
    make_between(tx, now, ahead.to_zoned(TimeZone::UTC).map_err(Error::internal)?.timestamp().into()).await
}

/// Makes the partitions of all months that hold an instant of `from` to `to`, where they are missing; answers how many there were not. For generated
/// and imported usage.
pub async fn make_between(tx: &mut Tx, from: Timestamp, to: Timestamp) -> Result<usize> {
    store::lock(tx).await?;
    let mut made = 0;
    let mut month = month_of(from);
    for _ in 0..MAX_MONTHS {
        if month > month_of(to) {
            break;
        }
        let next = month.saturating_add(1.months());
        for table in store::TABLES {
            made += usize::from(store::make(tx, table, month, next).await?);
        }
        month = next;
    }
    Ok(made)
}

/// Drops the months of rows that ended more than `keep_months` months before this one; answers how many tables those were. The sums stay, and so do
/// rows of periods that are not closed and rows that are not in the sums.
///
/// # Errors
/// When the tables are in use all the time: it is tried again later.
pub async fn drop_old(tx: &mut Tx, keep_months: u32, now: Timestamp) -> Result<usize> {
    store::lock(tx).await?;
    let mut before = month_of(now).saturating_sub(i64::from(keep_months).months());
    let open = store::earliest_open(tx).await?.into_iter().chain(watermark::lag(tx).await?.since);
    for at in open {
        before = before.min(month_of(at));
    }
    let mut dropped = 0;
    for table in store::TABLES {
        for month in store::months(tx, table).await?.into_iter().filter(|month| *month < before) {
            store::drop(tx, table, month).await?;
            let after = month.saturating_add(1.months()).to_zoned(TimeZone::UTC).map_err(Error::internal)?;
            store::set_rows_from(tx, after.timestamp().into()).await?;
            dropped += 1;
        }
    }
    Ok(dropped)
}

/// Keeps rows in their partitions until the transaction ends: a statement that began while they moved would see them in neither.
pub async fn hold(tx: &mut Tx) -> Result<()> {
    store::lock_shared(tx).await
}

/// Since when all accepted rows are there; `None` if none were ever dropped. What is compared with the rows begins here.
pub async fn rows_from(tx: &mut Tx) -> Result<Option<Timestamp>> {
    store::rows_from(tx).await
}

fn month_of(at: Timestamp) -> Date {
    at.jiff().to_zoned(TimeZone::UTC).date().first_of_month()
}

/// Makes partitions ahead and drops old ones, again and again.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct MakePartitions {}

impl MakePartitions {
    /// How often it runs.
    pub const EVERY: Duration = Duration::from_secs(86_400);
}

impl Job for MakePartitions {
    const KIND: &'static str = "usage.make_partitions";

    async fn run(self, app: &App, now: Timestamp) -> Result<()> {
        let mut tx = app.begin().await?;
        let made = make_ahead(&mut tx, now).await?;
        tx.commit().await?;
        if made > 0 {
            tracing::info!(made, "made partitions for usage");
        }
        if let Some(months) = app.config.usage_rows_months {
            let mut tx = app.begin().await?;
            let dropped = drop_old(&mut tx, months.get(), now).await?;
            tx.commit().await?;
            if dropped > 0 {
                tracing::info!(dropped, "dropped old partitions of usage");
            }
        }
        Ok(())
    }
}
