//! The catalog's pages and its REST twins, for visitors, members and operators.

use portal::{
    catalog::{NewPlan, NewRateCard, VersionTerms, meter, plan},
    identity::{Actor, Role},
};
use rating::{Flat, Price};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    catalog::{document, free_terms, import_as, published},
    support::Portal,
};

#[sqlx::test(migrations = "../migrations")]
async fn only_operators_change_the_catalog(pool: PgPool) {
    let portal = Portal::new(pool);
    published(&portal, "pets", document("Pets", &[("get", "/pets")])).await;
    import_as(&portal, "secret", document("Secret", &[("get", "/secret")]), None).await.unwrap();
    let owner = portal.person("owner@example.com").await;
    portal.tenant("Acme", &[(&owner, Role::Owner)]).await;
    let (mut visitor, mut member) = (portal.visitor(), portal.browser(&owner).await);
    for path in [
        "/admin/products",
        "/admin/products/import",
        "/admin/products/pets",
        "/admin/products/pets/routes",
        "/admin/products/pets/editions",
        "/admin/plans",
        "/admin/plans/new",
        "/admin/meters",
    ] {
        assert_eq!(visitor.get(path).await.status, 303, "{path}");
        assert_eq!(member.get(path).await.status, 403, "{path}");
    }
    for path in ["/admin/products/pets", "/admin/products/pets/unpublish", "/admin/plans", "/admin/meters"] {
        assert_eq!(
            member.post(path, &[("name", "Mine"), ("slug", "mine"), ("unit", "x"), ("aggregation", "sum"), ("position", "1")]).await.status,
            403,
            "{path}"
        );
    }
    for path in ["/catalog/secret", "/catalog/secret/reference", "/catalog/secret/openapi.json"] {
        assert_eq!(visitor.get(path).await.status, 404, "{path}");
        assert_eq!(member.get(path).await.status, 404, "{path}");
    }
    let token = portal.token(&owner, None).await;
    assert_eq!(portal.rest("POST", "/api/v1/products/import?slug=mine", &token, Some(json!({}))).await.status, 403);
    assert_eq!(portal.rest("GET", "/api/v1/products/secret", &token, None).await.status, 404);
    let meter = json!({"slug": "mine", "name": "Mine", "unit": "x", "aggregation": "sum"});
    assert_eq!(portal.rest("POST", "/api/v1/meters", &token, Some(meter)).await.status, 403);
    let listed: Value = serde_json::from_str(&portal.rest("GET", "/api/v1/products", &token, None).await.body).unwrap();
    let slugs: Vec<&str> = listed["items"].as_array().unwrap().iter().map(|item| item["slug"].as_str().unwrap()).collect();
    assert_eq!(slugs, ["pets"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn visitors_read_the_catalog(pool: PgPool) {
    let portal = Portal::with_settings(pool, &[("PORTAL_GATEWAY_URL", "https://gateway.example.com")]);
    let product = published(&portal, "pets", document("Pets API", &[("get", "/pets"), ("get", "/pets/{id}")])).await;
    let mut tx = portal.app.begin().await.unwrap();
    let new = NewPlan { slug: "pro".into(), name: "Pro".into(), summary: "For teams.".into(), position: 1 };
    let system = Actor::system();
    let plan = plan::create_plan(&mut tx, &system, new, portal.now()).await.unwrap();
    let fee =
        NewRateCard { name: "Base fee".into(), meter: None, terms: rating::RateCard::new(Price::Flat(Flat { amount: Decimal::from(49) })) };
    let terms = VersionTerms { rate_cards: vec![fee], ..free_terms(vec![product]) };
    let version = plan::create_version(&mut tx, &system, plan.id, terms, portal.now()).await.unwrap();
    plan::publish_version(&mut tx, &system, version.id, portal.now()).await.unwrap();
    portal.app.commit(tx).await.unwrap();

    let mut visitor = portal.visitor();
    let list = visitor.get("/catalog").await;
    assert!(list.status == 200 && list.body.contains("Pets API") && list.body.contains("2 operations"), "{}", list.body);
    assert!(!visitor.get("/catalog?q=weather").await.body.contains("Pets API"));
    assert!(visitor.get("/catalog?q=PETS+about").await.body.contains("Pets API"));
    let page = visitor.get("/catalog/pets").await.body;
    for part in ["https://gateway.example.com/pets", "/pets/{id}", "/subscribe?plan=pro", "49.00", "All about it."] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("<script>alert"), "a document's HTML does not get through");
    assert!(visitor.get("/pricing").await.body.contains("49.00"));

    let reference = visitor.get("/catalog/pets/reference").await;
    let policy = reference.headers["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("connect-src 'self' https://gateway.example.com;") && policy.contains("script-src 'self';"), "{policy}");
    assert!(reference.body.contains("data-url=\"/catalog/pets/openapi.json\""));

    let answer = visitor.get("/catalog/pets/openapi.json").await;
    let shown: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(shown["servers"], json!([{"url": "https://gateway.example.com/pets"}]));
    assert_eq!(shown["components"]["securitySchemes"]["apiKey"]["name"], "x-api-key");
    let tag = answer.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(visitor.get_with("/catalog/pets/openapi.json", "if-none-match", &tag).await.status, 304);
    import_as(&portal, "pets", document("Pets API", &[("get", "/pets")]), None).await.unwrap();
    assert_eq!(visitor.get_with("/catalog/pets/openapi.json", "if-none-match", &tag).await.status, 200, "a new edition has another tag");
}

#[sqlx::test(migrations = "../migrations")]
async fn an_operator_imports_in_the_browser(pool: PgPool) {
    let portal = Portal::new(pool);
    let operator = portal.operator("op@example.com").await;
    let mut browser = portal.browser(&operator).await;
    assert!(browser.get("/admin/products").await.body.contains("Import your first API"));

    let refused = browser
        .upload("/admin/products/import", b"openapi: 3.0.0\ninfo: {title: A, version: 1}\npaths: {/a: {get: {$ref: 'x.yaml'}}}")
        .await;
    assert_eq!(refused.status, 422);
    assert!(refused.body.contains("#/paths/~1a/get/$ref") && refused.body.contains("lies outside of the document"), "{}", refused.body);
    let private = browser.upload_fields("/admin/products/import", &[("url", "http://169.254.169.254/latest/meta-data")], b"").await;
    assert!(private.status == 422 && private.body.contains("not a public address"), "{}", private.body);
    let csrf = std::mem::replace(&mut browser.csrf, "wrong".into());
    assert_eq!(browser.upload("/admin/products/import", &document("Pets", &[("get", "/pets")])).await.status, 403);
    browser.csrf = csrf;

    let kept = browser.upload("/admin/products/import", &document("Pets API", &[("get", "/pets"), ("post", "/pets")])).await;
    assert_eq!(kept.status, 303, "{}", kept.body);
    let to = kept.headers["location"].to_str().unwrap().to_owned();
    assert!(to.ends_with("?slug=pets"), "{to}");
    let preview = browser.get(&to).await.body;
    assert!(preview.contains("https://upstream.example.com/base") && preview.contains("2 routes"), "{preview}");
    let path = to.split('?').next().unwrap().to_owned();
    let wrong = browser.post(&path, &[("action", "import"), ("slug", "pets"), ("name", "Pets"), ("upstream_url", "nowhere")]).await;
    assert!(wrong.status == 422 && wrong.body.contains("Enter a whole address"), "{}", wrong.body);
    let done =
        browser.post(&path, &[("action", "import"), ("slug", "pets"), ("name", "Pets"), ("upstream_url", "http://10.0.0.7:9000")]).await;
    assert_eq!((done.status, done.headers["location"].to_str().unwrap()), (303, "/admin/products/pets"));
    assert_eq!(browser.get(&to).await.status, 404, "the upload is gone");

    assert_eq!(portal.visitor().get("/catalog/pets").await.status, 404, "a draft");
    assert_eq!(browser.post("/admin/products/pets/publish", &[]).await.status, 303);
    assert_eq!(portal.visitor().get("/catalog/pets").await.status, 200);
    let form = [
        ("name", "Pets 2"),
        ("upstream_url", "http://10.0.0.7:9000/v2/"),
        ("connect_timeout_ms", "100"),
        ("first_byte_timeout_ms", "many"),
    ];
    let wrong = browser.post("/admin/products/pets", &form).await;
    assert!(wrong.status == 422 && wrong.body.contains("1 to 3600000 milliseconds"), "{}", wrong.body);
    let form =
        [("name", "Pets 2"), ("upstream_url", "http://10.0.0.7:9000/v2/"), ("connect_timeout_ms", "100"), ("first_byte_timeout_ms", "200")];
    assert_eq!(browser.post("/admin/products/pets", &form).await.status, 303);
    assert!(browser.get("/admin/products/pets").await.body.contains("value=\"http://10.0.0.7:9000/v2\""));

    let routes = browser.get("/admin/products/pets/routes").await.body;
    let link =
        routes.split("href=\"").find_map(|part| part.split('"').next().filter(|href| href.contains("/routes/rte_"))).unwrap().to_owned();
    let meter = {
        let mut tx = portal.app.begin().await.unwrap();
        meter::requests_meter(&mut tx, portal.now()).await.unwrap().id.to_string()
    };
    let form = [
        ("meter_0", meter.as_str()),
        ("source_0", "trailer"),
        ("header_0", "X-Tokens"),
        ("default_units_0", "2"),
        ("max_units_0", "5000"),
        ("whole_product", "on"),
    ];
    assert_eq!(browser.post(&link, &form).await.status, 303);
    assert!(browser.get(&link).await.body.contains("value=\"x-tokens\""));
    let form = [("meter_0", meter.as_str()), ("source_0", "tokens_cached_input"), ("default_units_0", "0"), ("max_units_0", "200000")];
    assert_eq!(browser.post(&link, &form).await.status, 303);
    let page = browser.get(&link).await.body;
    assert!(page.contains("<option value=\"tokens_cached_input\" selected>LLM tokens: input from a cache</option>"), "{page}");
    let wrong = browser.post(&link, &[("meter_0", meter.as_str()), ("source_0", "tokens_of_my_own")]).await;
    assert!(wrong.status == 422 && wrong.body.contains("Choose where the units come from."), "{}", wrong.body);
    let editions = browser.get("/admin/products/pets/editions").await.body;
    assert!(editions.contains("OpenAPI 3.0.3") && editions.contains("op@example.com"), "{editions}");
}

#[sqlx::test(migrations = "../migrations")]
async fn an_operator_makes_a_plan_in_the_browser(pool: PgPool) {
    let portal = Portal::new(pool);
    let product = published(&portal, "pets", document("Pets", &[("get", "/pets")])).await;
    let operator = portal.operator("op@example.com").await;
    let mut browser = portal.browser(&operator).await;
    assert_eq!(
        browser.post("/admin/meters", &[("slug", "tokens"), ("name", "Tokens"), ("unit", "token"), ("aggregation", "sum")]).await.status,
        303
    );
    let again = browser.post("/admin/meters", &[("slug", "tokens"), ("name", "Tokens"), ("unit", "token"), ("aggregation", "sum")]).await;
    assert!(again.status == 422 && again.body.contains("Another meter has this slug"), "{}", again.body);
    assert_eq!(
        browser.post("/admin/plans", &[("slug", "pro"), ("name", "Pro"), ("summary", "For teams."), ("position", "10")]).await.status,
        303
    );
    let again = browser.post("/admin/plans", &[("slug", "pro"), ("name", "Pro"), ("position", "10")]).await;
    assert!(again.status == 422 && again.body.contains("Another plan has this slug"), "{}", again.body);
    let nothing = browser.post("/admin/plans/pro/versions", &[]).await;
    assert_eq!(nothing.location(), "/admin/plans/pro", "a plan covers what was chosen, and never everything by itself");
    assert!(browser.get("/admin/plans/pro").await.body.contains("at least one API product"));
    let draft = browser.post("/admin/plans/pro/versions", &[(&format!("product_{product}"), "on")]).await;
    let editor = draft.headers["location"].to_str().unwrap().to_owned();
    assert!(browser.get(&editor).await.body.contains("Save draft"));

    let (requests, tokens) = {
        let mut tx = portal.app.begin().await.unwrap();
        let meters = meter::meters(&mut tx).await.unwrap();
        let id = |slug: &str| meters.iter().find(|meter| meter.slug == slug).unwrap().id.to_string();
        (id("requests"), id("tokens"))
    };
    let product_field = format!("product_{product}");
    let mut form = vec![
        ("currency", "EUR"),
        ("cadence", "month"),
        (product_field.as_str(), "on"),
        ("statuses", "200-499"),
        ("except", "401, 403, 429"),
        ("card_0_name", "Base fee"),
        ("card_0_model", "flat"),
        ("card_0_amount", "49"),
        ("card_1_name", "Requests"),
        ("card_1_meter", &requests),
        ("card_1_model", "graduated"),
        ("card_1_tiers", "1000 0.3\r\n* 0.1 5"),
        ("card_1_free_units", "100"),
        ("card_3_name", "Tokens"),
        ("card_3_meter", &tokens),
        ("card_3_model", "package"),
        ("card_3_amount", "1.5"),
        ("card_3_size", "1000"),
        ("quota_0_meter", &requests),
        ("quota_0_limit", "10000"),
        ("quota_0_enforcement", "soft"),
        ("limit_0_requests", "10"),
        ("limit_0_per_seconds", "1"),
        ("limit_0_burst", "20"),
        ("limit_0_scope", "api_key"),
    ];
    let saved = browser.post(&editor, &form).await;
    assert_eq!(saved.status, 303, "{}", saved.body);
    form[11] = ("card_1_tiers", "1000 0.3\n500 0.1");
    let wrong = browser.post(&editor, &form).await;
    assert!(wrong.status == 422 && wrong.body.contains("must"), "{}", wrong.body);
    assert_eq!(browser.post(&format!("{editor}/publish"), &[("confirm", "yes")]).await.status, 303);
    assert_eq!(browser.post(&editor, &form[..5]).await.status, 409);

    let prices = portal.visitor().get("/pricing").await.body;
    for part in [
        "49.00",
        "EUR a month",
        "100 requests included a month",
        "1 to 1,000",
        "0.30 EUR",
        "1.50 EUR per started 1,000 tokens",
        "A warning at 10,000 requests a month",
        "10 requests a second for each key, in bursts of up to 20",
    ] {
        assert!(prices.contains(part), "{part}: {prices}");
    }
    let next = browser.post("/admin/plans/pro/versions", &[]).await.headers["location"].to_str().unwrap().to_owned();
    assert!(browser.get(&next).await.body.contains("1000 0.3"), "a new version copies the last");
    assert_eq!(browser.post(&format!("{next}/delete"), &[("confirm", "yes")]).await.status, 303);

    let token = portal.token(&operator, None).await;
    let plan: Value = serde_json::from_str(&portal.rest("GET", "/api/v1/plans/pro", &token, None).await.body).unwrap();
    assert_eq!(
        (plan["version"].as_i64(), plan["currency"].as_str(), plan["prices"].as_array().map(Vec::len)),
        (Some(1), Some("EUR"), Some(3))
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_program_imports_and_reads(pool: PgPool) {
    let portal = Portal::new(pool);
    let operator = portal.operator("op@example.com").await;
    let token = portal.token(&operator, None).await;
    let body: Value = serde_json::from_slice(&document("Pets API", &[("get", "/pets")])).unwrap();
    let created = portal.rest("POST", "/api/v1/products/import?slug=pets&publish=true", &token, Some(body.clone())).await;
    assert_eq!(created.status, 201, "{}", created.body);
    let report: Value = serde_json::from_str(&created.body).unwrap();
    assert_eq!((report["created"].as_bool(), &report["added"]), (Some(true), &json!(["GET /pets"])));
    assert_eq!(portal.rest("POST", "/api/v1/products/import?slug=pets", &token, Some(body)).await.status, 200);
    let refused = portal
        .rest(
            "POST",
            "/api/v1/products/import?slug=pets",
            &token,
            Some(json!({"openapi": "3.0.0", "info": {"title": "A", "version": "1"}, "paths": {"a": {"get": {}}}})),
        )
        .await;
    assert_eq!(refused.status, 422);
    assert!(refused.body.contains("#/paths/a: The path `a` must start with `/`."), "{}", refused.body);
    assert_eq!(portal.visitor().get("/catalog/pets").await.status, 200, "published at once");
    let meter = json!({"slug": "tokens", "name": "Tokens", "unit": "token", "aggregation": "sum"});
    assert_eq!(portal.rest("POST", "/api/v1/meters", &token, Some(meter)).await.status, 201);
    let meters: Value = serde_json::from_str(&portal.rest("GET", "/api/v1/meters", &token, None).await.body).unwrap();
    assert_eq!(meters["items"].as_array().map(Vec::len), Some(2));
    let product: Value = serde_json::from_str(&portal.rest("GET", "/api/v1/products/pets", &token, None).await.body).unwrap();
    assert_eq!(product["base_url"], "http://127.0.0.1:8081/pets");
}

#[sqlx::test(migrations = "../migrations")]
async fn the_reference_mints_a_temporary_key_for_a_subscribed_application(pool: PgPool) {
    let portal = Portal::new(pool);
    let pets = published(&portal, "pets", document("Pets", &[("get", "/pets")])).await;
    published(&portal, "birds", document("Birds", &[("get", "/birds")])).await;
    let owner = portal.person("owner@example.com").await;
    let tenant = portal.tenant("Acme", &[(&owner, Role::Owner)]).await;
    let actor = portal.actor(&owner, &[(tenant, Role::Owner)]);
    let mut tx = portal.app.begin().await.unwrap();
    let new = NewPlan { slug: "free".into(), name: "Free".into(), summary: String::new(), position: 1 };
    let plan = plan::create_plan(&mut tx, &Actor::system(), new, portal.now()).await.unwrap();
    let version = plan::create_version(&mut tx, &Actor::system(), plan.id, free_terms(vec![pets]), portal.now()).await.unwrap();
    plan::publish_version(&mut tx, &Actor::system(), version.id, portal.now()).await.unwrap();
    let input = portal::applications::ApplicationInput { name: "Shop".into(), description: String::new() };
    let application = portal::applications::create(&mut tx, &actor, tenant, input, portal.now()).await.unwrap().id;
    portal.app.commit(tx).await.unwrap();
    let mut browser = portal.browser(&owner).await;
    assert!(!browser.get("/catalog/pets/reference").await.body.contains("/try-it"), "nothing is subscribed yet");

    let mut tx = portal.app.begin().await.unwrap();
    let input = portal::subscriptions::CreateSubscription { application, plan: "free".into() };
    portal::subscriptions::create(&mut tx, &actor, tenant, input, portal.now()).await.unwrap();
    portal.app.commit(tx).await.unwrap();
    assert!(browser.get("/catalog/pets/reference").await.body.contains("action=\"/catalog/pets/try-it\""));
    assert!(!browser.get("/catalog/birds/reference").await.body.contains("/try-it"), "no plan covers it");
    let id = application.to_string();
    let page = browser.post("/catalog/pets/try-it", &[("application", id.as_str())]).await.expect_status(200);
    let credential = page.body.split("data-credential=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(gateway_control::credential::Credential::parse(credential).is_some(), "{credential}");
    assert!(page.body.contains("data-expires-at=\"2026-03-10T12:15:00Z\""), "{}", page.body);
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("connect-src"), "the reference's policy");
    assert_eq!(page.headers["cache-control"], "no-store");

    let stranger = portal.person("stranger@example.com").await;
    portal.tenant("Other", &[(&stranger, Role::Owner)]).await;
    let mut other = portal.browser(&stranger).await;
    assert_eq!(other.post("/catalog/pets/try-it", &[("application", id.as_str())]).await.status, 404, "another tenant's application");
    assert_eq!(portal.visitor().post("/catalog/pets/try-it", &[("application", id.as_str())]).await.status, 303, "sign in first");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_program_makes_and_publishes_a_plan(pool: PgPool) {
    let portal = Portal::new(pool);
    let product = published(&portal, "pets", document("Pets", &[("get", "/pets")])).await;
    let operator = portal.operator("op@example.com").await;
    let token = portal.token(&operator, None).await;
    let post = async |path: &str, body: Option<Value>| portal.rest("POST", path, &token, body).await;
    let meters: Value = portal.rest("GET", "/api/v1/meters", &token, None).await.json();
    let meter = meters["items"][0]["id"].clone();

    let made = post("/api/v1/plans", Some(json!({"slug": "pro", "name": "Pro", "position": 10}))).await.expect_status(201).json();
    assert_eq!((&made["slug"], &made["summary"]), (&json!("pro"), &json!("")));
    post("/api/v1/plans", Some(json!({"slug": "pro", "name": "Pro", "position": 10}))).await.expect_status(422);
    let terms = json!({
        "currency": "EUR", "cadence": "month", "products": [product],
        "rate_cards": [{"name": "Base fee", "terms": {"price": {"type": "flat", "amount": "49"}}}],
        "quotas": [{"meter": meter, "limit": "1000.5", "hard": true}],
        "rate_limits": [{"requests": 10, "per_seconds": 1, "scope": "api_key"}],
    });
    let versions = "/api/v1/plans/pro/versions";
    for (path, value, field) in [
        ("/currency", json!("XXQ"), "currency"),
        ("/quotas/0/limit", json!("many"), "quotas[0].limit"),
        ("/quotas/0/limit", json!("-1"), "quotas[0].limit"),
        ("/rate_limits/0/scope", json!("planet"), "rate_limits[0].scope"),
        ("/rate_cards/0/terms/price/amount", json!("-1"), "rate_cards[0].terms.price.amount"),
        ("/products", json!([]), "products"),
    ] {
        let mut wrong = terms.clone();
        *wrong.pointer_mut(path).unwrap() = value;
        let refused = post(versions, Some(wrong)).await.expect_status(422).json();
        assert_eq!(refused["errors"][0]["field"], field, "{refused}");
    }
    let draft = post(versions, Some(terms.clone())).await.expect_status(201).json();
    assert_eq!((&draft["version"], &draft["quotas"][0]["limit"], draft.get("published_at")), (&json!(1), &json!("1000.5"), None));
    post(versions, Some(terms)).await.expect_status(409);
    portal.rest("GET", "/api/v1/plans/pro", &token, None).await.expect_status(404);
    let publish = format!("{versions}/{}/publish", draft["version_id"].as_str().unwrap());
    post(&publish.replace("/pro/", "/other/"), None).await.expect_status(404);
    let offered = post(&publish, None).await.expect_status(200).json();
    assert_eq!(offered["published_at"], "2026-03-10T12:00:00Z");
    assert_eq!(portal.rest("GET", "/api/v1/plans/pro", &token, None).await.expect_status(200).json(), offered);
    post(&publish, None).await.expect_status(409);
}
