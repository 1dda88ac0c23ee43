//! Cost so far, as pages show it.

use calendar::{Period, TimeZone, Timestamp};
use ids::TenantId;

use super::charges::LineView;
use crate::{
    billing::{self, Preview},
    db::Tx,
    error::Result,
    identity::Actor,
    usage::{corrections, query::Charge},
};

/// What a subscription costs so far.
#[derive(Debug, Clone)]
pub struct CostView {
    /// The subscription's id.
    pub subscription: String,
    /// The application's name.
    pub application: String,
    /// The plan's name.
    pub plan: String,
    /// First day of the period.
    pub from: String,
    /// Last day of the period.
    pub last: String,
    /// How much of the period has passed, in percent.
    pub elapsed_percent: u8,
    /// The lines.
    pub lines: Vec<LineView>,
    /// Their sum.
    pub total: String,
    /// In which currency.
    pub currency: String,
    /// The estimate for the whole period.
    pub projected: Option<String>,
    /// The first and last day of a period that is about to be invoiced.
    pub closing: Option<(String, String)>,
    /// Whether it was canceled, so that this is its last period.
    pub is_last: bool,
}

impl CostView {
    /// A preview as text.
    pub fn new(preview: &Preview) -> Self {
        let zone = &preview.subscription.anchor.zone;
        let (from, last) = days(preview.period, zone);
        Self {
            subscription: preview.subscription.id.to_string(),
            application: preview.subscription.application_name.clone(),
            plan: preview.subscription.plan_name.clone(),
            from,
            last,
            elapsed_percent: preview.elapsed_percent,
            lines: preview.charges.iter().map(LineView::of_charge).collect(),
            total: preview.total.round().amount().to_string(),
            currency: preview.total.currency().to_string(),
            projected: preview.projected.map(|money| money.round().amount().to_string()),
            closing: preview.closing.map(|period| days(period, zone)),
            is_last: preview.subscription.canceled_at.is_some(),
        }
    }
}

/// The first and the last day of a period, in its zone.
pub fn days(period: Period, zone: &TimeZone) -> (String, String) {
    let last = period.to.minus(std::time::Duration::from_micros(1)).max(period.from);
    (zone.date_at(period.from).to_string(), zone.date_at(last).to_string())
}

/// Of every subscription that is live or has something to be invoiced.
pub async fn views(tx: &mut Tx, actor: &Actor, tenant: TenantId, now: Timestamp) -> Result<Vec<CostView>> {
    let previews = billing::previews(tx, actor, tenant, now).await?;
    let mut views = Vec::with_capacity(previews.len());
    for preview in &previews {
        let mut view = CostView::new(preview);
        for (line, meter) in view.lines.iter_mut().zip(preview.charges.iter().map(|charge| charge.meter)) {
            let Some(meter) = meter else { continue };
            let behind = Charge {
                tenant,
                subscription: preview.subscription.id,
                period_start: preview.period.from,
                meter,
                zone: preview.subscription.anchor.zone.clone(),
            };
            line.corrections = corrections::of_charge(tx, actor, &behind).await?;
        }
        views.push(view);
    }
    Ok(views)
}

/// The running billing period of a tenant: of its subscription that began first.
pub async fn running_period(tx: &mut Tx, actor: &Actor, tenant: TenantId, now: Timestamp) -> Result<Option<Period>> {
    billing::preview::running_period(tx, actor, tenant, now).await
}
