//! The limits of a plan as policy entries carry them.
//!
//! Their JSON is stored by the portal and cached on gateways' disks. It changes by addition only: a new field has a default that keeps the old
//! meaning, and a field is never given a new meaning. The golden test below holds the first shape.

use ids::MeterId;

use crate::MICROUNITS_PER_UNIT;

/// The fastest rate that a limit may state. Above it the interval between two requests would be too short for whole nanoseconds to hold it
/// with less than 0.1 % of error.
const MAX_REQUESTS_PER_SECOND: u64 = 1_000_000;

/// The longest window of a rate limit: what is longer is a quota.
const MAX_PER_SECONDS: u32 = 86_400;

/// The longest time that a full burst may take to refill.
const MAX_REFILL_SECONDS: u64 = 366 * 86_400;

/// The longest name of a route group.
const MAX_ROUTE_GROUP_BYTES: usize = 64;

/// Whose requests share one rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Scope {
    /// All of a tenant's requests.
    Namespace,
    /// All requests on a subscription.
    Subscription,
    /// All requests of an application, over its subscriptions.
    Application,
    /// The requests of one API key.
    ApiKey,
}

impl Scope {
    /// The name in JSON, and the name of the limit in the `RateLimit` fields.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Subscription => "subscription",
            Self::Application => "application",
            Self::ApiKey => "api_key",
        }
    }
}

/// Requests per short window. Within any stretch of `t` seconds at most `burst + t * requests / per_seconds` are admitted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct RateLimit {
    /// How many requests the window refills.
    pub requests: u32,
    /// The length of the window in seconds, up to one day.
    pub per_seconds: u32,
    /// How many may come at once. Absent: `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Whose requests share the limit.
    pub scope: Scope,
    /// The routes to which it applies. Absent: all routes of the subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_group: Option<String>,
}

impl RateLimit {
    /// How many requests may come at once.
    pub fn burst(&self) -> u32 {
        self.burst.unwrap_or(self.requests)
    }

    /// Whether the values make sense; the error names the field and the fix.
    pub fn validate(&self) -> Result<(), InvalidLimit> {
        if self.requests == 0 {
            return Err(InvalidLimit::new("requests", "must be at least 1; to close a route, leave it out of the plan"));
        }
        if self.per_seconds == 0 || self.per_seconds > MAX_PER_SECONDS {
            return Err(InvalidLimit::new("per_seconds", "must be between 1 and 86400; use a quota for longer stretches"));
        }
        if u64::from(self.requests) > MAX_REQUESTS_PER_SECOND * u64::from(self.per_seconds) {
            return Err(InvalidLimit::new("requests", "must not pass 1000000 a second; leave the limit out if no bound is meant"));
        }
        if self.burst == Some(0) {
            return Err(InvalidLimit::new("burst", "must be at least 1; leave it out to allow a burst of `requests`"));
        }
        if u64::from(self.burst()) * u64::from(self.per_seconds) > MAX_REFILL_SECONDS * u64::from(self.requests) {
            return Err(InvalidLimit::new("burst", "must refill within 366 days; lower it, or use a quota"));
        }
        match &self.route_group {
            Some(group) if !is_route_group(group) => {
                Err(InvalidLimit::new("route_group", "must have 1 to 64 of a-z, 0-9, `-` and `_`; leave it out to cover all routes"))
            }
            _ => Ok(()),
        }
    }
}

/// Route groups are named in header fields, so that they need no escapes.
fn is_route_group(name: &str) -> bool {
    (1..=MAX_ROUTE_GROUP_BYTES).contains(&name.len()) && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

/// What happens when a quota is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Enforcement {
    /// Calls are denied. The sum of admitted units never passes the limit, over any number of gateways.
    Hard,
    /// Calls are admitted; use beyond is billed and alerted.
    Soft,
}

/// What a gateway does with a hard quota when its lease is empty and the portal does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum WhenUnreachable {
    /// Answer 503 `quota_unknown`.
    #[default]
    Deny,
    /// Admit up to a bound per gateway and period: the provider's stated exposure.
    Allow {
        /// The bound in micro-units.
        max_microunits: i64,
    },
}

/// Units of a meter per billing period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct QuotaLimit {
    /// What is counted.
    pub meter: MeterId,
    /// How much the period allows, in micro-units.
    pub limit_microunits: i64,
    /// Hard or soft.
    pub enforcement: Enforcement,
    /// What to do without the portal. It matters to hard quotas only.
    #[serde(default)]
    pub when_unreachable: WhenUnreachable,
}

impl QuotaLimit {
    /// The limit in whole units, rounded down: what people and headers are told.
    pub const fn limit_units(&self) -> i64 {
        self.limit_microunits.div_euclid(MICROUNITS_PER_UNIT)
    }

    /// Whether the values make sense; the error names the field and the fix.
    pub fn validate(&self) -> Result<(), InvalidLimit> {
        if self.limit_microunits < 0 {
            return Err(InvalidLimit::new("limit_microunits", "must not be negative; 0 denies every call"));
        }
        match self.when_unreachable {
            WhenUnreachable::Allow { max_microunits } if max_microunits <= 0 => {
                Err(InvalidLimit::new("when_unreachable.max_microunits", "must be above 0; use mode `deny` to admit nothing"))
            }
            _ => Ok(()),
        }
    }
}

/// A limit that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {fix}")]
pub struct InvalidLimit {
    /// The field, as JSON names it.
    pub field: &'static str,
    /// What it must be.
    pub fix: &'static str,
}

impl InvalidLimit {
    const fn new(field: &'static str, fix: &'static str) -> Self {
        Self { field, fix }
    }
}

#[cfg(test)]
mod tests {
    use ids::Uuid;
    use serde_json::json;

    use super::*;

    fn rate_limit() -> RateLimit {
        RateLimit { requests: 100, per_seconds: 60, burst: None, scope: Scope::Subscription, route_group: None }
    }

    #[test]
    fn json_of_the_first_version_is_read_and_written_for_ever() {
        let limits = [
            (rate_limit(), json!({"requests": 100, "per_seconds": 60, "scope": "subscription"})),
            (
                RateLimit { burst: Some(20), scope: Scope::ApiKey, route_group: Some("search".into()), ..rate_limit() },
                json!({"requests": 100, "per_seconds": 60, "burst": 20, "scope": "api_key", "route_group": "search"}),
            ),
        ];
        for (limit, golden) in limits {
            assert_eq!(serde_json::to_value(&limit).expect("limits are JSON"), golden);
            assert_eq!(serde_json::from_value::<RateLimit>(golden).expect("the golden JSON"), limit);
        }
        let meter = MeterId::from_uuid(Uuid::from_u128(0));
        let quotas = [
            (
                QuotaLimit {
                    meter,
                    limit_microunits: 10_000_000_000,
                    enforcement: Enforcement::Hard,
                    when_unreachable: WhenUnreachable::Allow { max_microunits: 500_000_000 },
                },
                json!({"meter": "mtr_00000000000000000000000000", "limit_microunits": 10_000_000_000_i64, "enforcement": "hard",
                       "when_unreachable": {"mode": "allow", "max_microunits": 500_000_000}}),
            ),
            (
                QuotaLimit { meter, limit_microunits: 0, enforcement: Enforcement::Soft, when_unreachable: WhenUnreachable::Deny },
                json!({"meter": "mtr_00000000000000000000000000", "limit_microunits": 0, "enforcement": "soft",
                       "when_unreachable": {"mode": "deny"}}),
            ),
        ];
        for (quota, golden) in quotas {
            assert_eq!(serde_json::to_value(quota).expect("quotas are JSON"), golden);
            assert_eq!(serde_json::from_value::<QuotaLimit>(golden).expect("the golden JSON"), quota);
        }
    }

    #[test]
    fn errors_name_the_field() {
        let field = |limit: RateLimit| limit.validate().expect_err("an invalid limit").field;
        assert_eq!(rate_limit().validate(), Ok(()));
        assert_eq!(field(RateLimit { requests: 0, ..rate_limit() }), "requests");
        assert_eq!(field(RateLimit { requests: 60_000_001, ..rate_limit() }), "requests");
        assert_eq!(field(RateLimit { per_seconds: 0, ..rate_limit() }), "per_seconds");
        assert_eq!(field(RateLimit { per_seconds: 86_401, ..rate_limit() }), "per_seconds");
        assert_eq!(field(RateLimit { burst: Some(0), ..rate_limit() }), "burst");
        assert_eq!(field(RateLimit { requests: 1, per_seconds: 86_400, burst: Some(367), ..rate_limit() }), "burst");
        for name in ["", "Search", "a b", "\"", &"a".repeat(65)] {
            assert_eq!(field(RateLimit { route_group: Some(name.into()), ..rate_limit() }), "route_group", "{name}");
        }

        let quota = QuotaLimit {
            meter: MeterId::from_uuid(Uuid::from_u128(0)),
            limit_microunits: 1_500_000,
            enforcement: Enforcement::Hard,
            when_unreachable: WhenUnreachable::Deny,
        };
        assert_eq!(quota.validate(), Ok(()));
        assert_eq!(quota.limit_units(), 1);
        let negative = QuotaLimit { limit_microunits: -1, ..quota };
        assert_eq!(negative.validate().expect_err("an invalid quota").field, "limit_microunits");
        let allow_nothing = QuotaLimit { when_unreachable: WhenUnreachable::Allow { max_microunits: 0 }, ..quota };
        assert_eq!(allow_nothing.validate().expect_err("an invalid quota").field, "when_unreachable.max_microunits");
    }
}
