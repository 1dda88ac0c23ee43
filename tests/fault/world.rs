//! A stack whose product is the auditor's: its upstream, its meters, its plan, and a developer with keys. And the equations.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use calendar::{Clock, SystemClock};
use devstack::replica::{Replica, ReplicaOptions};
use e2e::{
    auditor::{Book, Call, Client, Count, Dice, Fate, Meters, Plan, Protocol, Recorded, Upstream, Verdict},
    stack::Story,
    visitor::{Visitor, client},
    wait,
};
use ids::MeterId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::check;

/// How long what was recorded may take to be shipped once everything is well again.
pub const SHIPPED_WITHIN: Duration = Duration::from_secs(60);
/// How long accepted segments may take to be in the sums that the REST API reads.
const SUMMED_WITHIN: Duration = Duration::from_secs(20);
/// Billed is the number of billable calls: each costs one dollar.
const PRICE: &str = "1";
/// An application may have so many.
const KEYS_OF_AN_APPLICATION: usize = 100;
/// The routes of the auditor's product: `/audit/<route>/<mark>`.
pub const ROUTES: [&str; 10] = ["call", "stream", "presentations", "blog", "images", "projects", "files", "articles", "style", "other"];

/// The auditor's product on a stack.
pub struct World<'a> {
    /// The stack.
    pub story: &'a mut Story,
    /// What clients and the upstream saw. The upstream runs until the test ends.
    pub book: Book,
    /// Chance.
    pub dice: Dice,
    /// The keys, of one application.
    pub keys: Vec<String>,
    /// The meters by which records and sums are read.
    pub meters: Meters,
    /// The developer who has the keys, at the portal's pages.
    pub developer: Visitor,
    requests: MeterId,
    rest: Rest,
    subscriptions: Vec<String>,
}

/// What the portal says, by REST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted {
    /// Calls.
    pub calls: u64,
    /// With 4xx and 5xx.
    pub errors: u64,
    /// Calls that are billable.
    pub billable: u64,
    /// The sum of the marks.
    pub marks: u128,
    /// Bytes of bodies.
    pub bytes: u128,
    /// Messages of WebSockets and gRPC calls.
    pub messages: u128,
    /// Bytes that are billable.
    pub billable_bytes: u128,
    /// Dollars that the running period costs so far.
    pub cost: u64,
}

impl<'a> World<'a> {
    /// Sets everything up, with a key of each name.
    pub async fn make(story: &'a mut Story, names: &[String]) -> anyhow::Result<Self> {
        let dice = Dice::thrown()?;
        let book = Book::default();
        let upstream = Upstream::start(book.clone()).await?;
        let operator = story.operator().await?;
        // The organization is only there because the page of tokens is an organization's.
        operator.create_organization("Providers").await?;
        let form = operator.open("/settings/tokens").await?.form("Create token")?.set("name", "Audit")?.set("tenant", "")?;
        let token = operator.send(form).await?.texts("[data-secret]").into_iter().next().context("the token is not shown")?;
        let rest = Rest::new(&story.portal(), token)?;
        let requests = rest.meter("requests").await?;
        let meters = Meters {
            marks: rest.new_meter("marks").await?,
            bytes: rest.new_meter("bytes").await?,
            messages: rest.new_meter("messages-heard").await?,
        };
        let upstream = format!("http://{}", upstream.address);
        let product = rest.post("/products", &json!({ "slug": "audit", "name": "Audit", "upstream_url": upstream })).await?;
        for route in ROUTES {
            rest.route("audit", &format!("/audit/{route}/{{mark}}"), meters.bytes, ("response_bytes", requests, meters.marks)).await?;
        }
        rest.route("audit", "/audit/socket/{mark}", meters.messages, ("messages", requests, meters.marks)).await?;
        // gRPC needs HTTP/2, so that it is a service of its own.
        let rpc = rest.post("/products", &json!({ "slug": "audit-rpc", "name": "Audit RPC", "upstream_url": upstream })).await?;
        rest.call(Method::PUT, "/products/audit-rpc/service", Some(&json!({ "upstream_url": upstream, "protocol": "http2" }))).await?;
        rest.route("audit-rpc", "/audit.Audit/{mark}", meters.messages, ("messages", requests, meters.marks)).await?;
        for slug in ["audit", "audit-rpc"] {
            let form = operator.open(&format!("/admin/products/{slug}")).await?.form("Publish")?;
            operator.send(form).await?;
        }
        rest.plan(&[&product["id"], &rpc["id"]], requests).await?;

        let developer = story.newcomer("Ada Auditor", "ada@example.com").await?;
        developer.create_organization("Audit Ltd").await?;
        let rest = Rest::new(&story.portal(), developer.create_token().await?)?;
        let (mut keys, mut subscriptions) = (Vec::new(), Vec::new());
        for names in names.chunks(KEYS_OF_AN_APPLICATION) {
            let application = rest.post("/applications", &json!({ "name": format!("Clients from {}", names[0]) })).await?;
            let application = application["id"].as_str().with_context(|| format!("no id in {application}"))?;
            let subscription = rest.post("/subscriptions", &json!({ "application": application, "plan": "audit" })).await?;
            subscriptions.push(subscription["id"].as_str().with_context(|| format!("no id in {subscription}"))?.to_owned());
            let make = |name: &String| {
                let (rest, path, body) = (&rest, format!("/applications/{application}/keys"), json!({ "name": name, "mode": "live" }));
                async move { rest.post(&path, &body).await }
            };
            for made in futures_util::future::try_join_all(names.iter().map(make)).await? {
                keys.push(made["secret"].as_str().context("no key")?.to_owned());
            }
        }
        Ok(Self { story, book, dice, keys, meters, developer, requests, rest, subscriptions })
    }

    /// Starts a gateway that knows all keys.
    pub async fn gateway(&self, options: ReplicaOptions) -> anyhow::Result<Replica> {
        let gateway = Replica::start_with(&self.story.stack, options).await?;
        let mut client = Client::new(&self.book, Protocol::Http1);
        for (caller, key) in self.keys.iter().enumerate().filter(|(index, _)| [0, self.keys.len() - 1].contains(index)) {
            let mut attempt = async || {
                let plan = Plan { method: Method::GET, path: "/audit/call".into(), status: 200, bytes: 1, chunks: 0, ..Plan::default() };
                let fate = client.exchange(Call { gateway: &gateway.url(), key, caller }, plan).await?;
                Ok(matches!(fate, Fate::Whole { by_upstream: true, .. }).then_some(()))
            };
            wait::until("the keys at the gateway", Duration::from_secs(20), &mut attempt).await?;
        }
        Ok(gateway)
    }

    /// What the portal has accepted.
    pub async fn accepted(&self) -> anyhow::Result<Accepted> {
        let now = SystemClock.now();
        let (from, to) = (now.minus(DAYS), now.plus(DAYS));
        let usage = self.rest.get(&format!("/usage?from={from}&to={to}")).await?;
        let units = |meter: MeterId, field: &str| -> anyhow::Result<u128> {
            let meters = usage["meters"].as_array().context("meters")?;
            let found = meters.iter().find(|found| found["meter"] == json!(meter));
            found.map_or(Ok(0), |found| Ok(found[field].as_str().context("units")?.parse()?))
        };
        let count = |name: &str| usage[name].as_u64().with_context(|| format!("no {name} in {usage}"));
        let mut cost = 0;
        for subscription in &self.subscriptions {
            cost += dollars(&self.rest.get(&format!("/subscriptions/{subscription}/cost")).await?)?;
        }
        Ok(Accepted {
            calls: count("calls")?,
            errors: count("client_errors")? + count("server_errors")?,
            billable: u64::try_from(units(self.requests, "billable")?)?,
            marks: units(self.meters.marks, "units")?,
            bytes: units(self.meters.bytes, "units")?,
            messages: units(self.meters.messages, "units")?,
            billable_bytes: units(self.meters.bytes, "billable")?,
            cost,
        })
    }

    /// What the portal has once its sums, which are made after a segment is accepted, come to this; or what it has when they do not.
    pub async fn comes_to(&self, expected: &Accepted) -> anyhow::Result<Accepted> {
        let mut found = Accepted::default();
        let attempt = async || {
            found = self.accepted().await?;
            Ok((found == *expected).then_some(()))
        };
        // What is missing is said by the caller.
        let _ = wait::until("the sums", SUMMED_WITHIN, attempt).await;
        Ok(found)
    }

    /// Waits until these gateways have nothing left that the portal does not have.
    pub async fn shipped(&self, gateways: &[&Replica]) -> anyhow::Result<()> {
        for gateway in gateways {
            let attempt = async || Ok((metric(gateway, "tollkeeper_gateway_journal_unshipped_records").await? == 0).then_some(()));
            wait::until("a journal with nothing unshipped", SHIPPED_WITHIN, attempt).await?;
        }
        Ok(())
    }

    /// What the journals of these gateways hold.
    pub fn recorded(&self, gateways: &[&Replica]) -> anyhow::Result<Recorded> {
        let mut recorded = Recorded::default();
        self.read(&mut recorded, gateways)?;
        Ok(recorded)
    }

    /// Adds what the journals of these gateways hold to what was read before.
    pub fn read(&self, recorded: &mut Recorded, gateways: &[&Replica]) -> anyhow::Result<()> {
        for gateway in gateways {
            recorded.read(&self.folder(gateway), self.meters, SystemClock.now().micros())?;
        }
        Ok(())
    }

    /// A gateway's folder as the gateway sees it: it may have mounted a file system there that nobody else sees.
    pub fn folder(&self, gateway: &Replica) -> PathBuf {
        let folder = gateway.folder(&self.story.stack);
        let seen_by =
            gateway.process_id().map(|id| PathBuf::from(format!("/proc/{id}/root")).join(folder.strip_prefix("/").unwrap_or(&folder)));
        seen_by.filter(|seen| seen.exists()).unwrap_or(folder)
    }

    /// All equations, once everything is shipped: what clients were answered, what the journals hold, what the portal accepted, and what it bills.
    pub async fn audit(&self, name: &str, gateways: &[&Replica]) -> anyhow::Result<Count> {
        self.shipped(gateways).await?;
        let recorded = self.recorded(gateways)?;
        let count = self.judge(name, &recorded).await?;
        Ok(count)
    }

    /// The equations over what was read already.
    pub async fn judge(&self, name: &str, recorded: &Recorded) -> anyhow::Result<Count> {
        let count = Verdict::of(&self.book.lines(), recorded).stand().with_context(|| name.to_owned())?;
        let expected = should_accept(recorded);
        let accepted = self.comes_to(&expected).await?;
        let Count { sent, answered, admitted, recorded: finals, broken, surplus, refused } = count;
        println!(
            "fault: {name}: sent {sent}, answered {answered}, recorded {finals}, accepted {}, admitted {admitted}, broken {broken} ({surplus} of them \
             recorded), refused {refused}, billed {}",
            accepted.calls, accepted.cost
        );
        check!(
            accepted == expected,
            "{name}: recorded = accepted = billed: the journals come to {expected:?}, the portal has {accepted:?}"
        );
        Ok(count)
    }
}

const DAYS: Duration = Duration::from_secs(2 * 86_400);

/// What the portal must come to, computed from the journals and the billable rule as it is written down (M8).
pub fn should_accept(recorded: &Recorded) -> Accepted {
    let mut sums = Accepted::default();
    for exchange in recorded.exchanges.values() {
        let billable = exchange.by_upstream && is_billable(exchange.status);
        sums.bytes += u128::from(exchange.bytes);
        sums.messages += u128::from(exchange.messages);
        sums.billable_bytes += u128::from(exchange.bytes) * u128::from(billable);
        if exchange.finals > 0 {
            sums.calls += 1;
            sums.errors += u64::from(exchange.status >= 400);
            sums.billable += u64::from(billable);
            sums.marks += u128::from(exchange.mark);
        }
    }
    sums.cost = sums.billable;
    sums
}

/// A WebSocket that was opened, 2xx, 3xx, and 4xx other than 401, 403 and 429.
fn is_billable(status: u16) -> bool {
    match status {
        401 | 403 | 429 => false,
        101 => true,
        _ => (200..500).contains(&status),
    }
}

fn dollars(cost: &Value) -> anyhow::Result<u64> {
    let text = cost["total"]["amount"].as_str().with_context(|| format!("no total in {cost}"))?;
    Ok(text.split('.').next().unwrap_or_default().parse()?)
}

/// Names for keys.
pub fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("Client {index}")).collect()
}

/// A number of a gateway's metrics; 0 where it is not there.
pub async fn metric(gateway: &Replica, name: &str) -> anyhow::Result<u64> {
    let text = client()?.get(format!("{}/metrics", gateway.admin_url())).send().await?.text().await?;
    let sum = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    Ok(sum.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

/// The status of a gateway.
pub async fn status(gateway: &Replica) -> anyhow::Result<Value> {
    Ok(client()?.get(format!("{}/status", gateway.admin_url())).send().await?.json().await?)
}

/// The REST API with a token.
struct Rest {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Rest {
    fn new(base: &str, token: String) -> anyhow::Result<Self> {
        Ok(Self { http: client()?, base: base.to_owned(), token })
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let request = self.http.request(method.clone(), format!("{}/api/v1{path}", self.base)).bearer_auth(&self.token);
        let request = if let Some(body) = body { request.json(body) } else { request };
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        check!(status.is_success(), "{method} {path} was answered {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(Method::POST, path, Some(body)).await
    }

    async fn meter(&self, slug: &str) -> anyhow::Result<MeterId> {
        let meters = self.get("/meters").await?;
        let found = meters["items"].as_array().into_iter().flatten().find(|meter| meter["slug"] == slug);
        Ok(serde_json::from_value(found.with_context(|| format!("no meter {slug} in {meters}"))?["id"].clone())?)
    }

    async fn new_meter(&self, slug: &str) -> anyhow::Result<MeterId> {
        let made = self.post("/meters", &json!({ "slug": slug, "name": slug, "unit": "unit", "aggregation": "sum" })).await?;
        Ok(serde_json::from_value(made["id"].clone())?)
    }

    /// A route that counts calls, marks, and what passes.
    async fn route(
        &self,
        product: &str,
        path: &str,
        passed: MeterId,
        (from, requests, marks): (&str, MeterId, MeterId),
    ) -> anyhow::Result<()> {
        let meter = |meter: MeterId, source: Value, default: &str, max: &str| json!({ "meter": meter, "source": source, "default_units": default, "max_units": max });
        let meters = json!([
            meter(requests, json!({ "from": "call" }), "1", "1"),
            meter(marks, json!({ "from": "header", "name": e2e::auditor::MARK }), "0", "1000000000"),
            meter(passed, json!({ "from": from }), "0", "1000000000"),
        ]);
        self.post(&format!("/products/{product}/routes"), &json!({ "path": path, "settings": { "meters": meters } })).await?;
        Ok(())
    }

    /// A plan without limits, on which each billable call costs the same.
    async fn plan(&self, products: &[&Value], requests: MeterId) -> anyhow::Result<()> {
        self.post("/plans", &json!({ "slug": "audit", "name": "Audit", "position": 9 })).await?;
        let card = json!({ "name": "Calls", "meter": requests, "terms": { "price": { "type": "unit", "unit_amount": PRICE } } });
        let version = json!({ "currency": "USD", "cadence": "month", "products": products, "rate_cards": [card] });
        let draft = self.post("/plans/audit/versions", &version).await?;
        let id = draft["version_id"].as_str().with_context(|| format!("no version in {draft}"))?;
        self.call(Method::POST, &format!("/plans/audit/versions/{id}/publish"), None).await?;
        Ok(())
    }
}
