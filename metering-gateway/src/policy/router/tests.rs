use gateway_control::policy::Route;
use ids::{ApiProductId, RouteId, ServiceId, Uuid};
use proptest::prelude::*;

use super::*;

fn with_options(number: u128, method: Option<&str>, path: &str, options: &str) -> Arc<CompiledRoute> {
    let route = Route {
        id: RouteId::from_uuid(Uuid::from_u128(number)),
        product: ApiProductId::from_uuid(Uuid::nil()),
        product_slug: "p".into(),
        service: ServiceId::from_uuid(Uuid::nil()),
        method: method.map(str::to_owned),
        path: path.into(),
        strip_prefix: String::new(),
        group: None,
        meters: Vec::new(),
        options: serde_json::from_str::<gateway_control::options::RouteOptions>(options).expect("options").stated(),
    };
    Arc::new(CompiledRoute::compile(&route).expect("a valid route"))
}

fn route(number: u128, method: Option<&str>, path: &str) -> Arc<CompiledRoute> {
    with_options(number, method, path, "{}")
}

fn router(routes: &[(Option<&str>, &str)]) -> Router {
    let routes: Vec<_> = routes.iter().zip(1..).map(|((method, path), number)| route(number, *method, path)).collect();
    Router::new(routes.iter())
}

fn number(found: Result<&Arc<CompiledRoute>, NoRoute>) -> Option<u128> {
    found.ok().map(|route| route.id.uuid().as_u128())
}

/// Asks without a host, headers or a query.
fn find<'r>(router: &'r Router, method: &Method, path: &str) -> Result<&'r Arc<CompiledRoute>, NoRoute> {
    router.find(Asked { method, path, uri: &Uri::from_static("/"), headers: &HeaderMap::new() })
}

#[test]
fn the_most_specific_template_of_the_method_wins() {
    let router = router(&[
        (Some("GET"), "/w/v1/forecast/{city}"),  // 1
        (Some("GET"), "/w/v1/forecast/oslo"),    // 2
        (Some("GET"), "/w/{*rest}"),             // 3
        (Some("POST"), "/w/v1/forecast/{city}"), // 4
        (None, "/w/any"),                        // 5
        (Some("GET"), "/w/{a}/end"),             // 6
        (Some("GET"), "/w/v1/"),                 // 7
    ]);
    let cases = [
        (Method::GET, "/w/v1/forecast/oslo", Some(2)),
        (Method::GET, "/w/v1/forecast/rome", Some(1)),
        (Method::HEAD, "/w/v1/forecast/rome", Some(1)),
        (Method::POST, "/w/v1/forecast/oslo", Some(4)),
        (Method::GET, "/w/v1/forecast/", Some(3)),
        (Method::GET, "/w/v1/x/y", Some(3)),
        (Method::GET, "/w/v1/end", Some(6)),
        (Method::DELETE, "/w/any", Some(5)),
        (Method::GET, "/w/v1/", Some(7)),
        (Method::GET, "/w", None),
        (Method::GET, "/", None),
        (Method::GET, "w/any", None),
    ];
    for (method, path, expected) in cases {
        assert_eq!(number(find(&router, &method, path)), expected, "{method} {path}");
    }
    assert_eq!(find(&router, &Method::PUT, "/w/v1/forecast/oslo"), Err(NoRoute::Method(vec![Method::GET, Method::HEAD, Method::POST])));
}

#[test]
fn of_two_equal_routes_the_older_one_wins() {
    let (a, b) = (route(1, Some("GET"), "/x/{a}"), route(2, Some("GET"), "/x/{b}"));
    assert_eq!(number(find(&Router::new([&b, &a].into_iter()), &Method::GET, "/x/1")), Some(1));
}

/// A request: method, target, and headers as `name: value`.
type Case = (&'static str, &'static str, &'static [&'static str], Option<u128>);

fn check(router: &Router, cases: &[Case]) {
    for (method, target, fields, expected) in cases {
        let uri: Uri = target.parse().expect("a URI");
        let mut headers = HeaderMap::new();
        for field in *fields {
            let (name, value) = field.split_once(": ").expect("a field");
            headers.append(name, value.parse().expect("a value"));
        }
        let found = router.find(Asked { method: &method.parse().expect("a method"), path: uri.path(), uri: &uri, headers: &headers });
        assert_eq!(number(found), *expected, "{method} {target} {fields:?}");
    }
}

#[test]
fn a_named_host_goes_before_a_wildcard_and_both_before_any_host() {
    let routes = [
        with_options(1, None, "/a/literal", "{}"),
        with_options(2, None, "/a/{x}", r#"{"hosts": ["*.example.com"]}"#),
        with_options(3, None, "/{*rest}", r#"{"hosts": ["*.eu.example.com"]}"#),
        with_options(4, None, "/a/{x}", r#"{"hosts": ["api.example.com", "api.example.org"]}"#),
        with_options(5, Some("POST"), "/a/{x}", r#"{"hosts": ["api.example.com"]}"#),
        with_options(6, None, "/v6", r#"{"hosts": ["[::1]", "10.0.0.1"]}"#),
    ];
    let router = Router::new(routes.iter());
    check(
        &router,
        &[
            ("GET", "/a/literal", &["host: other.example"], Some(1)),
            ("GET", "/a/literal", &[], Some(1)),
            ("GET", "/a/literal", &["host: x.example.com"], Some(2)),
            ("GET", "/a/literal", &["host: x.y.example.com:8443"], Some(2)),
            ("GET", "/a/literal", &["host: example.com"], Some(1)),
            ("GET", "/a/literal", &["host: xexample.com"], Some(1)),
            ("GET", "/a/literal", &["host: a.eu.example.com"], Some(3)),
            ("GET", "/b", &["host: a.eu.example.com"], Some(3)),
            ("GET", "/b", &["host: x.example.com"], None),
            ("GET", "/a/literal", &["host: API.example.COM:80"], Some(4)),
            ("GET", "/a/literal", &["host: api.example.com."], Some(4)),
            ("GET", "/a/literal", &["host: api.example.org"], Some(4)),
            ("POST", "/a/literal", &["host: api.example.com"], Some(5)),
            ("POST", "/a/literal", &["host: api.example.org"], Some(4)),
            // The target's own host counts more than the field (RFC 9112, 3.2.2).
            ("GET", "http://api.example.com/a/literal", &["host: other.example"], Some(4)),
            ("GET", "/v6", &["host: [::1]"], Some(6)),
            ("GET", "/v6", &["host: [::1]:8080"], Some(6)),
            ("GET", "/v6", &["host: 10.0.0.1:80"], Some(6)),
            ("GET", "/v6", &["host: [::2]"], None),
        ],
    );
}

#[test]
fn more_conditions_go_first_then_the_method() {
    let routes = [
        with_options(1, Some("GET"), "/x", "{}"),
        with_options(2, None, "/x", r#"{"headers": [{"name": "x-edition", "value": "2"}], "query": [{"name": "format"}]}"#),
        with_options(3, Some("GET"), "/x", r#"{"query": [{"name": "format", "value": "json"}]}"#),
        with_options(4, None, "/x", r#"{"headers": [{"name": "x-edition", "value": "2"}]}"#),
        with_options(5, Some("HEAD"), "/x", r#"{"headers": [{"name": "x-preview"}]}"#),
        with_options(6, Some("POST"), "/x", r#"{"headers": [{"name": "x-preview"}]}"#),
        with_options(7, None, "/{any}", "{}"),
        with_options(8, Some("GET"), "/only", r#"{"headers": [{"name": "x-preview"}]}"#),
        with_options(9, Some("GET"), "/only", r#"{"query": [{"name": "preview"}]}"#),
    ];
    let router = Router::new(routes.iter());
    check(
        &router,
        &[
            ("GET", "/x", &[], Some(1)),
            ("GET", "/x?format=xml", &[], Some(1)),
            ("GET", "/x", &["x-edition: 1"], Some(1)),
            ("GET", "/x", &["x-edition: 2"], Some(4)),
            ("GET", "/x?format=json", &[], Some(3)),
            // Both have one condition, which hold: the one of the method wins over the one of all.
            ("HEAD", "/x", &["x-edition: 2", "x-preview: 1"], Some(5)),
            ("GET", "/x?format=json", &["x-edition: 2"], Some(2)),
            ("GET", "/x?format=xml", &["x-edition: 2"], Some(2)),
            ("HEAD", "/x?format=json", &[], Some(3)),
            ("HEAD", "/x", &["x-preview: 1"], Some(5)),
            ("POST", "/x", &["x-preview: 1"], Some(6)),
            // No route of `/x` takes it, so the next best template does.
            ("POST", "/x", &[], Some(7)),
            ("GET", "/only", &[], Some(7)),
            ("GET", "/only", &["x-preview: 1"], Some(8)),
            ("GET", "/only?preview", &[], Some(9)),
            // Equal in all but age.
            ("GET", "/only?preview", &["x-preview: 1"], Some(8)),
        ],
    );
}

#[test]
fn a_condition_that_does_not_hold_leaves_no_trace() {
    let routes = [
        with_options(1, Some("GET"), "/x", r#"{"headers": [{"name": "x-preview"}]}"#),
        with_options(2, Some("PUT"), "/x", r#"{"hosts": ["a.example"]}"#),
    ];
    let router = Router::new(routes.iter());
    let asked =
        |headers: &HeaderMap| router.find(Asked { method: &Method::POST, path: "/x", uri: &Uri::from_static("/x"), headers }).cloned();
    assert_eq!(asked(&HeaderMap::new()), Err(NoRoute::Path));
    let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-preview"), http::HeaderValue::from_static("1"))]);
    assert_eq!(asked(&headers), Err(NoRoute::Method(vec![Method::GET, Method::HEAD])));
}

#[test]
fn a_preflight_finds_the_route_that_lets_its_origin_call() {
    let cors = |origin: &str| format!(r#"{{"headers": [{{"name": "x-edition"}}], "cors": {{"origins": ["{origin}"]}}}}"#);
    let routes = [
        with_options(1, Some("GET"), "/x", r#"{"cors": {"origins": ["https://a.example"]}}"#),
        with_options(2, Some("GET"), "/x", &cors("https://b.example")),
        with_options(3, Some("POST"), "/x", r#"{"cors": {"origins": ["*"]}, "query": [{"name": "open"}]}"#),
    ];
    let router = Router::new(routes.iter());
    let may = |method: Method, target: &str, origin: &'static str| {
        let uri: Uri = target.parse().expect("a URI");
        let asked = Asked { method: &method, path: uri.path(), uri: &uri, headers: &HeaderMap::new() };
        router.preflight(asked, |cors| cors.allows(&http::HeaderValue::from_static(origin))).is_some()
    };
    assert!(may(Method::GET, "/x", "https://a.example"));
    assert!(may(Method::HEAD, "/x", "https://a.example"));
    assert!(may(Method::GET, "/x", "https://b.example"), "its value is not known yet");
    assert!(!may(Method::GET, "/x", "https://c.example"));
    assert!(!may(Method::GET, "/y", "https://a.example"));
    assert!(!may(Method::POST, "/x", "https://a.example"), "the query is known");
    assert!(may(Method::POST, "/x?open", "https://c.example"));
    assert!(!may(Method::PUT, "/x", "https://a.example"));
}

proptest! {
    /// The tree finds a route exactly when some template matches by itself, and then one that matches.
    #[test]
    fn agrees_with_the_templates(
        templates in proptest::collection::vec("(/(a|b|\\{x\\})){1,4}(/\\{\\*r\\})?", 1..12),
        path in "(/(a|b|c)){0,5}/?",
    ) {
        let routes: Vec<_> = templates.iter().zip(1..).map(|(path, number)| route(number, Some("GET"), path)).collect();
        let router = Router::new(routes.iter());
        let found = find(&router, &Method::GET, &path);
        let any = routes.iter().any(|route| route.template.matches(&path));
        prop_assert_eq!(found.is_ok(), any);
        if let Ok(found) = found {
            prop_assert!(found.template.matches(&path));
        }
    }
}
