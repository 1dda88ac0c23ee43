//! Where the gateway sends a product's calls, and what it does with each.

use ids::{MeterId, RouteId, ServiceId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a product's calls go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// What may be changed of it.
    pub settings: ServiceSettings,
}

/// Where calls go, for how long the gateway waits, and how calls are spread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    /// Where live calls go: `http(s)://host[:port][/base]`.
    pub upstream_url: String,
    /// Where test calls go; without it, test keys are refused.
    #[serde(default)]
    pub sandbox_url: Option<String>,
    /// How long the gateway waits for a connection, in milliseconds.
    #[serde(default = "connect_timeout_ms")]
    #[schema(minimum = 1, maximum = 600_000)]
    pub connect_timeout_ms: i32,
    /// How long it waits for the head of the answer, in milliseconds.
    #[serde(default = "first_byte_timeout_ms")]
    #[schema(minimum = 1, maximum = 3_600_000)]
    pub first_byte_timeout_ms: i32,
    /// Addresses, `host[:port]`, to which live calls go instead of the host of `upstream_url`, which still names the scheme, the `Host` header, the
    /// certificate and the base path. Empty: that host itself.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub addresses: Vec<String>,
    /// What is spoken to the upstream.
    #[serde(default)]
    pub protocol: UpstreamProtocol,
    /// The most connections that one gateway opens to one address at once; absent: the gateway's default.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100_000)]
    pub max_connections: Option<u32>,
    /// The most calls that may wait for a connection; absent: the gateway's default.
    #[serde(default)]
    #[schema(maximum = 100_000)]
    pub max_waiting: Option<u32>,
    /// The most retries of one call; absent: the gateway's default.
    #[serde(default)]
    #[schema(maximum = 10)]
    pub max_retries: Option<u8>,
    /// After how many failures in a row an address is left out for a while; absent: the gateway's default; 0: never.
    #[serde(default)]
    #[schema(maximum = 10_000)]
    pub eject_after_failures: Option<u32>,
}

fn connect_timeout_ms() -> i32 {
    5_000
}

fn first_byte_timeout_ms() -> i32 {
    60_000
}

/// What is spoken to an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// What both agree on over TLS; HTTP/1.1 without TLS.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, which gRPC needs.
    Http2,
}

/// Asks for a product that no document describes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateProduct {
    /// 1 to 63 lower-case letters, digits and hyphens.
    #[schema(min_length = 1, max_length = 63)]
    pub slug: String,
    /// 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// One sentence.
    #[serde(default)]
    #[schema(max_length = 300)]
    pub summary: String,
    /// Where the gateway sends the calls.
    pub upstream_url: String,
}

/// A route: which calls it takes, and what the gateway does with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    /// Its id, which usage names.
    pub id: RouteId,
    /// In capitals; absent for all.
    pub method: Option<String>,
    /// As callers use it, such as `/weather/v1/{city}`.
    pub path: String,
    /// One sentence.
    pub summary: String,
    /// `operationId` of the document.
    pub operation_id: Option<String>,
    /// No document names it: somebody added it.
    pub by_hand: bool,
    /// What may be changed of every route.
    pub settings: RouteSettings,
}

/// Which calls a route takes, hosts and conditions aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteMatch {
    /// In capitals; absent for all.
    #[serde(default)]
    pub method: Option<String>,
    /// As callers use it, such as `/weather/v1/{city}`; a last `{*rest}` takes all that follows. It begins with the product's slug, or with a segment
    /// that no product has; anything where hosts are named.
    #[schema(max_length = 1_000)]
    pub path: String,
    /// One sentence.
    #[serde(default)]
    #[schema(max_length = 300)]
    pub summary: String,
}

/// Asks for a route that no document names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRoute {
    /// In capitals; absent for all.
    #[serde(default)]
    pub method: Option<String>,
    /// As [`RouteMatch`] has it.
    #[schema(max_length = 1_000)]
    pub path: String,
    /// One sentence.
    #[serde(default)]
    #[schema(max_length = 300)]
    pub summary: String,
    /// How they are limited, metered, changed and bounded. Absent: each call is one request, and nothing else is said.
    #[serde(default)]
    pub settings: Option<RouteSettings>,
}

/// What may be changed of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSettings {
    /// The group that rate limits may name.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub rate_group: Option<String>,
    /// How a call moves the meters. Empty: it is counted by nothing and never billed.
    #[serde(default)]
    #[schema(max_items = 20)]
    pub meters: Vec<RouteMeter>,
    /// What else it matches, and how its calls are changed and bounded.
    #[serde(default)]
    pub options: RouteOptions,
}

/// How a call moves a meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteMeter {
    /// The meter.
    pub meter: MeterId,
    /// Where the units come from.
    pub source: UnitSource,
    /// Units when the source is missing or malformed, as a decimal number.
    pub default_units: String,
    /// More is clamped to this, as a decimal number. It is also what is reserved from a hard quota.
    pub max_units: String,
}

/// Where the units of a call come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum UnitSource {
    /// One unit a call.
    Call,
    /// A number in a header of the answer.
    Header {
        /// The header's name, lower case.
        name: String,
    },
    /// A number in a trailer of the answer.
    Trailer {
        /// The trailer's name, lower case.
        name: String,
    },
    /// The bytes of the answer's body.
    ResponseBytes,
    /// Messages of a WebSocket or of a gRPC call, both ways.
    Messages,
    /// Seconds that the exchange lasted.
    Seconds,
    /// Tokens that the body of the answer, JSON or server-sent events, says that a language model used: `usage` as OpenAI and Anthropic write it.
    Tokens {
        /// Which of them.
        kind: TokenKind,
    },
}

/// Tokens of a language model. Input and output add up to the total; the other kinds are parts of one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// All of the prompt, cached or not.
    Input,
    /// Of the input: neither read from a cache nor written to one.
    UncachedInput,
    /// Of the input: read from a cache.
    CachedInput,
    /// Of the input: written to a cache.
    CacheCreation,
    /// All of the answer, reasoning included.
    Output,
    /// Of the output: spent on reasoning.
    Reasoning,
    /// Input and output.
    Total,
}

/// What else a route matches, and how its calls are changed and bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteOptions {
    /// Host names, lower case, without port: `api.example.com`, or `*.example.com` for all names below it. Empty: any.
    #[schema(max_items = 64)]
    pub hosts: Vec<String>,
    /// Headers that must all be there.
    #[schema(max_items = 16)]
    pub headers: Vec<ValueMatch>,
    /// Query parameters that must all be there.
    #[schema(max_items = 16)]
    pub query: Vec<ValueMatch>,
    /// The path that goes upstream, behind the base path: literal segments and the `{name}`s and `{*rest}` of the route's path. Absent: the path
    /// without the product's slug.
    pub rewrite: Option<String>,
    /// Changes to the headers of the request, after the gateway's own.
    pub request_headers: HeaderEdits,
    /// Changes to the headers of the upstream's answer.
    pub response_headers: HeaderEdits,
    /// Times that differ from the service's.
    pub timeouts: RouteTimeouts,
    /// The largest body of a request, in bytes. Absent: the gateway's default.
    #[schema(maximum = 1_099_511_627_776_i64)]
    pub max_request_body_bytes: Option<u64>,
    /// Which browser origins may call, beside the portal's own.
    pub cors: Option<Cors>,
    /// For how long calls are served from a policy that the portal has not confirmed, in seconds. Absent: the gateway's default.
    #[schema(minimum = 5, maximum = 2_592_000)]
    pub max_policy_age_s: Option<u32>,
}

/// A header or a query parameter that must be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueMatch {
    /// Its name; a header's in lower case.
    pub name: String,
    /// The exact value; absent for any.
    #[serde(default)]
    pub value: Option<String>,
}

/// Changes to headers: first those to remove, then those to set, each of which replaces what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderEdits {
    /// Names, lower case.
    #[schema(max_items = 32)]
    pub remove: Vec<String>,
    /// Headers.
    #[schema(max_items = 32)]
    pub set: Vec<HeaderField>,
}

/// A header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderField {
    /// Its name, lower case.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// How long the parts of a call may take, in milliseconds. Absent: as the service, or else the gateway, says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteTimeouts {
    /// Until there is a connection.
    #[schema(minimum = 1, maximum = 86_400_000)]
    pub connect_ms: Option<u32>,
    /// From the end of the request until the head of the answer.
    #[schema(minimum = 1, maximum = 86_400_000)]
    pub first_byte_ms: Option<u32>,
    /// Between two pieces of a body, either way.
    #[schema(minimum = 1, maximum = 86_400_000)]
    pub idle_ms: Option<u32>,
    /// For the whole call.
    #[schema(minimum = 1, maximum = 86_400_000)]
    pub total_ms: Option<u32>,
}

/// Which browser origins may call a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Origins such as `https://app.example.com`; `*` for all.
    #[schema(min_items = 1, max_items = 64)]
    pub origins: Vec<String>,
    /// Whether the browser may send cookies; not with `*`.
    #[serde(default)]
    pub credentials: bool,
    /// Headers of the answer that scripts may read, beside the gateway's own.
    #[serde(default)]
    #[schema(max_items = 32)]
    pub expose: Vec<String>,
    /// How long a preflight may be kept, in seconds.
    #[serde(default)]
    #[schema(maximum = 86_400)]
    pub max_age_s: Option<u32>,
}
