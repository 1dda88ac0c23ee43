//! Host names, addresses and browser origins.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A host of a route: a name, or `*.` and a name.
pub fn pattern(text: &str) -> Result<(), String> {
    let below = text.strip_prefix("*.");
    let wrong =
        || format!("`{text}` is no host: write a name like `api.example.com`, or `*.example.com` for all names below it, without a port.");
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(format!("Write `{}` in lower case.", text.to_ascii_lowercase()));
    }
    let is_address = text.parse::<Ipv4Addr>().is_ok() || ipv6(text);
    if (is_address && below.is_none()) || is_name(below.unwrap_or(text)) { Ok(()) } else { Err(wrong()) }
}

/// Where an upstream is: `host[:port]`; an IPv6 address in brackets.
pub fn address(text: &str) -> Result<(), String> {
    let wrong = || format!("`{text}` is no address: write `host` or `host:port`, like `10.0.0.1:8443` or `[2001:db8::1]:8443`.");
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_fits =
        port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0));
    let host_fits = ipv6(host) || is_name(&host.to_ascii_lowercase());
    if port_fits && host_fits { Ok(()) } else { Err(wrong()) }
}

/// A browser's origin (RFC 6454), or `*`.
pub fn origin(text: &str) -> Result<(), String> {
    let wrong = || format!("`{text}` is no origin: write it like `https://app.example.com`, without a path, or `*` for all.");
    let host = match text.split_once("://") {
        _ if text == "*" => return Ok(()),
        Some(("http" | "https", host)) => host,
        Some((scheme, host)) if scheme.ends_with("-extension") && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') => {
            host
        }
        _ => return Err(wrong()),
    };
    if host != host.to_ascii_lowercase() { Err(wrong()) } else { address(host).map_err(|_| wrong()) }
}

fn ipv6(text: &str) -> bool {
    text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok())
}

/// RFC 1123, 2.1, with the underscores that names inside clusters have. An IPv4 address has the same form.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let inside = label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
        (1..=63).contains(&label.len()) && inside && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}
