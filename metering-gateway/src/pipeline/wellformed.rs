//! What HTTP lets pass and two parties could still read differently: which host is called, and where a body ends (RFC 9110, 7.2; RFC 9112, 3.2, 6.1).

use http::{HeaderMap, Uri, Version, header, uri::Authority};

/// Why a request is refused before it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// HTTP/1.1 without `Host`.
    #[error("the request has no `Host`")]
    NoHost,
    /// `Host` twice, or not a host.
    #[error("the request has several `Host` fields, or one that is no host")]
    BadHost,
    /// The target and `Host` name two hosts.
    #[error("the request's target and its `Host` name two hosts")]
    TwoHosts,
    /// The target names a user, which one party may take for a part of the host and another not (RFC 9110, 4.2.4; RFC 9113, 8.3.1).
    #[error("the request's target names a user before its host")]
    User,
    /// Another transfer coding than `chunked`, or that one twice.
    #[error("the only transfer coding understood is `chunked`, once")]
    Coding,
}

/// Checks a request's framing and host.
///
/// # Errors
/// When it could be read in two ways.
pub fn check(version: Version, target: &Uri, headers: &HeaderMap) -> Result<(), Malformed> {
    check_coding(headers)?;
    if target.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(Malformed::User);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let Some(host) = hosts.next() else {
        // HTTP/1.0 has no `Host`; HTTP/2 has it in its target.
        return if version == Version::HTTP_11 && target.authority().is_none() { Err(Malformed::NoHost) } else { Ok(()) };
    };
    if hosts.next().is_some() || !is_host(host.as_bytes()) {
        return Err(Malformed::BadHost);
    }
    match target.authority() {
        Some(authority) if !names(authority, host.as_bytes()) => Err(Malformed::TwoHosts),
        _ => Ok(()),
    }
}

fn check_coding(headers: &HeaderMap) -> Result<(), Malformed> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    let plain = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if plain && codings.next().is_none() { Ok(()) } else { Err(Malformed::Coding) }
}

/// Whether a text has only what a host and a port are written with. An empty one is allowed for targets without an authority (RFC 9112, 3.2).
fn is_host(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(byte))
}

fn names(authority: &Authority, host: &[u8]) -> bool {
    authority.as_str().as_bytes().eq_ignore_ascii_case(host)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn checked(version: Version, target: &str, fields: &[(&'static str, &'static str)]) -> Result<(), Malformed> {
        let mut headers = HeaderMap::new();
        fields.iter().for_each(|(name, value)| _ = headers.append(*name, HeaderValue::from_static(value)));
        check(version, &target.parse().expect("a target"), &headers)
    }

    #[test]
    fn a_request_names_one_host() {
        let cases = [
            (Version::HTTP_11, "/", vec![("host", "a.example:8081")], Ok(())),
            (Version::HTTP_11, "/", vec![("host", "[::1]:8081")], Ok(())),
            (Version::HTTP_11, "/", vec![("host", "")], Ok(())),
            (Version::HTTP_11, "/", vec![], Err(Malformed::NoHost)),
            (Version::HTTP_10, "/", vec![], Ok(())),
            (Version::HTTP_2, "http://a/", vec![], Ok(())),
            (Version::HTTP_2, "http://a/", vec![("host", "A")], Ok(())),
            (Version::HTTP_2, "http://a/", vec![("host", "b")], Err(Malformed::TwoHosts)),
            (Version::HTTP_11, "http://a:80/", vec![("host", "a")], Err(Malformed::TwoHosts)),
            (Version::HTTP_11, "http://a/", vec![("host", "a")], Ok(())),
            (Version::HTTP_11, "http://user@a/", vec![("host", "a")], Err(Malformed::User)),
            (Version::HTTP_2, "http://user:word@a/", vec![], Err(Malformed::User)),
            (Version::HTTP_11, "/", vec![("host", "a"), ("host", "a")], Err(Malformed::BadHost)),
            (Version::HTTP_11, "/", vec![("host", "a/b")], Err(Malformed::BadHost)),
            (Version::HTTP_11, "/", vec![("host", "user@a")], Err(Malformed::BadHost)),
            (Version::HTTP_11, "/", vec![("host", "a b")], Err(Malformed::BadHost)),
        ];
        for (version, target, fields, expected) in cases {
            assert_eq!(checked(version, target, &fields), expected, "{version:?} {target} {fields:?}");
        }
    }

    #[test]
    fn one_plain_chunked_is_the_only_coding() {
        let coded = |values: &[&'static str]| {
            let fields: Vec<_> = values.iter().map(|value| ("transfer-encoding", *value)).chain([("host", "a")]).collect();
            checked(Version::HTTP_11, "/", &fields)
        };
        assert_eq!((coded(&[]), coded(&["chunked"]), coded(&[" Chunked\t"])), (Ok(()), Ok(()), Ok(())));
        for values in
            [&["gzip, chunked"][..], &["chunked", "chunked"], &["identity", "chunked"], &["xchunked"], &["chunked, chunked"], &[""]]
        {
            assert_eq!(coded(values), Err(Malformed::Coding), "{values:?}");
        }
    }
}
