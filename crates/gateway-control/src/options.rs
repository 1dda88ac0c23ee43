//! What a service or a route may say beyond where calls go: how they are spread, matched, rewritten and bounded.
//!
//! Every field has a default that stands for "as before"; what is default is not written, so that entries stay small and older readers are not troubled.

use serde::{Deserialize, Serialize};

/// How a service's calls are spread over its addresses, and what is done when one of them fails.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ServiceOptions {
    /// Addresses, `host[:port]`, to which live calls go instead of the host of `upstream`, which still names the scheme, the `Host` header, the
    /// certificate and the base path. Empty: the host of `upstream` itself. A name may stand for several addresses; it is resolved again and again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// What is spoken to the upstream.
    #[serde(skip_serializing_if = "UpstreamProtocol::is_default")]
    pub protocol: UpstreamProtocol,
    /// The most connections that one gateway opens to one address at once; absent: the gateway's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// The most calls that may wait for a connection; more are answered 503. Absent: the gateway's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_waiting: Option<u32>,
    /// The most retries of one call. Absent: the gateway's default; 0: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u8>,
    /// After how many failures in a row an address is left out for a while. Absent: the gateway's default; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eject_after_failures: Option<u32>,
}

impl ServiceOptions {
    /// As an entry carries it: absent when nothing is said.
    pub fn stated(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// What is spoken to an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// What ALPN agrees on over TLS; HTTP/1.1 without TLS.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; without TLS by prior knowledge. What gRPC needs.
    Http2,
}

impl UpstreamProtocol {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What else a route matches, and how its calls are changed and bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RouteOptions {
    /// Host names, lower case, without port: `api.example.com`, or `*.example.com` for all names below it. Empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Headers that must all be there; names lower case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<ValueMatch>,
    /// Query parameters that must all be there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<ValueMatch>,
    /// The path that goes upstream, behind the base path, instead of the stripped one: literal segments and the `{name}`s and `{*rest}` of the route's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<String>,
    /// Changes to the headers of the request, after the gateway's own.
    #[serde(skip_serializing_if = "HeaderEdits::is_default")]
    pub request_headers: HeaderEdits,
    /// Changes to the headers of the upstream's answer.
    #[serde(skip_serializing_if = "HeaderEdits::is_default")]
    pub response_headers: HeaderEdits,
    /// Times that differ from the service's.
    #[serde(skip_serializing_if = "RouteTimeouts::is_default")]
    pub timeouts: RouteTimeouts,
    /// The largest body of a request, in bytes. Absent: the gateway's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_request_body_bytes: Option<u64>,
    /// Which browser origins may call, beside the portal's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// For how long calls are served from a policy that the portal has not confirmed, in seconds. Absent: the gateway's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_policy_age_s: Option<u32>,
}

impl RouteOptions {
    /// As an entry carries it: absent when nothing is said.
    pub fn stated(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// A header or a query parameter that must be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ValueMatch {
    /// Its name.
    pub name: String,
    /// The exact value; `None` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Changes to headers: first those to remove, then those to set, each of which replaces what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct HeaderEdits {
    /// Names, lower case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// Names, lower case, and values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(String, String)>,
}

impl HeaderEdits {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How long the parts of a call may take, in milliseconds. Absent: as the service, or else the gateway, says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RouteTimeouts {
    /// Until there is a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<u32>,
    /// From the end of the request until the head of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u32>,
    /// Between two pieces of a body, either way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u32>,
    /// For the whole call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<u32>,
}

impl RouteTimeouts {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which browser origins may call a route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Cors {
    /// Origins such as `https://app.example.com`; `*` for all.
    pub origins: Vec<String>,
    /// Whether the browser may send cookies; not with `*`.
    #[serde(skip_serializing_if = "is_false")]
    pub credentials: bool,
    /// Headers of the answer that scripts may read, beside the gateway's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<String>,
    /// How long a preflight may be kept, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<u32>,
}

fn is_false(value: &bool) -> bool {
    !value
}
