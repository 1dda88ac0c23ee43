//! Comparing, again and again.

use std::time::Duration;

use calendar::Timestamp;
use serde::{Deserialize, Serialize};

use super::{difference_store as differences, sweep};
use crate::{App, error::Result, jobs::Job};

/// How often a pass begins. With the time that gateways leave between two reports, and that of the comparison itself, a difference is found within a minute.
pub const EVERY: Duration = Duration::from_secs(10);
/// How long a difference that is resolved stays on the page.
const KEEP_RESOLVED: Duration = Duration::from_secs(90 * 86_400);
/// How long the word of gateways on their segments is kept.
const KEEP_TOLD: Duration = Duration::from_secs(30 * 86_400);

/// One pass of the comparison. Two at once do each other no harm: each step settles what it saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Compare {}

impl Job for Compare {
    const KIND: &'static str = "reconciliation.compare";
    /// The next pass is not far.
    const MAX_ATTEMPTS: i32 = 1;
    const TIMEOUT: Duration = Duration::from_secs(90);

    async fn run(self, app: &App, now: Timestamp) -> Result<()> {
        let pass = sweep::pass(app, now).await?;
        if pass.finished {
            let mut tx = app.begin().await?;
            differences::remove_old(&mut tx, now.minus(KEEP_RESOLVED), now.minus(KEEP_TOLD)).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
