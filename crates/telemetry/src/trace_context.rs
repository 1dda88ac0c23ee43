//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): what `traceparent` says, and whether `tracestate` may be passed on.

/// The length of a `traceparent` of version 00.
pub const TRACEPARENT_BYTES: usize = 55;
/// The flag of a trace that is recorded.
pub const SAMPLED: u8 = 0x01;
/// The flag of a trace whose id is random in its last 56 bits (Trace Context Level 2).
pub const RANDOM: u8 = 0x02;
/// The most members of a `tracestate`.
const MAX_MEMBERS: usize = 32;
/// The longest key, and the longest value, of a member.
const MAX_MEMBER_PART_BYTES: usize = 256;

/// The position of a call in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; not zero.
    pub trace_id: [u8; 16],
    /// The span that the call is a part of; not zero.
    pub span_id: [u8; 8],
    /// Flags; [`SAMPLED`] is one.
    pub flags: u8,
}

impl TraceContext {
    /// Reads a `traceparent`. Of versions after 00 the part that all versions share is read. `None` where it is not valid: the trace then begins anew.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_at_checked(TRACEPARENT_BYTES)?;
        let [version] = hex(&head[..2])?;
        let ends = rest.is_empty() || (version != 0 && rest[0] == b'-');
        let dashes = [2, 35, 52].iter().all(|at| head[*at] == b'-');
        if version == 0xff || !ends || !dashes {
            return None;
        }
        let (trace_id, span_id, [flags]) = (hex(&head[3..35])?, hex(&head[36..52])?, hex(&head[53..])?);
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self { trace_id, span_id, flags })
    }

    /// As a `traceparent` of version 00.
    pub fn to_traceparent(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        put_hex(&mut text[3..35], &self.trace_id);
        put_hex(&mut text[36..52], &self.span_id);
        put_hex(&mut text[53..], &[self.flags]);
        text
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// Whether the values of `tracestate` are a list as the recommendation has it. What is not must not be passed on.
pub fn is_valid_tracestate<'a>(values: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut members = 0;
    for member in values.flat_map(|value| value.split(|byte| *byte == b',')) {
        let member = member.trim_ascii_start();
        if member.trim_ascii_end().is_empty() {
            continue;
        }
        members += 1;
        let Some(at) = member.iter().position(|byte| *byte == b'=') else { return false };
        if members > MAX_MEMBERS || !is_key(&member[..at]) || !is_value(member[at + 1..].trim_ascii_end()) {
            return false;
        }
    }
    true
}

fn is_key(key: &[u8]) -> bool {
    let simple = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.first().is_some_and(simple)
        && key.len() <= MAX_MEMBER_PART_BYTES
        && key.iter().all(|byte| simple(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@'))
}

fn is_value(value: &[u8]) -> bool {
    (1..=MAX_MEMBER_PART_BYTES).contains(&value.len())
        && value.iter().all(|byte| matches!(byte, 0x20..=0x7e) && !matches!(byte, b',' | b'='))
}

/// Lower case only, as the recommendation demands.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_chunks::<2>().0) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn put_hex(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_context_comes_back_as_it_was() {
        let context = TraceContext::parse(GOOD.as_bytes()).expect("valid");
        assert!(context.is_sampled());
        assert_eq!(context.to_traceparent(), GOOD.as_bytes());
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        for good in [GOOD.replacen("00", "cc", 1), GOOD.replacen("00", "cc", 1) + "-what-the-future-brings"] {
            assert!(TraceContext::parse(good.as_bytes()).is_some(), "{good}");
        }
    }

    #[test]
    fn what_is_not_valid_is_refused() {
        let bad = [
            String::new(),
            GOOD.to_uppercase(),
            GOOD.replacen("00", "ff", 1),
            GOOD.replacen("00", "0x", 1),
            format!("{GOOD}-more"),
            format!("{GOOD}."),
            GOOD.replacen("00", "cc", 1) + ".what",
            GOOD[..54].to_owned(),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace("-00f", "_00f"),
        ];
        for bad in bad {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_tracestate_is_a_short_list_of_members() {
        let valid = |values: &[&str]| is_valid_tracestate(values.iter().map(|value| value.as_bytes()));
        assert!(valid(&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"]));
        assert!(valid(&["a=1", " tenant@vendor=x y , ,b/c=2"]), "several fields are one list, and empty members are allowed");
        assert!(!valid(&["Rojo=1"]) && !valid(&["rojo"]) && !valid(&["rojo="]) && !valid(&["=1"]) && !valid(&["a=b=c"]));
        assert!(!valid(&["a=\u{1}"]) && !valid(&[&format!("a={}", "x".repeat(257))]));
        let many: Vec<String> = (0..33).map(|at| format!("k{at}=1")).collect();
        assert!(!valid(&[&many.join(",")]) && valid(&[&many[..32].join(",")]));
    }
}
