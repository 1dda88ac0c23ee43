//! What was answered, what was recorded and what is billed, compared all the time (SEMANTICS M7). See `README.md` for the invariants.

mod compare_invoices;
mod compare_ledger;
mod compare_streams;
mod compare_usage;
mod difference_store;
mod finding;
mod invoice_store;
pub mod job;
mod ledger_store;
mod level_store;
mod state_store;
mod stream_store;
mod sum_store;
mod sweep;
mod usage_store;

use std::time::Duration;

use calendar::Timestamp;
use ids::{DifferenceId, GatewayId, JournalId, MeterId, NamespaceId, SubscriptionId, TenantId};
use rust_decimal::Decimal;

pub use finding::{Kind, Place};
pub use sweep::Pass;

use crate::{
    App,
    db::Tx,
    error::Result,
    identity::{Actor, Permission},
    subscriptions,
    usage::partitions,
};

/// The most differences of one page.
pub const MAX_PAGE: i64 = 200;
/// The most streams of one page.
const MAX_STREAMS: i64 = 500;
/// How far back a subscription's own account reaches.
const ACCOUNT_DAYS: u64 = 100;

/// Two sides that do not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its id.
    pub id: DifferenceId,
    /// What does not agree.
    pub kind: Kind,
    /// The hour, day, period or acceptance that it is about.
    pub at: Option<Timestamp>,
    /// What it is about.
    pub place: Place,
    /// The tenant's name, if it is about one's usage.
    pub tenant_name: Option<String>,
    /// The gateway, if it is about a journal.
    pub gateway: Option<GatewayId>,
    /// What should be: calls, records, rows, units or money, as the kind says.
    pub expected: Decimal,
    /// What is.
    pub found: Decimal,
    /// A sentence that names it.
    pub detail: String,
    /// When it was seen first.
    pub first_seen_at: Timestamp,
    /// When it was seen last.
    pub last_seen_at: Timestamp,
    /// When it was not found again.
    pub resolved_at: Option<Timestamp>,
}

/// Where the comparison stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// When a pass last looked at anything.
    pub passed_at: Option<Timestamp>,
    /// When the last whole sweep began: all that had been there by then was compared.
    pub full_started_at: Option<Timestamp>,
    /// When it ended.
    pub full_finished_at: Option<Timestamp>,
    /// When the present sweep began.
    pub sweep_started_at: Option<Timestamp>,
    /// When comparing began at all.
    pub created_at: Timestamp,
}

impl Progress {
    /// How old the newest whole comparison is; as old as the installation before the first.
    pub fn full_age(&self, now: Timestamp) -> Duration {
        now.since(self.full_started_at.unwrap_or(self.created_at))
    }

    /// How long ago anything was compared.
    pub fn pass_age(&self, now: Timestamp) -> Duration {
        now.since(self.passed_at.unwrap_or(self.created_at))
    }
}

/// Both sides of a stream: admitted = recorded + open + broken, but for what is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamAccount {
    /// The gateway that writes it.
    pub gateway: GatewayId,
    /// Its name.
    pub gateway_name: String,
    /// The journal.
    pub journal: JournalId,
    /// The stream.
    pub stream: u16,
    /// Calls that took a receipt number.
    pub admitted: u64,
    /// Calls whose record was accepted.
    pub recorded: u64,
    /// Calls that the gateway says go on; `None` if it does not say.
    pub open: Option<u64>,
    /// Calls that never got a record: of this run by the gateway's word, of earlier runs by the numbers that are missing.
    pub broken: Option<Decimal>,
    /// The first of the numbers of earlier runs.
    pub broken_numbers: String,
    /// Segments that the gateway waits to send.
    pub pending_segments: u64,
    /// When the gateway said so.
    pub reported_at: Option<Timestamp>,
    /// Open differences.
    pub differences: u64,
}

impl StreamAccount {
    /// Admitted, and not recorded, open or broken: on the way from the gateway to the portal.
    pub fn on_the_way(&self) -> Decimal {
        let known = Decimal::from(self.recorded) + Decimal::from(self.open.unwrap_or(0)) + self.broken.unwrap_or_default();
        (Decimal::from(self.admitted) - known).max(Decimal::ZERO)
    }
}

/// All that the page shows.
#[derive(Debug, Clone)]
pub struct Overview {
    /// Where the comparison stands.
    pub progress: Progress,
    /// Open differences by kind; empty if all is equal.
    pub counts: Vec<(Kind, i64)>,
    /// The streams.
    pub streams: Vec<StreamAccount>,
}

impl Overview {
    /// How many differences are open.
    pub fn open(&self) -> i64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }
}

/// A meter of a subscription's period, counted four times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterAccount {
    /// The period.
    pub period_start: Timestamp,
    /// The meter.
    pub meter: MeterId,
    /// Its name.
    pub name: String,
    /// What one unit is called.
    pub unit: String,
    /// Units of accepted rows.
    pub accepted: Decimal,
    /// Units of rollups.
    pub rolled_up: Decimal,
    /// Of these, what the plan's rule bills.
    pub billable: Decimal,
    /// What corrections add.
    pub corrected: Decimal,
    /// What is on invoices; `None` while nothing of the period is invoiced.
    pub invoiced: Option<Decimal>,
}

impl MeterAccount {
    /// Whether no side differs from the next; what is not invoiced yet does not.
    pub fn is_equal(&self) -> bool {
        self.accepted == self.rolled_up && self.invoiced.is_none_or(|invoiced| invoiced == self.billable + self.corrected)
    }
}

/// A subscription's own account.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its meters, the newest period first.
    pub meters: Vec<MeterAccount>,
    /// Open differences of its usage and invoices.
    pub differences: Vec<Difference>,
    /// When it was compared last, as part of a whole sweep.
    pub compared_at: Option<Timestamp>,
}

/// The page's figures.
pub async fn overview(tx: &mut Tx, actor: &Actor) -> Result<Overview> {
    actor.require(Permission::Operate)?;
    Ok(Overview {
        progress: state_store::progress(tx).await?,
        counts: difference_store::counts(tx).await?,
        streams: state_store::streams(tx, MAX_STREAMS).await?,
    })
}

/// Open differences, the oldest first; or resolved ones, the newest first.
pub async fn differences(tx: &mut Tx, actor: &Actor, resolved: bool, limit: i64, offset: i64) -> Result<Vec<Difference>> {
    actor.require(Permission::Operate)?;
    difference_store::list(tx, None, resolved, limit.clamp(1, MAX_PAGE), offset.max(0)).await
}

/// What was accepted, summed and invoiced of a subscription's last periods, for those who pay for it.
pub async fn account(tx: &mut Tx, actor: &Actor, tenant: TenantId, subscription: SubscriptionId, now: Timestamp) -> Result<Account> {
    actor.require(Permission::View(tenant))?;
    let subscription = subscriptions::get(tx, actor, tenant, subscription).await?;
    let namespace = NamespaceId::of(tenant);
    let since = now.minus(Duration::from_secs(ACCOUNT_DAYS * 86_400));
    // Periods whose rows were dropped cannot be counted from them any more.
    let since = partitions::rows_from(tx).await?.map_or(since, |rows_from| since.max(rows_from));
    Ok(Account {
        meters: state_store::meters(tx, namespace, subscription.id, since).await?,
        differences: difference_store::list(tx, Some((namespace, subscription.id)), false, MAX_PAGE, 0).await?,
        compared_at: state_store::progress(tx).await?.full_started_at,
    })
}

/// Compares as the job does; for tests and tools.
pub async fn compare(app: &App, actor: &Actor, now: Timestamp) -> Result<Pass> {
    actor.require(Permission::Operate)?;
    sweep::pass(app, now).await
}

/// What the monitor tells Prometheus: the open differences by kind, all kinds named, and the progress.
pub async fn gauges(tx: &mut Tx, actor: &Actor) -> Result<(Vec<(Kind, i64)>, Progress)> {
    actor.require(Permission::Operate)?;
    let open = difference_store::counts(tx).await?;
    let count = |kind: Kind| open.iter().find(|(known, _)| *known == kind).map_or(0, |(_, count)| *count);
    Ok((Kind::ALL.into_iter().map(|kind| (kind, count(kind))).collect(), state_store::progress(tx).await?))
}
