//! The path of a request: its normal form is stable, and no reading of it, decoded once or twice, leaves the route it was matched to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use metering_gateway::pipeline::path::normalize;

fn decoded(path: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let (mut out, mut at) = (Vec::new(), 0);
    while at < path.len() {
        match (path[at], path.get(at + 1).and_then(digit), path.get(at + 2).and_then(digit)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

fuzz_target!(|path: &str| {
    let Ok(form) = normalize(path) else { return };
    assert_eq!(normalize(&form).expect("the normal form is well-formed"), form);
    assert!(form.starts_with('/') && form.is_ascii());
    let segments = |path: &[u8]| path.iter().filter(|byte| **byte == b'/').count();
    let mut reading = form.as_bytes().to_vec();
    for _ in 0..3 {
        assert!(!reading.contains(&b'\\') && !reading.iter().any(u8::is_ascii_control));
        assert_eq!(segments(&reading), segments(form.as_bytes()), "{form}: an encoded slash");
        for segment in reading.split(|byte| *byte == b'/') {
            let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
            assert!(name != b"." && name != b"..", "{form}: a dot segment");
        }
        reading = decoded(&reading);
    }
});
