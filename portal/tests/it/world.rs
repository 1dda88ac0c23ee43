//! What gateways need to have something to do: a published product with a route, a plan, a tenant's application on it, a key, a gateway.

use axum::body::Body;
use gateway_control::{
    credential::{Credential, CredentialKind},
    policy::PolicyEvent,
    units::Micros,
    usage::{AnsweredBy, Digest, FOLD_VERSION, Mode, RowKey, SegmentRef, UsageBatch, UsageRow},
};
use http_body_util::BodyExt;
use ids::{
    ApiKeyId, ApiProductId, ApplicationId, GatewayId, JournalId, MeterId, NamespaceId, PlanId, PlanVersionId, RouteId, ServiceId,
    SubscriptionId, TenantId,
};
use portal::{
    gateways::{self, CreateGateway},
    identity::Actor,
    policy,
};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::Portal;

/// One of everything.
#[derive(Debug, Clone)]
pub struct World {
    pub product: ApiProductId,
    pub service: ServiceId,
    pub route: RouteId,
    pub meter: MeterId,
    pub plan: PlanId,
    pub plan_version: PlanVersionId,
    pub tenant: TenantId,
    pub application: ApplicationId,
    pub subscription: SubscriptionId,
    pub key: ApiKeyId,
}

/// A gateway and its credential.
#[derive(Debug, Clone)]
pub struct TestGateway {
    pub id: GatewayId,
    pub credential: String,
    pub journal: JournalId,
}

impl World {
    /// With a hard quota of so many units a month.
    pub async fn new(portal: &Portal, limit_units: i64) -> Self {
        let world = Self {
            product: ApiProductId::new(),
            service: ServiceId::new(),
            route: RouteId::new(),
            meter: MeterId::new(),
            plan: PlanId::new(),
            plan_version: PlanVersionId::new(),
            tenant: portal.tenant("Acme", &[]).await,
            application: ApplicationId::new(),
            subscription: SubscriptionId::new(),
            key: ApiKeyId::new(),
        };
        world.add_catalog(portal, limit_units).await;
        world.add_subscription(portal).await;
        world
    }

    async fn add_catalog(&self, portal: &Portal, limit_units: i64) {
        let now = portal.now();
        let pool = &portal.app.pool;
        let route_meters = json!([{ "meter": self.meter, "source": { "from": "call" }, "default_units": "1", "max_units": "1" }]);
        let quotas = json!([{ "meter": self.meter, "limit_microunits": limit_units * 1_000_000, "enforcement": "hard" }]);
        let billable = json!({ "statuses": [[200, 499]], "except": [401, 403, 429] });
        for statement in [
            sqlx::query("INSERT INTO api_products (id, slug, name, published_at, created_at, updated_at) VALUES ($1, 'weather', 'Weather', $2, $2, $2)")
                .bind(self.product.uuid())
                .bind(now),
            sqlx::query("INSERT INTO services (id, product_id, name, upstream_url) VALUES ($1, $2, 'Weather', 'http://127.0.0.1:9000/base')")
                .bind(self.service.uuid())
                .bind(self.product.uuid()),
            sqlx::query("INSERT INTO meters (id, slug, name, unit, aggregation, created_at) VALUES ($1, 'calls', 'Calls', 'call', 'count', $2)")
                .bind(self.meter.uuid())
                .bind(now),
            sqlx::query("INSERT INTO routes (id, product_id, service_id, method, path, meters) VALUES ($1, $2, $3, 'GET', '/weather/today', $4)")
                .bind(self.route.uuid())
                .bind(self.product.uuid())
                .bind(self.service.uuid())
                .bind(route_meters),
            sqlx::query("INSERT INTO plans (id, slug, name, position, created_at) VALUES ($1, 'pro', 'Pro', 1, $2)").bind(self.plan.uuid()).bind(now),
            sqlx::query(
                "INSERT INTO plan_versions (id, plan_id, version, currency, cadence, rate_limits, quotas, billable, published_at, created_at)
                 VALUES ($1, $2, 1, 'EUR', 'month', '[]', $3, $4, $5, $5)",
            )
            .bind(self.plan_version.uuid())
            .bind(self.plan.uuid())
            .bind(quotas)
            .bind(billable)
            .bind(now),
            sqlx::query("INSERT INTO plan_version_products (plan_version_id, product_id) VALUES ($1, $2)")
                .bind(self.plan_version.uuid())
                .bind(self.product.uuid()),
        ] {
            statement.execute(pool).await.expect("the catalog");
        }
    }

    async fn add_subscription(&self, portal: &Portal) {
        let pool = &portal.app.pool;
        sqlx::query("INSERT INTO applications (tenant_id, id, name, created_at) VALUES ($1, $2, 'Shop', $3)")
            .bind(self.tenant.uuid())
            .bind(self.application.uuid())
            .bind(portal.now())
            .execute(pool)
            .await
            .expect("an application");
        sqlx::query(
            "INSERT INTO subscriptions (tenant_id, id, application_id, plan_version_id, state, anchor_date, time_zone, started_at, open_from)
             VALUES ($1, $2, $3, $4, 'active', '2026-03-01', 'UTC', $5, $5)",
        )
        .bind(self.tenant.uuid())
        .bind(self.subscription.uuid())
        .bind(self.application.uuid())
        .bind(self.plan_version.uuid())
        .bind(portal.now())
        .execute(pool)
        .await
        .expect("a subscription");
        self.add_key(portal, self.key).await;
    }

    /// One more key of the application.
    pub async fn add_key(&self, portal: &Portal, id: ApiKeyId) {
        insert_key(&portal.app.pool, self.tenant, self.application, id).await;
    }

    pub fn namespace(&self) -> NamespaceId {
        NamespaceId::of(self.tenant)
    }

    /// A row of so many calls in the minute that is `minutes` before the test's start.
    pub fn row(&self, portal: &Portal, calls: u64, status: u16) -> UsageRow {
        let minute = portal.now().floor_minute();
        let units = Micros::units(i64::try_from(calls).expect("few calls"));
        UsageRow {
            key: RowKey {
                namespace: self.namespace(),
                subscription: self.subscription,
                plan_version: self.plan_version,
                period_start: "2026-03-01T00:00:00Z".parse().expect("a timestamp"),
                application: self.application,
                api_key: self.key,
                route: self.route,
                meter: self.meter,
                dimensions: Vec::new(),
                status,
                answered_by: AnsweredBy::Upstream,
                mode: Mode::Live,
                minute,
            },
            count: calls,
            incomplete: 0,
            sum: units,
            min: Micros::ONE,
            max: Micros::ONE,
            last: Micros::ONE,
            last_at: portal.now(),
            uniques: Vec::new(),
        }
    }
}

/// A live key with a random digest.
pub async fn insert_key(pool: &sqlx::PgPool, tenant: TenantId, application: ApplicationId, id: ApiKeyId) {
    let Ok(credential) = Credential::generate(CredentialKind::Live, getrandom::fill) else { panic!("no random bytes") };
    sqlx::query(
        "INSERT INTO api_keys (tenant_id, id, application_id, name, mode, digest, hint, created_at)
         VALUES ($1, $2, $3, 'key', 'live', $4, $5, now())",
    )
    .bind(tenant.uuid())
    .bind(id.uuid())
    .bind(application.uuid())
    .bind(credential.digest().0.to_vec())
    .bind(credential.hint())
    .execute(pool)
    .await
    .expect("a key");
}

/// A segment's batch with these rows, whose calls took the receipt numbers from `first_receipt` on.
pub fn batch(journal: JournalId, stream: u16, seq: u64, first_receipt: u64, rows: Vec<UsageRow>) -> UsageBatch {
    let calls: u64 = rows.iter().map(|row| row.count).sum();
    let digest = |seq: Option<u64>| seq.map_or(gateway_control::credential::KeyDigest([0; 32]), |seq| digest(journal, stream, seq));
    UsageBatch {
        format: gateway_control::FORMAT,
        fold_version: FOLD_VERSION,
        segment: SegmentRef {
            journal_id: journal,
            stream,
            seq,
            segment_digest: digest(Some(seq)),
            prev_digest: digest(seq.checked_sub(1)),
        },
        next_receipt: first_receipt + calls,
        final_receipts: if calls == 0 { Vec::new() } else { vec![(first_receipt, first_receipt + calls - 1)] },
        records: calls,
        rows,
        latency: Vec::new(),
        run: None,
    }
}

fn digest(journal: JournalId, stream: u16, seq: u64) -> Digest {
    gateway_control::credential::KeyDigest::of(format!("{journal}/{stream}/{seq}").as_bytes())
}

/// A registered gateway.
pub async fn gateway(portal: &Portal, name: &str, namespaces: Option<Vec<NamespaceId>>) -> TestGateway {
    let mut tx = portal.app.begin().await.expect("a transaction");
    let input = CreateGateway { name: name.into(), namespaces };
    let issued = gateways::create(&mut tx, &Actor::system(), input, portal.now()).await.expect("a gateway");
    portal.app.commit(tx).await.expect("a commit");
    TestGateway { id: issued.gateway.id, credential: issued.credential.reveal().to_owned(), journal: JournalId::new() }
}

/// Starts what a serving process runs beside its router.
pub fn start_publishing(portal: &Portal) {
    tokio::spawn(policy::publish::run(portal.app.clone()));
    tokio::spawn(policy::feed::follow(portal.app.clone()));
}

impl TestGateway {
    /// Posts JSON; the status and the answer. Usage that was taken is in the sums then.
    pub async fn post(&self, portal: &Portal, path: &str, body: &impl serde::Serialize) -> (u16, Value) {
        let answer = self.post_only(portal, path, body).await;
        if path == "/control/v1/usage" && answer.0 == 200 {
            portal.roll_up().await;
        }
        answer
    }

    /// Posts JSON, and leaves the sums to whoever adds them.
    pub async fn post_only(&self, portal: &Portal, path: &str, body: &impl serde::Serialize) -> (u16, Value) {
        self.post_bytes(portal, path, serde_json::to_vec(body).expect("JSON"), None).await
    }

    /// Posts bytes, with a content encoding.
    pub async fn post_bytes(&self, portal: &Portal, path: &str, body: Vec<u8>, encoding: Option<&str>) -> (u16, Value) {
        let mut request = http::Request::post(path)
            .header("authorization", format!("Bearer {}", self.credential))
            .header("content-type", "application/json");
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        let response = portal.router.clone().oneshot(request.body(Body::from(body)).expect("a request")).await.expect("an answer");
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        let value = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") };
        (status, value)
    }

    /// Opens the policy feed; `query` is what the gateway knows, such as `?epoch=..&generation=7`.
    pub async fn watch(&self, portal: &Portal, query: &str) -> Watch {
        let request = http::Request::get(format!("/control/v1/policy{query}"))
            .header("authorization", format!("Bearer {}", self.credential))
            .body(Body::empty())
            .expect("a request");
        let response = portal.router.clone().oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), 200);
        Watch { body: response.into_body(), text: String::new() }
    }
}

/// An open policy feed.
#[derive(Debug)]
pub struct Watch {
    body: Body,
    text: String,
}

impl Watch {
    /// The next event; `None` when the stream has ended. Fails when there is none for ten seconds.
    pub async fn next(&mut self) -> Option<PolicyEvent> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let event = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
                self.text = rest.to_owned();
                return Some(event);
            }
            let frame =
                tokio::time::timeout(std::time::Duration::from_secs(10), self.body.frame()).await.expect("an event within ten seconds")?;
            let bytes = frame.expect("a frame").into_data().expect("data");
            self.text.push_str(std::str::from_utf8(&bytes).expect("UTF-8"));
        }
    }

    /// The next event that is no heartbeat.
    pub async fn next_news(&mut self) -> Option<PolicyEvent> {
        loop {
            match self.next().await {
                Some(PolicyEvent::Heartbeat { .. }) => {}
                other => return other,
            }
        }
    }

    /// All entries up to the next `synced`, and its generation.
    pub async fn until_synced(&mut self) -> (Vec<gateway_control::policy::PolicyEntry>, u64) {
        let mut entries = Vec::new();
        loop {
            match self.next_news().await.expect("the stream goes on") {
                PolicyEvent::Entry(entry) => entries.push(entry),
                PolicyEvent::Synced { generation } => return (entries, generation.0),
                PolicyEvent::Snapshot { .. } | PolicyEvent::Resume { .. } | PolicyEvent::Heartbeat { .. } | PolicyEvent::Recall { .. } => {}
            }
        }
    }
}
