//! An answer's fields on their way from an upstream to a caller that both speak HTTP/1.1, where nobody between them needs to look at one: as the lines that
//! they came in. Most answers are such, and making a map of the lines, only to write them again, is among the costliest things that a call can do.

use gateway_control::headers::{RATE_LIMIT, RATE_LIMIT_POLICY, REQUEST_ID};

use super::head::is_understood;

/// Fields for the caller, each with the end of its line.
#[derive(Debug)]
pub struct Lines {
    bytes: Vec<u8>,
    has_date: bool,
}

/// What becomes of a field.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    IsDate,
    Stays,
    /// It speaks of other fields.
    NeedsMap,
}

impl Lines {
    /// What of the fields in a head passes: all but what is said between two neighbours (RFC 9110, 7.6.1), what frames the body, and what is the
    /// gateway's to say on an answer ([`crate::pipeline::said`]). `None` if that cannot be told line by line.
    pub fn pick(head: &[u8], fields: &[httparse::Header<'_>], keeps_length: bool) -> Option<Self> {
        let mut lines = Self { bytes: Vec::with_capacity(head.len()), has_date: false };
        let offset = |piece: &[u8]| (piece.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
        // Lines that follow each other are copied together.
        let mut run = 0..0;
        for field in fields {
            match fate(field, keeps_length) {
                Fate::NeedsMap => return None,
                Fate::Stays => continue,
                Fate::IsDate => lines.has_date = true,
                Fate::Passes => (),
            }
            let (name, value) = (field.name.as_bytes(), field.value);
            let (start, end) = (offset(name), offset(value) + value.len() + 2);
            let is_plain =
                !value.is_empty() && head.get(start + name.len()..offset(value)) == Some(b": ") && head.get(end - 2..end) == Some(b"\r\n");
            if is_plain && run.end == start {
                run.end = end;
                continue;
            }
            lines.bytes.extend_from_slice(&head[run]);
            run = if is_plain { start..end } else { 0..0 };
            if !is_plain {
                [name, b": ", value, b"\r\n"].iter().for_each(|piece| lines.bytes.extend_from_slice(piece));
            }
        }
        lines.bytes.extend_from_slice(&head[run]);
        Some(lines)
    }

    /// The lines.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether one of them is `date`.
    pub fn has_date(&self) -> bool {
        self.has_date
    }
}

fn fate(field: &httparse::Header<'_>, keeps_length: bool) -> Fate {
    let name = field.name;
    let is = |one: &str| name.eq_ignore_ascii_case(one);
    if is_understood(field) {
        return Fate::Stays;
    }
    let stays = match name.len() {
        2 => is("te"),
        4 if is("date") => return Fate::IsDate,
        7 => is("upgrade"),
        9 => is(RATE_LIMIT),
        10 if is("connection") => return Fate::NeedsMap,
        12 => is(REQUEST_ID),
        14 => is("content-length") && !keeps_length,
        16 => is("proxy-connection") || is(RATE_LIMIT_POLICY),
        18 => is("proxy-authenticate"),
        19 => is("proxy-authorization"),
        _ => false,
    };
    if stays { Fate::Stays } else { Fate::Passes }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header};
    use proptest::prelude::*;

    use super::*;
    use crate::{http1::head, pipeline::headers};

    const NAMES: [&str; 24] = [
        "Server",
        "date",
        "DATE",
        "Content-Type",
        "content-length",
        "Transfer-Encoding",
        "connection",
        "Keep-Alive",
        "te",
        "Upgrade",
        "proxy-connection",
        "Proxy-Authenticate",
        "proxy-authorization",
        "X-Request-Id",
        "ratelimit",
        "RateLimit-Policy",
        "set-cookie",
        "etag",
        "vary",
        "x-y",
        "via",
        "age",
        "trailer",
        "location",
    ];
    const VALUES: [&str; 6] = ["", "v", "a b;c=\"d\"", "close", "keep-alive", "Keep-Alive, x-y"];
    const COLONS: [&str; 4] = [": ", ":", ":  ", ":\t"];
    const ENDS: [&str; 4] = ["\r\n", "\n", " \r\n", "\r\n"];

    /// The same by way of a map, as everybody gets it who needs one.
    fn by_map(fields: &[httparse::Header<'_>], keeps_length: bool) -> Vec<String> {
        let mut map: HeaderMap = head::fields(fields.iter(), None).expect("well-formed");
        headers::to_caller(&mut map, false);
        for name in [REQUEST_ID, RATE_LIMIT, RATE_LIMIT_POLICY] {
            map.remove(name);
        }
        if !keeps_length {
            map.remove(header::CONTENT_LENGTH);
        }
        sorted(map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect())
    }

    fn sorted(mut lines: Vec<String>) -> Vec<String> {
        lines.sort();
        lines
    }

    proptest! {
        #[test]
        fn lines_are_what_a_map_would_pass(
            picked in proptest::collection::vec((0..NAMES.len(), 0..VALUES.len(), 0..COLONS.len(), 0..ENDS.len()), 0..12),
            keeps_length: bool,
        ) {
            let line = |(name, value, colon, end): &(usize, usize, usize, usize)| {
                format!("{}{}{}{}", NAMES[*name], COLONS[*colon], VALUES[*value], ENDS[*end])
            };
            let text = format!("HTTP/1.1 200 OK\r\n{}\r\n", picked.iter().map(line).collect::<String>());
            let mut places = [httparse::EMPTY_HEADER; 16];
            let mut parsed = httparse::Response::new(&mut places);
            prop_assert!(parsed.parse(text.as_bytes()).expect("well-formed").is_complete());
            let speaks_of_others = parsed.headers.iter().any(|field| {
                field.name.eq_ignore_ascii_case("connection") && !["close", "keep-alive"].iter().any(|one| field.value == one.as_bytes())
            });
            match Lines::pick(text.as_bytes(), parsed.headers, keeps_length) {
                None => prop_assert!(speaks_of_others),
                Some(lines) => {
                    prop_assert!(!speaks_of_others);
                    let written = String::from_utf8(lines.bytes().to_vec()).expect("text");
                    prop_assert!(written.is_empty() || written.ends_with("\r\n"));
                    let lower = |line: &str| line.split_once(": ").map(|(name, value)| format!("{}: {value}", name.to_ascii_lowercase()));
                    let found: Vec<String> = written.split_terminator("\r\n").map(|line| lower(line).expect("name and value")).collect();
                    prop_assert_eq!(lines.has_date(), found.iter().any(|line| line.starts_with("date: ")));
                    prop_assert_eq!(sorted(found), by_map(parsed.headers, keeps_length));
                }
            }
        }
    }
}
