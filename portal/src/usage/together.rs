//! Batches that wait at the same time are taken in the same transaction.
//!
//! Whoever brings a batch puts it in a queue and waits: for its answer, or to lead. A leader takes all that is queued by then, which may or may not hold
//! its own batch. While nobody leads, the next one does; a second one joins as soon as there is enough for a group that is worth a transaction. So a lone
//! batch never waits for others, and the higher the load, the larger the groups.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use calendar::Timestamp;
use gateway_control::usage::UsageBatch;
use tokio::sync::{Notify, oneshot};

use super::ingest::{Accepted, Offered, accept, accept_all};
use crate::{
    app::App,
    error::{Error, Result},
    gateways::Authenticated,
};

/// How many transactions take batches at once.
const LEADERS: usize = 2;
/// How many usage rows must wait for another transaction to begin beside one.
const ENOUGH_ROWS: usize = 24_000;
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

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Usage rows of what waits.
    rows: usize,
    /// How many transactions take batches now.
    leaders: usize,
}

/// The batches that wait in this process.
#[derive(Debug, Default)]
pub struct Together {
    queue: Mutex<Queue>,
    /// That a batch came, or a leader ended.
    changed: Notify,
}

/// A place among the leaders, until it is dropped.
struct Place {
    app: App,
}

impl Drop for Place {
    fn drop(&mut self) {
        let this = &self.app.ingest_together;
        this.queue().leaders -= 1;
        this.changed.notify_waiters();
    }
}

impl Together {
    /// Takes a batch, alone or with others; answers after the commit.
    ///
    /// # Errors
    /// Those of [`accept`].
    pub async fn accept(app: &App, gateway: Authenticated, batch: UsageBatch, now: Timestamp) -> Result<Accepted> {
        let (answer, mut answered) = oneshot::channel();
        let this = &app.ingest_together;
        this.push(Waiting { gateway, batch, now, answer });
        loop {
            let changed = this.changed.notified();
            tokio::pin!(changed);
            // From here on nothing that changes is missed.
            changed.as_mut().enable();
            if let Some(group) = this.queue().lead() {
                let place = Place { app: app.clone() };
                // A task of its own: the others in the group do not depend on whether this gateway goes away.
                tokio::spawn(async move {
                    take(&place.app, group).await;
                });
            }
            tokio::select! {
                accepted = &mut answered => return accepted.map_err(Error::internal)?,
                () = changed => {}
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, waiting: Waiting) {
        let mut queue = self.queue();
        queue.rows += waiting.batch.rows.len();
        queue.waiting.push_back(waiting);
        drop(queue);
        self.changed.notify_waiters();
    }
}

impl Queue {
    /// The next group, if there is one and a place to lead it, which is taken then. Whoever gets it must give the place back.
    fn lead(&mut self) -> Option<Vec<Waiting>> {
        let may_lead = self.leaders == 0 || (self.leaders < LEADERS && self.rows >= ENOUGH_ROWS);
        if self.waiting.is_empty() || !may_lead {
            return None;
        }
        let (mut group, mut rows) = (Vec::new(), 0);
        while let Some(next) = self.waiting.front() {
            rows += next.batch.rows.len();
            if rows > GROUP_ROWS && !group.is_empty() {
                break;
            }
            self.rows -= next.batch.rows.len();
            group.extend(self.waiting.pop_front());
        }
        self.leaders += 1;
        Some(group)
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
