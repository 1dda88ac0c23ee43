//! `/api/v1/plans`: what is offered, and how operators offer it.

use gateway_control::units::Micros;
use portal_api::{Plan, PlanPrice, PlanQuota, PlanRateLimit};
use quota::Enforcement;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::App, catalog::PlanVersion};

mod create;
mod create_version;
mod get;
mod list;
mod publish_version;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list::list_plans, create::create_plan))
        .routes(routes!(get::get_plan))
        .routes(routes!(create_version::create_plan_version))
        .routes(routes!(publish_version::publish_plan_version))
}

fn shown(version: PlanVersion) -> Plan {
    let quota = |quota: &quota::QuotaLimit| PlanQuota {
        meter: quota.meter,
        limit: Micros::from(quota.limit_microunits).to_string(),
        hard: quota.enforcement == Enforcement::Hard,
    };
    let rate_limit = |limit: &quota::RateLimit| PlanRateLimit {
        requests: limit.requests,
        per_seconds: limit.per_seconds,
        burst: limit.burst(),
        scope: limit.scope.as_str().to_owned(),
        route_group: limit.route_group.clone(),
    };
    Plan {
        id: version.plan.id,
        slug: version.plan.slug,
        name: version.plan.name,
        summary: version.plan.summary,
        version_id: version.id,
        version: version.version,
        published_at: version.published_at,
        currency: version.currency.code().to_owned(),
        cadence: version.cadence,
        products: version.products,
        quotas: version.quotas.iter().map(quota).collect(),
        rate_limits: version.rate_limits.iter().map(rate_limit).collect(),
        prices: version
            .rate_cards
            .into_iter()
            .map(|card| PlanPrice { id: card.id, name: card.name, meter: card.meter, terms: card.terms })
            .collect(),
    }
}
