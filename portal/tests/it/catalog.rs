//! Products, documents and plans against a real Postgres.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use ids::ApiProductId;
use portal::{
    catalog::{
        NewMeter, NewPlan, NewRateCard, VersionTerms, api_product,
        import::{self, Import, Imported},
        meter::{self, Aggregation},
        plan,
        route::{self, RouteSettings},
    },
    error::{Kind, Result},
    identity::Actor,
};
use rating::{Flat, Price, Unit};
use rust_decimal::Decimal;
use serde_json::json;
use sqlx::PgPool;

use crate::support::Portal;

/// A small document with the given paths: method and path each.
pub(crate) fn document(title: &str, operations: &[(&str, &str)]) -> Vec<u8> {
    let mut paths = serde_json::Map::new();
    for (method, path) in operations {
        let item = paths.entry((*path).to_owned()).or_insert_with(|| json!({}));
        item[method] = json!({"summary": format!("{method} {path}"), "operationId": format!("{method}{path}"), "responses": {"200": {"description": "Fine."}}});
    }
    json!({
        "openapi": "3.0.3",
        "info": {"title": title, "version": "1", "description": "All about it. And <script>alert(1)</script> more."},
        "servers": [{"url": "https://upstream.example.com/base"}],
        "paths": paths,
    })
    .to_string()
    .into_bytes()
}

pub(crate) async fn import_as(portal: &Portal, slug: &str, source: Vec<u8>, upstream_url: Option<&str>) -> Result<Imported> {
    let (source, document) = import::read(source, None).await?;
    let mut tx = portal.app.begin().await?;
    let upstream_url = upstream_url.map(str::to_owned);
    let input = Import { slug: slug.into(), name: None, upstream_url, source_url: None, source, document };
    let imported = import::import(&mut tx, &Actor::system(), input, portal.now()).await?;
    portal.app.commit(tx).await?;
    Ok(imported)
}

pub(crate) async fn published(portal: &Portal, slug: &str, source: Vec<u8>) -> ApiProductId {
    let product = import_as(portal, slug, source, None).await.expect("an import").product;
    let mut tx = portal.app.begin().await.expect("a transaction");
    api_product::set_product_published(&mut tx, &Actor::system(), slug, true, portal.now()).await.expect("publishing");
    portal.app.commit(tx).await.expect("a commit");
    product.id
}

pub(crate) fn free_terms(products: Vec<ApiProductId>) -> VersionTerms {
    VersionTerms {
        currency: rating::Currency::USD,
        cadence: calendar::Cadence::Month,
        rate_limits: Vec::new(),
        quotas: Vec::new(),
        billable: Default::default(),
        products,
        rate_cards: Vec::new(),
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn every_document_of_the_corpus_is_imported_or_refused_with_its_place(pool: PgPool) {
    let portal = Portal::new(pool);
    // Beside the repository, however deep the clone lies.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("../shared/data/openapi"))
        .find(|folder| folder.is_dir());
    let Some(folder) = folder else {
        println!("skipped: the documents of ../shared/data/openapi are not there");
        return;
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for (index, file) in files.iter().enumerate() {
        let name = file.file_name().unwrap().to_string_lossy();
        let source = std::fs::read(file).unwrap();
        let bytes = source.len();
        let start = Instant::now();
        let result = import_as(&portal, &format!("product-{index}"), source, Some("https://upstream.example.com")).await;
        let elapsed = start.elapsed();
        match result {
            Ok(imported) => println!("{name}: {bytes} bytes, {} routes, imported in {elapsed:.0?}", imported.changes.added.len()),
            Err(error) => {
                assert_eq!(error.kind, Kind::Invalid, "{name}: {error:?}");
                let located = error.field("document").is_some_and(|message| message.starts_with('#') || message.starts_with("line "));
                assert!(located, "{name}: a refusal names its place: {error:?}");
                println!("{name}: {bytes} bytes, refused in {elapsed:.0?}: {error:?}");
            }
        }
        // The bound of a release build is two seconds; a debug build on a busy machine is given three times that.
        assert!(elapsed.as_secs_f64() < if cfg!(debug_assertions) { 6.0 } else { 2.0 }, "{name} took {elapsed:?}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_new_edition_keeps_routes_that_stay_and_retires_those_that_are_missing(pool: PgPool) {
    let portal = Portal::new(pool);
    let first = import_as(&portal, "pets", document("Pets API", &[("get", "/pets"), ("get", "/pets/{id}"), ("post", "/pets")]), None)
        .await
        .unwrap();
    assert!(first.created);
    assert_eq!((first.edition, first.changes.added.len()), (1, 3));
    let mut tx = portal.app.begin().await.unwrap();
    let before = route::routes(&mut tx, first.product.id).await.unwrap();
    let paths: Vec<(&str, &str)> = before.iter().map(|route| (route.method.as_str(), route.path.as_str())).collect();
    assert_eq!(paths, [("GET", "/pets/pets"), ("POST", "/pets/pets"), ("GET", "/pets/pets/{id}")]);
    let requests = meter::requests_meter(&mut tx, portal.now()).await.unwrap();
    assert!(before.iter().all(|route| route.settings.meters == [route::counts_calls(requests.id)]), "each call counts");
    let settings = RouteSettings { rate_group: Some("read".into()), meters: Vec::new() };
    route::update_routes(&mut tx, &Actor::system(), first.product.id, Some(before[0].id), settings.clone(), portal.now()).await.unwrap();
    tx.commit().await.unwrap();

    // `{id}` is called `{name}` now, POST is gone, DELETE is new.
    let second = document("Pets", &[("get", "/pets"), ("get", "/pets/{name}"), ("delete", "/pets/{name}")]);
    let imported = import_as(&portal, "pets", second, None).await.unwrap();
    assert_eq!(imported.changes.added, ["DELETE /pets/{name}"]);
    assert_eq!(imported.changes.changed, ["GET /pets/{name}"]);
    assert_eq!(imported.changes.removed, ["POST /pets"]);
    assert_eq!((imported.edition, imported.changes.unchanged, imported.created), (2, 1, false));
    assert_eq!(imported.product.name, "Pets API", "an operator's texts stay");
    let mut tx = portal.app.begin().await.unwrap();
    let after = route::routes(&mut tx, first.product.id).await.unwrap();
    assert_eq!((after[0].id, &after[0].settings), (before[0].id, &settings), "id and settings stay");
    assert_eq!(after.iter().find(|route| route.path == "/pets/pets/{name}" && route.method == "GET").unwrap().id, before[2].id);
    drop(tx);

    // What comes back is what was retired.
    let third = import_as(&portal, "pets", document("Pets", &[("post", "/pets")]), None).await.unwrap();
    assert_eq!((third.changes.added, third.changes.removed.len()), (vec!["POST /pets".to_owned()], 3));
    let mut tx = portal.app.begin().await.unwrap();
    assert_eq!(route::routes(&mut tx, first.product.id).await.unwrap()[0].id, before[1].id);
    let changed: i64 = sqlx::query_scalar("SELECT count(*) FROM policy_outbox WHERE kind = 'route'").fetch_one(&mut *tx).await.unwrap();
    assert!(changed >= 8, "gateways hear of every change: {changed}");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_no_gateway_could_use_is_refused_where_it_is_written(pool: PgPool) {
    let portal = Portal::new(pool);
    let fields = |error: portal::error::Error| error.fields.iter().map(|field| field.field.to_string()).collect::<Vec<_>>();
    let pets = || document("Pets", &[("get", "/pets")]);
    for (slug, upstream, field) in [
        ("Pets", None, "slug"),
        ("import", None, "slug"),
        ("pets", Some("ftp://upstream.example.com"), "upstream_url"),
        ("pets", Some("https://user:secret@upstream.example.com"), "upstream_url"),
        ("pets", Some("nonsense"), "upstream_url"),
    ] {
        let error = import_as(&portal, slug, pets(), upstream).await.expect_err("a refusal");
        assert_eq!(fields(error), [field], "{slug} {upstream:?}");
    }
    let relative = String::from_utf8(pets()).unwrap().replace("https://upstream.example.com/base", "/base").into_bytes();
    let error = import_as(&portal, "pets", relative, None).await.expect_err("a refusal");
    assert!(error.field("upstream_url").unwrap().contains("is relative"), "{error:?}");

    let product = import_as(&portal, "pets", pets(), None).await.unwrap().product.id;
    let mut tx = portal.app.begin().await.unwrap();
    let requests = meter::requests_meter(&mut tx, portal.now()).await.unwrap();
    let mut bad = route::counts_calls(requests.id);
    bad.max_units = gateway_control::units::Micros(0);
    bad.source = gateway_control::policy::UnitSource::Header { name: "X Units".into() };
    let settings = RouteSettings { rate_group: Some("a b".into()), meters: vec![bad, route::counts_calls(requests.id)] };
    let error = route::update_routes(&mut tx, &Actor::system(), product, None, settings, portal.now()).await.expect_err("a refusal");
    assert_eq!(fields(error), ["rate_group", "meters[0].source", "meters[0].default_units", "meters[0].max_units", "meters[1].meter"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_published_version_never_changes(pool: PgPool) {
    let portal = Portal::new(pool);
    let system = Actor::system();
    let draft = import_as(&portal, "pets", document("Pets", &[("get", "/pets")]), None).await.unwrap().product;
    let mut tx = portal.app.begin().await.unwrap();
    let requests = meter::requests_meter(&mut tx, portal.now()).await.unwrap();
    let new = NewPlan { slug: "pro".into(), name: "Pro".into(), summary: String::new(), position: 1 };
    let plan = plan::create_plan(&mut tx, &system, new, portal.now()).await.unwrap();
    let price = |amount| rating::RateCard::new(Price::Unit(Unit { unit_amount: amount }));
    let card = NewRateCard { name: "Requests".into(), meter: Some(requests.id), terms: price(Decimal::new(5, 2)) };
    let terms = VersionTerms { rate_cards: vec![card.clone()], ..free_terms(vec![draft.id]) };
    let version = plan::create_version(&mut tx, &system, plan.id, terms.clone(), portal.now()).await.unwrap();
    assert_eq!((version.version, version.terms()), (1, terms.clone()));
    assert_eq!(plan::published_plans(&mut tx).await.unwrap(), []);
    assert_eq!(
        plan::create_version(&mut tx, &system, plan.id, terms.clone(), portal.now()).await.expect_err("a second draft").kind,
        Kind::Conflict
    );

    let error = plan::publish_version(&mut tx, &system, version.id, portal.now()).await.expect_err("its product is a draft");
    assert!(error.public.contains("Publish Pets first"), "{error:?}");
    api_product::set_product_published(&mut tx, &system, "pets", true, portal.now()).await.unwrap();
    plan::publish_version(&mut tx, &system, version.id, portal.now()).await.unwrap();
    for attempt in [
        plan::update_version(&mut tx, &system, version.id, terms.clone(), portal.now()).await.map(|_| ()),
        plan::publish_version(&mut tx, &system, version.id, portal.now()).await.map(|_| ()),
        plan::delete_draft(&mut tx, &system, version.id, portal.now()).await,
    ] {
        assert_eq!(attempt.expect_err("it is published").kind, Kind::Conflict);
    }
    let dearer = VersionTerms { rate_cards: vec![NewRateCard { terms: price(Decimal::new(7, 2)), ..card }], ..terms.clone() };
    let second = plan::create_version(&mut tx, &system, plan.id, dearer, portal.now()).await.unwrap();
    assert_eq!(plan::published_plan(&mut tx, "pro").await.unwrap().id, version.id, "the draft is not offered");
    plan::publish_version(&mut tx, &system, second.id, portal.now()).await.unwrap();
    assert_eq!(plan::published_plan(&mut tx, "pro").await.unwrap().id, second.id);
    assert_eq!(plan::plan_version(&mut tx, version.id).await.unwrap().terms(), terms, "the first version is what it was");
    plan::set_plan_archived(&mut tx, &system, plan.id, true, portal.now()).await.unwrap();
    assert_eq!(plan::published_plans(&mut tx).await.unwrap(), []);
    assert_eq!(plan::plan_version(&mut tx, second.id).await.unwrap().version, 2, "those who are on it keep it");
}

#[sqlx::test(migrations = "../migrations")]
async fn terms_that_make_no_sense_name_every_field(pool: PgPool) {
    let portal = Portal::new(pool);
    let product = published(&portal, "pets", document("Pets", &[("get", "/pets")])).await;
    let mut tx = portal.app.begin().await.unwrap();
    let requests = meter::requests_meter(&mut tx, portal.now()).await.unwrap();
    let new = NewPlan { slug: "pro".into(), name: "Pro".into(), summary: String::new(), position: 1 };
    let plan = plan::create_plan(&mut tx, &Actor::system(), new.clone(), portal.now()).await.unwrap();
    let flat = |amount: i64| rating::RateCard::new(Price::Flat(Flat { amount: Decimal::from(amount) }));
    let limit = |requests| quota::RateLimit { requests, per_seconds: 1, burst: None, scope: quota::Scope::Subscription, route_group: None };
    let quota = |meter, limit_microunits| quota::QuotaLimit {
        meter,
        limit_microunits,
        enforcement: quota::Enforcement::Hard,
        when_unreachable: quota::WhenUnreachable::Deny,
    };
    let terms = VersionTerms {
        rate_cards: vec![
            NewRateCard { name: String::new(), meter: None, terms: flat(-1) },
            NewRateCard { name: "Fee".into(), meter: Some(requests.id), terms: flat(1) },
            NewRateCard {
                name: "Again".into(),
                meter: Some(requests.id),
                terms: rating::RateCard::new(Price::Unit(Unit { unit_amount: Decimal::ONE })),
            },
        ],
        rate_limits: vec![limit(0)],
        quotas: vec![quota(requests.id, -1), quota(ids::MeterId::new(), 1)],
        billable: gateway_control::policy::BillableRule { statuses: vec![(299, 200)], except: Vec::new() },
        ..free_terms(vec![product, product, ApiProductId::new()])
    };
    let error = plan::create_version(&mut tx, &Actor::system(), plan.id, terms, portal.now()).await.expect_err("a refusal");
    let mut fields: Vec<&str> = error.fields.iter().map(|field| field.field.as_ref()).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "billable.statuses[0]",
            "products[1]",
            "products[2]",
            "quotas[0].limit_microunits",
            "quotas[1].meter",
            "rate_cards[0].name",
            "rate_cards[0].price.amount",
            "rate_cards[1].meter",
            "rate_cards[2].meter",
            "rate_limits[0].requests",
        ]
    );
    let error = plan::create_plan(&mut tx, &Actor::system(), NewPlan { slug: "Pro!".into(), name: " ".repeat(101), ..new }, portal.now())
        .await
        .expect_err("a refusal");
    assert!(error.field("slug").is_some() && error.field("name").is_some(), "{error:?}");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_meter_is_created_once_however_many_imports_race(pool: PgPool) {
    let portal = Portal::new(pool);
    let imports = (0..4).map(|index| {
        let (portal, slug) = (Portal::new(portal.app.pool.clone()), format!("pets-{index}"));
        tokio::spawn(async move { import_as(&portal, &slug, document("Pets", &[("get", "/pets")]), None).await.map(|_| ()) })
    });
    for import in imports.collect::<Vec<_>>() {
        import.await.unwrap().expect("an import");
    }
    let mut tx = portal.app.begin().await.unwrap();
    assert_eq!(meter::meters(&mut tx).await.unwrap().len(), 1);
    let input = NewMeter { slug: "requests".into(), name: "Again".into(), unit: "request".into(), aggregation: Aggregation::Count };
    let error = meter::create_meter(&mut tx, &Actor::system(), input, portal.now()).await.expect_err("it is there");
    assert!(error.field("slug").is_some());
}
