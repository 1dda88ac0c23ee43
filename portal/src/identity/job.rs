//! Housekeeping.

use std::time::Duration;

use calendar::Timestamp;
use serde::{Deserialize, Serialize};

use super::store;
use crate::{app::App, error::Result, jobs::Job};

/// Removes sessions, links and windows that have ended.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct RemoveEnded {}

impl Job for RemoveEnded {
    const KIND: &'static str = "identity.remove_ended";

    async fn run(self, app: &App, now: Timestamp) -> Result<()> {
        let mut tx = app.begin().await?;
        store::remove_ended(&mut tx, now, now.minus(Duration::from_secs(86_400))).await?;
        tx.commit().await?;
        Ok(())
    }
}
