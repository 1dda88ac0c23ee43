//! Names and values of headers: which a route may match, remove and set.

use super::MAX_VALUE_BYTES;
use crate::{headers, options::ValueMatch};

/// The longest name.
const MAX_NAME_BYTES: usize = 128;

/// What belongs to one connection (RFC 9110, 7.6.1), frames the message, or stands in HTTP/2 for a part of the request line.
const OF_THE_CONNECTION: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What the gateway itself tells the upstream. `x-api-key` is the callers' credential, which never goes on.
const TOLD_UPSTREAM: [&str; 6] = [headers::API_KEY, headers::REQUEST_ID, "forwarded", "x-real-ip", "traceparent", "tracestate"];

/// What else the gateway itself tells the upstream.
const FORWARDED_PREFIX: &str = "x-forwarded-";

/// What the gateway itself tells the caller.
const TOLD_CALLER: [&str; 3] = [headers::REQUEST_ID, headers::RATE_LIMIT, headers::RATE_LIMIT_POLICY];

/// A name as HTTP/2 has it: a token (RFC 9110, 5.6.2) in lower case.
pub fn name(name: &str) -> Result<(), String> {
    let token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.starts_with(':') {
        return Err(format!("`{name}` is a pseudo-header of HTTP/2: use the route's method, path or hosts."));
    }
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(token) {
        return Err(format!("`{name}` is no header name: use lower-case letters, digits and hyphens, like `x-edition`."));
    }
    Ok(())
}

/// A value that no server reads differently: visible ASCII, with spaces inside only.
pub fn value(name: &str, value: &str) -> Result<(), String> {
    let visible = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if value.len() > MAX_VALUE_BYTES || !visible || value.trim() != value {
        return Err(format!("The value of `{name}` must be at most {MAX_VALUE_BYTES} visible ASCII characters, with spaces inside only."));
    }
    Ok(())
}

/// A header that a route may match.
pub fn condition(condition: &ValueMatch) -> Result<(), String> {
    let called = condition.name.as_str();
    name(called)?;
    match called {
        "host" => return Err("Name hosts under `hosts`.".to_owned()),
        "authorization" | headers::API_KEY => return Err(format!("`{called}` carries a credential, which is no condition of a route.")),
        _ => (),
    }
    condition.value.as_deref().map_or(Ok(()), |wanted| value(called, wanted))
}

/// A header of the request that a route may remove or set.
pub fn of_request(called: &str) -> Result<(), String> {
    editable(called, |name| TOLD_UPSTREAM.contains(&name) || name.starts_with(FORWARDED_PREFIX))
}

/// A header of the answer that a route may remove or set.
pub fn of_answer(called: &str) -> Result<(), String> {
    if called.starts_with("access-control-") {
        return Err(format!("`{called}` says which browser origins may call: say so under `cors`."));
    }
    editable(called, |name| TOLD_CALLER.contains(&name))
}

fn editable(called: &str, is_own: impl Fn(&str) -> bool) -> Result<(), String> {
    name(called)?;
    if OF_THE_CONNECTION.contains(&called) {
        return Err(format!("`{called}` belongs to the connection or frames the message, and is not the route's to change."));
    }
    // Some servers take `_` and `-` in names for the same.
    let plain = called.replace('_', "-");
    if plain.starts_with(headers::IDENTITY_PREFIX) || is_own(&plain) {
        return Err(format!("`{called}` is the gateway's own, and is not the route's to change."));
    }
    Ok(())
}
