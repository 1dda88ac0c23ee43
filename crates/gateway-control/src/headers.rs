//! Header names that callers, upstreams and gateways agree on.

/// Where a caller puts its API key. `Authorization: Bearer` is read too.
pub const API_KEY: &str = "x-api-key";
/// Identity for the upstream; a value that a caller sends is removed.
pub const NAMESPACE: &str = "tollkeeper-namespace";
/// Identity for the upstream: the application's id.
pub const APPLICATION: &str = "tollkeeper-application";
/// Identity for the upstream: the subscription's id.
pub const SUBSCRIPTION: &str = "tollkeeper-subscription";
/// Identity for the upstream: the plan's slug.
pub const PLAN: &str = "tollkeeper-plan";
/// Identity for the upstream: `live` or `test`.
pub const MODE: &str = "tollkeeper-mode";
/// The prefix of all identity headers: whatever a caller sends under it is removed.
pub const IDENTITY_PREFIX: &str = "tollkeeper-";
/// draft-ietf-httpapi-ratelimit-headers.
pub const RATE_LIMIT: &str = "ratelimit";
/// draft-ietf-httpapi-ratelimit-headers.
pub const RATE_LIMIT_POLICY: &str = "ratelimit-policy";
/// The call's id, in the answer and at the upstream.
pub const REQUEST_ID: &str = "x-request-id";
