//! A line of the policy feed: what can be read is written back, and read again the same.
#![no_main]

use gateway_control::policy::PolicyEvent;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(event) = serde_json::from_slice::<PolicyEvent>(bytes) else { return };
    let text = serde_json::to_string(&event).expect("an event is JSON");
    let again: PolicyEvent = serde_json::from_str(&text).expect("what was written can be read");
    assert_eq!(event, again);
});
