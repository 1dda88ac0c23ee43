use super::*;

/// The one fault of a route's options that are written as JSON, or none.
fn fault(options: serde_json::Value) -> Option<(&'static str, String)> {
    let options: RouteOptions = serde_json::from_value(options).expect("options");
    let path = "/pets/{id}/{id2}/{*rest}".parse().expect("a path");
    let mut faults = route_faults(&options, &path);
    assert!(faults.len() < 2, "{faults:?}");
    faults.pop().map(|fault| (fault.field, fault.message))
}

#[test]
fn the_golden_options_are_good() {
    let options: Vec<serde_json::Value> = serde_json::from_str(include_str!("../../tests/golden/options.v1.json")).expect("JSON");
    let service: ServiceOptions = serde_json::from_value(options[0]["body"]["options"].clone()).expect("options");
    assert_eq!(service_faults(&service), []);
    let route: RouteOptions = serde_json::from_value(options[1]["body"]["options"].clone()).expect("options");
    assert_eq!(route_faults(&route, &"/weather/v1/forecast/{city}".parse().expect("a path")), []);
}

#[test]
fn each_refusal_names_the_field_and_what_to_write() {
    let cases = [
        (r#"{"hosts": ["API.example.com"]}"#, "hosts", "Write `api.example.com` in lower case."),
        (r#"{"hosts": ["api.example.com:80"]}"#, "hosts", "without a port"),
        (r#"{"hosts": ["*"]}"#, "hosts", "`*` is no host"),
        (r#"{"hosts": ["a.*.com"]}"#, "hosts", "is no host"),
        (r#"{"hosts": ["*.10.0.0.1:1"]}"#, "hosts", "is no host"),
        (r#"{"hosts": ["a", "a"]}"#, "hosts", "`a` stands there twice."),
        (r#"{"headers": [{"name": "X-A"}]}"#, "headers", "`X-A` is no header name"),
        (r#"{"headers": [{"name": ":method"}]}"#, "headers", "pseudo-header"),
        (r#"{"headers": [{"name": "host", "value": "a"}]}"#, "headers", "Name hosts under `hosts`."),
        (r#"{"headers": [{"name": "x-api-key"}]}"#, "headers", "carries a credential"),
        (r#"{"headers": [{"name": "x-a", "value": " b"}]}"#, "headers", "with spaces inside only"),
        (r#"{"headers": [{"name": "x-a"}, {"name": "x-a"}]}"#, "headers", "stands there twice"),
        (r#"{"query": [{"name": ""}]}"#, "query", "needs a name"),
        (r#"{"query": [{"name": "a", "value": "\n"}]}"#, "query", "no control characters"),
        (r#"{"rewrite": "pets"}"#, "rewrite", "must start with `/`"),
        (r#"{"rewrite": "/x/{other}"}"#, "rewrite", "`{other}` does not stand in the route's path"),
        (r#"{"rewrite": "/x/{*id}"}"#, "rewrite", "`{*id}` does not stand in the route's path"),
        (r#"{"request_headers": {"set": [["tollkeeper-plan", "gold"]]}}"#, "request_headers.set", "is the gateway's own"),
        (r#"{"request_headers": {"remove": ["tollkeeper_plan"]}}"#, "request_headers.remove", "is the gateway's own"),
        (r#"{"request_headers": {"set": [["x-forwarded-for", "1"]]}}"#, "request_headers.set", "is the gateway's own"),
        (r#"{"request_headers": {"set": [["x-api-key", "1"]]}}"#, "request_headers.set", "is the gateway's own"),
        (r#"{"request_headers": {"set": [["transfer-encoding", "chunked"]]}}"#, "request_headers.set", "belongs to the connection"),
        (r#"{"request_headers": {"set": [["content-length", "1"]]}}"#, "request_headers.set", "frames the message"),
        (r#"{"request_headers": {"set": [[":path", "/"]]}}"#, "request_headers.set", "pseudo-header"),
        (r#"{"request_headers": {"set": [["x-a", "b\r\nc: d"]]}}"#, "request_headers.set", "visible ASCII"),
        (r#"{"response_headers": {"set": [["ratelimit", "1"]]}}"#, "response_headers.set", "is the gateway's own"),
        (r#"{"response_headers": {"remove": ["x-request-id"]}}"#, "response_headers.remove", "is the gateway's own"),
        (r#"{"response_headers": {"set": [["access-control-allow-origin", "*"]]}}"#, "response_headers.set", "under `cors`"),
        (r#"{"response_headers": {"remove": ["connection"]}}"#, "response_headers.remove", "belongs to the connection"),
        (r#"{"timeouts": {"connect_ms": 0}}"#, "timeouts.connect_ms", "Use 1 to 86400000 milliseconds; it says 0."),
        (r#"{"timeouts": {"idle_ms": 86400001}}"#, "timeouts.idle_ms", "Use 1 to 86400000 milliseconds"),
        (r#"{"max_request_body_bytes": 1099511627777}"#, "max_request_body_bytes", "bytes; it says 1099511627777."),
        (r#"{"cors": {"origins": []}}"#, "cors.origins", "Name at least one origin"),
        (r#"{"cors": {"origins": ["*", "https://a.example"]}}"#, "cors.origins", "leave out the others"),
        (r#"{"cors": {"origins": ["https://a.example/"]}}"#, "cors.origins", "without a path"),
        (r#"{"cors": {"origins": ["a.example"]}}"#, "cors.origins", "is no origin"),
        (r#"{"cors": {"origins": ["*"], "credentials": true}}"#, "cors.credentials", "name the origins"),
        (r#"{"cors": {"origins": ["*"], "expose": ["X Total"]}}"#, "cors.expose", "is no header name"),
        (r#"{"cors": {"origins": ["*"], "max_age_s": 90000}}"#, "cors.max_age_s", "Use 0 to 86400 seconds"),
        (r#"{"max_policy_age_s": 1}"#, "max_policy_age_s", "Use 5 to 2592000 seconds; it says 1."),
    ];
    for (options, field, part) in cases {
        let found = fault(serde_json::from_str(options).expect("JSON"));
        assert!(found.as_ref().is_some_and(|(at, message)| *at == field && message.contains(part)), "{options}: {found:?}");
    }
}

#[test]
fn what_makes_sense_is_taken() {
    for options in [
        r#"{}"#,
        r#"{"hosts": ["localhost", "10.0.0.1", "[::1]", "a.example.com", "*.example.com"]}"#,
        r#"{"headers": [{"name": "x-a", "value": "a b"}, {"name": "x-a", "value": "c"}]}"#,
        r#"{"query": [{"name": "a b", "value": ""}, {"name": "é"}]}"#,
        r#"{"rewrite": "/v2/{id2}/x/{id}/{id}/{*rest}"}"#,
        r#"{"rewrite": "/"}"#,
        r#"{"request_headers": {"remove": ["cookie"], "set": [["authorization", "Basic a2s6"], ["x-empty", ""]]}}"#,
        r#"{"response_headers": {"remove": ["server"], "set": [["cache-control", "no-store"]]}}"#,
        r#"{"max_request_body_bytes": 0}"#,
        r#"{"cors": {"origins": ["https://a.example:8443", "http://localhost:3000", "chrome-extension://abcdef"], "credentials": true}}"#,
    ] {
        assert_eq!(fault(serde_json::from_str(options).expect("JSON")), None, "{options}");
    }
}

#[test]
fn a_name_that_stands_twice_in_the_path_cannot_be_rewritten() {
    let options = RouteOptions { rewrite: Some("/{a}".to_owned()), ..RouteOptions::default() };
    let faults = route_faults(&options, &"/{a}/{a}".parse().expect("a path"));
    assert!(faults[0].message.contains("more than once"), "{faults:?}");
}

#[test]
fn services() {
    let faults = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|&address| address.to_owned()).collect();
        service_faults(&ServiceOptions { addresses, ..ServiceOptions::default() })
    };
    for good in ["10.0.0.1", "10.0.0.1:80", "a.internal:65535", "weather_b", "[::1]", "[::1]:80"] {
        assert_eq!(faults(&[good]), [], "{good}");
    }
    for bad in ["", ":80", "a:0", "a:65536", "a:+1", "http://a", "a/b", "a:80:80", "::1", "[::1", "a b"] {
        assert!(faults(&[bad])[0].message.contains("is no address"), "{bad}");
    }
    let many = ServiceOptions {
        max_connections: Some(0),
        max_waiting: Some(100_001),
        max_retries: Some(11),
        eject_after_failures: Some(10_001),
        ..ServiceOptions::default()
    };
    let fields: Vec<_> = service_faults(&many).into_iter().map(|fault| fault.field).collect();
    assert_eq!(fields, ["max_connections", "max_waiting", "max_retries", "eject_after_failures"]);
}
