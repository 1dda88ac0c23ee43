//! Housekeeping.

use std::time::Duration;

use calendar::Timestamp;
use serde::{Deserialize, Serialize};

use super::store;
use crate::{app::App, error::Result, jobs::Job};

/// How long a key of the API reference is kept after its end: a gateway that was away may still bring usage that names it.
const KEPT: Duration = Duration::from_secs(7 * 86_400);

/// Removes keys of the API reference that ended.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct RemoveTryItKeys {}

impl Job for RemoveTryItKeys {
    const KIND: &'static str = "applications.remove_try_it_keys";

    async fn run(self, app: &App, now: Timestamp) -> Result<()> {
        let mut tx = app.begin().await?;
        store::remove_try_it_keys(&mut tx, now.minus(KEPT)).await?;
        app.commit(tx).await
    }
}
