//! The operator's job: import an API, put it behind a plan, publish it; a developer finds it and calls it.

use std::{fs, path::PathBuf, time::Instant};

use e2e::{caller::Caller, page::Page, repository, stack::Story, visitor::Visitor, wait};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::check;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sells_an_api() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let operator = story.operator().await?;
        let upstream = format!("http://127.0.0.1:{}/weather", story.stack.ports.demo_api);
        by_upload(&operator, &upstream).await?;
        let developer = story.newcomer("Dan Developer", "dan@example.com").await?;
        developer.create_organization("Dan's Kites").await?;
        check!(developer.fetch("/catalog/kites").await?.status == StatusCode::NOT_FOUND, "a draft is the operator's only");
        let form = operator.open("/admin/products/kites").await?.form("Publish")?;
        operator.send(form).await?;
        in_a_plan(&operator).await?;
        found_and_called(story, &developer).await?;
        by_rest(&operator, story).await?;
        what_is_wrong_is_said(&operator).await?;
        real_documents(&operator).await
    })
    .await
}

/// A small document of an API that the demo's weather upstream serves.
fn document() -> Value {
    let answer = json!({ "200": { "description": "All of them." } });
    json!({
        "openapi": "3.0.3",
        "info": { "title": "Kite weather", "version": "1.0.0", "description": "Wind for **kites**." },
        "servers": [{ "url": "https://kites.example.com" }],
        "paths": { "/v1/cities": { "get": { "operationId": "listPlaces", "summary": "Places with wind", "responses": answer } } }
    })
}

/// Uploads a document on the page, as far as the preview.
async fn upload(operator: &Visitor, name: &str, bytes: Vec<u8>) -> anyhow::Result<Page> {
    let form = operator.open("/admin/products/import").await?.form("Check it")?;
    operator.try_send(form.file("file", name, bytes)?).await
}

async fn by_upload(operator: &Visitor, upstream: &str) -> anyhow::Result<()> {
    let preview = upload(operator, "kites.json", serde_json::to_vec(&document())?).await?;
    check!(preview.text().contains("/v1/cities") && preview.text().contains("Kite weather"), "the preview tells what comes: {preview}");
    let form = preview.form("Import as a draft")?.set("slug", "kites")?.set("upstream_url", upstream)?;
    let page = operator.send(form).await?;
    check!(page.text().contains("Draft"), "what is imported is a draft: {page}");
    let settings = operator.open("/admin/products/kites").await?.form("Save")?;
    check!(settings.value("upstream_url") == Some(upstream), "the upstream is kept: {:?}", settings.value("upstream_url"));
    let page = operator.send(settings.set("summary", "Wind for kites")?).await?;
    check!(page.html.contains("Wind for kites"), "the summary is kept: {page}");
    Ok(())
}

async fn in_a_plan(operator: &Visitor) -> anyhow::Result<()> {
    let form = operator.open("/admin/plans/new").await?.form("Create plan")?;
    operator.send(form.set("name", "Kites")?.set("slug", "kites")?.set("position", "9")?).await?;
    let form = operator.open("/admin/plans/kites").await?.form("Create first version")?.tick("Kite weather")?;
    let draft = operator.send(form).await?;
    let form = draft.form("Save draft")?.set("currency", "EUR")?;
    let form = form.set("card_0_name", "Kite plan")?.set("card_0_model", "flat")?.set("card_0_amount", "12.50")?;
    let draft = operator.send(form.set("limit_0_requests", "5")?.set("limit_0_per_seconds", "1")?).await?;
    let form = operator.open(draft.url.path()).await?.form("Publish")?;
    let page = operator.send(form.set("confirm", "yes")?).await?;
    check!(page.text().contains("Offered") || page.text().contains("Published"), "the version is published: {page}");
    Ok(())
}

async fn found_and_called(story: &Story, developer: &Visitor) -> anyhow::Result<()> {
    let page = developer.open("/catalog/kites").await?;
    check!(page.text().contains("12.50") && page.html.contains("<strong>kites</strong>"), "price and description are shown: {page}");
    let (_, key) = developer.ready_to_call("Kite club", "kites").await?;
    let caller = Caller::new(&story.gateway(), &key)?;
    let attempt = async || Ok(Some(caller.get("/kites/v1/cities").await?).filter(|answer| answer.status.is_success()));
    let (answer, took) = wait::until("the imported API behind the gateway", std::time::Duration::from_secs(2), attempt).await?;
    check!(answer.json()?["cities"].is_array(), "the upstream answers: {answer:?}");
    println!("admin: an imported API answers {took:?} after subscribing");
    let answer = caller.get("/weather/v1/cities").await?;
    check!(answer.problem() == "not-in-plan", "what the plan does not cover stays closed: {answer:?}");
    check!(caller.get("/kites/v1/nothing").await?.status == StatusCode::NOT_FOUND, "only operations of the document are routes");
    Ok(())
}

/// The same by REST, with a token that the operator makes.
async fn by_rest(operator: &Visitor, story: &Story) -> anyhow::Result<()> {
    // The organization is only there because the page of tokens is an organization's.
    operator.create_organization("Providers").await?;
    let form = operator.open("/settings/tokens").await?.form("Create token")?.set("name", "Imports")?.set("tenant", "")?;
    let token = operator.send(form).await?.texts("[data-secret]").into_iter().next().unwrap_or_default();
    let http = e2e::visitor::client()?;
    let import = |slug: &str, body: Vec<u8>, kind: &str| {
        let url = format!("{}/api/v1/products/import?slug={slug}&publish=true", story.portal());
        http.request(Method::POST, url).bearer_auth(&token).header("content-type", kind).body(body)
    };
    let yaml = "openapi: 3.1.0\ninfo: { title: Tides, version: '1' }\nservers: [{ url: 'https://tides.example.com' }]\npaths:\n  /v1/tides: { get: \
                { responses: { '200': { description: Tides } } } }\n";
    let answer = import("tides", yaml.into(), "application/yaml").send().await?;
    check!(answer.status() == StatusCode::CREATED, "{}", answer.text().await?);
    let again = import("tides", yaml.into(), "application/yaml").send().await?;
    check!(again.status() == StatusCode::OK, "the same again is an edition: {}", again.text().await?);
    let report: Value = again.json().await?;
    check!(report["unchanged"] == 1 && report["edition"].as_i64().is_some(), "{report}");
    check!(operator.open("/catalog").await?.text().contains("Tides"), "it is in the catalog");
    Ok(())
}

async fn what_is_wrong_is_said(operator: &Visitor) -> anyhow::Result<()> {
    let page = upload(operator, "broken.yaml", b"openapi: 3.0.0\ninfo: {title: x, version: '1'}\npaths: {/a: {get: 7}}\n".to_vec()).await?;
    check!(page.status.is_client_error() && page.text().contains("paths"), "the place in the document is named: {page}");
    for address in ["http://127.0.0.1:1/openapi.json", "http://169.254.169.254/latest", "file:///etc/passwd"] {
        let form = operator.open("/admin/products/import").await?.form("Check it")?.set("url", address)?;
        let page = operator.try_send(form).await?;
        check!(page.status.is_client_error() && !page.text().contains("root:"), "{address} is refused: {page}");
    }
    Ok(())
}

/// Real documents, small and large, through the page. They are not part of the repository.
async fn real_documents(operator: &Visitor) -> anyhow::Result<()> {
    let folder: PathBuf = repository::root().join("../shared/data/openapi");
    if !folder.is_dir() {
        println!("skipped: {} is missing, so no real documents are imported", folder.display());
        return Ok(());
    }
    for name in ["petstore.yaml", "open-meteo-forecast.yaml", "openai.yaml", "githubcomghes-36.yaml"] {
        let bytes = fs::read(folder.join(name))?;
        let size = bytes.len();
        let started = Instant::now();
        let preview = upload(operator, name, bytes).await?;
        check!(preview.status.is_success(), "{name}: {preview}");
        let slug = format!("real-{}", name.split('.').next().unwrap_or_default());
        let form = preview.form("Import as a draft")?.set("slug", &slug)?.set("upstream_url", "https://api.example.com")?;
        operator.send(form).await?;
        println!("admin: {name} ({size} bytes) is imported in {:?} (unoptimized)", started.elapsed());
        let page = operator.open(&format!("/admin/products/{slug}/routes")).await?;
        check!(!page.texts("tbody tr").is_empty(), "{name} has routes: {page}");
    }
    Ok(())
}
