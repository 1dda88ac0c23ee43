//! Ten thousand tenants of very different sizes, written straight into the portal's tables, and the calls that they make.
//!
//! Tenant `n` makes calls in proportion to `1 / (n + 1)`: the largest makes a tenth of all, the median a fifty-thousandth. The largest have 20 keys,
//! most have two. A call takes one of 20 routes, the first ones more often, and one of a few statuses.

use anyhow::ensure;
use calendar::{Clock as _, SystemClock, Timestamp};
use gateway_control::{
    credential::{Credential, CredentialKind},
    usage::{AnsweredBy, Mode, RowKey},
};
use ids::{ApiKeyId, ApplicationId, JournalId, MeterId, NamespaceId, PlanVersionId, RouteId, SubscriptionId, Uuid};
use serde_json::json;
use sqlx::PgPool;

use crate::world::{credential, uuid};

/// Routes of the one product.
pub const ROUTES: usize = 20;
/// The status of a call, by a number below 100.
const STATUSES: [(u64, u16); 5] = [(90, 200), (95, 404), (97, 304), (99, 429), (100, 500)];

/// The tenants, by size.
#[derive(Debug, Clone)]
pub struct Tenants {
    /// The sum of the weights up to and with each tenant.
    cumulative: Vec<f64>,
    /// The start of everybody's period.
    pub period_start: Timestamp,
}

/// A small generator of numbers: the same from the same seed.
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number (SplitMix64).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 to below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// How many keys a tenant has.
pub const fn keys_of(tenant: usize) -> usize {
    match 200 / (tenant + 1) {
        0..=2 => 2,
        many if many > 20 => 20,
        some => some,
    }
}

/// The id of a thing of a tenant.
pub fn id(kind: &str, tenant: usize) -> Uuid {
    uuid(kind, tenant)
}

/// The id of a key.
pub fn key_id(tenant: usize, key: usize) -> Uuid {
    uuid("usage key", tenant * 100 + key)
}

/// The id of a route.
pub fn route_id(route: usize) -> Uuid {
    uuid("route", route)
}

/// The one meter.
pub fn meter_id() -> Uuid {
    uuid("meter", 0)
}

/// The one plan version.
pub fn plan_version_id() -> Uuid {
    uuid("plan version", 0)
}

/// The credential of a gateway.
pub fn gateway_credential(number: usize) -> Credential {
    credential(CredentialKind::Gateway, number)
}

/// The id of a gateway.
pub fn gateway_id(number: usize) -> Uuid {
    uuid("gateway", number)
}

/// The journal of a gateway.
pub fn journal_id(number: usize) -> JournalId {
    JournalId::from_uuid(uuid("journal", number))
}

impl Tenants {
    /// So many.
    pub fn new(count: usize) -> Self {
        let mut sum = 0.0;
        let cumulative = (0..count)
            .map(|tenant| {
                sum += 1.0 / (tenant as f64 + 1.0);
                sum
            })
            .collect();
        let today = SystemClock.now();
        Self { cumulative, period_start: Timestamp::from_seconds(today.seconds() / 86_400 / 30 * 30 * 86_400) }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.cumulative.len()
    }

    /// Whose call the next is.
    pub fn draw(&self, dice: &mut Dice) -> usize {
        let at = dice.unit() * self.cumulative.last().copied().unwrap_or(1.0);
        self.cumulative.partition_point(|sum| *sum <= at).min(self.cumulative.len() - 1)
    }

    /// The key of a usage row for one call.
    pub fn call(&self, dice: &mut Dice, minute: Timestamp) -> RowKey {
        let tenant = self.draw(dice);
        let key = dice.below(keys_of(tenant) as u64) as usize;
        // The product of two draws prefers small numbers.
        let route = (dice.unit() * dice.unit() * ROUTES as f64) as usize;
        let chance = dice.below(100);
        let status = STATUSES.iter().find(|(below, _)| chance < *below).map_or(200, |(_, status)| *status);
        RowKey {
            namespace: NamespaceId::from_uuid(id("tenant", tenant)),
            subscription: SubscriptionId::from_uuid(id("subscription", tenant)),
            plan_version: PlanVersionId::from_uuid(plan_version_id()),
            period_start: self.period_start,
            application: ApplicationId::from_uuid(id("application", tenant)),
            api_key: ApiKeyId::from_uuid(key_id(tenant, key)),
            route: RouteId::from_uuid(route_id(route)),
            meter: MeterId::from_uuid(meter_id()),
            dimensions: Vec::new(),
            status,
            answered_by: if status == 429 { AnsweredBy::Gateway } else { AnsweredBy::Upstream },
            mode: Mode::Live,
            minute,
        }
    }

    /// Writes the catalog, the tenants and so many gateways.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn write(&self, pool: &PgPool, gateways: usize) -> anyhow::Result<()> {
        ensure!(self.count() > 0, "there are no tenants to write");
        write_catalog(pool).await?;
        let ids = |kind: &str| -> Vec<Uuid> { (0..self.count()).map(|tenant| id(kind, tenant)).collect() };
        let (tenants, applications, subscriptions) = (ids("tenant"), ids("application"), ids("subscription"));
        sqlx::query(
            "INSERT INTO tenants (id, name, namespace, billing_email, created_at)
             SELECT t, 'Tenant ' || n, 'tenant-' || n, 'billing@tenant.example', $2 FROM unnest($1::uuid[]) WITH ORDINALITY u (t, n)",
        )
        .bind(&tenants)
        .bind(self.period_start)
        .execute(pool)
        .await?;
        sqlx::query("INSERT INTO applications (tenant_id, id, name, created_at) SELECT t, a, 'Shop', $3 FROM unnest($1::uuid[], $2::uuid[]) u (t, a)")
            .bind(&tenants)
            .bind(&applications)
            .bind(self.period_start)
            .execute(pool)
            .await?;
        sqlx::query(
            "INSERT INTO subscriptions (tenant_id, id, application_id, plan_version_id, state, anchor_date, time_zone, started_at, open_from)
             SELECT t, s, a, $4, 'active', '2026-01-01', 'UTC', $5, $5 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) u (t, s, a)",
        )
        .bind(&tenants)
        .bind(&subscriptions)
        .bind(&applications)
        .bind(plan_version_id())
        .bind(self.period_start)
        .execute(pool)
        .await?;
        self.write_keys(pool).await?;
        for number in 0..gateways {
            let credential = gateway_credential(number);
            sqlx::query("INSERT INTO gateways (id, name, digest, hint, created_at) VALUES ($1, $2, $3, 'none', now())")
                .bind(gateway_id(number))
                .bind(format!("gateway {number}"))
                .bind(credential.digest().0.to_vec())
                .execute(pool)
                .await?;
        }
        sqlx::query("ANALYZE").execute(pool).await?;
        Ok(())
    }

    async fn write_keys(&self, pool: &PgPool) -> anyhow::Result<()> {
        let all: Vec<(usize, usize)> = (0..self.count()).flat_map(|tenant| (0..keys_of(tenant)).map(move |key| (tenant, key))).collect();
        let tenants: Vec<Uuid> = all.iter().map(|(tenant, _)| id("tenant", *tenant)).collect();
        let applications: Vec<Uuid> = all.iter().map(|(tenant, _)| id("application", *tenant)).collect();
        let keys: Vec<Uuid> = all.iter().map(|(tenant, key)| key_id(*tenant, *key)).collect();
        sqlx::query(
            "INSERT INTO api_keys (tenant_id, id, application_id, name, mode, digest, hint, created_at)
             SELECT t, k, a, 'key', 'live', sha256(uuid_send(k)), 'none', $4 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) u (t, k, a)",
        )
        .bind(&tenants)
        .bind(&keys)
        .bind(&applications)
        .bind(self.period_start)
        .execute(pool)
        .await?;
        Ok(())
    }
}

async fn write_catalog(pool: &PgPool) -> anyhow::Result<()> {
    let (product, service, plan) = (uuid("product", 0), uuid("service", 0), uuid("plan", 0));
    let meters = json!([{ "meter": MeterId::from_uuid(meter_id()), "source": { "from": "call" }, "default_units": "1", "max_units": "1" }]);
    // A soft quota: the ledger counts, and nothing is denied.
    let quotas = json!([{ "meter": MeterId::from_uuid(meter_id()), "limit_microunits": 1_000_000_000_000_000_i64, "enforcement": "soft" }]);
    let billable = json!({ "statuses": [[200, 499]], "except": [401, 403, 429] });
    let routes: Vec<Uuid> = (0..ROUTES).map(route_id).collect();
    for statement in [
        sqlx::query("INSERT INTO api_products (id, slug, name, published_at, created_at, updated_at) VALUES ($1, 'forecast', 'Forecast', now(), now(), now())")
            .bind(product),
        sqlx::query("INSERT INTO services (id, product_id, name, upstream_url) VALUES ($1, $2, 'Forecast', 'http://127.0.0.1:9000')")
            .bind(service)
            .bind(product),
        sqlx::query("INSERT INTO meters (id, slug, name, unit, aggregation, created_at) VALUES ($1, 'calls', 'Calls', 'call', 'count', now())")
            .bind(meter_id()),
        sqlx::query(
            "INSERT INTO routes (id, product_id, service_id, method, path, meters)
             SELECT r, $2, $3, 'GET', '/forecast/v1/' || n, $4 FROM unnest($1::uuid[]) WITH ORDINALITY u (r, n)",
        )
        .bind(&routes)
        .bind(product)
        .bind(service)
        .bind(meters),
        sqlx::query("INSERT INTO plans (id, slug, name, position, created_at) VALUES ($1, 'pro', 'Pro', 1, now())").bind(plan),
        sqlx::query(
            "INSERT INTO plan_versions (id, plan_id, version, currency, cadence, rate_limits, quotas, billable, published_at, created_at)
             VALUES ($1, $2, 1, 'EUR', 'month', '[]', $3, $4, now(), now())",
        )
        .bind(plan_version_id())
        .bind(plan)
        .bind(quotas)
        .bind(billable),
        sqlx::query("INSERT INTO plan_version_products (plan_version_id, product_id) VALUES ($1, $2)").bind(plan_version_id()).bind(product),
    ] {
        statement.execute(pool).await?;
    }
    Ok(())
}
