//! Streams over HTTP/2 that are asked for and not wanted, or not let drain.

use super::{frames::*, *};

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let (stage, upstream) = stage(|_| vec![Act::Hang], |_| ()).await;
    let bystander = Bystander::start(&stage);
    // In one piece, so that streams are reset before anybody has looked at them; then one by one, after they were forwarded (CVE-2023-44487).
    for pause in [None, Some(Duration::from_millis(1))] {
        let mut raw = RawHttp2::connect(&stage, &[]).await;
        let block = raw.call("/weather/v1/any/x");
        let asked = tokio::time::timeout(SOON * 2, async {
            for n in 0..20_000_u32 {
                let stream = 2 * n + 1;
                if !raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)).await {
                    return n;
                }
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
                if !raw.send(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())).await {
                    return n;
                }
            }
            20_000
        });
        let asked = asked.await.expect("the connection ends soon");
        assert!(asked < 20_000, "{pause:?}: the connection was never closed");
        drop(raw);
    }
    let reached = upstream.targets().iter().filter(|target| target.contains("/any/x")).count();
    assert!(reached < 2_000, "{reached} calls that nobody wanted reached the upstream");
    becomes(&stage, "open_calls", |open| open <= 1).await;
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_caller_that_cancels_now_and_then_keeps_its_connection() {
    let (mut stage, _upstream) = stage(|_| vec![Act::Hang], |_| ()).await;
    let mut raw = RawHttp2::connect(&stage, &[]).await;
    for n in 0..150_u32 {
        let stream = 4 * n + 1;
        assert!(raw.ask(stream, "/weather/v1/any/x").await);
        assert!(raw.ask(stream + 2, "/weather/v1/echo").await);
        raw.until("an answer", |frame| frame.stream == stream + 2 && frame.flags & END_STREAM != 0).await;
        assert!(raw.send(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())).await);
    }
    // M8: each of them is recorded as the caller's, with nothing from the upstream to bill.
    let rows = hostile_rows(&mut stage, 150).await;
    assert!(rows.iter().all(|row| row.key.status == 499 && row.incomplete == row.count), "{rows:?}");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn streams_without_a_window_are_reset_and_their_connection_goes_on() {
    let piece = "x".repeat(60_000);
    let endless = move |_: &str| {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        vec![send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), Act::Repeat(chunk.into_bytes())]
    };
    let (mut stage, _upstream) = stage(endless, |config| config.idle_timeout = Duration::from_millis(800)).await;
    let bystander = Bystander::start(&stage);
    let before = resident_bytes();
    // New streams get no window at all.
    let mut raw = RawHttp2::connect(&stage, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    for n in 0..50_u32 {
        assert!(raw.ask(2 * n + 1, "/weather/v1/any/x").await);
    }
    becomes(&stage, "open_calls", |open| open >= 50).await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes for 50 streams without a window");
    for _ in 0..50 {
        raw.until("a reset", |frame| frame.kind == RST_STREAM).await;
    }
    becomes(&stage, "open_calls", |open| open <= 1).await;
    // The connection lives: a stream that gets a window is served.
    assert!(raw.ask(1_001, "/weather/v1/echo").await);
    assert!(raw.send(&frame(WINDOW_UPDATE, 0, 1_001, &1_000_u32.to_be_bytes())).await);
    raw.until("an answer", |frame| frame.stream == 1_001 && frame.kind == DATA && frame.payload == b"ok").await;
    let rows = hostile_rows(&mut stage, 50).await;
    assert!(rows.iter().all(|row| row.key.status == 200 && row.incomplete == row.count), "{rows:?}");
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn streams_with_all_windows_open_on_a_connection_that_nobody_reads_end_with_it() {
    let piece = "x".repeat(60_000);
    let endless = move |_: &str| {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        vec![send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), Act::Repeat(chunk.into_bytes())]
    };
    // Only the writes that wait tell that nobody reads.
    let patient = |config: &mut Config| (config.read_timeout, config.idle_timeout) = (Duration::from_secs(4), 10 * SOON);
    let (mut stage, _upstream) = stage(endless, patient).await;
    let bystander = Bystander::start(&stage);
    let before = resident_bytes();
    // Neither a stream nor the connection holds anything back by its window.
    let mut raw = RawHttp2::connect(&stage, &[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]).await;
    assert!(raw.send(&frame(WINDOW_UPDATE, 0, 0, &(0x7fff_ffff_u32 - 65_535).to_be_bytes())).await);
    for n in 0..100_u32 {
        assert!(raw.ask(2 * n + 1, "/weather/v1/any/x").await);
    }
    becomes(&stage, "open_calls", |open| open >= 100).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 96 << 20, "{grown} bytes for 100 streams that nobody reads");
    // It never reads, and never closes.
    becomes(&stage, "open_calls", |open| open <= 1).await;
    becomes(&stage, "connections", |open| open <= 1).await;
    drop(raw);
    let rows = hostile_rows(&mut stage, 100).await;
    assert!(rows.iter().all(|row| row.key.status == 200 && row.incomplete == row.count), "{rows:?}");
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_window_of_one_byte_at_a_time_gets_its_answer() {
    let (stage, _upstream) = calm_stage(|_| ()).await;
    let bystander = Bystander::start(&stage);
    let mut raw = RawHttp2::connect(&stage, &[(INITIAL_WINDOW_SIZE, 1)]).await;
    assert!(raw.ask(1, "/weather/v1/nothing").await);
    let mut body = Vec::new();
    loop {
        let data = raw.until("data", |frame| frame.stream == 1 && frame.kind == DATA).await;
        assert!(data.payload.len() <= 1, "no more than the window");
        body.extend(data.payload);
        if data.flags & END_STREAM != 0 {
            break;
        }
        assert!(raw.send(&frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())).await);
    }
    // The upstream's answer is no document of the gateway's own.
    assert!(String::from_utf8_lossy(&body).contains("urn:tollkeeper:problem:no-route"));
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn answers_that_wait_for_a_window_end_with_their_connection() {
    let short = |config: &mut Config| {
        config.head_timeout = Duration::from_millis(500);
        config.keep_alive_timeout = Duration::from_millis(500);
        config.idle_timeout = Duration::from_millis(500);
    };
    let (stage, _upstream) = calm_stage(short).await;
    let bystander = Bystander::start(&stage);
    let mut raw = RawHttp2::connect(&stage, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    // Upstreams' answers, which are settled once they are whole, and the gateway's own.
    for n in 0..100_u32 {
        assert!(raw.ask(2 * n + 1, if n % 2 == 0 { "/weather/v1/any/x" } else { "/weather/v1/nothing" }).await);
    }
    raw.closed().await;
    becomes(&stage, "connections", |open| open <= 1).await;
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn overflowing_windows_and_lying_lengths_are_errors() {
    const FLOW_CONTROL_ERROR: u32 = 3;
    let (stage, upstream) = calm_stage(|_| ()).await;
    let bystander = Bystander::start(&stage);
    let mut raw = RawHttp2::connect(&stage, &[]).await;
    assert!(raw.send(&frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())).await);
    assert_eq!(raw.closed().await, Some(FLOW_CONTROL_ERROR));
    // A body that is longer or shorter than it says, and fields that belong to HTTP/1.1, break the stream and reach no upstream whole.
    let key = stage.world.live.reveal();
    let head = |field: (&str, &str)| {
        fields(&[(":method", "POST"), (":scheme", "http"), (":authority", "g"), (":path", "/weather/v1/any/x"), ("x-api-key", key), field])
    };
    for field in [
        ("content-length", "2"),
        ("content-length", "900"),
        ("content-length", "-1"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("upgrade", "h2c"),
        ("host", "other"),
        ("X-Upper", "case"),
        ("x", "a\r\nx-forged: 1"),
        ("x\r\nx-forged", "1"),
        (":path", "/weather/v1/any/second"),
        ("x", "a\u{0}b"),
    ] {
        let mut raw = RawHttp2::connect(&stage, &[]).await;
        let mut bytes = frame(HEADERS, END_HEADERS, 1, &head(field));
        bytes.extend(frame(DATA, END_STREAM, 1, b"hello"));
        raw.send(&bytes).await;
        let end = raw
            .until("an end", |frame| frame.kind == RST_STREAM || frame.kind == GOAWAY || frame.stream == 1 && frame.kind == HEADERS)
            .await;
        // Status 200 is entry 8 of the static table (RFC 7541, A).
        assert!(end.kind != HEADERS || end.payload.first() != Some(&0x88), "{field:?} was served");
    }
    for (authority, path) in [
        ("user@g", "/weather/v1/any/x"),
        ("g", "weather/v1/any/x"),
        ("g", "http://other/weather/v1/any/x"),
        ("g", "*"),
        ("g/x", "/weather/v1/any/x"),
        ("", "/weather/v1/any/x"),
    ] {
        let mut raw = RawHttp2::connect(&stage, &[]).await;
        let block = fields(&[(":method", "GET"), (":scheme", "http"), (":authority", authority), (":path", path), ("x-api-key", key)]);
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
        let end = raw.until("an end", |frame| matches!(frame.kind, RST_STREAM | GOAWAY | HEADERS)).await;
        assert!(end.kind != HEADERS || end.payload.first() != Some(&0x88), "{authority:?} {path:?} was served");
    }
    let heard = upstream.heard().concat();
    assert!(!heard.contains("user@") && !heard.contains("x-forged") && !heard.contains("second") && !heard.contains("h2c"), "{heard}");
    bystander.done().await;
    stage.gateway.stop().await;
}
