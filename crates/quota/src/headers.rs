//! The `RateLimit` and `RateLimit-Policy` header fields (draft-ietf-httpapi-ratelimit-headers-10), written into a buffer on the stack.

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
        self.item(name, [(b";q=", quota), (b";w=", window_seconds)])
    }

    /// Adds `"name";r=remaining;t=seconds` to a `RateLimit`. False, and nothing is added, if the name is not plain or the field is full.
    pub fn limit(&mut self, name: &str, remaining: u64, reset_after_seconds: u64) -> bool {
        self.item(name, [(b";r=", remaining), (b";t=", reset_after_seconds)])
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

    fn item(&mut self, name: &str, parameters: [(&[u8; 3], u64); 2]) -> bool {
        let before = self.len;
        // A structured field's string has printable ASCII only, and needs no escapes without quotes and backslashes (RFC 9651, 3.3.3).
        let plain = name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
        let separator: &[u8] = if before == 0 { b"\"" } else { b", \"" };
        let mut written = plain && self.put(separator) && self.put(name.as_bytes()) && self.put(b"\"");
        for (key, number) in parameters {
            written = written && self.put(key) && self.put_number(number);
        }
        if !written {
            self.len = before;
        }
        written
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) -> bool {
        let end = self.len + bytes.len();
        let Some(place) = self.bytes.get_mut(self.len..end) else { return false };
        place.copy_from_slice(bytes);
        self.len = end;
        true
    }

    /// Decimal digits. A field is written on every answer, where `fmt` would cost more than all else about it.
    fn put_number(&mut self, mut number: u64) -> bool {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return self.put(&digits[at..]);
            }
        }
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self::new()
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
