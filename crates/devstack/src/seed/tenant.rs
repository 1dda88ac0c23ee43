//! The demo's organization: two applications, each on a plan, their keys, their past, and the invoices that came of it.

use std::time::Duration;

use anyhow::Context;
use calendar::Timestamp;
use ids::{ApiKeyId, ApplicationId, JournalId, TenantId};
use portal::{
    applications::{
        self, ApplicationInput,
        api_key::{self, Mode, NewApiKey, Of},
    },
    billing::{self, Closed, InvoiceFilter},
    catalog::plan,
    db::Tx,
    gateways::{self, CreateGateway},
    identity::{Actor, ActorKind, Role, user::User},
    subscriptions::{self, CreateSubscription, Subscription},
    tenants::{self, NewTenant},
    usage::{ingest, last_used, watermark},
};

use super::{
    catalog::Catalog,
    history::{Caller, History, Traffic},
};

/// How long ago the applications subscribed: two periods of the one and one of the other are closed, and both are well inside their running one.
const STOREFRONT_AGE: Duration = Duration::from_secs(70 * 86_400);
const ASSISTANT_AGE: Duration = Duration::from_secs(47 * 86_400);
/// The application that the printed key belongs to.
const STOREFRONT: &str = "Storefront";
/// The name of the key that each start makes anew.
const PRINTED_KEY: &str = "Printed by tollkeeper up";

/// Writes the organization and its past.
pub async fn write(tx: &mut Tx, actor: &Actor, developer: &User, catalog: &Catalog, now: Timestamp) -> anyhow::Result<()> {
    let began = now.minus(STOREFRONT_AGE);
    let owner = Actor { kind: ActorKind::User(developer.id), is_operator: false, is_verified: true, memberships: Vec::new(), ip: None };
    let input = NewTenant {
        name: "Northwind Labs".into(),
        namespace: "northwind-labs".into(),
        billing_email: "billing@demo.tollkeeper.local".into(),
        time_zone: "UTC".into(),
    };
    let tenant = tenants::create(tx, &owner, input, began).await?.id;
    tenants::mark_demo(tx, actor, tenant, now).await?;
    let owner = Actor { memberships: vec![(tenant, Role::Owner)], ..owner };
    let storefront =
        application(tx, &owner, tenant, (STOREFRONT, "The web shop: weather at the delivery address, and prices."), began).await?;
    let keys =
        [key(tx, &owner, tenant, storefront, "Production", began).await?, key(tx, &owner, tenant, storefront, "Staging", began).await?];
    let on_pro = subscribe(tx, &owner, tenant, storefront, "pro", began).await?;
    let began = now.minus(ASSISTANT_AGE);
    let assistant = application(tx, &owner, tenant, ("Assistant", "Writes product texts and answers customers."), began).await?;
    let key = key(tx, &owner, tenant, assistant, "Production", began).await?;
    let on_scale = subscribe(tx, &owner, tenant, assistant, "scale", began).await?;

    let storefront = caller(tx, &on_pro, vec![(keys[0], 88), (keys[1], 12)]).await?;
    let assistant = caller(tx, &on_scale, vec![(key, 100)]).await?;
    live_through(tx, actor, traffic(catalog, &storefront, &assistant)?, now).await?;
    close_past(tx, actor, &[&on_pro, &on_scale], now).await
}

/// Makes the key for the printed call, and revokes the one of the last start.
pub async fn print_key(tx: &mut Tx, actor: &Actor, developer: &User, now: Timestamp) -> anyhow::Result<String> {
    let (tenant, application) = find_storefront(tx, actor, developer).await?;
    let of = Of { tenant, application };
    for old in api_key::list(tx, actor, of).await?.into_iter().filter(|key| key.name == PRINTED_KEY && key.is_live(now)) {
        api_key::revoke(tx, actor, of, old.id, now).await?;
    }
    let input = NewApiKey { name: PRINTED_KEY.into(), mode: Mode::Live, expires_at: None };
    let (_, credential) = api_key::create(tx, actor, of, input, now).await?;
    Ok(credential.reveal().to_owned())
}

async fn find_storefront(tx: &mut Tx, actor: &Actor, developer: &User) -> anyhow::Result<(TenantId, ApplicationId)> {
    for tenant in tenants::all(tx, actor, 1_000, 0).await?.into_iter().filter(|tenant| tenant.is_demo) {
        let members = tenants::members(tx, actor, tenant.id).await?;
        if !members.iter().any(|member| member.user_id == developer.id) {
            continue;
        }
        let applications = applications::list(tx, actor, tenant.id, None, 200).await?;
        if let Some(found) = applications.iter().find(|application| application.name == STOREFRONT).or(applications.first()) {
            return Ok((tenant.id, found.id));
        }
    }
    anyhow::bail!("the demo's organization has no application left; start with --fresh to make the demo anew")
}

async fn application(
    tx: &mut Tx,
    owner: &Actor,
    tenant: TenantId,
    (name, description): (&str, &str),
    now: Timestamp,
) -> anyhow::Result<ApplicationId> {
    let input = ApplicationInput { name: name.into(), description: description.into() };
    Ok(applications::create(tx, owner, tenant, input, now).await?.id)
}

async fn key(
    tx: &mut Tx,
    owner: &Actor,
    tenant: TenantId,
    application: ApplicationId,
    name: &str,
    now: Timestamp,
) -> anyhow::Result<ApiKeyId> {
    let input = NewApiKey { name: name.into(), mode: Mode::Live, expires_at: None };
    let (key, _never_shown) = api_key::create(tx, owner, Of { tenant, application }, input, now).await?;
    Ok(key.id)
}

async fn subscribe(
    tx: &mut Tx,
    owner: &Actor,
    tenant: TenantId,
    application: ApplicationId,
    plan: &str,
    now: Timestamp,
) -> anyhow::Result<Subscription> {
    Ok(subscriptions::create(tx, owner, tenant, CreateSubscription { application, plan: plan.into() }, now).await?)
}

async fn caller(tx: &mut Tx, subscription: &Subscription, api_keys: Vec<(ApiKeyId, u64)>) -> anyhow::Result<Caller> {
    Ok(Caller {
        namespace: ids::NamespaceId::of(subscription.tenant),
        subscription: subscription.id,
        plan_version: subscription.plan_version,
        application: subscription.application,
        api_keys,
        anchor: subscription.anchor.clone(),
        cadence: plan::plan_version(tx, subscription.plan_version).await?.cadence,
        from: subscription.started_at,
    })
}

/// What calls what: operation, calls in the busiest hour, units of the second meter, errors of the caller in 1000, median latency in milliseconds.
fn traffic(catalog: &Catalog, storefront: &Caller, assistant: &Caller) -> anyhow::Result<Vec<Traffic>> {
    let tokens = (catalog.tokens, 90, 620);
    let messages = (catalog.messages, 40, 900);
    let calls = (catalog.requests, 1, 1);
    let plan = [
        (storefront, "getForecast", 190, vec![calls], 11, 24),
        (storefront, "getCurrent", 150, vec![calls], 17, 12),
        (storefront, "getAlerts", 36, vec![calls], 6, 11),
        (storefront, "listCities", 7, vec![calls], 0, 7),
        (storefront, "getQuote", 84, vec![calls], 22, 9),
        (storefront, "streamQuotes", 5, vec![messages], 0, 30),
        (storefront, "generate", 9, vec![calls, tokens], 14, 1_350),
        (assistant, "generate", 420, vec![calls, tokens], 9, 1_480),
        (assistant, "listModels", 12, vec![calls], 0, 6),
    ];
    plan.into_iter()
        .map(|(caller, operation, peak_per_hour, meters, client_error_per_mille, median_millis)| {
            Ok(Traffic {
                caller: caller.clone(),
                route: catalog.route(operation)?.id,
                meters,
                peak_per_hour,
                success: if operation == "streamQuotes" { 101 } else { 200 },
                client_error_per_mille,
                median_micros: median_millis * 1000,
            })
        })
        .collect()
}

/// Takes the history as a gateway's usage: accepted, summed, and counted towards quotas.
async fn live_through(tx: &mut Tx, actor: &Actor, traffic: Vec<Traffic>, now: Timestamp) -> anyhow::Result<()> {
    let issued = gateways::create(tx, actor, CreateGateway { name: "Demo history".into(), namespaces: None }, now).await?;
    let gateway = gateways::authenticate(tx, issued.credential.reveal(), now).await?;
    let mut last_used = Vec::new();
    for batch in History::new(JournalId::new(), traffic, now) {
        let seq = batch.segment.seq;
        let accepted = ingest::accept(tx, &gateway, &batch, now).await.with_context(|| format!("day {seq} of the demo's history"))?;
        anyhow::ensure!(accepted.unattributed == 0, "{} rows of the demo's history belong to nobody", accepted.unattributed);
        last_used = accepted.last_used;
    }
    last_used::record(tx, &last_used).await?;
    watermark::catch_up(tx, now).await?;
    // It has told all that it knows.
    gateways::revoke(tx, actor, issued.gateway.id, now).await?;
    Ok(())
}

/// Closes what is over, each period at the time at which the worker would have. All but the newest invoice were paid within a week.
async fn close_past(tx: &mut Tx, actor: &Actor, subscriptions: &[&Subscription], now: Timestamp) -> anyhow::Result<()> {
    let mut ends = Vec::new();
    for subscription in subscriptions {
        let cadence = plan::plan_version(tx, subscription.plan_version).await?.cadence;
        let past =
            (0..).map(|index| subscription.anchor.period(cadence, index).to).take_while(|end| end.plus(billing::COLLECTION_CUTOFF) <= now);
        ends.extend(past.map(|end| (end, *subscription)));
    }
    ends.sort_by_key(|(end, _)| *end);
    for (end, subscription) in &ends {
        let at = end.plus(billing::COLLECTION_CUTOFF);
        let closed = billing::close_next(tx, actor, subscription.tenant, subscription.id, at).await?;
        anyhow::ensure!(matches!(closed, Closed::Invoice(_)), "a period of the demo came to no invoice: {closed:?}");
    }
    let Some(first) = subscriptions.first() else { return Ok(()) };
    let filter = InvoiceFilter { tenant: Some(first.tenant), ..InvoiceFilter::default() };
    let invoices = billing::invoice::list(tx, actor, filter, 200, 0).await?.invoices;
    for (index, invoice) in invoices.iter().skip(1).enumerate() {
        let paid_at = invoice.finalized_at.unwrap_or(now).plus(Duration::from_secs(86_400 * (3 + index as u64)));
        let reference = format!("Bank transfer {}", 20_418 + index * 731);
        billing::invoice::mark_paid(tx, actor, invoice.tenant, invoice.id, &reference, paid_at).await?;
    }
    Ok(())
}
