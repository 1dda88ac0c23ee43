//! Callers that send slowly, or do not read.

use gateway_control::policy::EntryBody;

use super::*;
use crate::harness::policy::entry;

fn short(config: &mut Config) {
    config.head_timeout = Duration::from_millis(500);
    config.body_timeout = Duration::from_millis(500);
    config.read_timeout = Duration::from_millis(700);
    config.idle_timeout = Duration::from_millis(700);
    config.keep_alive_timeout = Duration::from_millis(500);
}

#[tokio::test]
async fn heads_that_trickle_are_cut_off() {
    let (stage, _upstream) = calm_stage(short).await;
    let bystander = Bystander::start(&stage);
    let attackers = (0..100).map(|_| async {
        let mut raw = Raw::connect(&stage).await;
        raw.send("GET /weather/v1/echo HTTP/1.1\r\nhost: g\r\n").await;
        let deadline = tokio::time::Instant::now() + SOON;
        // A field now and then does not buy time.
        while raw.send("x: y\r\n").await {
            assert!(tokio::time::Instant::now() < deadline, "the head may take as long as it likes");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    futures_util::future::join_all(attackers).await;
    becomes(&stage, "connections", |open| open <= 1).await;
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn bodies_that_trickle_get_408_and_are_recorded_as_the_callers() {
    let (mut stage, upstream) = stage(|_| vec![Act::Hang], short).await;
    let bystander = Bystander::start(&stage);
    let key = stage.world.live.reveal().to_owned();
    for (framing, piece) in [("content-length: 100000", "x"), ("transfer-encoding: chunked", "1\r\nx\r\n"), ("content-length: 100000", "")]
    {
        let mut raw = Raw::connect(&stage).await;
        raw.send(format!("POST /weather/v1/any/x HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\n{framing}\r\n\r\n")).await;
        let (mut reading, mut writing) = raw.0.into_split();
        let trickle = tokio::spawn(async move {
            while writing.write_all(piece.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let mut answer = vec![0; 4_096];
        let read = timeout(SOON, reading.read(&mut answer)).await.expect("an answer soon").expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("urn:tollkeeper:problem:body-too-slow"), "{framing}: {answer}");
        drop(reading);
        trickle.abort();
    }
    let rows = hostile_rows(&mut stage, 3).await;
    assert!(rows.iter().all(|row| row.key.status == 408 && row.incomplete == row.count), "{rows:?}");
    assert_eq!(upstream.targets().iter().filter(|target| target.contains("/any/x")).count(), 3);
    becomes(&stage, "open_calls", |open| open <= 1).await;
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_slow_upload_that_moves_is_not_the_upstreams_fault() {
    // Longer than the upstream may take for its first byte, and than the body's patience.
    let (stage, _upstream) = stage(|_| vec![Act::Hang], short).await;
    let key = stage.world.live.reveal().to_owned();
    let mut raw = Raw::connect(&stage).await;
    let piece = "x".repeat(20_000);
    raw.send(format!("POST /weather/v1/echo HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\ncontent-length: 200000\r\n\r\n")).await;
    for _ in 0..10 {
        assert!(raw.send(&piece).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(statuses(&raw.answer().await), [200]);
    stage.gateway.stop().await;
}

/// An answer that is larger than all buffers on its way.
fn flood(_: &str) -> Vec<Act> {
    let piece = vec![b'x'; 64 * 1024];
    vec![send("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n"), Act::Repeat(piece)]
}

#[tokio::test]
async fn answers_that_nobody_reads_are_given_up_with_bounded_memory() {
    // Only the writes that wait tell that nobody reads.
    let patient = |config: &mut Config| {
        short(config);
        config.idle_timeout = Duration::from_secs(3_600);
    };
    let (mut stage, _upstream) = stage(flood, patient).await;
    let bystander = Bystander::start(&stage);
    let key = stage.world.live.reveal().to_owned();
    let before = resident_bytes();
    let mut readers = Vec::new();
    for _ in 0..20 {
        let mut raw = Raw::connect(&stage).await;
        raw.send(format!("GET /weather/v1/any/x HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\n\r\n")).await;
        readers.push(raw);
    }
    becomes(&stage, "open_calls", |open| open >= 20).await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for 20 answers that nobody reads");
    // They never read, and never close.
    becomes(&stage, "open_calls", |open| open <= 1).await;
    becomes(&stage, "connections", |open| open <= 1).await;
    becomes(&stage, "upstream_connections", |open| open <= 4).await;
    drop(readers);
    let rows = hostile_rows(&mut stage, 20).await;
    assert!(rows.iter().all(|row| row.key.status == 200 && row.incomplete == row.count), "{rows:?}");
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_caller_that_does_not_read_that_its_key_was_revoked_is_cut_off() {
    let endless = |_: &str| {
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536));
        vec![send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), Act::Repeat(chunk.into_bytes())]
    };
    // Nothing else ends it as long as the test waits.
    let patient = |config: &mut Config| (config.read_timeout, config.idle_timeout) = (10 * SOON, 10 * SOON);
    let (mut stage, _upstream) = stage(endless, patient).await;
    let key = stage.world.live.reveal().to_owned();
    let mut raw = Raw::connect(&stage).await;
    raw.send(format!("GET /weather/v1/any/x HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\n\r\n")).await;
    becomes(&stage, "open_calls", |open| open == 1).await;
    // The buffers on the way are full by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.portal.remove(entry(EntryBody::ApiKey(stage.world.keys[0].clone())).id);
    becomes(&stage, "open_calls", |open| open == 0).await;
    becomes(&stage, "connections", |open| open == 0).await;
    becomes(&stage, "upstream_connections", |open| open == 0).await;
    let rows = hostile_rows(&mut stage, 1).await;
    assert_eq!((rows[0].key.status, rows[0].incomplete), (200, 1));
    drop(raw);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_caller_that_reads_slowly_but_reads_gets_everything() {
    let body = "y".repeat(6 << 20);
    let whole = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let (stage, _upstream) = stage(move |_| vec![send(&whole)], short).await;
    let key = stage.world.live.reveal().to_owned();
    let mut raw = Raw::connect(&stage).await;
    raw.send(format!("GET /weather/v1/any/x HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\nconnection: close\r\n\r\n")).await;
    let mut buffer = vec![0; 256 * 1024];
    let mut received = 0;
    while let Ok(read @ 1..) = raw.0.read(&mut buffer).await {
        received += read;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert!(received > body.len(), "{received}");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_connection_that_rests_is_closed() {
    let (stage, _upstream) = calm_stage(short).await;
    let key = stage.world.live.reveal().to_owned();
    let mut raw = Raw::connect(&stage).await;
    raw.send(format!("GET /weather/v1/echo HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\n\r\n")).await;
    assert_eq!(statuses(&raw.answer().await), [200]);
    assert_eq!(raw.rest().await, "", "closed without another word");
    becomes(&stage, "connections", |open| open == 0).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn short_answers_that_are_read_late_are_all_there_in_their_order() {
    // Each answer is short enough to leave at the end of a turn; together they are more than the buffers on their way hold.
    const CALLS: usize = 30_000;
    let (stage, _upstream) = calm_stage(|config| config.read_timeout = SOON).await;
    let raw = Raw::connect(&stage).await;
    let (mut reading, mut writing) = raw.0.into_split();
    let much = "x".repeat(1_000);
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let sending = tokio::spawn(async move {
        for number in 0..CALLS {
            // Without a key the gateway answers by itself.
            let request = format!("GET /weather/v1/echo HTTP/1.1\r\nhost: g\r\nx-request-id: n{number}\r\nx-much: {much}\r\n\r\n");
            writing.write_all(request.as_bytes()).await.expect("the connection holds");
            counter.store(number, SeqCst);
        }
        writing
    });
    // Until everything stands still.
    let mut before = usize::MAX;
    while before != sent.load(SeqCst) {
        before = sent.load(SeqCst);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(!sending.is_finished(), "the gateway took all requests though nobody read its answers");
    let (mut read, mut next, mut piece) = (Vec::new(), 0, vec![0; 256 * 1024]);
    while next < CALLS {
        let length = timeout(SOON, reading.read(&mut piece)).await.expect("answers go on").expect("the connection holds");
        assert!(length > 0, "the connection was closed after {next} answers");
        read.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let whole = text.rfind("x-request-id: n").unwrap_or(0);
        for id in text[..whole].split("x-request-id: n").skip(1) {
            assert_eq!(id.split("\r\n").next(), Some(next.to_string().as_str()));
            next += 1;
        }
        read.drain(..whole);
        if next + 1 == CALLS && text[whole..].ends_with('}') {
            next += 1;
        }
    }
    sending.await.expect("all requests were sent");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn tiny_frames_that_nobody_takes_pile_up_nowhere() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let (mut stage, _upstream) = stage(move |_| vec![send(switch), Act::Pause(SOON * 10)], |config| config.idle_timeout = SOON / 2).await;
    let bystander = Bystander::start(&stage);
    let key = stage.world.live.reveal().to_owned();
    let mut raw = Raw::connect(&stage).await;
    raw.send(format!(
        "GET /weather/v1/any/x HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: \
         13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ))
    .await;
    let mut head = vec![0; 4_096];
    let read = timeout(SOON, raw.0.read(&mut head)).await.expect("an answer soon").expect("an answer");
    assert_eq!(statuses(&String::from_utf8_lossy(&head[..read])), [101]);
    let before = resident_bytes();
    // Messages of one byte, and between them pings and pieces of none.
    let frames = [&[0x81, 0x81, 1, 2, 3, 4, b'x'][..], &[0x89, 0x80, 1, 2, 3, 4], &[0x02, 0x80, 1, 2, 3, 4], &[0x80, 0x80, 1, 2, 3, 4]];
    let frames = frames.concat().repeat(3_000);
    let flood = async {
        for _ in 0..3_000 {
            assert!(raw.send(&frames).await, "it is open");
        }
    };
    assert!(timeout(Duration::from_secs(3), flood).await.is_err(), "200 MiB were taken though the upstream reads nothing");
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    bystander.goes_on().await;
    // That its caller leaves cannot be seen behind what nobody takes; it ends because nothing moves.
    drop(raw);
    assert_eq!(hostile_rows(&mut stage, 1).await[0].incomplete, 1);
    becomes(&stage, "open_calls", |open| open <= 1).await;
    bystander.done().await;
    stage.gateway.stop().await;
}
