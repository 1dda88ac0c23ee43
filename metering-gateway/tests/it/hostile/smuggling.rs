//! Requests that two parties could cut in two different ways. Either the gateway refuses, or the upstream receives one request, framed anew.

use super::*;

/// A path that nobody may reach: it stands inside what should be a body.
const HIDDEN: &str = "/weather/v1/any/hidden";

fn smuggled(stage: &Stage) -> String {
    format!("GET {HIDDEN} HTTP/1.1\r\nhost: g\r\nx-api-key: {}\r\n\r\n", stage.world.live.reveal())
}

fn post(stage: &Stage, framing: &str, body: &str) -> String {
    format!("POST /weather/v1/any/outer HTTP/1.1\r\nhost: g\r\nx-api-key: {}\r\n{framing}\r\n\r\n{body}", stage.world.live.reveal())
}

#[tokio::test]
async fn ambiguous_framing_is_refused_and_reaches_no_upstream() {
    let (stage, upstream) = calm_stage(|_| ()).await;
    let bystander = Bystander::start(&stage);
    let hidden = smuggled(&stage);
    let length = hidden.len();
    let chunk = format!("{length:x}\r\n{hidden}\r\n0\r\n\r\n");
    let framings = [
        ("content-length: 5\r\ncontent-length: 6".to_owned(), &hidden),
        (format!("content-length: {length}\r\ncontent-length: 0"), &hidden),
        ("content-length: 5, 5".to_owned(), &hidden),
        ("content-length: +5".to_owned(), &hidden),
        ("content-length: -1".to_owned(), &hidden),
        ("content-length: 0x5".to_owned(), &hidden),
        ("content-length: 5 5".to_owned(), &hidden),
        ("content-length:".to_owned(), &hidden),
        ("content-length: 99999999999999999999999".to_owned(), &hidden),
        ("content-length : 0".to_owned(), &hidden),
        ("transfer-encoding : chunked".to_owned(), &chunk),
        ("transfer-encoding: xchunked".to_owned(), &chunk),
        ("transfer-encoding: chunked, identity".to_owned(), &chunk),
        ("transfer-encoding: gzip, chunked".to_owned(), &chunk),
        ("transfer-encoding: chunked\r\ntransfer-encoding: identity".to_owned(), &chunk),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked".to_owned(), &chunk),
        ("transfer-encoding: \x0bchunked".to_owned(), &chunk),
        ("transfer-encoding: \"chunked\"".to_owned(), &chunk),
        ("transfer-encoding\u{0}: chunked".to_owned(), &chunk),
        ("x: 1\r\n transfer-encoding: chunked".to_owned(), &chunk),
        ("x: 1\rtransfer-encoding: chunked".to_owned(), &chunk),
        ("content-length: 0\r\n\tfolded".to_owned(), &hidden),
        (" content-length: 0".to_owned(), &hidden),
        ("host: other\r\ncontent-length: 0".to_owned(), &hidden),
    ];
    for (framing, body) in &framings {
        let answers = ask(&stage, post(&stage, framing, body)).await;
        let statuses = statuses(&answers);
        assert!(matches!(statuses[..], [400 | 501]), "{framing:?} gave {statuses:?}");
    }
    let reached: Vec<_> = upstream.targets().into_iter().filter(|target| target.contains("/any/")).collect();
    assert!(reached.is_empty(), "{reached:?}");
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn length_and_chunks_together_are_read_as_chunks_and_end_the_connection() {
    let (stage, upstream) = calm_stage(|_| ()).await;
    let hidden = smuggled(&stage);
    // Who goes by the length takes what follows the last chunk for a part of the body; who goes by the chunks, for the next request.
    for framing in [
        format!("content-length: {}\r\ntransfer-encoding: chunked", 5 + hidden.len()),
        format!("transfer-encoding: chunked\r\ncontent-length: {}", 5 + hidden.len()),
        "transfer-encoding: chunked\r\ncontent-length: 6".to_owned(),
    ] {
        let answers = ask(&stage, post(&stage, &framing, &format!("0\r\n\r\n{hidden}"))).await;
        assert_eq!(statuses(&answers), [200], "{framing:?}: one answer, then the connection is closed (RFC 9112, 6.1)");
    }
    assert!(upstream.targets().iter().all(|target| target == "POST /base/v1/any/outer"), "{:?}", upstream.targets());
    assert!(upstream.heard().iter().all(|text| !text.contains("hidden")), "{:?}", upstream.heard());
    stage.gateway.stop().await;
}

#[tokio::test]
async fn malformed_chunks_break_the_call_and_nothing_after_them_is_a_request() {
    let (mut stage, upstream) = stage(|_| vec![Act::Hang], |_| ()).await;
    let bystander = Bystander::start(&stage);
    let hidden = smuggled(&stage);
    let bodies = [
        format!("5\r\nhello\r\n-1\r\n\r\n{hidden}"),
        format!("0x5\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5 5\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("fffffffffffffffff\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5\r\nhelloXX0\r\n\r\n{hidden}"),
        format!("\r\n\r\n{hidden}"),
        format!("5;x\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5;{}\r\nhello\r\n0\r\n\r\n{hidden}", "e".repeat(20_000)),
    ];
    for body in &bodies {
        let answers = ask(&stage, post(&stage, "transfer-encoding: chunked", body)).await;
        assert!(matches!(statuses(&answers)[..], [400] | []), "{:?} gave {answers:?}", &body[..20.min(body.len())]);
        assert!(answers.is_empty() || answers.contains("urn:tollkeeper:problem:body-incomplete"), "{answers:?}");
    }
    assert!(upstream.heard().iter().all(|text| !text.contains("hidden")), "{:?}", upstream.heard());
    // Each was admitted, so each is recorded once, as broken off by its caller and answered by the gateway: nothing to bill.
    let rows = hostile_rows(&mut stage, bodies.len() as u64).await;
    assert!(rows.iter().all(|row| row.key.status == 400 && row.incomplete == row.count), "{rows:?}");
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn bare_line_feeds_and_chunk_extensions_do_not_reach_the_upstream() {
    let (stage, upstream) = calm_stage(|_| ()).await;
    let key = stage.world.live.reveal();
    let text = format!("POST /weather/v1/any/outer HTTP/1.1\nhost: g\nx-api-key: {key}\nconnection: close\ncontent-length: 3\n\nabc");
    let statuses = statuses(&ask(&stage, text).await);
    // RFC 9112, 2.2: a recipient may take a line feed alone for the end of a line. What is sent on has none.
    assert!(matches!(statuses[..], [200 | 400]), "{statuses:?}");
    let body = "3;ext=\"val\"\r\nabc\r\n0;last\r\n\r\n";
    let answers = ask(&stage, post(&stage, "connection: close\r\ntransfer-encoding: chunked", body)).await;
    assert_eq!(super::statuses(&answers), [200]);
    for text in upstream.heard() {
        let lone = text.replace("\r\n", "").contains(['\r', '\n']);
        assert!(!lone && !text.contains("ext=") && !text.contains("last"), "{text:?}");
    }
    stage.gateway.stop().await;
}

#[tokio::test]
async fn the_upstream_receives_one_well_formed_request_with_nothing_forged() {
    let (stage, upstream) = calm_stage(|_| ()).await;
    let framing = "connection: close, content-length, tollkeeper-plan, host\r\nx: \ttabs and \"quotes\"\t \r\ntrailer: tollkeeper-plan, \
                   x-sum\r\ntransfer-encoding: chunked\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\nkeep-alive: 5";
    let body = "3\r\nabc\r\n0\r\ntollkeeper-plan: forged\r\ncontent-length: 900\r\nx-api-key: forged\r\nx-sum: 6\r\n\r\n";
    let answers = ask(&stage, post(&stage, framing, body)).await;
    assert_eq!(statuses(&answers), [200], "{answers}");
    let heard = upstream.heard();
    let text = heard.iter().find(|text| text.contains("/any/outer")).expect("the call").to_ascii_lowercase();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert_eq!(head.lines().filter(|line| line.starts_with("transfer-encoding:") || line.starts_with("content-length:")).count(), 1);
    assert_eq!(head.lines().filter(|line| line.starts_with("host:")).count(), 1);
    assert!(head.contains("\r\ntollkeeper-plan: pro\r\n") && head.contains("\r\nx: tabs and \"quotes\"\r\n"), "{head}");
    for gone in ["\r\nconnection:", "\r\nkeep-alive:", "\r\nupgrade:", "h2c", stage.world.live.reveal().to_ascii_lowercase().as_str()] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    assert!(body.starts_with("3\r\nabc\r\n0\r\n") && body.contains("x-sum: 6"), "{body}");
    assert!(!body.contains("forged") && !body.contains("900"), "{body}");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn names_that_read_as_the_gateways_do_not_reach_the_upstream() {
    let (stage, upstream) = calm_stage(|_| ()).await;
    let bystander = Bystander::start(&stage);
    // Where fields become variables of an environment, many servers take these for what the gateway says, for what frames a body, or for an order.
    let forged = [
        "tollkeeper_plan",
        "tollkeeper.plan",
        "tollkeeper~mode",
        "Tollkeeper+Namespace",
        "x_api_key",
        "x.api.key",
        "x_request_id",
        "x_real_ip",
        "x.real.ip",
        "x.forwarded.for",
        "X_Forwarded-Proto",
        "transfer_encoding",
        "Transfer.Encoding",
        "content_length",
        "content.length",
        "proxy",
    ];
    let fields: String = forged.iter().map(|name| format!("{name}: forged\r\n")).collect();
    let trailers = format!("te: trailers\r\nconnection: close\r\ntransfer-encoding: chunked\r\n{fields}x-sum: kept");
    let body = format!("3\r\nabc\r\n0\r\n{fields}x-sum: kept\r\n\r\n");
    assert_eq!(statuses(&ask(&stage, post(&stage, &trailers, &body)).await), [200]);
    let heard = upstream.heard().into_iter().find(|text| text.contains("/any/outer")).expect("the call");
    assert_eq!(heard.matches("x-sum: kept").count(), 2, "in the head and behind the body: {heard}");
    assert!(!heard.contains("forged"), "{heard}");
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_connection_field_takes_nothing_away_that_the_gateway_says_however_much_it_names() {
    let (stage, upstream) = calm_stage(|_| ()).await;
    let told =
        ["tollkeeper-plan", "tollkeeper-mode", "tollkeeper-namespace", "host", "x-request-id", "x-forwarded-for", "x-forwarded-proto"];
    let many = (0..5_000).map(|n| format!("n{n:x}")).collect::<Vec<_>>().join(",");
    let framing = format!(
        "connection: {},x-hop,content-length,{many}\r\nconnection: close\r\nx-hop: gone\r\nx-kept: 1\r\ncontent-length: 3",
        told.join(", ")
    );
    assert_eq!(statuses(&ask(&stage, post(&stage, &framing, "abc")).await), [200]);
    let heard = upstream.heard().into_iter().find(|text| text.contains("/any/outer")).expect("the call");
    for name in told {
        assert_eq!(heard.matches(&format!("\r\n{name}: ")).count(), 1, "{name} in {heard}");
    }
    assert!(heard.contains("\r\ncontent-length: 3\r\n") && heard.ends_with("abc") && heard.contains("x-kept: 1"), "{heard}");
    assert!(!heard.contains("x-hop"), "{heard}");
    stage.gateway.stop().await;
}
