//! Closing what is due, again and again.

use std::time::Duration;

use calendar::Timestamp;
use serde::{Deserialize, Serialize};

use super::{close, close::Closed, invoice, late};
use crate::{App, error::Result, identity::Actor, jobs::Job};

/// How often the worker looks.
pub const EVERY: Duration = Duration::from_secs(60);

/// Closes every period whose cutoff has passed, each in a transaction of its own, and moves unpaid invoices to past due.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct CloseDue {}

impl Job for CloseDue {
    const KIND: &'static str = "billing.close_due";
    const TIMEOUT: Duration = Duration::from_secs(600);

    async fn run(self, app: &App, now: Timestamp) -> Result<()> {
        let actor = Actor::system();
        close_due(app, &actor, now).await?;
        let mut tx = app.begin().await?;
        let overdue = invoice::mark_past_due(&mut tx, &actor, now).await?;
        app.commit(tx).await?;
        if overdue > 0 {
            tracing::info!(invoices = overdue, "invoices are past due");
        }
        Ok(())
    }
}

/// Looks for what came late of canceled subscriptions.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SettleCanceled {}

impl SettleCanceled {
    /// How often.
    pub const EVERY: Duration = Duration::from_secs(3600);
    /// For how long after a cancellation something may come late. Journals are kept for a day after their ack, and a gateway that was cut off for longer
    /// still sends what it holds.
    const REACH: Duration = Duration::from_secs(400 * 86_400);
}

impl Job for SettleCanceled {
    const KIND: &'static str = "billing.settle_canceled";
    const TIMEOUT: Duration = Duration::from_secs(600);

    async fn run(self, app: &App, now: Timestamp) -> Result<()> {
        let actor = Actor::system();
        let issued = settle_canceled(app, &actor, now.minus(Self::REACH), now).await?;
        if issued > 0 {
            tracing::info!(issued, "final invoices and credit notes were issued");
        }
        Ok(())
    }
}

/// Bills what came late of subscriptions that were canceled since, and answers how many documents were issued.
pub async fn settle_canceled(app: &App, actor: &Actor, since: Timestamp, now: Timestamp) -> Result<usize> {
    let mut issued = 0;
    let mut after = None;
    loop {
        let mut tx = app.begin().await?;
        let page = late::canceled(&mut tx, actor, after, since).await?;
        tx.commit().await?;
        let Some(last) = page.last().copied() else { return Ok(issued) };
        for (tenant, subscription) in page {
            let mut tx = app.begin().await?;
            match late::settle_canceled(&mut tx, actor, tenant, subscription, now).await {
                Ok(document) => {
                    app.commit(tx).await?;
                    issued += usize::from(document.is_some());
                }
                Err(error) => tracing::error!(%tenant, %subscription, ?error, "what came late could not be billed; it is tried again"),
            }
        }
        after = Some(last);
    }
}

/// Closes all that is due and answers how many invoices were issued. A subscription that cannot be closed is logged and does not hold up the others;
/// it is tried again at the next look.
pub async fn close_due(app: &App, actor: &Actor, now: Timestamp) -> Result<usize> {
    let mut issued = 0;
    let mut after = None;
    loop {
        let mut tx = app.begin().await?;
        let page = close::due(&mut tx, actor, after, now).await?;
        tx.commit().await?;
        let Some(last) = page.last().copied() else { return Ok(issued) };
        for (tenant, subscription) in page {
            loop {
                let mut tx = app.begin().await?;
                match close::close_next(&mut tx, actor, tenant, subscription, now).await {
                    Ok(Closed::NotDue) => break,
                    Ok(Closed::Empty(_)) => app.commit(tx).await?,
                    Ok(Closed::Invoice(_)) => {
                        app.commit(tx).await?;
                        issued += 1;
                    }
                    Err(error) => {
                        tracing::error!(%tenant, %subscription, ?error, "a period could not be closed; it stays open");
                        break;
                    }
                }
            }
        }
        after = Some(last);
    }
}
