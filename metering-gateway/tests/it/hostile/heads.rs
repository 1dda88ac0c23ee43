//! Heads that are too large, too many, or wrong, and credentials that contradict each other.

use super::*;
use gateway_control::credential::CredentialKind;

use crate::harness::credential;

fn head(stage: &Stage, fields: &str) -> String {
    format!("GET /weather/v1/any/x HTTP/1.1\r\nhost: g\r\nconnection: close\r\nx-api-key: {}\r\n{fields}\r\n", stage.world.live.reveal())
}

#[tokio::test]
async fn oversized_and_overfull_heads_get_431() {
    let (stage, upstream) = calm_stage(|_| ()).await;
    let bystander = Bystander::start(&stage);
    let one = format!("x: {}\r\n", "v".repeat(70_000));
    let many: String = (0..200).map(|n| format!("x-{n}: v\r\n")).collect();
    let long_name = format!("{}: v\r\n", "n".repeat(70_000));
    for fields in [&one, &many, &long_name] {
        assert_eq!(statuses(&ask(&stage, head(&stage, fields)).await), [431], "{:.20}", fields);
    }
    let large = format!("x: {}\r\n", "v".repeat(50_000));
    assert_eq!(statuses(&ask(&stage, head(&stage, &large)).await), [200], "what is large and within the bound passes");
    assert_eq!(upstream.targets().iter().filter(|target| target.contains("/any/x")).count(), 1);
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_head_without_an_end_is_cut_off_and_its_memory_freed() {
    let (stage, _upstream) = calm_stage(|_| ()).await;
    let bystander = Bystander::start(&stage);
    let before = resident_bytes();
    let floods = (0..50).map(|_| async {
        let mut raw = Raw::connect(&stage).await;
        raw.send("GET /weather/v1/any/x HTTP/1.1\r\nhost: g\r\n").await;
        // 64 MiB over all of them, if the gateway took it.
        let piece = "x-flood: v\r\n".repeat(1_000);
        for _ in 0..110 {
            if !raw.send(&piece).await {
                break;
            }
        }
        statuses(&raw.rest().await)
    });
    for statuses in futures_util::future::join_all(floods).await {
        // Whoever is still sending may see the connection reset before it reads the answer.
        assert!(matches!(statuses[..], [431] | []), "{statuses:?}");
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 40 << 20, "{grown} bytes more");
    bystander.done().await;
    becomes(&stage, "connections", |open| open <= 1).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let (stage, upstream) = calm_stage(|_| ()).await;
    let bystander = Bystander::start(&stage);
    let key = stage.world.live.reveal();
    let good = format!("host: g\r\nx-api-key: {key}\r\n");
    let texts: Vec<Vec<u8>> = vec![
        format!("GET  /weather/v1/any/x HTTP/1.1\r\n{good}\r\n").into(),
        format!("GET /weather/v1/any/x HTTP/1.2\r\n{good}\r\n").into(),
        format!("GET /weather/v1/any/x HTTP/9.9\r\n{good}\r\n").into(),
        format!("GET /weather/v1/any/x y HTTP/1.1\r\n{good}\r\n").into(),
        format!("GET /weather/v1/any/x\r\n{good}\r\n").into(),
        format!("G\u{0}T /weather/v1/any/x HTTP/1.1\r\n{good}\r\n").into(),
        format!("GET /weather/v1/any/x HTTP/1.1\r\n{good}x\u{0}y: 1\r\n\r\n").into(),
        format!("GET /weather/v1/any/x HTTP/1.1\r\n{good}x y: 1\r\n\r\n").into(),
        format!("GET /weather/v1/any/x HTTP/1.1\r\n{good}: nameless\r\n\r\n").into(),
        format!("GET /weather/v1/any/x HTTP/1.1\r\n{good}no colon\r\n\r\n").into(),
        format!("GET /weather/v1/any/x HTTP/1.1\r\n{good}x: a\u{0}b\r\n\r\n").into(),
        format!("GET /weather/v1/any/x HTTP/1.1\r\nx-api-key: {key}\r\n\r\n").into(),
        format!("GET /weather/v1/any/x HTTP/1.1\r\n{good}host: g\r\n\r\n").into(),
        format!("GET /weather/v1/any/x HTTP/1.1\r\nhost: a/b\r\nx-api-key: {key}\r\n\r\n").into(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20),
        b"\xff\xfe\xfd\xfc\r\n\r\n".to_vec(),
        b"\r\n\r\n\r\n\x00\r\n\r\n".to_vec(),
    ];
    for text in texts {
        let answers = ask(&stage, &text).await;
        assert!(matches!(statuses(&answers)[..], [400]), "{:?} gave {answers:?}", String::from_utf8_lossy(&text));
    }
    assert!(upstream.targets().iter().all(|target| target.contains("/echo")), "{:?}", upstream.targets());
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn values_that_are_not_utf8_pass_as_they_are_and_break_nothing() {
    let (stage, upstream) = calm_stage(|_| ()).await;
    let key = stage.world.live.reveal();
    let mut text = format!("GET /weather/v1/any/x HTTP/1.1\r\nhost: g\r\nconnection: close\r\nx-api-key: {key}\r\n").into_bytes();
    for name in ["x-other", "x-request-id", "x-forwarded-for", "origin", "te", "traceparent", "content-type"] {
        text.extend(format!("{name}: ").bytes());
        text.extend(b"\xff\xfe\xe9\r\n\r\n".iter().take(5));
    }
    text.extend(b"\r\n");
    assert_eq!(statuses(&ask(&stage, &text).await), [200]);
    let heard: Vec<u8> = upstream.heard.lock().expect("no panic").concat();
    let contains = |wanted: &[u8]| heard.windows(wanted.len()).any(|window| window == wanted);
    assert!(contains(b"x-other: \xff\xfe\xe9\r\n"), "obs-text is the upstream's to judge (RFC 9110, 5.5)");
    assert!(!contains(b"x-request-id: \xff") && !contains(b"x-forwarded-for: \xff"), "what the gateway says itself is its own");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn of_several_credentials_none_can_be_slipped_past() {
    let (stage, upstream) = calm_stage(|_| ()).await;
    let live = stage.world.live.reveal();
    let other = credential(CredentialKind::Live);
    let other = other.reveal();
    let ask_with = async |fields: String| {
        let text = format!("GET /weather/v1/any/x HTTP/1.1\r\nhost: g\r\nconnection: close\r\n{fields}\r\n");
        statuses(&ask(&stage, text).await)
    };
    let refused = [
        format!("x-api-key: {live}\r\nx-api-key: {live}\r\n"),
        format!("x-api-key: {live}\r\nx-api-key: {other}\r\n"),
        format!("x-api-key: {live}, {other}\r\n"),
        format!("x-api-key: {live}{other}\r\n"),
        format!("authorization: Bearer {live}\r\nauthorization: Bearer {live}\r\n"),
        format!("authorization: Bearer {live}, Bearer {other}\r\n"),
        format!("authorization: Basic {live}\r\n"),
        format!("x-api-key: {other}\r\nauthorization: Bearer {live}\r\n"),
        format!("x-api-key: \r\nauthorization: Bearer {live}\r\n"),
        format!("x_api_key: {live}\r\n"),
        format!("cookie: x-api-key={live}\r\n"),
    ];
    for fields in refused {
        assert_eq!(ask_with(fields.clone()).await, [401], "{fields}");
    }
    assert!(upstream.targets().is_empty());
    assert_eq!(ask_with(format!("x-api-key: {live}\r\nauthorization: Bearer {other}\r\n")).await, [200], "`x-api-key` decides");
    let heard = upstream.heard().concat();
    assert!(!heard.contains(live) && !heard.contains(other), "no credential of the gateway's reaches the upstream: {heard}");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn trailers_without_an_end_are_cut_off() {
    let (mut stage, upstream) = stage(|_| vec![Act::Hang], |_| ()).await;
    let bystander = Bystander::start(&stage);
    let before = resident_bytes();
    // One value that never ends, and fields that never end.
    for piece in ["v".repeat(10_000), "x-flood: v\r\n".repeat(900)] {
        let mut raw = Raw::connect(&stage).await;
        let key = stage.world.live.reveal();
        let head = format!("POST /weather/v1/any/x HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\ntransfer-encoding: chunked\r\n\r\n");
        raw.send(head + "3\r\nabc\r\n0\r\nx-value: ").await;
        let flood = async {
            let mut sent = 0;
            while sent < 64 << 20 && raw.send(&piece).await {
                sent += piece.len();
            }
            sent
        };
        let sent = timeout(SOON, flood).await.expect("it is stopped");
        assert!(sent < 32 << 20, "{sent} bytes of trailers were taken");
        assert!(matches!(statuses(&raw.rest().await)[..], [400] | []));
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    assert!(upstream.heard().iter().all(|text| !text.contains("x-flood") && !text.contains("vvvv")), "{:?}", upstream.heard());
    let rows = hostile_rows(&mut stage, 2).await;
    assert!(rows.iter().all(|row| row.key.status == 400 && row.incomplete == row.count), "{rows:?}");
    bystander.done().await;
    stage.gateway.stop().await;
}
