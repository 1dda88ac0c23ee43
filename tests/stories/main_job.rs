//! The main job by HTTP: from signing up to a call in usage, its price, the limits of the plan, and the end of a key.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context;
use e2e::{
    caller::{Answer, Caller},
    stack::Story,
    steps::Usage,
    visitor::Visitor,
    wait,
};
use futures_util::future::join_all;
use reqwest::StatusCode;
use rust_decimal::Decimal;

use crate::check;

/// From the end of a call to the usage page.
const USAGE_DEADLINE: Duration = Duration::from_secs(2);
/// From a change in the portal to the gateway.
const POLICY_DEADLINE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_by_http() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let nina = story.newcomer("Nina Newcomer", "nina@example.com").await?;
        let page = nina.create_organization("Nina's Boats").await?;
        check!(page.text().contains("Nina's Boats"), "the organization's name stands on its pages: {page}");
        the_catalog_lists_what_is_sold(&nina).await?;

        let (application, key) = nina.ready_to_call("Harbour screens", "free").await?;
        let page = nina.open(&application.path).await?;
        check!(!page.html.contains(&key), "a key is shown once");
        check!(page.text().contains(&key[key.len() - 4..]), "its last characters tell keys apart: {page}");
        let caller = Caller::new(&story.gateway(), &key)?;
        let calls = every_kind_of_call_counts(&nina, &caller).await?;
        let denied = too_many_calls_are_told_so(&nina, story, &caller, calls).await?;
        let spent = a_hard_quota_holds(&nina, story).await?;
        a_price_is_what_the_plan_says(&nina, story).await?;
        println!("main job: {calls} calls of every kind, {denied} denied as too fast, {spent} tokens spent of a quota of 20000");

        let started = Instant::now();
        nina.revoke_key(&application).await?;
        let answered = started.elapsed();
        let attempt = async || Ok(Some(caller.get("/weather/v1/cities").await?).filter(|answer| answer.status == StatusCode::UNAUTHORIZED));
        let (answer, revoked) = wait::until("the end of the key", POLICY_DEADLINE, attempt).await?;
        check!(answer.problem() == "key-invalid", "a revoked key is refused with its problem: {answer:?}");
        println!("main job: a revoked key is refused {revoked:?} after the portal's answer, which took {answered:?}");
        nothing_holds_the_key(story, &key).await
    })
    .await
}

async fn the_catalog_lists_what_is_sold(nina: &Visitor) -> anyhow::Result<()> {
    let catalog = nina.open("/catalog").await?;
    let products = catalog.texts(".product-card h3");
    check!(products.len() == 3, "the catalog lists the three products of the demo: {products:?}");
    for slug in ["weather", "textgen", "quotes"] {
        let page = nina.open(&format!("/catalog/{slug}")).await?;
        check!(page.text().contains("Free") && page.text().contains("Scale"), "{slug} shows its plans: {page}");
    }
    let document = nina.json("/catalog/weather/openapi.json").await?;
    check!(document["paths"]["/v1/forecast"]["get"]["operationId"] == "getForecast", "the document is there: {document}");
    let prices = nina.open("/pricing").await?.text();
    check!(prices.contains("29") && prices.contains("299"), "prices are shown: {prices}");
    Ok(())
}

/// The first call with a new key, which works within the second that policy takes. Until then it is refused, which is no call.
async fn first_call(caller: &Caller, path: &str) -> anyhow::Result<Answer> {
    let attempt = async || Ok(Some(caller.get(path).await?).filter(|answer| answer.status != StatusCode::UNAUTHORIZED));
    let (answer, took) = wait::until("the new key at the gateway", POLICY_DEADLINE, attempt).await?;
    println!("main job: a new key works after {took:?}");
    Ok(answer)
}

/// A call of each kind, each awaited on the usage page. Returns how many there were.
async fn every_kind_of_call_counts(nina: &Visitor, caller: &Caller) -> anyhow::Result<u64> {
    let answer = first_call(caller, "/weather/v1/forecast?city=oslo&days=3").await?;
    check!(answer.status.is_success() && answer.json()?["city"]["name"] == "oslo", "the forecast comes through: {answer:?}");
    for header in ["ratelimit", "ratelimit-policy"] {
        check!(!answer.header(header).is_empty(), "`{header}` is on the answer: {:?}", answer.headers);
    }
    check!(answer.header("ratelimit-policy").contains("q=120"), "the plan's limit is told: {}", answer.header("ratelimit-policy"));
    awaited(nina, "a REST call", |usage| usage.calls() == 1 && usage.answers("200") == 1).await?;

    let answer = caller.generate("The ferry leaves", 12, true).await?;
    let events = answer.body.matches("data: {\"token\"").count();
    check!(answer.header("content-type") == "text/event-stream" && events == 12, "tokens come as events: {answer:?}");
    check!(answer.header("x-usage-tokens") == "15", "the trailer says what was used: {:?}", answer.trailers);
    awaited(nina, "a stream with a trailer", |usage| usage.calls() == 2 && units(usage, "Tokens") == Some(15)).await?;

    let answer = caller.generate("Bells", 7, false).await?;
    check!(answer.header("x-usage-tokens") == "8", "a plain answer says so in a header: {answer:?}");
    awaited(nina, "an answer with a header", |usage| usage.calls() == 3 && units(usage, "Tokens") == Some(23)).await?;

    let conversation = caller.converse("/quotes/v1/stream?symbols=TOLL,FERY", &["one", "two", "three"]).await?;
    let quoted = conversation.received.iter().filter(|message| message["symbol"].is_string()).count();
    check!(quoted > 0 && conversation.received.iter().any(|message| message["echo"] == "two"), "both ways: {conversation:?}");
    let messages = conversation.sent + u64::try_from(conversation.received.len())?;
    awaited(nina, "a WebSocket", |usage| usage.calls() == 4 && units(usage, "Messages") == Some(messages)).await?;

    let answer = caller.get("/weather/v1/current/atlantis").await?;
    check!(answer.status == StatusCode::NOT_FOUND, "the upstream's own errors come through: {answer:?}");
    let usage = awaited(nina, "an answer of 404", |usage| usage.calls() == 5 && usage.answers("404") == 1).await?;
    check!(usage.cost("Harbour screens") == Some(Decimal::ZERO), "the plan Free costs nothing: {}", usage.0);
    Ok(5)
}

fn units(usage: &Usage, meter: &str) -> Option<u64> {
    let (counted, _) = usage.units(meter)?;
    u64::try_from(counted).ok()
}

/// Waits until the usage page shows what just happened, and says how long that took.
async fn awaited(nina: &Visitor, what: &str, holds: impl Fn(&Usage) -> bool) -> anyhow::Result<Usage> {
    let mut last = None;
    let attempt = async || {
        let usage = nina.usage().await?;
        let found = holds(&usage);
        last = Some(usage);
        Ok(found.then_some(()))
    };
    let outcome = wait::until(&format!("{what} on the usage page"), USAGE_DEADLINE, attempt).await;
    let usage = last.context("the usage page was not loaded")?;
    let ((), took) = outcome.with_context(|| format!("the page says {}", usage.0))?;
    println!("main job: {what} is on the usage page after {took:?}");
    Ok(usage)
}

/// The plan Free allows a burst of 20 and two calls a second.
async fn too_many_calls_are_told_so(nina: &Visitor, story: &Story, caller: &Caller, before: u64) -> anyhow::Result<u64> {
    let answers = join_all((0..60).map(|_| caller.get("/weather/v1/cities"))).await.into_iter().collect::<anyhow::Result<Vec<Answer>>>()?;
    let served = answers.iter().filter(|answer| answer.status.is_success()).count();
    let denied: Vec<_> = answers.iter().filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS).collect();
    check!(served + denied.len() == 60 && (10..=30).contains(&served), "{served} served, {} denied", denied.len());
    let answer = denied.first().context("a call is denied")?;
    check!(answer.problem() == "too-fast", "{answer:?}");
    is_a_denial(answer, "free")?;
    let (served, denied) = (u64::try_from(served)?, u64::try_from(denied.len())?);
    let counted = |usage: &Usage| usage.answers("200") + usage.answers("404") + usage.answers("101") == before + served;
    let usage = awaited(nina, "a burst", counted).await?;
    // Everything but the WebSocket is one request; what was denied is none.
    let requests = usage.units("Requests").context("requests are counted")?;
    check!(requests.1 == Decimal::from(before - 1 + served), "denied calls are not billed: {requests:?}");
    let metrics = e2e::visitor::client()?.get(format!("{}/metrics", story.stack.gateway_admin_url())).send().await?.text().await?;
    let counted = format!("tollkeeper_gateway_problems_total{{problem=\"too-fast\"}} {denied}");
    check!(metrics.lines().any(|line| line == counted), "denied calls are counted at the gateway, not `{counted}`: {metrics}");
    Ok(denied)
}

/// What SEMANTICS Q7 demands of a denial.
fn is_a_denial(answer: &Answer, plan: &str) -> anyhow::Result<()> {
    let body = answer.json()?;
    check!(answer.header("content-type") == "application/problem+json", "{answer:?}");
    check!(answer.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "`retry-after` is told: {answer:?}");
    check!(!answer.header("ratelimit").is_empty(), "`ratelimit` is on denials too: {answer:?}");
    let complete = body["limit"].is_i64() && body["used"].is_i64() && body["resets_at"].is_string();
    check!(complete && body["plan"] == plan && body["upgrade_url"].as_str().is_some_and(|url| url.starts_with("http")), "{body}");
    Ok(())
}

/// The plan Free has a hard quota of 20,000 tokens: it is spent to the end, never passed, and its end is told.
async fn a_hard_quota_holds(nina: &Visitor, story: &Story) -> anyhow::Result<u64> {
    const QUOTA: u64 = 20_000;
    let (_, key) = nina.ready_to_call("Story teller", "free").await?;
    let caller = Caller::new(&story.gateway(), &key)?;
    first_call(&caller, "/weather/v1/cities").await?;
    let mut spent = 0;
    for _ in 0..60 {
        let answer = caller.generate("Once", 1024, false).await?;
        if answer.status.is_success() {
            spent += answer.header("x-usage-tokens").parse::<u64>()?;
            continue;
        }
        if answer.problem() == "too-fast" {
            // The answer says when to come back.
            tokio::time::sleep(Duration::from_secs(answer.header("retry-after").parse()?)).await;
            continue;
        }
        check!(answer.problem() == "quota-used-up", "only a used-up quota may deny: {answer:?}");
        is_a_denial(&answer, "free")?;
        check!(answer.json()?["limit"] == QUOTA, "the denial names the quota: {}", answer.body);
        check!(spent <= QUOTA, "{spent} tokens were served of {QUOTA}");
        return Ok(spent);
    }
    anyhow::bail!("a quota of {QUOTA} tokens did not end after {spent}")
}

/// The plan Scale: 299 a month, 0.0003 a request, 3 for each started 100,000 messages.
async fn a_price_is_what_the_plan_says(nina: &Visitor, story: &Story) -> anyhow::Result<()> {
    let (_, key) = nina.ready_to_call("Night batch", "scale").await?;
    let caller = Caller::new(&story.gateway(), &key)?;
    first_call(&caller, "/weather/v1/cities").await?;
    let answers = join_all((0..249).map(|_| caller.get("/weather/v1/cities"))).await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    check!(answers.iter().all(|answer| answer.status.is_success()), "the plan Scale allows 250 calls at once");
    awaited(nina, "250 calls in the price", |usage| usage.cost("Night batch") == Some(Decimal::new(29_908, 2))).await?;
    caller.converse("/quotes/v1/stream", &["price"]).await?;
    awaited(nina, "a package of messages in the price", |usage| usage.cost("Night batch") == Some(Decimal::new(30_208, 2))).await?;
    Ok(())
}

/// Neither a row of any table nor a byte of any file below the data folder has the key's text.
async fn nothing_holds_the_key(story: &Story, key: &str) -> anyhow::Result<()> {
    let database = story.database().await?;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables
         WHERE table_schema NOT IN ('pg_catalog', 'information_schema')",
    )
    .fetch_all(&database)
    .await?;
    check!(tables.len() > 30, "only {} tables were found", tables.len());
    let random = key.rsplit('_').next().context("a key has parts")?;
    let hex: String = random.bytes().map(|byte| format!("{byte:02x}")).collect();
    for table in &tables {
        let query = format!("SELECT count(*) FROM {table} AS rows WHERE strpos(rows::text, $1) > 0 OR strpos(rows::text, $2) > 0");
        let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).bind(random).bind(&hex).fetch_one(&database).await?;
        check!(rows == 0, "{rows} rows of {table} hold the key's text");
    }
    sqlx::query("CHECKPOINT").execute(&database).await?;
    database.close().await;
    let holders = files_with(story.stack.data_dir(), random)?;
    check!(holders.is_empty(), "files hold the key's text: {holders}");
    // The search itself finds what is there.
    check!(!files_with(story.stack.data_dir(), "accepted_through")?.is_empty(), "the search of files finds nothing at all");
    Ok(())
}

fn files_with(folder: &Path, text: &str) -> anyhow::Result<String> {
    let output = Command::new("grep").args(["-rlF", "-e", text]).arg(folder).output().context("cannot run grep")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
