//! The `RateLimit` fields: whatever names and numbers go in, what comes out is a header value, and a structured list with as many items as were taken.
#![no_main]

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use quota::Fields;

fuzz_target!(|items: Vec<(String, u64, u64)>| {
    let mut fields = Fields::new();
    let mut taken = Vec::new();
    for (name, number, seconds) in &items {
        let before = fields.as_str().to_owned();
        if fields.limit(name, *number, *seconds) {
            taken.push(format!("\"{name}\";r={number};t={seconds}"));
        } else {
            assert_eq!(fields.as_str(), before, "what does not fit leaves nothing behind");
        }
    }
    assert_eq!(fields.as_str(), taken.join(", "));
    assert!(HeaderValue::from_bytes(fields.as_bytes()).is_ok());
});
