//! Headers of the PROXY protocol: nothing panics, and a line that is accepted says an address that stands in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use metering_gateway::listener::proxy_protocol::{parse_v1, parse_v2};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(address)) = parse_v1(bytes) {
        let line = std::str::from_utf8(bytes).expect("an accepted line is text");
        assert!(line.ends_with("\r\n") && line.starts_with("PROXY TCP"));
        let told = line.split(' ').nth(2).expect("a source");
        assert_eq!(told.parse(), Ok(address));
    }
    if let [command, family, rest @ ..] = bytes
        && let Ok(Some(address)) = parse_v2([*command, *family], rest)
    {
        assert!(*command == 0x21 && rest.len() >= if address.is_ipv4() { 12 } else { 36 });
    }
});
