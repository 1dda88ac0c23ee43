//! Floods of HTTP/2 frames that cost their sender next to nothing.

use super::{frames::*, *};

const ENHANCE_YOUR_CALM: u32 = 11;

#[tokio::test]
async fn a_head_that_goes_on_in_continuations_is_cut_off() {
    let (stage, upstream) = calm_stage(|_| ()).await;
    let bystander = Bystander::start(&stage);
    let before = resident_bytes();
    // Fields that count, empty frames that do not, and names that are never decoded whole.
    for piece in [fields(&[("x-flood", "v")]).repeat(500), Vec::new(), vec![0]] {
        let mut raw = RawHttp2::connect(&stage, &[]).await;
        let block = raw.call("/weather/v1/any/x");
        raw.send(&frame(HEADERS, END_STREAM, 1, &block)).await;
        let more = frame(CONTINUATION, 0, 1, &piece);
        let flood = async {
            let mut sent = 0_u64;
            while raw.send(&more).await {
                sent += 1;
                assert!(sent < 1_000_000, "the flood of {} bytes a frame was never stopped", more.len());
            }
            sent
        };
        let sent = timeout(SOON, flood).await.expect("it is stopped");
        assert!(sent * (more.len() as u64) < 64 << 20, "{sent} frames of {} bytes", more.len());
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    assert!(upstream.targets().iter().all(|target| target.contains("/echo")), "{:?}", upstream.targets());
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_a_bomb_ends_the_connection() {
    let (stage, _upstream) = calm_stage(|_| ()).await;
    let mut raw = RawHttp2::connect(&stage, &[]).await;
    let mut block = raw.call("/weather/v1/any/x");
    // One field of 4,000 bytes is put into the table, then named again and again with one byte each: 50 of them are 200 KB (RFC 7541, 6.1).
    block.push(0x40);
    block.push(1);
    block.push(b'x');
    block.extend([127, 0xa1, 0x1e]);
    block.extend([b'v'; 4_000]);
    block.extend([0xbe; 50]);
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
    let end = raw.until("an answer", |frame| frame.stream == 1 && frame.kind == HEADERS || frame.kind == GOAWAY).await;
    assert!(end.kind == GOAWAY || !end.payload.starts_with(&[0x88]), "it was served");
    let mut raw = RawHttp2::connect(&stage, &[]).await;
    let mut bomb = block.clone();
    bomb.extend([0xbe; 10_000]);
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)).await;
    let reason = raw.closed().await;
    assert!(reason.is_none() || reason == Some(ENHANCE_YOUR_CALM), "{reason:?}");
    stage.gateway.stop().await;
}

/// Sends the same frames again and again while nothing is read of what the gateway says to them.
async fn unread_flood(stage: &Stage, what: &str, flood: &[u8]) {
    let mut raw = RawHttp2::connect(stage, &[]).await;
    let before = resident_bytes();
    let many = flood.repeat(1 + 16_384 / flood.len());
    let sending = async {
        // Far more than all buffers between the two hold.
        for _ in 0..4_000 {
            if !raw.send(&many).await {
                return;
            }
        }
    };
    // Either the gateway stops reading, or it closes the connection, or it answers within bounds.
    let stalled = timeout(Duration::from_secs(3), sending).await.is_err();
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 24 << 20, "{what}: {grown} bytes more, stalled: {stalled}");
}

#[tokio::test]
async fn floods_of_settings_pings_and_the_like_do_not_pile_up() {
    let (stage, _upstream) = calm_stage(|config| config.read_timeout = Duration::from_secs(1)).await;
    let bystander = Bystander::start(&stage);
    for (what, flood) in [
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("settings", settings(&[(INITIAL_WINDOW_SIZE, 65_535)])),
        ("empty settings", settings(&[])),
        ("window updates", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("unknown frames", frame(0xfa, 0, 0, &[0; 100])),
        ("priorities", frame(2, 0, 1, &[0, 0, 0, 3, 16])),
    ] {
        unread_flood(&stage, what, &flood).await;
        bystander.goes_on().await;
    }
    becomes(&stage, "connections", |open| open <= 1).await;
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_flood_of_empty_data_ends_the_connection() {
    let (mut stage, upstream) = stage(|_| vec![Act::Hang], |_| ()).await;
    let bystander = Bystander::start(&stage);
    let mut raw = RawHttp2::connect(&stage, &[]).await;
    let block = raw.call("/weather/v1/any/x");
    raw.send(&frame(HEADERS, END_HEADERS, 1, &block)).await;
    eventually("the call is forwarded", async || upstream.targets().iter().any(|target| target.contains("/any/x")).then_some(())).await;
    let empty = frame(DATA, 0, 1, &[]).repeat(100);
    let flood = async {
        let mut sent = 0;
        while raw.send(&empty).await {
            sent += 100;
            assert!(sent < 10_000_000, "never stopped");
        }
    };
    timeout(SOON, flood).await.expect("it is stopped");
    drop(raw);
    assert_eq!(hostile_rows(&mut stage, 1).await[0].incomplete, 1);
    bystander.done().await;
    stage.gateway.stop().await;
}
