//! Keys that are garbage, and keys that could be somebody's but are not.

use gateway_control::credential::CredentialKind;

use super::*;
use crate::harness::credential;

/// A caller on one connection that tries one key after another, and counts how often it was refused.
async fn tries(stage: &Stage, keys: impl Iterator<Item = String>) -> u64 {
    let mut raw = Raw::connect(stage).await;
    let mut refused = 0;
    for key in keys {
        raw.send(format!("GET /weather/v1/echo HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\n\r\n")).await;
        let answer = raw.answer().await;
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("urn:tollkeeper:problem:key-invalid"), "{answer}");
        refused += 1;
    }
    refused
}

#[tokio::test]
async fn garbage_is_refused_without_a_look_up() {
    let (stage, upstream) = calm_stage(|_| ()).await;
    let good = credential(CredentialKind::Live).reveal().to_owned();
    let gateway = credential(CredentialKind::Gateway).reveal().to_owned();
    let flipped = |at: usize| {
        let mut text = good.clone().into_bytes();
        text[at] = if text[at] == b'a' { b'b' } else { b'a' };
        String::from_utf8(text).expect("ASCII")
    };
    let mut garbage: Vec<String> = (8..good.len()).map(flipped).collect();
    garbage.extend([
        "x".into(),
        "tk_live_".into(),
        good[..45].into(),
        format!("{good}a"),
        good.to_uppercase(),
        gateway,
        "x".repeat(10_000),
    ]);
    let count = garbage.len() as u64;
    assert_eq!(tries(&stage, garbage.into_iter()).await, count);
    assert_eq!(metric(&stage, "unknown_keys_total").await, 0, "nothing was looked up");
    assert_eq!(metric(&stage, "problems_total{problem=\"key-invalid\"}").await, i64::try_from(count).expect("few"));
    // A key of the right form is looked up.
    tries(&stage, [good].into_iter()).await;
    assert_eq!(metric(&stage, "unknown_keys_total").await, 1);
    assert!(upstream.targets().is_empty());
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_flood_of_unknown_keys_leaves_nothing_behind() {
    let (stage, _upstream) = calm_stage(|_| ()).await;
    let bystander = Bystander::start(&stage);
    let one_by_one = |count: usize| std::iter::repeat_with(|| credential(CredentialKind::Live).reveal().to_owned()).take(count);
    // Buffers, tables and the allocator reach their sizes first.
    tries(&stage, one_by_one(500)).await;
    let before = resident_bytes();
    let callers = futures_util::future::join_all((0..8).map(|_| tries(&stage, one_by_one(1_500)))).await;
    let count: u64 = callers.into_iter().sum();
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more after {count} unknown keys");
    assert_eq!(metric(&stage, "unknown_keys_total").await, i64::try_from(count + 500).expect("few"));
    bystander.done().await;
    stage.gateway.stop().await;
}
