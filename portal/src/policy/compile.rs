//! Facts to entries. Pure: the same facts give the same entry.

use gateway_control::{
    credential::KeyDigest,
    options::{RouteOptions, ServiceOptions},
    path::{PathError, PathTemplate},
    policy::{ApiKey, EntryBody, PlanVersion, Route, Service, Settings, Subscription, SubscriptionState},
    rules::{self, Fault},
    usage::Mode,
};
use ids::{ApiKeyId, ApiProductId, ApplicationId, NamespaceId, PlanVersionId, RouteId, ServiceId, SubscriptionId, Uuid};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::facts::{ApiKeyFacts, Facts, PlanVersionFacts, RouteFacts, ServiceFacts, SubscriptionFacts};

/// What the publisher writes for one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// Its state for gateways; `None` when they must not know it (any more).
    pub body: Option<EntryBody>,
    /// The namespace whose gateways are sent it; `None` for all gateways.
    pub namespace: Option<NamespaceId>,
}

/// Facts of which no entry can be made. The gateways keep the last good entry. What is written through the portal's operations never ends here: they
/// refuse it with the field's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{column}: {reason}")]
pub struct BadFacts {
    /// The column at fault.
    pub column: &'static str,
    /// Why.
    pub reason: String,
}

/// The entry of one thing.
///
/// # Errors
/// When a column holds what no gateway could use.
pub fn compile(facts: &Facts) -> Result<Compiled, BadFacts> {
    match facts {
        Facts::Settings(settings) => Ok(Compiled {
            body: Some(EntryBody::Settings(Settings {
                cors_origins: vec![settings.portal_origin.clone()],
                upgrade_url: settings.upgrade_url.clone(),
            })),
            namespace: None,
        }),
        Facts::Service(service) => service_entry(service).map(for_all),
        Facts::Route(route) => route_entry(route).map(for_all),
        Facts::PlanVersion(version) => plan_version_entry(version).map(for_all),
        Facts::Subscription(subscription) => Ok(of_tenant(subscription.tenant_id, subscription_entry(subscription)?)),
        Facts::ApiKey(key) => Ok(of_tenant(key.tenant_id, api_key_entry(key)?)),
    }
}

fn for_all(body: Option<EntryBody>) -> Compiled {
    Compiled { body, namespace: None }
}

fn of_tenant(tenant: Uuid, body: Option<EntryBody>) -> Compiled {
    Compiled { body, namespace: Some(NamespaceId::from_uuid(tenant)) }
}

fn service_entry(facts: &ServiceFacts) -> Result<Option<EntryBody>, BadFacts> {
    if facts.product_published_at.is_none() {
        return Ok(None);
    }
    for (column, url) in [("upstream_url", Some(&facts.upstream_url)), ("sandbox_url", facts.sandbox_url.as_ref())] {
        if let Some(url) = url {
            checked_url(column, url)?;
        }
    }
    let options: ServiceOptions = json("options", &facts.options)?;
    faultless(rules::service_faults(&options))?;
    Ok(Some(EntryBody::Service(Service {
        id: ServiceId::from_uuid(facts.id),
        name: facts.name.clone(),
        upstream: facts.upstream_url.clone(),
        sandbox: facts.sandbox_url.clone(),
        connect_timeout_ms: unsigned("connect_timeout_ms", facts.connect_timeout_ms)?,
        first_byte_timeout_ms: unsigned("first_byte_timeout_ms", facts.first_byte_timeout_ms)?,
        options: options.stated(),
    })))
}

fn route_entry(facts: &RouteFacts) -> Result<Option<EntryBody>, BadFacts> {
    if facts.product_published_at.is_none() || facts.retired_at.is_some() {
        return Ok(None);
    }
    let path: PathTemplate = facts.path.parse().map_err(|error: PathError| BadFacts { column: "path", reason: error.to_string() })?;
    let options: RouteOptions = json("options", &facts.options)?;
    faultless(rules::route_faults(&options, &path))?;
    Ok(Some(EntryBody::Route(Route {
        id: RouteId::from_uuid(facts.id),
        product: ApiProductId::from_uuid(facts.product_id),
        product_slug: facts.product_slug.clone(),
        service: ServiceId::from_uuid(facts.service_id),
        method: (facts.method != "*").then(|| facts.method.to_ascii_uppercase()),
        path: facts.path.clone(),
        strip_prefix: strip_prefix(&facts.product_slug, &facts.path),
        group: facts.rate_group.clone(),
        meters: json("meters", &facts.meters)?,
        options: options.stated(),
    })))
}

/// The product's slug, which is not the upstream's to know; nothing of a path that does without it.
fn strip_prefix(slug: &str, path: &str) -> String {
    let rest = path.strip_prefix('/').and_then(|path| path.strip_prefix(slug));
    if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) { format!("/{slug}") } else { String::new() }
}

fn faultless(faults: Vec<Fault>) -> Result<(), BadFacts> {
    match faults.into_iter().next() {
        Some(fault) => Err(BadFacts { column: "options", reason: format!("{}: {}", fault.field, fault.message) }),
        None => Ok(()),
    }
}

fn plan_version_entry(facts: &PlanVersionFacts) -> Result<Option<EntryBody>, BadFacts> {
    if facts.published_at.is_none() {
        return Ok(None);
    }
    let mut products: Vec<_> = facts.products.iter().copied().map(ApiProductId::from_uuid).collect();
    products.sort_unstable();
    Ok(Some(EntryBody::PlanVersion(PlanVersion {
        id: PlanVersionId::from_uuid(facts.id),
        plan: facts.plan_slug.clone(),
        products,
        rate_limits: json("rate_limits", &facts.rate_limits)?,
        quotas: json("quotas", &facts.quotas)?,
        cadence: facts
            .cadence
            .parse()
            .map_err(|error: calendar::CadenceError| BadFacts { column: "cadence", reason: error.to_string() })?,
        billable: json("billable", &facts.billable)?,
    })))
}

fn subscription_entry(facts: &SubscriptionFacts) -> Result<Option<EntryBody>, BadFacts> {
    let state = match facts.state.as_str() {
        "active" => SubscriptionState::Active,
        "paused" => SubscriptionState::Paused,
        "payment_overdue" => SubscriptionState::PaymentOverdue,
        "canceled" => return Ok(None),
        other => return Err(BadFacts { column: "state", reason: format!("`{other}` is not a state of a subscription") }),
    };
    facts.time_zone.parse::<calendar::TimeZone>().map_err(|error| BadFacts { column: "time_zone", reason: error.to_string() })?;
    Ok(Some(EntryBody::Subscription(Subscription {
        id: SubscriptionId::from_uuid(facts.id),
        namespace: NamespaceId::from_uuid(facts.tenant_id),
        application: ApplicationId::from_uuid(facts.application_id),
        plan_version: PlanVersionId::from_uuid(facts.plan_version_id),
        state,
        anchor_date: facts.anchor_date.clone(),
        time_zone: facts.time_zone.clone(),
    })))
}

/// A key that only expires needs no push: the entry says when, and the gateway looks at its clock.
fn api_key_entry(facts: &ApiKeyFacts) -> Result<Option<EntryBody>, BadFacts> {
    if facts.revoked_at.is_some() || facts.application_archived_at.is_some() {
        return Ok(None);
    }
    let digest = <[u8; 32]>::try_from(facts.digest.as_slice())
        .map_err(|_| BadFacts { column: "digest", reason: "is not 32 bytes long".to_owned() })?;
    let mode = match facts.mode.as_str() {
        "live" => Mode::Live,
        "test" => Mode::Test,
        other => return Err(BadFacts { column: "mode", reason: format!("`{other}` is neither live nor test") }),
    };
    Ok(Some(EntryBody::ApiKey(ApiKey {
        id: ApiKeyId::from_uuid(facts.id),
        digest: KeyDigest(digest),
        namespace: NamespaceId::from_uuid(facts.tenant_id),
        application: ApplicationId::from_uuid(facts.application_id),
        mode,
        expires_at: facts.expires_at,
    })))
}

fn checked_url(column: &'static str, text: &str) -> Result<(), BadFacts> {
    let bad = |reason: String| BadFacts { column, reason };
    let url = url::Url::parse(text).map_err(|error| bad(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(bad(format!("`{text}` is not an http or https address with a host")));
    }
    Ok(())
}

fn unsigned(column: &'static str, value: i32) -> Result<u32, BadFacts> {
    u32::try_from(value).map_err(|_| BadFacts { column, reason: "is negative".to_owned() })
}

fn json<T: DeserializeOwned>(column: &'static str, value: &Value) -> Result<T, BadFacts> {
    T::deserialize(value).map_err(|error| BadFacts { column, reason: error.to_string() })
}

#[cfg(test)]
mod tests;
