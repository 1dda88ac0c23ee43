use axum::{Json, http::StatusCode};
use gateway_control::{policy::BillableRule, units::Micros};
use portal_api::{CreatePlanVersion, CreateQuota, CreateRateLimit, Plan};
use quota::{Enforcement, QuotaLimit, RateLimit, Scope, WhenUnreachable};

use super::shown;
use crate::{
    api::{
        call::ApiCall,
        extract::{self, Path},
        problem::Problem,
    },
    catalog::{NewRateCard, VersionTerms, plan},
    error::{Error, Result},
    identity::Permission,
};

/// Create a version of a plan
///
/// For operators. The version is a draft, which nobody else sees before it is published; a plan has at most one.
#[utoipa::path(
    post, path = "/plans/{slug}/versions", operation_id = "plans.create_version", tag = "operator",
    params(("slug" = String, Path)), request_body = CreatePlanVersion,
    responses((status = CREATED, body = Plan), (status = 409, description = "The plan has a draft already.", body = portal_api::Problem, content_type = "application/problem+json")))]
pub(super) async fn create_plan_version(
    mut call: ApiCall,
    Path(slug): Path<String>,
    extract::Json(body): extract::Json<CreatePlanVersion>,
) -> Result<(StatusCode, Json<Plan>), Problem> {
    call.actor.require(Permission::Operate)?;
    let terms = terms(body)?;
    let (plan, _) = plan::plan_with_versions(&mut call.tx, &call.actor, &slug).await?;
    let version = plan::create_version(&mut call.tx, &call.actor, plan.id, terms, call.now).await.map_err(as_sent)?;
    call.commit().await?;
    Ok((StatusCode::CREATED, Json(shown(version))))
}

fn terms(body: CreatePlanVersion) -> Result<VersionTerms> {
    let quotas = body.quotas.into_iter().enumerate().map(|(index, quota)| quota_limit(index, &quota)).collect::<Result<_>>()?;
    let rate_limits = body.rate_limits.into_iter().enumerate().map(|(index, limit)| rate_limit(index, limit)).collect::<Result<_>>()?;
    let card = |card: portal_api::CreateRateCard| NewRateCard { name: card.name, meter: card.meter, terms: card.terms };
    Ok(VersionTerms {
        currency: body.currency.parse().map_err(|error| Error::invalid("currency", format!("{error}.")))?,
        cadence: body.cadence,
        rate_limits,
        quotas,
        billable: BillableRule::default(),
        products: body.products,
        rate_cards: body.rate_cards.into_iter().map(card).collect(),
    })
}

fn quota_limit(index: usize, quota: &CreateQuota) -> Result<QuotaLimit> {
    let field = format!("quotas[{index}].limit");
    let limit: Micros = quota.limit.parse().map_err(|error| Error::invalid(field.clone(), format!("{error}.")))?;
    let too_much = |_| Error::invalid(field, "Use less than 9 million million units, or leave the quota out.");
    Ok(QuotaLimit {
        meter: quota.meter,
        limit_microunits: i64::try_from(limit.0).map_err(too_much)?,
        enforcement: if quota.hard { Enforcement::Hard } else { Enforcement::Soft },
        when_unreachable: WhenUnreachable::Deny,
    })
}

fn rate_limit(index: usize, limit: CreateRateLimit) -> Result<RateLimit> {
    let scopes = [Scope::Namespace, Scope::Subscription, Scope::Application, Scope::ApiKey];
    let scope = scopes
        .into_iter()
        .find(|scope| scope.as_str() == limit.scope)
        .ok_or_else(|| Error::invalid(format!("rate_limits[{index}].scope"), "Use namespace, subscription, application or api_key."))?;
    let CreateRateLimit { requests, per_seconds, burst, route_group, .. } = limit;
    Ok(RateLimit { requests, per_seconds, burst, scope, route_group })
}

/// The operation names fields as they are stored.
fn as_sent(mut error: Error) -> Error {
    for field in &mut error.fields {
        let sent = match field.field.strip_suffix(".limit_microunits") {
            Some(place) => Some(format!("{place}.limit")),
            None => field
                .field
                .split_once("].")
                .filter(|(list, name)| list.starts_with("rate_cards[") && !["name", "meter"].contains(name))
                .map(|(list, name)| format!("{list}].terms.{name}")),
        };
        if let Some(sent) = sent {
            field.field = sent.into();
        }
    }
    error
}
