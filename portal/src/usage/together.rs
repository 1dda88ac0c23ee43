//! Batches that wait at the same time are taken in the same transaction.
//!
//! Whoever brings a batch puts it in a queue and waits for one of a few places to lead; with a place it takes all that is queued by then, which may or
//! may not hold its own batch. While one transaction commits, the next group gathers: the higher the load, the larger the groups.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use calendar::Timestamp;
use gateway_control::usage::UsageBatch;
use tokio::sync::{Semaphore, oneshot};

use super::ingest::{Accepted, Offered, accept, accept_all};
use crate::{
    app::App,
    error::{Error, Result},
    gateways::Authenticated,
};

/// How many transactions take batches at once.
const LEADERS: usize = 2;
/// The most usage rows of a group of several batches.
const GROUP_ROWS: usize = 60_000;

/// A batch that waits, and who waits for it.
#[derive(Debug)]
struct Waiting {
    gateway: Authenticated,
    batch: UsageBatch,
    now: Timestamp,
    answer: oneshot::Sender<Result<Accepted>>,
}

/// The batches that wait in this process.
#[derive(Debug)]
pub struct Together {
    queue: Mutex<VecDeque<Waiting>>,
    leaders: Semaphore,
}

impl Default for Together {
    fn default() -> Self {
        Self { queue: Mutex::default(), leaders: Semaphore::new(LEADERS) }
    }
}

impl Together {
    /// Takes a batch, alone or with others; answers after the commit.
    ///
    /// # Errors
    /// Those of [`accept`].
    pub async fn accept(app: &App, gateway: Authenticated, batch: UsageBatch, now: Timestamp) -> Result<Accepted> {
        let (answer, answered) = oneshot::channel();
        let this = &app.ingest_together;
        this.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(Waiting { gateway, batch, now, answer });
        // Every batch in the queue has somebody here who waits for a place, so that none is left behind.
        let place = this.leaders.acquire().await.map_err(Error::internal)?;
        let group = this.next_group();
        if !group.is_empty() {
            let app = app.clone();
            // A task of its own: the others in the group do not depend on whether this gateway goes away.
            tokio::spawn(async move { take(&app, group).await }).await.map_err(Error::internal)?;
        }
        drop(place);
        answered.await.map_err(Error::internal)?
    }

    fn next_group(&self) -> Vec<Waiting> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut group, mut rows) = (Vec::new(), 0);
        while let Some(next) = queue.front() {
            rows += next.batch.rows.len();
            if rows > GROUP_ROWS && !group.is_empty() {
                break;
            }
            group.extend(queue.pop_front());
        }
        group
    }
}

/// Takes a group in one transaction. If the database fails at it, each batch is tried alone, so that none suffers for another.
async fn take(app: &App, group: Vec<Waiting>) {
    match take_group(app, &group).await {
        Ok(answers) => group.into_iter().zip(answers).for_each(|(waiting, answer)| tell(waiting.answer, answer)),
        Err(error) if group.len() == 1 => {
            if let Some(waiting) = group.into_iter().next() {
                tell(waiting.answer, Err(error));
            }
        }
        Err(error) => {
            tracing::warn!(?error, batches = group.len(), "batches of usage could not be taken together; taking each alone");
            for waiting in group {
                let answer = take_one(app, &waiting).await;
                tell(waiting.answer, answer);
            }
        }
    }
}

fn tell(to: oneshot::Sender<Result<Accepted>>, answer: Result<Accepted>) {
    // A gateway that has gone away offers the segment again, and hears that it was taken.
    let _ = to.send(answer);
}

async fn take_group(app: &App, group: &[Waiting]) -> Result<Vec<Result<Accepted>>> {
    let offered: Vec<Offered<'_>> =
        group.iter().map(|waiting| Offered { gateway: &waiting.gateway, batch: &waiting.batch, now: waiting.now }).collect();
    let mut tx = app.begin().await?;
    let answers = accept_all(&mut tx, &offered).await?;
    tx.commit().await?;
    Ok(answers)
}

async fn take_one(app: &App, waiting: &Waiting) -> Result<Accepted> {
    let mut tx = app.begin().await?;
    let accepted = accept(&mut tx, &waiting.gateway, &waiting.batch, waiting.now).await?;
    tx.commit().await?;
    Ok(accepted)
}
