//! What operators say of services and routes: REST, pages, imports, the audit log, and what gateways are told of it.

use std::collections::BTreeMap;

use gateway_control::policy::{EntryBody, EntryId, EntryKind};
use ids::{RouteId, Uuid};
use portal::identity::Role;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    catalog::{document, import_as, published},
    support::{Answer, Browser, Portal},
    world::{Watch, gateway, start_publishing},
};

struct Stage {
    portal: Portal,
    token: String,
    browser: Browser,
}

impl Stage {
    async fn new(pool: PgPool) -> Self {
        let portal = Portal::new(pool);
        let operator = portal.operator("operator@example.com").await;
        portal.tenant("Provider", &[(&operator, Role::Owner)]).await;
        let token = portal.token(&operator, None).await;
        let browser = portal.browser(&operator).await;
        Self { portal, token, browser }
    }

    async fn rest(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.portal.rest(method, &format!("/api/v1/products{path}"), &self.token, body).await
    }

    /// The only route of a product.
    async fn only_route(&self, slug: &str) -> Value {
        let routes = self.rest("GET", &format!("/{slug}/routes"), None).await.expect_status(200).json();
        let [route] = routes["items"].as_array().unwrap().as_slice() else { panic!("one route: {routes}") };
        route.clone()
    }

    async fn actions(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT action FROM audit_log ORDER BY at, id").fetch_all(&self.portal.app.pool).await.unwrap()
    }
}

/// The fields that a problem names.
fn fields(answer: Answer) -> Vec<String> {
    let problem = answer.expect_status(422).json();
    problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
}

/// What a gateway knows.
struct Known {
    watch: Watch,
    entries: BTreeMap<EntryId, Option<EntryBody>>,
}

impl Known {
    async fn new(portal: &Portal) -> Self {
        let gateway = gateway(portal, "one", None).await;
        start_publishing(portal);
        Self { watch: gateway.watch(portal, "").await, entries: BTreeMap::new() }
    }

    /// Reads the feed until an entry is as wanted.
    async fn until(&mut self, kind: EntryKind, id: Uuid, wanted: impl Fn(&Value) -> bool) -> Value {
        let id = EntryId { kind, id };
        loop {
            let body = self.entries.get(&id).map(|body| serde_json::to_value(body).unwrap());
            if let Some(body) = body.filter(&wanted) {
                return body;
            }
            let (entries, _) = self.watch.until_synced().await;
            self.entries.extend(entries.into_iter().map(|entry| (entry.id, entry.body)));
        }
    }
}

fn uuid_of(route: &Value) -> Uuid {
    route["id"].as_str().unwrap().parse::<RouteId>().unwrap().uuid()
}

/// Every field of the options, as REST has them.
fn everything() -> Value {
    json!({
        "hosts": ["api.example.com", "*.example.org"],
        "headers": [{"name": "x-edition", "value": "2"}, {"name": "x-preview", "value": null}],
        "query": [{"name": "format", "value": "json"}],
        "rewrite": "/animals/{id}",
        "request_headers": {"remove": ["x-debug"], "set": [{"name": "x-tier", "value": "gold"}]},
        "response_headers": {"remove": ["server"], "set": [{"name": "cache-control", "value": "no-store"}]},
        "timeouts": {"connect_ms": 250, "first_byte_ms": 2000, "idle_ms": 30000, "total_ms": 60000},
        "max_request_body_bytes": 1048576,
        "cors": {"origins": ["https://app.example.com"], "credentials": true, "expose": ["x-total"], "max_age_s": 600},
        "max_policy_age_s": 3600,
    })
}

#[sqlx::test(migrations = "../migrations")]
async fn meters_of_tokens_reach_gateways(pool: PgPool) {
    let stage = Stage::new(pool).await;
    published(&stage.portal, "pets", document("Pets", &[("get", "/pets/{id}")])).await;
    let mut known = Known::new(&stage.portal).await;
    let route = stage.only_route("pets").await;
    let path = format!("/pets/routes/{}/settings", route["id"].as_str().unwrap());
    let mut meters = route["settings"]["meters"].clone();
    (meters[0]["default_units"], meters[0]["max_units"]) = (json!("500"), json!("128000"));
    meters[0]["source"] = json!({"from": "tokens", "kind": "cached_input"});
    let settings = |meters: &Value| Some(json!({"meters": meters}));
    let saved = stage.rest("PUT", &path, settings(&meters)).await.expect_status(200).json();
    assert_eq!(saved["settings"]["meters"], meters);
    known.until(EntryKind::Route, uuid_of(&route), |body| body["meters"] == meters).await;
    // What no gateway could read is refused with what it could.
    for (source, named) in [(json!({"from": "tokens", "kind": "prompt"}), "`uncached_input`"), (json!({"from": "tokens"}), "`kind`")] {
        meters[0]["source"] = source;
        let refused = stage.rest("PUT", &path, settings(&meters)).await;
        let problem = refused.expect_status(422).json();
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(named)), "{problem}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn options_of_a_route_reach_gateways_and_survive_an_import(pool: PgPool) {
    let stage = Stage::new(pool).await;
    published(&stage.portal, "pets", document("Pets", &[("get", "/pets/{id}")])).await;
    let mut known = Known::new(&stage.portal).await;
    let route = stage.only_route("pets").await;
    let path = format!("/pets/routes/{}", route["id"].as_str().unwrap());
    let settings = json!({"rate_group": "reads", "meters": route["settings"]["meters"], "options": everything()});
    let answer = stage.rest("PUT", &format!("{path}/settings"), Some(settings.clone())).await.expect_status(200).json();
    assert_eq!(answer["settings"], settings);
    assert_eq!(stage.rest("GET", &path, None).await.expect_status(200).json(), answer);
    let told = known.until(EntryKind::Route, uuid_of(&route), |body| body.get("options").is_some()).await;
    assert_eq!(told["options"]["rewrite"], "/animals/{id}");
    assert_eq!(told["options"]["request_headers"]["set"], json!([["x-tier", "gold"]]));
    assert_eq!(told["options"]["timeouts"]["idle_ms"], 30000);
    assert_eq!(told["group"], "reads");

    import_as(&stage.portal, "pets", document("Pets", &[("get", "/pets/{pet}"), ("post", "/pets")]), None).await.unwrap();
    let kept = stage.rest("GET", &path, None).await.expect_status(200).json();
    assert_eq!(kept["path"], "/pets/pets/{pet}");
    let mut expected = settings;
    expected["options"]["rewrite"] = json!("/animals/{pet}");
    assert_eq!(kept["settings"], expected, "and the rewritten path follows the new name");
    known.until(EntryKind::Route, uuid_of(&route), |body| body["options"]["rewrite"] == "/animals/{pet}").await;

    import_as(&stage.portal, "pets", document("Pets", &[("post", "/pets")]), None).await.unwrap();
    known.until(EntryKind::Route, uuid_of(&route), Value::is_null).await;
    import_as(&stage.portal, "pets", document("Pets", &[("get", "/pets/{pet}")]), None).await.unwrap();
    assert_eq!(stage.rest("GET", &path, None).await.expect_status(200).json()["settings"], expected, "it comes back as it was");
    assert!(stage.actions().await.contains(&"route.options_updated".to_owned()));
}

#[sqlx::test(migrations = "../migrations")]
async fn what_no_gateway_could_use_is_refused_field_by_field(pool: PgPool) {
    let mut stage = Stage::new(pool).await;
    published(&stage.portal, "pets", document("Pets", &[("get", "/pets/{id}")])).await;
    let route = stage.only_route("pets").await;
    let id = route["id"].as_str().unwrap();
    let bad = json!({
        "hosts": ["API.example.com"], "headers": [{"name": "x-api-key"}], "query": [{"name": ""}], "rewrite": "/{other}",
        "request_headers": {"set": [{"name": "tollkeeper-plan", "value": "gold"}]}, "response_headers": {"remove": ["connection"]},
        "timeouts": {"total_ms": 0}, "cors": {"origins": []}, "max_policy_age_s": 1,
    });
    let path = format!("/pets/routes/{id}/settings");
    let put = |options: Value| stage.rest("PUT", &path, Some(json!({"options": options})));
    let expected = [
        "hosts",
        "headers",
        "query",
        "rewrite",
        "request_headers.set",
        "response_headers.remove",
        "timeouts.total_ms",
        "cors.origins",
        "max_policy_age_s",
    ];
    assert_eq!(fields(put(bad).await), expected);
    put(json!({"timeout": {}})).await.expect_status(422);
    assert_eq!(stage.only_route("pets").await, route, "nothing was changed");
    let service = json!({"upstream_url": "http://a", "addresses": ["http://b"], "max_connections": 0});
    assert_eq!(fields(stage.rest("PUT", "/pets/service", Some(service)).await), ["addresses", "max_connections"]);

    let page = format!("/admin/products/pets/routes/{id}/traffic");
    let form = [("hosts", "a b"), ("rewrite", "/{other}"), ("total_ms", "soon"), ("request_set", "tollkeeper-plan: gold")];
    let answer = stage.browser.post(&page, &form).await.expect_status(422);
    assert!(answer.body.contains("`soon` is no whole number") && answer.body.contains("a b"), "{}", answer.body);
    let answer = stage.browser.post(&page, &form[..2]).await.expect_status(422);
    assert!(answer.body.contains("`a b` is no host") && answer.body.contains("does not stand in the route"), "{}", answer.body);
    let answer = stage.browser.post("/admin/products/pets/service", &[("upstream_url", "http://a"), ("protocol", "http3")]).await;
    assert!(answer.expect_status(422).body.contains("Choose what is spoken."));
    assert_eq!(stage.only_route("pets").await, route, "nothing was changed");
}

#[sqlx::test(migrations = "../migrations")]
async fn pages_say_what_rest_says(pool: PgPool) {
    let mut stage = Stage::new(pool).await;
    published(&stage.portal, "pets", document("Pets", &[("get", "/pets/{id}")])).await;
    let mut known = Known::new(&stage.portal).await;
    let route = stage.only_route("pets").await;
    let page = format!("/admin/products/pets/routes/{}/traffic", route["id"].as_str().unwrap());
    let form = [
        ("hosts", "API.example.com\r\n*.example.org\r\n"),
        ("headers", "X-Edition: 2\r\nx-preview"),
        ("query", "format=json"),
        ("rewrite", "/animals/{id}"),
        ("request_remove", "x-debug"),
        ("request_set", "x-tier: gold"),
        ("response_remove", "server"),
        ("response_set", "cache-control: no-store"),
        ("connect_ms", "250"),
        ("first_byte_ms", "2000"),
        ("idle_ms", "30000"),
        ("total_ms", "60000"),
        ("max_request_body_bytes", "1048576"),
        ("origins", "https://app.example.com"),
        ("credentials", "on"),
        ("expose", "x-total"),
        ("max_age_s", "600"),
        ("max_policy_age_s", "3600"),
    ];
    assert_eq!(stage.browser.post(&page, &form).await.location(), page);
    assert_eq!(stage.only_route("pets").await["settings"]["options"], everything());
    let shown = stage.browser.get(&page).await.expect_status(200);
    assert_eq!(shown.field("total_ms").as_deref(), None, "the id stands between name and value");
    for part in ["api.example.com\n*.example.org", "x-edition: 2\nx-preview", "x-tier: gold", "value=\"60000\"", "checked"] {
        assert!(shown.body.contains(part), "{part}: {}", shown.body);
    }
    let list = stage.browser.get("/admin/products/pets/routes").await.expect_status(200).body;
    assert!(list.contains("Conditions") && list.contains("Rewritten") && list.contains("CORS") && !list.contains("By hand"), "{list}");

    let service = stage.rest("GET", "/pets/service", None).await.expect_status(200).json();
    let form = [
        ("upstream_url", "https://pets.internal/base"),
        ("connect_timeout_ms", "100"),
        ("first_byte_timeout_ms", "200"),
        ("addresses", "10.0.0.1:8443\r\npets-b.internal"),
        ("protocol", "http2"),
        ("max_connections", "7"),
        ("max_waiting", "8"),
        ("max_retries", "0"),
        ("eject_after_failures", "9"),
    ];
    assert_eq!(stage.browser.post("/admin/products/pets/service", &form).await.location(), "/admin/products/pets/service");
    let expected = json!({
        "upstream_url": "https://pets.internal/base", "sandbox_url": null, "connect_timeout_ms": 100, "first_byte_timeout_ms": 200,
        "addresses": ["10.0.0.1:8443", "pets-b.internal"], "protocol": "http2", "max_connections": 7, "max_waiting": 8, "max_retries": 0,
        "eject_after_failures": 9,
    });
    assert_eq!(stage.rest("GET", "/pets/service", None).await.expect_status(200).json()["settings"], expected);
    let id = service["id"].as_str().unwrap().parse::<ids::ServiceId>().unwrap();
    let told = known.until(EntryKind::Service, id.uuid(), |body| body.get("options").is_some()).await;
    assert_eq!(told["options"]["addresses"], expected["addresses"]);
    let shown = stage.browser.get("/admin/products/pets/service").await.expect_status(200).body;
    assert!(shown.contains("10.0.0.1:8443\npets-b.internal") && shown.contains("value=\"http2\" selected"), "{shown}");
    // The product's own page leaves that alone.
    let form = [("name", "Pets"), ("upstream_url", "https://other.internal"), ("connect_timeout_ms", "1"), ("first_byte_timeout_ms", "2")];
    stage.browser.post("/admin/products/pets", &form).await.location();
    let kept = stage.rest("GET", "/pets/service", None).await.expect_status(200).json();
    assert_eq!((&kept["settings"]["upstream_url"], &kept["settings"]["max_waiting"]), (&json!("https://other.internal"), &json!(8)));
    let put = stage.rest("PUT", "/pets/service", Some(json!({"upstream_url": "http://10.0.0.9"}))).await.expect_status(200).json();
    assert_eq!(
        (&put["settings"]["addresses"], &put["settings"]["protocol"]),
        (&json!([]), &json!("auto")),
        "what is left out takes its default"
    );
    let actions = stage.actions().await;
    assert!(actions.contains(&"service.updated".to_owned()) && actions.contains(&"route.options_updated".to_owned()), "{actions:?}");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_product_without_a_document_gets_its_routes_by_hand(pool: PgPool) {
    let mut stage = Stage::new(pool).await;
    let mut known = Known::new(&stage.portal).await;
    let form = [("name", "Greeter"), ("slug", "greeter"), ("upstream_url", "http://10.0.0.1:9000")];
    assert_eq!(stage.browser.post("/admin/products/new", &form).await.location(), "/admin/products/greeter/routes");
    let again = stage.browser.post("/admin/products/new", &form).await.expect_status(422);
    assert!(again.body.contains("Another API product has this slug"), "{}", again.body);
    let body = json!({"slug": "new", "name": "N", "upstream_url": "nowhere"});
    assert_eq!(fields(stage.rest("POST", "", Some(body)).await), ["slug", "upstream_url"]);
    for page in ["", "/service", "/routes", "/routes/new", "/editions"] {
        stage.browser.get(&format!("/admin/products/greeter{page}")).await.expect_status(200);
    }
    stage.browser.get("/catalog/greeter").await.expect_status(200);
    stage.browser.get("/catalog/greeter/reference").await.expect_status(404);

    let form = [("method", "POST"), ("path", "/greet.v1.Greeter/{*method}"), ("summary", "All methods")];
    stage.browser.post("/admin/products/greeter/routes/new", &form).await.location();
    let route = stage.only_route("greeter").await;
    assert_eq!(
        (&route["method"], &route["by_hand"], &route["settings"]["meters"][0]["source"]["from"]),
        (&json!("POST"), &json!(true), &json!("call"))
    );
    stage.rest("GET", "", None).await.expect_status(200);
    stage.browser.post("/admin/products/greeter/publish", &[]).await.location();
    let told = known.until(EntryKind::Route, uuid_of(&route), |body| !body.is_null()).await;
    assert_eq!((&told["path"], &told["strip_prefix"]), (&json!("/greet.v1.Greeter/{*method}"), &json!("")));
    let page = stage.browser.get("/catalog/greeter").await.expect_status(200).body;
    assert!(page.contains("/greet.v1.Greeter/") && !page.contains("/catalog/greeter/reference"), "{page}");
    assert!(page.contains("http://127.0.0.1:8081/greet.v1.Greeter/"), "the sample stands at the gateway's root: {page}");

    let at = format!("/greeter/routes/{}", route["id"].as_str().unwrap());
    let edited = json!({"path": "/greeter/ws/{room}", "method": "GET"});
    let answer = stage.rest("PUT", &at, Some(edited)).await.expect_status(200).json();
    assert_eq!((&answer["method"], &answer["path"]), (&json!("GET"), &json!("/greeter/ws/{room}")));
    let told = known.until(EntryKind::Route, uuid_of(&route), |body| body["method"] == "GET").await;
    assert_eq!(told["strip_prefix"], "/greeter");
    let calls = format!("/admin/products{at}/calls");
    let form = [("method", "*"), ("path", "/greeter/ws/{room}"), ("summary", "")];
    stage.browser.post(&calls, &form).await.location();
    known.until(EntryKind::Route, uuid_of(&route), |body| body["method"].is_null()).await;
    stage.browser.get(&calls).await.expect_status(200);
    stage.browser.post(&format!("/admin/products{at}/retire"), &[]).await.location();
    stage.rest("GET", &at, None).await.expect_status(200);
    stage.browser.post(&format!("/admin/products{at}/retire"), &[("confirm", "yes")]).await.location();
    stage.rest("GET", &at, None).await.expect_status(404);
    known.until(EntryKind::Route, uuid_of(&route), Value::is_null).await;
    let actions = stage.actions().await;
    for action in ["api_product.created", "route.added", "route.edited", "route.retired"] {
        assert!(actions.iter().any(|known| known == action), "{action}: {actions:?}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn no_two_routes_take_the_same_calls(pool: PgPool) {
    let stage = Stage::new(pool).await;
    published(&stage.portal, "pets", document("Pets", &[("get", "/pets/{id}")])).await;
    published(&stage.portal, "cats", document("Cats", &[("get", "/cats")])).await;
    let add = |path: &str, method: Option<&str>, options: Value| {
        let body = json!({"path": path, "method": method, "settings": {"options": options}});
        let stage = &stage;
        async move { stage.rest("POST", "/pets/routes", Some(body)).await }
    };
    for (path, why) in [
        ("/pets/pets/{name}", "already"),
        ("/cats/x", "belongs to Cats"),
        ("/healthz", "taken by the gateway"),
        ("/{*rest}", "Name the hosts"),
        ("pets", "must start with `/`"),
    ] {
        let answer = add(path, Some("GET"), json!({})).await;
        assert!(answer.body.contains(why), "{path}: {}", answer.body);
        assert_eq!(fields(answer), ["path"], "{path}");
    }
    assert_eq!(fields(add("/pets/x", Some("get"), json!({})).await), ["method"]);
    let made =
        add("/pets/pets/{name}", Some("GET"), json!({"headers": [{"name": "x-edition", "value": "2"}]})).await.expect_status(201).json();
    assert_eq!(fields(add("/pets/pets/{n}", Some("GET"), json!({"headers": [{"name": "x-edition", "value": "2"}]})).await), ["path"]);
    add("/{*rest}", None, json!({"hosts": ["pets.example.com"]})).await.expect_status(201);
    assert_eq!(fields(add("/{*all}", None, json!({"hosts": ["x.example.com", "pets.example.com"]})).await), ["path"]);
    add("/dogs/{id}", Some("GET"), json!({})).await.expect_status(201);
    assert_eq!(fields(stage.rest("POST", "", Some(json!({"slug": "dogs", "name": "Dogs", "upstream_url": "http://a"}))).await), ["slug"]);
    let unconditional = json!({"meters": [], "options": {}});
    let at = format!("/pets/routes/{}", made["id"].as_str().unwrap());
    assert_eq!(
        fields(stage.rest("PUT", &format!("{at}/settings"), Some(unconditional)).await),
        ["hosts"],
        "it would become the document's twin"
    );

    // What the document describes is the document's.
    let routes = stage.rest("GET", "/pets/routes", None).await.expect_status(200).json();
    let of_document =
        routes["items"].as_array().unwrap().iter().find(|route| route["by_hand"] == false).unwrap()["id"].as_str().unwrap().to_owned();
    stage.rest("DELETE", &format!("/pets/routes/{of_document}"), None).await.expect_status(409);
    stage.rest("PUT", &format!("/pets/routes/{of_document}"), Some(json!({"path": "/pets/y"}))).await.expect_status(409);
    stage.rest("DELETE", &at.replace("/pets/routes", "/cats/routes"), None).await.expect_status(404);

    // An import leaves routes by hand alone, and takes over the one that it describes.
    let by_hand = add("/pets/walks", Some("POST"), json!({"timeouts": {"total_ms": 500}})).await.expect_status(201).json();
    let at = format!("/pets/routes/{}", by_hand["id"].as_str().unwrap());
    import_as(&stage.portal, "pets", document("Pets", &[("get", "/pets/{id}")]), None).await.unwrap();
    assert_eq!(stage.rest("GET", &at, None).await.expect_status(200).json(), by_hand);
    import_as(&stage.portal, "pets", document("Pets", &[("get", "/pets/{id}"), ("post", "/walks")]), None).await.unwrap();
    let taken = stage.rest("GET", &at, None).await.expect_status(200).json();
    assert_eq!((&taken["by_hand"], &taken["settings"]), (&json!(false), &by_hand["settings"]));
    stage.rest("GET", &format!("/pets/routes/{}", made["id"].as_str().unwrap()), None).await.expect_status(200);
}
