use calendar::Timestamp;
use serde_json::json;

use super::*;
use crate::policy::facts::{ApiKeyFacts, SettingsFacts};

const AT: Timestamp = Timestamp::UNIX_EPOCH;

fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn body(facts: Facts) -> serde_json::Value {
    serde_json::to_value(compile(&facts).expect("good facts").body).expect("a body is JSON")
}

fn fault(facts: Facts) -> &'static str {
    compile(&facts).expect_err("bad facts").column
}

fn service() -> ServiceFacts {
    ServiceFacts {
        id: uuid(1),
        name: "Weather".into(),
        upstream_url: "http://10.0.0.1:9000/base".into(),
        sandbox_url: None,
        connect_timeout_ms: 5000,
        first_byte_timeout_ms: 60000,
        options: json!({}),
        product_published_at: Some(AT),
    }
}

fn route() -> RouteFacts {
    RouteFacts {
        id: uuid(2),
        product_id: uuid(3),
        product_slug: "weather".into(),
        service_id: uuid(1),
        method: "GET".into(),
        path: "/weather/v1/{city}".into(),
        rate_group: None,
        meters: json!([{ "meter": "mtr_00000000000000000000000004", "source": { "from": "call" }, "default_units": "1", "max_units": "1" }]),
        options: json!({}),
        retired_at: None,
        product_published_at: Some(AT),
    }
}

fn plan_version() -> PlanVersionFacts {
    PlanVersionFacts {
        id: uuid(5),
        plan_slug: "pro".into(),
        products: vec![uuid(9), uuid(3)],
        rate_limits: json!([{ "requests": 10, "per_seconds": 1, "scope": "subscription" }]),
        quotas: json!([{ "meter": "mtr_00000000000000000000000004", "limit_microunits": 1_000_000, "enforcement": "hard" }]),
        cadence: "month".into(),
        billable: json!({ "statuses": [[200, 499]], "except": [429] }),
        published_at: Some(AT),
    }
}

fn subscription() -> SubscriptionFacts {
    SubscriptionFacts {
        tenant_id: uuid(6),
        id: uuid(7),
        application_id: uuid(8),
        plan_version_id: uuid(5),
        state: "active".into(),
        anchor_date: "2026-01-31".into(),
        time_zone: "Europe/Oslo".into(),
    }
}

fn api_key() -> ApiKeyFacts {
    ApiKeyFacts {
        tenant_id: uuid(6),
        id: uuid(10),
        application_id: uuid(8),
        mode: "live".into(),
        digest: vec![0xab; 32],
        expires_at: Some(AT),
        revoked_at: None,
        application_archived_at: None,
    }
}

/// What gateways are sent, field by field, in the format's first version.
#[test]
fn entries_of_the_first_version() {
    let settings = SettingsFacts { portal_origin: "https://p.example".into(), upgrade_url: "https://p.example/pricing".into() };
    assert_eq!(
        body(Facts::Settings(settings)),
        json!({ "kind": "settings", "cors_origins": ["https://p.example"], "upgrade_url": "https://p.example/pricing" })
    );
    assert_eq!(
        body(Facts::Service(service())),
        json!({ "kind": "service", "id": "svc_00000000000000000000000001", "name": "Weather", "upstream": "http://10.0.0.1:9000/base",
                "sandbox": null, "connect_timeout_ms": 5000, "first_byte_timeout_ms": 60000 })
    );
    assert_eq!(
        body(Facts::Route(route())),
        json!({ "kind": "route", "id": "rte_00000000000000000000000002", "product": "prd_00000000000000000000000003", "product_slug": "weather",
                "service": "svc_00000000000000000000000001", "method": "GET", "path": "/weather/v1/{city}", "strip_prefix": "/weather",
                "group": null, "meters": [{ "meter": "mtr_00000000000000000000000004", "source": { "from": "call" }, "default_units": "1",
                "max_units": "1" }] })
    );
    assert_eq!(
        body(Facts::PlanVersion(plan_version())),
        json!({ "kind": "plan_version", "id": "plv_00000000000000000000000005", "plan": "pro",
                "products": ["prd_00000000000000000000000003", "prd_00000000000000000000000009"],
                "rate_limits": [{ "requests": 10, "per_seconds": 1, "scope": "subscription" }],
                "quotas": [{ "meter": "mtr_00000000000000000000000004", "limit_microunits": 1_000_000, "enforcement": "hard",
                             "when_unreachable": { "mode": "deny" } }],
                "cadence": "month", "billable": { "statuses": [[200, 499]], "except": [429] } })
    );
    assert_eq!(
        body(Facts::Subscription(subscription())),
        json!({ "kind": "subscription", "id": "sub_00000000000000000000000007", "namespace": "ns_00000000000000000000000006",
                "application": "app_00000000000000000000000008", "plan_version": "plv_00000000000000000000000005", "state": "active",
                "anchor_date": "2026-01-31", "time_zone": "Europe/Oslo" })
    );
    assert_eq!(
        body(Facts::ApiKey(api_key())),
        json!({ "kind": "api_key", "id": "key_0000000000000000000000000a", "digest": "ab".repeat(32), "namespace": "ns_00000000000000000000000006",
                "application": "app_00000000000000000000000008", "mode": "live", "expires_at": "1970-01-01T00:00:00Z" })
    );
}

#[test]
fn what_is_gone_or_not_yet_there_has_no_body() {
    let gone = [
        Facts::Service(ServiceFacts { product_published_at: None, ..service() }),
        Facts::Route(RouteFacts { product_published_at: None, ..route() }),
        Facts::Route(RouteFacts { retired_at: Some(AT), ..route() }),
        Facts::PlanVersion(PlanVersionFacts { published_at: None, ..plan_version() }),
        Facts::Subscription(SubscriptionFacts { state: "canceled".into(), ..subscription() }),
        Facts::ApiKey(ApiKeyFacts { revoked_at: Some(AT), ..api_key() }),
        Facts::ApiKey(ApiKeyFacts { application_archived_at: Some(AT), ..api_key() }),
    ];
    for facts in gone {
        assert_eq!(compile(&facts).expect("good facts").body, None, "{facts:?}");
    }
}

#[test]
fn tenants_entries_carry_their_namespace_and_the_rest_goes_to_all() {
    let namespace = |facts| compile(&facts).expect("good facts").namespace;
    assert_eq!(namespace(Facts::Subscription(subscription())), Some(NamespaceId::from_uuid(uuid(6))));
    let revoked = ApiKeyFacts { revoked_at: Some(AT), ..api_key() };
    assert_eq!(namespace(Facts::ApiKey(revoked)), Some(NamespaceId::from_uuid(uuid(6))), "its gateways must learn that it is gone");
    assert_eq!(namespace(Facts::Route(route())), None);
}

#[test]
fn states_and_methods() {
    for (state, named) in [("active", "active"), ("paused", "paused"), ("payment_overdue", "payment_overdue")] {
        assert_eq!(body(Facts::Subscription(SubscriptionFacts { state: state.into(), ..subscription() }))["state"], named);
    }
    for (method, sent) in [("*", json!(null)), ("post", json!("POST"))] {
        assert_eq!(body(Facts::Route(RouteFacts { method: method.into(), ..route() }))["method"], sent);
    }
}

#[test]
fn options_are_told_where_there_are_any() {
    let with = json!({ "addresses": ["10.0.0.2:80"], "protocol": "http2" });
    assert_eq!(body(Facts::Service(ServiceFacts { options: with.clone(), ..service() }))["options"], with);
    let with = json!({ "hosts": ["api.example.com"], "rewrite": "/forecast/{city}", "timeouts": { "total_ms": 500 } });
    assert_eq!(body(Facts::Route(RouteFacts { options: with.clone(), ..route() }))["options"], with);
    assert_eq!(body(Facts::Route(route())).get("options"), None);
}

#[test]
fn a_path_without_the_slug_keeps_its_first_segment() {
    for (path, prefix) in [("/weather/v1", "/weather"), ("/weather", "/weather"), ("/weatherman/v1", ""), ("/weather.v1.Weather/Get", "")] {
        assert_eq!(body(Facts::Route(RouteFacts { path: path.into(), ..route() }))["strip_prefix"], prefix, "{path}");
    }
}

#[test]
fn bad_facts_are_named_by_their_column() {
    assert_eq!(fault(Facts::Service(ServiceFacts { upstream_url: "ftp://host".into(), ..service() })), "upstream_url");
    assert_eq!(fault(Facts::Service(ServiceFacts { sandbox_url: Some("nowhere".into()), ..service() })), "sandbox_url");
    assert_eq!(fault(Facts::Route(RouteFacts { path: "weather".into(), ..route() })), "path");
    assert_eq!(fault(Facts::Route(RouteFacts { meters: json!([{}]), ..route() })), "meters");
    assert_eq!(fault(Facts::Route(RouteFacts { options: json!({ "rewrite": "/{other}" }), ..route() })), "options");
    assert_eq!(fault(Facts::Service(ServiceFacts { options: json!({ "addresses": ["http://a"] }), ..service() })), "options");
    assert_eq!(fault(Facts::PlanVersion(PlanVersionFacts { quotas: json!({}), ..plan_version() })), "quotas");
    assert_eq!(fault(Facts::PlanVersion(PlanVersionFacts { cadence: "hour".into(), ..plan_version() })), "cadence");
    assert_eq!(fault(Facts::Subscription(SubscriptionFacts { state: "odd".into(), ..subscription() })), "state");
    assert_eq!(fault(Facts::Subscription(SubscriptionFacts { time_zone: "Mars/Base".into(), ..subscription() })), "time_zone");
    assert_eq!(fault(Facts::ApiKey(ApiKeyFacts { digest: vec![1], ..api_key() })), "digest");
}
