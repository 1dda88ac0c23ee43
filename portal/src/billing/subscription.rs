//! What billing needs to know of a subscription.

use calendar::{Anchor, Cadence, Period, Timestamp};
use ids::{ApplicationId, PlanVersionId, SubscriptionId, TenantId};
use rating::Proration;

use crate::error::{Error, Result};

/// A subscription as billing sees it.
#[derive(Debug, Clone)]
pub struct BilledSubscription {
    /// Who pays.
    pub tenant: TenantId,
    /// Its id.
    pub id: SubscriptionId,
    /// The application.
    pub application: ApplicationId,
    /// The application's name.
    pub application_name: String,
    /// The plan version.
    pub plan_version: PlanVersionId,
    /// The plan's name.
    pub plan_name: String,
    /// How long a period lasts.
    pub cadence: Cadence,
    /// From where periods are counted.
    pub anchor: Anchor,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub canceled_at: Option<Timestamp>,
    /// The start of the first period that is not closed.
    pub open_from: Timestamp,
}

impl BilledSubscription {
    /// The whole period that holds an instant.
    pub fn whole_period_at(&self, at: Timestamp) -> Period {
        self.anchor.period_at(self.cadence, at)
    }

    /// The part of a whole period in which it was served: up to its cancellation.
    pub fn served(&self, whole: Period) -> Period {
        Period { from: whole.from, to: self.canceled_at.map_or(whole.to, |canceled| canceled.clamp(whole.from, whole.to)) }
    }

    /// The next period to close; `None` when it is canceled and all is closed.
    pub fn next_to_close(&self) -> Option<Period> {
        if self.canceled_at.is_some_and(|canceled| canceled <= self.open_from) {
            return None;
        }
        Some(self.served(self.whole_period_at(self.open_from)))
    }

    /// The share of fixed fees for a period that is served from its start.
    pub fn proration(&self, served: Period) -> Result<Proration> {
        let whole = self.whole_period_at(served.from);
        Proration::between(served, whole, &self.anchor.zone).map_err(Error::internal)
    }
}
