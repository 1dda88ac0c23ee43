//! Upstreams that die, hang, lie about lengths, send garbage, or never end. None of it is billed as more than it was, and none reaches another caller.

use gateway_control::usage::AnsweredBy;

use super::*;

/// What the caller of the hostile route got, over HTTP/1.1 on a connection of its own.
async fn called(stage: &Stage) -> String {
    let key = stage.world.live.reveal();
    ask(stage, format!("GET /weather/v1/any/x HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\nconnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn no_valid_head_is_a_502_or_504_of_the_gateways_own() {
    let many: String = (0..300).map(|n| format!("x-{n}: v\r\n")).collect();
    let cases: Vec<(&str, Vec<Act>, u16, &str)> = vec![
        ("dies", vec![Act::Close], 502, "upstream-failed"),
        ("dies in the head", vec![send("HTTP/1.1 200 OK\r\ncontent-le"), Act::Close], 502, "upstream-failed"),
        ("hangs", vec![Act::Hang], 504, "upstream-timeout"),
        ("hangs in the head", vec![send("HTTP/1.1 200 OK\r\ncontent-le"), Act::Hang], 504, "upstream-timeout"),
        ("garbage", vec![send("\u{0}\u{1}\u{2} nonsense\r\n\r\n")], 502, "upstream-failed"),
        ("another protocol", vec![send("SSH-2.0-OpenSSH_9.2\r\n")], 502, "upstream-failed"),
        ("giant head", vec![send(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "v".repeat(1 << 20)))], 502, "upstream-failed"),
        ("endless head", vec![send("HTTP/1.1 200 OK\r\n"), Act::Repeat(b"x: y\r\n".repeat(1_000))], 502, "upstream-failed"),
        ("too many fields", vec![send(format!("HTTP/1.1 200 OK\r\n{many}\r\n"))], 502, "upstream-failed"),
        ("two lengths", vec![send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc")], 502, "upstream-failed"),
        ("bad length", vec![send("HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nabc")], 502, "upstream-failed"),
        ("bad status", vec![send("HTTP/1.1 99999 OK\r\n\r\n")], 502, "upstream-failed"),
        ("space before a colon", vec![send("HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok")], 502, "upstream-failed"),
        ("NUL in a field", vec![send("HTTP/1.1 200 OK\r\nx: a\u{0}b\r\ncontent-length: 2\r\n\r\nok")], 502, "upstream-failed"),
        (
            "a switch that nobody asked for",
            vec![send("HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n")],
            502,
            "upstream-failed",
        ),
    ];
    for (name, acts, status, slug) in cases {
        let (mut stage, _upstream) = stage(move |_| acts.clone(), |_| ()).await;
        let bystander = Bystander::start(&stage);
        let answer = called(&stage).await;
        assert_eq!(statuses(&answer), [status], "{name}: {answer:.300}");
        let declared = format!("\"type\":\"urn:tollkeeper:problem:{slug}\"");
        assert!(answer.contains(&declared) && answer.contains("application/problem+json"), "{name}: {answer:.600}");
        let rows = hostile_rows(&mut stage, 1).await;
        let key = &rows[0].key;
        assert_eq!((key.status, key.answered_by, rows[0].incomplete), (status, AnsweredBy::Gateway, 1), "{name}");
        bystander.done().await;
        becomes(&stage, "open_calls", |open| open == 0).await;
        stage.gateway.stop().await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_reaches_the_caller_as_broken() {
    let cases: Vec<(&str, Vec<Act>)> = vec![
        ("too short", vec![send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this"), Act::Close]),
        ("dies in a chunk", vec![send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nonly this"), Act::Close]),
        ("dies between chunks", vec![send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n"), Act::Close]),
        ("a chunk that lies", vec![send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nonly this\r\n0\r\n\r\n")]),
        ("a chunk size that is none", vec![send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\nzz\r\n")]),
        ("hangs", vec![send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this"), Act::Hang]),
    ];
    for (name, acts) in cases {
        let (mut stage, _upstream) = stage(move |_| acts.clone(), |config| config.idle_timeout = Duration::from_millis(600)).await;
        let bystander = Bystander::start(&stage);
        let url = stage.gateway.url("/weather/v1/any/x");
        let answer = stage.client.get(url).header("x-api-key", stage.world.live.reveal()).send().await.expect("a head");
        assert_eq!(answer.status(), 200, "{name}");
        let body = timeout(SOON, answer.bytes()).await.expect("it ends");
        assert!(body.is_err(), "{name}: the caller can tell that it is not whole, but got {body:?}");
        let rows = hostile_rows(&mut stage, 1).await;
        let key = &rows[0].key;
        assert_eq!((key.status, key.answered_by, rows[0].incomplete), (200, AnsweredBy::Upstream, 1), "{name}: M8, with the outcome");
        bystander.done().await;
        becomes(&stage, "open_calls", |open| open == 0).await;
        stage.gateway.stop().await;
    }
}

#[tokio::test]
async fn what_an_upstream_sends_beyond_its_answer_reaches_nobody() {
    let poisoned = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\npoisoned";
    let (mut stage, _upstream) = stage(move |_| vec![send(poisoned)], |config| config.cores = Some(1)).await;
    for round in 0..20 {
        let answer = called(&stage).await;
        assert!(answer.ends_with("\r\n\r\nok"), "{round}: {answer}");
        // The next caller is served at once, and by its own answer.
        let good = stage.get("/weather/v1/echo").send().await.expect("an answer").text().await.expect("a body");
        assert_eq!(good, "ok", "{round}");
    }
    let rows = hostile_rows(&mut stage, 20).await;
    assert!(rows.iter().all(|row| row.key.status == 200 && row.incomplete == 0), "{rows:?}");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn what_an_upstream_says_unasked_on_an_idle_connection_reaches_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (speak, spoken) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, says) = (speak.clone(), spoken.clone());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // What it says leaves at once, and is there before it says that it has spoken.
            stream.set_nodelay(true).expect("a connection");
            let (told, says) = (told.clone(), says.clone());
            tokio::spawn(async move {
                let mut request = [0; 4096];
                loop {
                    tokio::select! {
                        () = told.notified() => {
                            let poisoned = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\npoisoned";
                            // A connection that the gateway has closed meanwhile takes nothing.
                            let _ = stream.write_all(poisoned.as_bytes()).await;
                            says.notify_one();
                        }
                        read = stream.read(&mut request) => match read {
                            Ok(1..) if stream.write_all(GOOD.as_bytes()).await.is_ok() => (),
                            _ => return,
                        }
                    }
                }
            });
        }
    });
    let stage = Stage::with(move |world| hostile_world(world, address), |config| config.cores = Some(1)).await;
    for round in 0..20 {
        let get = async || stage.get("/weather/v1/echo").send().await.expect("an answer").text().await.expect("a body");
        assert_eq!(get().await, "ok", "{round}");
        speak.notify_one();
        timeout(SOON, spoken.notified()).await.expect("it speaks");
        assert_eq!(get().await, "ok", "{round}");
    }
    stage.portal.calls_of(stage.world.requests, 40).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_answers_before_it_has_the_whole_request_gets_no_other_call_meanwhile() {
    let (stage, upstream) = stage(|_| vec![send(GOOD)], |config| config.cores = Some(1)).await;
    let key = stage.world.live.reveal();
    let mut slow = Raw::connect(&stage).await;
    slow.send(format!("POST /weather/v1/echo HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\ncontent-length: 10\r\n\r\n01234")).await;
    assert!(slow.answer().await.ends_with("\r\n\r\nok"));
    for _ in 0..10 {
        let good = stage.get("/weather/v1/echo").send().await.expect("an answer").text().await.expect("a body");
        assert_eq!(good, "ok");
    }
    slow.send("56789").await;
    let heard =
        || upstream.heard.lock().expect("no panic").iter().map(|heard| String::from_utf8_lossy(heard).into_owned()).collect::<Vec<_>>();
    let of_slow = eventually("the rest of the request arrives", async || heard().into_iter().find(|heard| heard.contains("56789"))).await;
    assert!(of_slow.contains("\r\n\r\n0123456789"), "{of_slow}");
    stage.portal.calls_of(stage.world.requests, 11).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn an_answer_without_an_end_streams_with_bounded_memory_until_its_caller_leaves() {
    let endless = |_: &str| {
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536));
        vec![send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), Act::Repeat(chunk.into_bytes())]
    };
    let (mut stage, _upstream) = stage(endless, |_| ()).await;
    let bystander = Bystander::start(&stage);
    let key = stage.world.live.reveal().to_owned();
    let mut raw = Raw::connect(&stage).await;
    raw.send(format!("GET /weather/v1/any/x HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\n\r\n")).await;
    let mut buffer = vec![0; 1 << 20];
    let (mut received, before) = (0, resident_bytes());
    while received < 200 << 20 {
        received += timeout(SOON, raw.0.read(&mut buffer)).await.expect("it goes on").expect("it goes on");
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more after {received} bytes");
    drop(raw);
    let rows = hostile_rows(&mut stage, 1).await;
    assert_eq!((rows[0].key.status, rows[0].incomplete), (200, 1));
    becomes(&stage, "open_calls", |open| open <= 1).await;
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn endless_interim_answers_do_not_hold_a_call_for_ever() {
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    let endless = move |head: &str| {
        let few = send(hint.repeat(100) + GOOD);
        vec![if head.contains("few") { few } else { Act::Repeat(hint.repeat(100).into_bytes()) }]
    };
    let (mut stage, _upstream) = stage(endless, |_| ()).await;
    let bystander = Bystander::start(&stage);
    // Not when its time is over, for which an upstream that sends without an end would keep the core busy.
    assert_eq!(statuses(&called(&stage).await), [502]);
    assert_eq!(hostile_rows(&mut stage, 1).await[0].incomplete, 1);
    let key = stage.world.live.reveal();
    let few = format!("GET /weather/v1/any/few HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\nconnection: close\r\n\r\n");
    assert_eq!(statuses(&ask(&stage, few).await), [200], "some are passed over");
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_body_where_there_can_be_none_reaches_nobody() {
    const LIE: &str = "content-length: 5\r\n\r\nhello";
    let chunks = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for (method, status, rest) in [
        ("HEAD", "200 OK", LIE),
        ("HEAD", "200 OK", chunks),
        ("GET", "204 No Content", LIE),
        ("GET", "204 No Content", chunks),
        ("GET", "304 Not Modified", LIE),
        ("GET", "103 Early Hints", "content-length: 59\r\n\r\nHTTP/1.1 204 No Content\r\n\r\nhello"),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\n{rest}");
        let (mut stage, _upstream) = stage(move |_| vec![send(&answer)], |config| config.cores = Some(1)).await;
        let key = stage.world.live.reveal().to_owned();
        let call = |method: &str, path: &str, more: &str| {
            format!("{method} /weather/v1/{path} HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\n{more}\r\n")
        };
        // Both on one connection of the caller's, and the gateway has no other to the upstream but the first.
        let answers = ask(&stage, call(method, "any/x", "") + &call("GET", "echo", "connection: close\r\n")).await;
        let expected = if status.starts_with('1') { 204 } else { status[..3].parse().expect("a status") };
        assert_eq!(statuses(&answers), [expected, 200], "{method} {status}: {answers}");
        assert!(!answers.contains("hello") && answers.ends_with("\r\n\r\nok"), "{method} {status}: {answers}");
        let rows = hostile_rows(&mut stage, 1).await;
        assert_eq!((rows[0].key.status, rows[0].incomplete), (expected, 0), "{method} {status}");
        stage.gateway.stop().await;
    }
}

#[tokio::test]
async fn a_switch_to_what_was_not_asked_for_is_a_502() {
    let hidden = "GET /weather/v1/any/hidden HTTP/1.1\r\nhost: g\r\n\r\n";
    for named in ["upgrade: other\r\n", "", "upgrade: websocket\r\nupgrade: other\r\n", "upgrade: websocket, other\r\n"] {
        let switch = format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n{named}\r\nraw");
        let (mut stage, upstream) = stage(move |_| vec![send(&switch)], |_| ()).await;
        let key = stage.world.live.reveal().to_owned();
        let asked = format!(
            "GET /weather/v1/any/x HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n{hidden}"
        );
        let answers = ask(&stage, asked).await;
        assert_eq!(statuses(&answers), [502], "{named:?}: {answers}");
        assert!(upstream.targets().iter().all(|target| !target.contains("hidden")), "{:?}", upstream.targets());
        assert_eq!(hostile_rows(&mut stage, 1).await[0].key.answered_by, AnsweredBy::Gateway);
        stage.gateway.stop().await;
    }
}

#[tokio::test]
async fn trailers_of_an_answer_say_nothing_in_the_gateways_name() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 6\r\nx-request-id: forged\r\nratelimit: forged\r\nratelimit-policy: \
                  forged\r\nconnection: x-hop\r\nx-hop: forged\r\nkeep-alive: forged\r\ncontent-length: 900\r\n\r\n";
    let (stage, _upstream) = stage(move |_| vec![send(answer)], |_| ()).await;
    let key = stage.world.live.reveal();
    let text =
        ask(&stage, format!("GET /weather/v1/any/x HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\nte: trailers\r\nconnection: close\r\n\r\n"))
            .await;
    assert!(text.ends_with("2\r\nok\r\n0\r\nx-sum: 6\r\n\r\n"), "{text}");
    // In HTTP/2, where some of these names break a message.
    let socket = TcpStream::connect(stage.gateway.addresses.data).await.expect("a connection");
    let handshake = hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(socket));
    let (mut sender, driver) = handshake.await.expect("HTTP/2");
    tokio::spawn(driver);
    let request = http::Request::get(stage.gateway.url("/weather/v1/any/x")).header("x-api-key", key).header("te", "trailers");
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.expect("an end in order");
    let trailers = body.trailers().expect("trailers");
    assert_eq!(trailers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect::<Vec<_>>(), [("x-sum", &b"6"[..])]);
    stage.gateway.stop().await;
}
