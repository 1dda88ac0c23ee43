//! Recalls on their way to gateways: whichever process an empty gateway asks, all processes tell the gateways that watch there.

use std::{sync::Arc, time::Duration};

use gateway_control::lease::QuotaSlot;
use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::broadcast;

use super::store;
use crate::{
    App,
    error::{Error, Result},
};

/// How many recalls a slow stream may miss. The ledger recalls again while a call waits.
const QUEUE: usize = 1024;
/// How long to wait after the connection that listens was lost.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// The recalls that this process hears of. Clones share them.
#[derive(Debug, Clone)]
pub struct Recalls(Arc<broadcast::Sender<QuotaSlot>>);

impl Default for Recalls {
    fn default() -> Self {
        Self(Arc::new(broadcast::Sender::new(QUEUE)))
    }
}

impl Recalls {
    /// Hears of those that come from now on.
    pub fn watch(&self) -> broadcast::Receiver<QuotaSlot> {
        self.0.subscribe()
    }
}

/// Announces recalls after the exchange that made them has been committed. They are asked for again, so one that is lost does no harm.
pub async fn announce_recalls(pool: &PgPool, recalls: &[QuotaSlot]) -> Result<()> {
    for slot in recalls {
        store::notify_recall(pool, &serde_json::to_value(slot)?).await?;
    }
    Ok(())
}

/// Listens until the process stops.
pub async fn follow_recalls(app: App) {
    loop {
        let failed = tokio::select! {
            () = app.shutdown.cancelled() => return,
            failed = listen(&app) => failed,
        };
        if let Err(error) = failed {
            tracing::warn!(?error, "recalls of leases are not heard; trying again");
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(RECONNECT_AFTER) => {}
        }
    }
}

async fn listen(app: &App) -> Result<()> {
    let mut listener = PgListener::connect_with(&app.pool).await?;
    listener.listen("quota_recalls").await?;
    loop {
        let notification = listener.recv().await?;
        let slot = serde_json::from_str(notification.payload()).map_err(Error::internal)?;
        // Without a stream nobody needs to hear it.
        let _ = app.recalls.0.send(slot);
    }
}
