//! `X-Forwarded-*`: where a call came from, for the upstream. Only what trusted proxies in front told is passed on; the rest is the gateway's own word.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::outgoing::reads_as;
use crate::listener::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Where a call came from.
#[derive(Debug)]
pub struct Origin<'a> {
    /// The caller's side of the connection.
    pub peer: &'a Peer,
    /// How many proxies in front are trusted.
    pub trusted_hops: u8,
    /// The host that the caller called.
    pub host: Option<HeaderValue>,
    /// What was taken off the path.
    pub prefix: &'a str,
}

/// Says where a call came from.
pub fn put(headers: &HeaderMap, origin: &Origin<'_>, added: &mut Vec<(HeaderName, HeaderValue)>) {
    let (chain, scheme, host) = match usize::from(origin.trusted_hops) {
        0 => (None, None, None),
        hops => (
            chain(headers, hops, &origin.peer.address),
            told(headers, &X_FORWARDED_PROTO, hops).filter(is_scheme),
            told(headers, &X_FORWARDED_HOST, hops).filter(|host| !host.is_empty()),
        ),
    };
    added.push((X_FORWARDED_FOR, chain.unwrap_or_else(|| origin.peer.address.clone())));
    added.push((X_FORWARDED_PROTO, scheme.unwrap_or_else(|| HeaderValue::from_static(origin.peer.scheme()))));
    if let Some(host) = host.or_else(|| origin.host.clone()) {
        added.push((X_FORWARDED_HOST, host));
    }
    if !origin.prefix.is_empty()
        && let Ok(prefix) = HeaderValue::from_str(origin.prefix)
    {
        added.push((X_FORWARDED_PREFIX, prefix));
    }
}

/// What the trusted proxies appended to `X-Forwarded-For`, one entry each, and the address of the last of them. What stands before was sent by the
/// caller, who may say anything.
fn chain(headers: &HeaderMap, hops: usize, peer: &HeaderValue) -> Option<HeaderValue> {
    let entries = entries(headers, &X_FORWARDED_FOR)?;
    let mut chain = String::new();
    for entry in &entries[entries.len().saturating_sub(hops)..] {
        chain.push_str(entry);
        chain.push_str(", ");
    }
    chain.push_str(peer.to_str().ok()?);
    HeaderValue::try_from(chain).ok()
}

/// What the first of the trusted proxies told, whether each appends to the field or one sets it for all.
fn told(headers: &HeaderMap, name: &HeaderName, hops: usize) -> Option<HeaderValue> {
    let entries = entries(headers, name)?;
    let entry = entries.get(entries.len().saturating_sub(hops))?;
    HeaderValue::from_str(entry).ok()
}

/// The entries of a list, over all of its fields. `None` where there is no list, or one that is no text.
fn entries<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Vec<&'h str>> {
    let mut entries = Vec::new();
    for value in headers.get_all(name) {
        entries.extend(value.to_str().ok()?.split(',').map(str::trim).filter(|entry| !entry.is_empty()));
    }
    (!entries.is_empty()).then_some(entries)
}

fn is_scheme(value: &HeaderValue) -> bool {
    value == "http" || value == "https"
}

/// Whether a field says where a call came from: `Forwarded` (RFC 7239), `X-Real-IP`, one of `X-Forwarded-*`, or a name that
/// reads as one.
pub fn is_claim(name: &HeaderName) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    const REAL_IP: &[u8] = b"x-real-ip";
    let bytes = name.as_str().as_bytes();
    match bytes.first() {
        Some(b'f') => *name == header::FORWARDED,
        Some(b'x') => reads_as(bytes, REAL_IP) || bytes.split_at_checked(PREFIX.len()).is_some_and(|(start, _)| reads_as(start, PREFIX)),
        _ => false,
    }
}

/// Removes all that says where a call came from.
pub fn remove_claims(headers: &mut HeaderMap) {
    let claimed: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name)).cloned().collect();
    claimed.into_iter().for_each(|name| _ = headers.remove(name));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_all(fields: &[(&'static str, &'static str)], trusted_hops: u8) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let peer = Peer::new([192, 0, 2, 9].into(), true);
        let host = Some(HeaderValue::from_static("api.example"));
        let mut added = Vec::new();
        put(&headers, &Origin { peer: &peer, trusted_hops, host, prefix: "/weather" }, &mut added);
        remove_claims(&mut headers);
        added.into_iter().for_each(|(name, value)| _ = headers.append(name, value));
        headers
    }

    #[test]
    fn what_callers_claim_is_replaced() {
        let claims = [
            ("x-forwarded-for", "203.0.113.1"),
            ("x-forwarded-for", "203.0.113.2"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-port", "1"),
            ("x_forwarded_for", "203.0.113.3"),
            ("x-real-ip", "203.0.113.4"),
            ("forwarded", "for=203.0.113.5"),
        ];
        let headers = put_all(&claims, 0);
        assert_eq!(headers.len(), 4, "{headers:?}");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.9");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "api.example");
        assert_eq!(headers["x-forwarded-prefix"], "/weather");
    }

    #[test]
    fn trusted_proxies_are_believed_as_far_as_they_go() {
        let fields = [
            ("x-forwarded-for", "203.0.113.66, 198.51.100.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-port", "1"),
        ];
        for (hops, chain) in
            [(1, "10.0.0.1, 192.0.2.9"), (2, "198.51.100.1, 10.0.0.1, 192.0.2.9"), (9, "203.0.113.66, 198.51.100.1, 10.0.0.1, 192.0.2.9")]
        {
            let headers = put_all(&fields, hops);
            assert_eq!(headers["x-forwarded-for"], chain, "{hops} hops");
            assert_eq!(headers["x-forwarded-proto"], "http");
            assert_eq!(headers["x-forwarded-host"], "shop.example");
            assert!(!headers.contains_key("x-forwarded-port"));
        }
        let headers = put_all(&[("x-forwarded-proto", "https, http"), ("x-forwarded-host", " ")], 1);
        assert_eq!(
            (&headers["x-forwarded-proto"], &headers["x-forwarded-host"]),
            (&HeaderValue::from_static("http"), &HeaderValue::from_static("api.example"))
        );
        assert_eq!(put_all(&[("x-forwarded-proto", "gopher")], 1)["x-forwarded-proto"], "https");
        assert_eq!(put_all(&[], 1)["x-forwarded-for"], "192.0.2.9");
    }
}
