//! The path of a request: refused when two parties could read it differently, brought to one form otherwise, and rewritten for the upstream.

use std::borrow::Cow;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `%2F`, `%5C` or a backslash: some servers take it for a slash.
    #[error("the path has an encoded slash or a backslash")]
    Slash,
    /// `.` or `..`, plain or encoded.
    #[error("the path has a `.` or `..` segment")]
    Dot,
    /// What would be a slash, a dot or a control character if it were decoded twice.
    #[error("the path has a percent-encoding that is encoded again")]
    Twice,
    /// Two slashes in a row: some servers take them for one.
    #[error("the path has an empty segment (`//`)")]
    EmptySegment,
    /// `%` without two hexadecimal digits, or what is encoded is not UTF-8 text.
    #[error("the path has a percent-encoding that is not UTF-8 text")]
    Encoding,
    /// A control character, plain or encoded.
    #[error("the path has a control character")]
    Control,
    /// `*` or an absolute form without a path.
    #[error("the request has no path that starts with a slash")]
    NotAPath,
}

/// Checks a path and brings it to the form in which routes are matched and upstreams called: what need not be encoded is decoded, and hexadecimal
/// digits are upper case (RFC 3986, 6.2.2). A path without `%` is passed through.
///
/// # Errors
/// When the path is ambiguous.
pub fn normalize(path: &str) -> Result<Cow<'_, str>, PathError> {
    if is_plain(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    if !path.starts_with('/') {
        return Err(PathError::NotAPath);
    }
    if let Some(byte) = path.bytes().find(|byte| !matches!(byte, 0x20..=0x7e)) {
        return Err(if byte.is_ascii() { PathError::Control } else { PathError::Encoding });
    }
    let path = if path.contains('%') { Cow::Owned(decode_unreserved(path)?) } else { Cow::Borrowed(path) };
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "" if segments.peek().is_some() => return Err(PathError::EmptySegment),
            _ if matches!(before_parameters(segment), "." | "..") => return Err(PathError::Dot),
            _ if segment.contains('\\') => return Err(PathError::Slash),
            _ => (),
        }
    }
    Ok(path)
}

/// Whether nothing in a path could be read in two ways, at one look: most paths are so.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    let harmless =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~' | b':' | b'@' | b',' | b'=' | b'+');
    path.first() == Some(&b'/')
        && path.iter().all(|byte| {
            let is_fine = harmless(*byte) && !(before == b'/' && matches!(byte, b'/' | b'.'));
            before = *byte;
            is_fine
        })
}

/// The same form for a literal segment of a route's template, which is well-formed already.
pub fn normalize_segment(segment: &str) -> String {
    decode_unreserved(segment).unwrap_or_else(|_| segment.to_owned())
}

fn decode_unreserved(path: &str) -> Result<String, PathError> {
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    let mut decoded = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            decoded.push(bytes[at]);
            out.push(char::from(bytes[at]));
            at += 1;
            continue;
        }
        let mut byte = [0];
        let digits = bytes.get(at + 1..at + 3).ok_or(PathError::Encoding)?;
        hex::decode_to_slice(digits, &mut byte).map_err(|_| PathError::Encoding)?;
        match byte[0] {
            b'/' | b'\\' => return Err(PathError::Slash),
            0..=0x1f | 0x7f => return Err(PathError::Control),
            plain if plain.is_ascii_alphanumeric() || b"-._~".contains(&plain) => out.push(char::from(plain)),
            other => {
                out.push('%');
                out.push_str(&hex::encode_upper([other]));
            }
        }
        decoded.push(byte[0]);
        at += 3;
    }
    std::str::from_utf8(&decoded).map_err(|_| PathError::Encoding)?;
    // Only now, because what hides may have been put together from what was decoded: `%252%65` is `%252e`.
    let mut percents = out.as_bytes().windows(3).enumerate().filter(|(_, window)| *window == b"%25");
    if percents.any(|(at, _)| hides(&out.as_bytes()[at + 3..])) {
        return Err(PathError::Twice);
    }
    Ok(out)
}

/// A segment without what some servers take for its parameters: everything after a semicolon, which may be encoded.
fn before_parameters(segment: &str) -> &str {
    let name = segment.split(';').next().unwrap_or_default();
    name.split("%3B").next().unwrap_or_default()
}

/// Whether the two digits after an encoded percent sign would, decoded once more, give what a path must not have: some servers decode twice.
fn hides(rest: &[u8]) -> bool {
    let mut byte = [0];
    rest.get(..2).is_some_and(|digits| {
        hex::decode_to_slice(digits, &mut byte).is_ok() && matches!(byte[0], b'/' | b'\\' | b'.' | b';' | b'%' | 0..=0x1f | 0x7f)
    })
}

/// The path and query for the upstream: the prefix is taken off, the upstream's base path put on, the query kept.
pub fn rewrite(base: &str, strip_prefix: &str, path: &str, query: Option<&str>) -> String {
    let rest = path.strip_prefix(strip_prefix).unwrap_or(path);
    let mut out = String::with_capacity(base.len() + rest.len() + query.map_or(0, |query| query.len() + 1) + 1);
    out.push_str(base);
    if !rest.starts_with('/') && (!rest.is_empty() || base.is_empty()) {
        out.push('/');
    }
    out.push_str(rest);
    if let Some(query) = query {
        out.push('?');
        out.push_str(query);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ambiguous_paths_are_refused() {
        let cases = [
            ("/a%2Fb", PathError::Slash),
            ("/a%2fb", PathError::Slash),
            ("/a%5cb", PathError::Slash),
            ("/a\\b", PathError::Slash),
            ("/a/../b", PathError::Dot),
            ("/a/%2e%2E/b", PathError::Dot),
            ("/.", PathError::Dot),
            ("//a", PathError::EmptySegment),
            ("/a//b", PathError::EmptySegment),
            ("/a%", PathError::Encoding),
            ("/a%zz", PathError::Encoding),
            ("/a%ff", PathError::Encoding),
            ("/é", PathError::Encoding),
            ("/a%00", PathError::Control),
            ("/a\u{7f}", PathError::Control),
            ("/\n", PathError::Control),
            ("/a%252fb", PathError::Twice),
            ("/a%255Cb", PathError::Twice),
            ("/%252e%252e/b", PathError::Twice),
            ("/a%25252fb", PathError::Twice),
            ("/%252%65%252%65/b", PathError::Twice),
            ("/a%25%32fb", PathError::Twice),
            ("/a%2500", PathError::Twice),
            ("/..;/b", PathError::Dot),
            ("/..%3b/b", PathError::Dot),
            ("/..%253bx/b", PathError::Twice),
            ("/.;x=1/b", PathError::Dot),
            ("*", PathError::NotAPath),
            ("", PathError::NotAPath),
        ];
        for (path, error) in cases {
            assert_eq!(normalize(path), Err(error), "{path}");
        }
    }

    #[test]
    fn one_resource_has_one_form() {
        let cases = [
            ("/", "/"),
            ("/a/", "/a/"),
            ("/p%65ts", "/pets"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/a:b", "/a:b"),
            ("/100%25", "/100%25"),
            ("/5%25of", "/5%25of"),
            ("/a;b=..", "/a;b=.."),
        ];
        for (path, form) in cases {
            assert_eq!(normalize(path).as_deref(), Ok(form), "{path}");
        }
    }

    #[test]
    fn rewrites_for_the_upstream() {
        let cases = [
            (("", "/weather", "/weather/v1/x", Some("q=1")), "/v1/x?q=1"),
            (("/api", "/weather", "/weather/v1/x", None), "/api/v1/x"),
            (("/api", "/weather", "/weather", None), "/api"),
            (("", "/weather", "/weather", Some("q")), "/?q"),
            (("", "", "/v1", None), "/v1"),
        ];
        for ((base, strip, path, query), expected) in cases {
            assert_eq!(rewrite(base, strip, path, query), expected);
        }
    }

    proptest! {
        #[test]
        fn normal_form_is_stable(path in "/([a-zA-Z0-9%./~;-]|%25|%2[eEfF]|%5[cC]|\\PC|[\\x00-\\x1f\\x7f]){0,40}") {
            if let Ok(form) = normalize(&path) {
                let again = normalize(&form).expect("the normal form is well-formed");
                prop_assert_eq!(again.as_ref(), form.as_ref());
                let hidden = ["%2F", "%5C", "%2E", "%252F", "%252E", "%255C", "\\", "/../", "/./", "//"];
                prop_assert!(!hidden.iter().any(|hidden| form.to_ascii_uppercase().contains(hidden)) && form.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
            }
        }
    }
}
