//! Targets that name one thing to the gateway and could name another to the upstream.

use super::*;

fn get(stage: &Stage, target: &str) -> Vec<u8> {
    let key = stage.world.live.reveal();
    let mut text = b"GET ".to_vec();
    // Each character below 256 stands for the byte of its number, so that tests can say what is not UTF-8.
    text.extend(target.chars().map(|c| u8::try_from(u32::from(c)).expect("a byte")));
    text.extend(format!(" HTTP/1.1\r\nhost: g\r\nconnection: close\r\nx-api-key: {key}\r\n\r\n").bytes());
    text
}

#[tokio::test]
async fn what_could_leave_its_route_is_refused() {
    let (stage, upstream) = calm_stage(|_| ()).await;
    let bystander = Bystander::start(&stage);
    let any = "/weather/v1/any";
    let targets = [
        format!("{any}/../admin"),
        format!("{any}/%2e%2e/admin"),
        format!("{any}/.%2e/admin"),
        format!("{any}/..%2fadmin"),
        format!("{any}/%2e%2e%2fadmin"),
        format!("{any}/a%2Fb"),
        format!("{any}/a%5cb"),
        format!("{any}/a\\b"),
        format!("{any}/..;/admin"),
        format!("{any}/..%3b/admin"),
        format!("{any}/%252e%252e/admin"),
        format!("{any}/..%252fadmin"),
        format!("{any}/%25252e"),
        format!("{any}/%252%65%252%65/admin"),
        format!("{any}/a%00b"),
        format!("{any}/a%0d%0ahost:%20evil"),
        format!("{any}/%c0%ae%c0%ae/admin"),
        format!("{any}/%c0%af"),
        format!("{any}/%ed%a0%80"),
        format!("{any}/%ff"),
        format!("{any}/%u002e"),
        format!("{any}/%"),
        format!("{any}/%2"),
        format!("{any}//admin"),
        format!("/{any}"),
        format!("{any}/\u{ff}"),
        format!("{any}/\u{c3}\u{a9}"),
        format!("{any}/a\u{0}b"),
        format!("{any}/a\u{7f}b"),
        format!("{any}/a?q=\u{ff}\u{fe}"),
        "*".to_owned(),
        "weather/v1/any/x".to_owned(),
        "http://other/weather/v1/any/x".to_owned(),
        "http://user@other/weather/v1/any/x".to_owned(),
        "http://user@g/weather/v1/any/x".to_owned(),
        "http:///weather/v1/any/x".to_owned(),
    ];
    for target in &targets {
        let answers = ask(&stage, get(&stage, target)).await;
        assert_eq!(statuses(&answers), [400], "{target:?} gave {answers}");
    }
    let reached: Vec<_> = upstream.targets().into_iter().filter(|target| !target.contains("/echo")).collect();
    assert!(reached.is_empty(), "{reached:?}");
    bystander.done().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn targets_that_are_well_formed_pass_unchanged() {
    let (stage, upstream) = calm_stage(|_| ()).await;
    let long = format!("/weather/v1/any/{}", "a/".repeat(4_000));
    let query = format!("/weather/v1/any/q?{}", "k=v%2f..%00&".repeat(4_000));
    for target in
        ["/weather/v1/any/100%25", "/weather/v1/any/caf%C3%A9", "/weather/v1/any/a;b=1", "/weather/v1/any/x?a=/../%2e", &long, &query]
    {
        assert_eq!(statuses(&ask(&stage, get(&stage, target)).await), [200], "{target:.60}");
        let expected = format!("GET {}", target.replace("/weather/", "/base/"));
        assert!(upstream.targets().contains(&expected), "{target:.60}");
    }
    let huge = format!("/weather/v1/any/q?{}", "k=v&".repeat(20_000));
    let statuses = statuses(&ask(&stage, get(&stage, &huge)).await);
    assert!(matches!(statuses[..], [414 | 431]), "{statuses:?}");
    stage.gateway.stop().await;
}
