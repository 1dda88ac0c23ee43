//! A tenant's application on a plan version. Invariants: `README.md`.

mod change;
mod create;
mod getting_started;
mod lifecycle;
mod store;

use calendar::{Anchor, Timestamp};
use ids::{ApplicationId, PlanVersionId, SubscriptionId, TenantId};

pub use change::change;
pub use create::{CreateSubscription, create};
pub use getting_started::{Checklist, getting_started};
pub use lifecycle::{cancel, pause, resume};

use crate::{
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
};

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Calls are served.
    Active,
    /// Calls are refused until it is resumed; fixed fees go on.
    Paused,
    /// Calls are refused until an invoice is paid.
    PaymentOverdue,
    /// It has ended.
    Canceled,
}

impl State {
    /// The name in Postgres, in REST and on pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::PaymentOverdue => "payment_overdue",
            Self::Canceled => "canceled",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        [Self::Active, Self::Paused, Self::PaymentOverdue, Self::Canceled]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| Error::internal(anyhow::anyhow!("unknown state of a subscription: {text}")))
    }
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Who pays.
    pub tenant: TenantId,
    /// Its id.
    pub id: SubscriptionId,
    /// The application that it lets call.
    pub application: ApplicationId,
    /// The application's name.
    pub application_name: String,
    /// What it may use, and what that costs.
    pub plan_version: PlanVersionId,
    /// The plan's name in URLs.
    pub plan_slug: String,
    /// The plan's name.
    pub plan_name: String,
    /// The edition of the plan.
    pub version: i32,
    /// Where it stands.
    pub state: State,
    /// From where its periods are counted.
    pub anchor: Anchor,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub canceled_at: Option<Timestamp>,
}

/// Which subscriptions a list holds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Of this application only.
    pub application: Option<ApplicationId>,
    /// Those that have ended, too.
    pub with_canceled: bool,
    /// Only after this one.
    pub after: Option<SubscriptionId>,
}

/// The tenant's subscriptions, newest first.
pub async fn list(tx: &mut Tx, actor: &Actor, tenant: TenantId, filter: Filter, limit: usize) -> Result<Vec<Subscription>> {
    actor.require(Permission::View(tenant))?;
    store::list(tx, tenant, filter, i64::try_from(limit).unwrap_or(i64::MAX)).await
}

/// One subscription.
pub async fn get(tx: &mut Tx, actor: &Actor, tenant: TenantId, id: SubscriptionId) -> Result<Subscription> {
    actor.require(Permission::View(tenant))?;
    store::get(tx, tenant, id).await?.ok_or_else(not_found)
}

fn not_found() -> Error {
    Error::not_found("This subscription")
}
