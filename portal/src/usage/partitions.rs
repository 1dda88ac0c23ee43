//! Monthly partitions of the tables that grow without end. They are made ahead; what has none falls into the default partition and is moved out of it
//! when its month is made, so that usage is never lost for want of a partition.

use std::time::Duration;

use calendar::Timestamp;
use jiff::{ToSpan, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::partition_store as store;
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

fn month_of(at: Timestamp) -> Date {
    at.jiff().to_zoned(TimeZone::UTC).date().first_of_month()
}

/// Makes partitions ahead, again and again.
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
        Ok(())
    }
}
