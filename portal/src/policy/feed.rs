//! Where the policy stands, as this process knows it. One query each [`POLL_INTERVAL`] serves all gateways that watch here, whichever process publishes.

use std::{sync::Arc, time::Duration};

use gateway_control::policy::Generation;
use ids::Uuid;
use tokio::sync::watch;

use super::store;
use crate::{App, error::Result};

/// How often the newest generation is looked up.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A place in the history of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Minted anew when the database is restored, which voids the generations.
    pub epoch: Uuid,
    /// The newest generation.
    pub generation: Generation,
}

/// The newest known position, to be waited for. Clones share it.
#[derive(Debug, Clone)]
pub struct Feed(Arc<watch::Sender<Option<Position>>>);

impl Default for Feed {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Feed {
    /// Tells all who wait, if the position is news: a later generation or another epoch.
    pub fn advance(&self, position: Position) {
        self.0.send_if_modified(|known| {
            let news = known.is_none_or(|known| known.epoch != position.epoch || known.generation < position.generation);
            if news {
                *known = Some(position);
            }
            news
        });
    }

    /// A receiver that is woken by each advance.
    pub fn watch(&self) -> watch::Receiver<Option<Position>> {
        self.0.subscribe()
    }

    /// How many streams wait.
    pub fn watchers(&self) -> usize {
        self.0.receiver_count()
    }
}

/// Follows the newest generation until the process stops.
pub async fn follow(app: App) {
    let mut failing = false;
    loop {
        match look(&app).await {
            Ok(position) => {
                failing = false;
                app.metrics.policy_generation.set(i64::try_from(position.generation.0).unwrap_or(i64::MAX));
                app.feed.advance(position);
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(?error, "the policy's generation cannot be read; trying again");
                }
            }
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

async fn look(app: &App) -> Result<Position> {
    let mut connection = app.pool.acquire().await?;
    store::position(&mut connection).await
}
