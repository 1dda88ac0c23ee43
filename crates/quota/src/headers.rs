//! The `RateLimit` and `RateLimit-Policy` header fields (draft-ietf-httpapi-ratelimit-headers-10), written into a buffer on the stack.

use std::fmt::{self, Write};

use crate::NANOS_PER_SECOND;

/// Enough for six limits.
const CAPACITY: usize = 512;

/// The value of one header field: a list of named limits.
#[derive(Debug, Clone, Copy)]
pub struct Fields {
    bytes: [u8; CAPACITY],
    len: usize,
}

/// Nanoseconds in whole seconds, rounded up, as `t` and `Retry-After` want it: who waits that long does not come too early.
pub const fn seconds_up(nanos: u64) -> u64 {
    nanos.div_ceil(NANOS_PER_SECOND)
}

impl Fields {
    /// A field without items.
    pub const fn new() -> Self {
        Self { bytes: [0; CAPACITY], len: 0 }
    }

    /// Adds `"name";q=quota;w=window` to a `RateLimit-Policy`. False, and nothing is added, if the name is not plain or the field is full.
    pub fn policy(&mut self, name: &str, quota: u64, window_seconds: u64) -> bool {
        self.item(name, |field| write!(field, ";q={quota};w={window_seconds}"))
    }

    /// Adds `"name";r=remaining;t=seconds` to a `RateLimit`. False, and nothing is added, if the name is not plain or the field is full.
    pub fn limit(&mut self, name: &str, remaining: u64, reset_after_seconds: u64) -> bool {
        self.item(name, |field| write!(field, ";r={remaining};t={reset_after_seconds}"))
    }

    /// The value; ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The value.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("only plain names and ASCII numbers are written")
    }

    /// Whether there is no item.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn item(&mut self, name: &str, parameters: impl FnOnce(&mut Self) -> fmt::Result) -> bool {
        let before = self.len;
        let separator = if before == 0 { "" } else { ", " };
        // A structured field's string has printable ASCII only, and needs no escapes without quotes and backslashes (RFC 9651, 3.3.3).
        let plain = name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
        let written = plain && write!(self, "{separator}\"{name}\"").and_then(|()| parameters(self)).is_ok();
        if !written {
            self.len = before;
        }
        written
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Fields {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_fields_of_the_draft() {
        let mut policy = Fields::new();
        assert!(policy.is_empty());
        assert!(policy.policy("default", 100, 60));
        assert_eq!(policy.as_str(), r#""default";q=100;w=60"#);
        assert!(policy.policy("api_key", 5, 1));
        assert_eq!(policy.as_str(), r#""default";q=100;w=60, "api_key";q=5;w=1"#);
        let mut limit = Fields::new();
        assert!(limit.limit("default", 50, seconds_up(29_000_000_001)));
        assert_eq!(limit.as_bytes(), br#""default";r=50;t=30"#);
    }

    #[test]
    fn adds_whole_items_only() {
        let mut field = Fields::new();
        for name in ["a\"b", "a\\b", "ä", "a\nb"] {
            assert!(!field.limit(name, 1, 1), "{name}");
        }
        assert!(field.is_empty());
        let mut added = 0;
        while field.limit("subscription", u64::MAX, u64::MAX) {
            added += 1;
        }
        assert!(added >= 6, "{added}");
        assert_eq!(field.as_str().matches("subscription").count(), added);
        assert!(field.as_str().ends_with(";t=18446744073709551615"));
    }

    #[test]
    fn seconds_are_rounded_up() {
        for (nanos, seconds) in [(0, 0), (1, 1), (NANOS_PER_SECOND, 1), (NANOS_PER_SECOND + 1, 2), (u64::MAX, 18_446_744_074)] {
            assert_eq!(seconds_up(nanos), seconds);
        }
    }
}
