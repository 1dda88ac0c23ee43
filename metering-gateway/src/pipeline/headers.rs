//! Headers between caller and upstream: what belongs to one connection, to the gateway, or to nobody, does not pass.

use std::collections::HashSet;

use gateway_control::{
    credential,
    headers::{API_KEY, RATE_LIMIT, RATE_LIMIT_POLICY, REQUEST_ID},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    forwarded::{self, Origin},
    outgoing::{is_identity, reads_as},
};
use crate::observe::redact;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Where a key stands.
pub const X_API_KEY: HeaderName = HeaderName::from_static(API_KEY);
/// The call's id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static(REQUEST_ID);
/// What is always between two neighbours (RFC 9110, 7.6.1).
static HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
];

/// Where a caller's credential stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPlace {
    /// `x-api-key`.
    ApiKey,
    /// `authorization`.
    Authorization,
}

/// What an upstream is told of the call.
#[derive(Debug)]
pub struct Forwarded<'a> {
    /// The call's id.
    pub request_id: &'a HeaderValue,
    /// Where the call came from.
    pub origin: Origin<'a>,
    /// Where the credential stood, which is removed.
    pub key_place: KeyPlace,
    /// The protocol that the caller asked to switch to; kept, with `Connection: upgrade`.
    pub upgrade: Option<HeaderValue>,
    /// The upstream shall send trailers.
    pub wants_trailers: bool,
}

/// Takes out of a caller's trailers what may not stand there (RFC 9110, 6.5.1) and what is the gateway's to say: an upstream that adds trailers to its
/// headers would take them for the gateway's word.
pub fn trailers_to_upstream(trailers: &mut HeaderMap) {
    remove_hop_by_hop(trailers);
    forwarded::remove_claims(trailers);
    remove(trailers, |name| is_gateways(name) || name.as_str() == "proxy");
    for name in [header::AUTHORIZATION, header::COOKIE, header::CONTENT_LENGTH, header::HOST, header::TRAILER, header::EXPECT] {
        trailers.remove(name);
    }
}

/// Takes out of an upstream's trailers what may not stand there, or not in HTTP/2, and what is the gateway's to say.
pub fn trailers_to_caller(trailers: &mut HeaderMap) {
    remove_hop_by_hop(trailers);
    for name in [header::CONTENT_LENGTH, header::TRAILER, X_REQUEST_ID] {
        trailers.remove(name);
    }
    for name in [RATE_LIMIT, RATE_LIMIT_POLICY] {
        trailers.remove(name);
    }
}

/// Whether a field of a request is the gateway's to say, or to read, or reads as one that is.
pub fn is_gateways(name: &HeaderName) -> bool {
    let bytes = name.as_str().as_bytes();
    match bytes.first() {
        Some(b'c') => reads_as(bytes, b"content-length"),
        Some(b't') => is_identity(bytes) || reads_as(bytes, b"transfer-encoding"),
        Some(b'x') => reads_as(bytes, API_KEY.as_bytes()) || reads_as(bytes, REQUEST_ID.as_bytes()),
        _ => false,
    }
}

/// Brings an upstream's headers into the form for the caller. A switch of protocols keeps what it says about the switch.
pub fn to_caller(headers: &mut HeaderMap, switches: bool) {
    let upgrade = if switches { headers.get(header::UPGRADE).cloned() } else { None };
    remove_hop_by_hop(headers);
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
}

/// The caller's id for the call, if it is short and plain, and holds no credential; it is then kept through the whole chain, and logged as it is.
pub fn request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_plain = |value: &&HeaderValue| (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    let value = headers.get(X_REQUEST_ID).filter(is_plain)?;
    value.to_str().is_ok_and(|text| !redact::holds_credential(text)).then(|| value.clone())
}

/// The protocol that an HTTP/1.1 caller asks to switch to.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers.get_all(header::CONNECTION).iter().any(|value| mentions(value, "upgrade"));
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    let protocol = protocols.next().filter(|protocol| asked && !carries_http(protocol))?;
    protocols.next().is_none().then(|| protocol.clone())
}

/// Whether calls could be made over a protocol: through a tunnel of HTTP/2 (`h2c`) a caller would reach the upstream with no route, no limit and headers
/// of its own making. A list of protocols may hold one, so it is taken for one.
fn carries_http(protocol: &HeaderValue) -> bool {
    let name = protocol.as_bytes().split(|byte| *byte == b'/').next().unwrap_or_default().trim_ascii();
    let is_token = !name.is_empty() && protocol.as_bytes().iter().all(|byte| byte.is_ascii_graphic() && *byte != b',');
    !is_token || [&b"h2c"[..], b"h2", b"h3", b"http", b"https", b"tls"].iter().any(|http| name.eq_ignore_ascii_case(http))
}

/// RFC 9110, 7.6.1: what `Connection` names, and what is always between two neighbours.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    if headers.contains_key(header::CONNECTION) {
        named_by_connection(headers).into_iter().for_each(|name| _ = headers.remove(name));
    }
    HOP_BY_HOP.iter().for_each(|name| _ = headers.remove(name));
}

/// Whether a field is always between two neighbours.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    // Comparing names costs more than looking at their first letters.
    matches!(name.as_str().as_bytes().first(), Some(b'c' | b'k' | b'p' | b't' | b'u')) && HOP_BY_HOP.contains(name)
}

/// Which of the fields `Connection` names, besides those that are always between two neighbours: never more than there are, however many it names.
pub fn named_by_connection(headers: &HeaderMap) -> HashSet<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let tokens = values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| headers.contains_key(*token));
    tokens.filter_map(|token| token.parse().ok()).filter(|name| !is_hop_by_hop(name)).collect()
}

/// Whether `authorization` holds a credential of ours.
pub fn holds_key(headers: &HeaderMap) -> bool {
    let mut words = headers.get_all(header::AUTHORIZATION).iter().flat_map(|value| value.as_bytes().split(u8::is_ascii_whitespace));
    words.any(|word| credential::kind_of(word).is_some())
}

fn remove(headers: &mut HeaderMap, is_forged: impl Fn(&HeaderName) -> bool) {
    let forged: Vec<HeaderName> = headers.keys().filter(|name| is_forged(name)).cloned().collect();
    forged.into_iter().for_each(|name| _ = headers.remove(name));
}

/// Whether a list has a token.
pub fn mentions(value: &HeaderValue, token: &str) -> bool {
    value.to_str().is_ok_and(|text| text.split(',').any(|part| part.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case(token)))
}
