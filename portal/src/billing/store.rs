//! All SQL of this domain.

use calendar::{Anchor, Period, TimeZone, Timestamp};
use ids::{ApplicationId, InvoiceId, MeterId, PlanVersionId, RateCardId, SubscriptionId, TenantId, Uuid};
use rating::{Currency, Money};
use rust_decimal::Decimal;

use super::{
    account::Account,
    charges::Charge,
    invoice::{Invoice, InvoiceFilter, InvoiceLine},
    state::InvoiceState,
    subscription::BilledSubscription,
};
use crate::{
    db::Tx,
    error::{Error, Result},
};

/// How many subscriptions one look takes.
const DUE_PAGE: i64 = 500;

struct SubscriptionRow {
    tenant_id: Uuid,
    id: Uuid,
    application_id: Uuid,
    application_name: String,
    plan_version_id: Uuid,
    plan_name: String,
    cadence: String,
    anchor_date: String,
    time_zone: String,
    started_at: Timestamp,
    canceled_at: Option<Timestamp>,
    open_from: Timestamp,
}

impl SubscriptionRow {
    fn into_subscription(self) -> Result<BilledSubscription> {
        let zone: TimeZone = self.time_zone.parse().map_err(Error::internal)?;
        let date = self.anchor_date.parse().map_err(Error::internal)?;
        Ok(BilledSubscription {
            tenant: TenantId::from_uuid(self.tenant_id),
            id: SubscriptionId::from_uuid(self.id),
            application: ApplicationId::from_uuid(self.application_id),
            application_name: self.application_name,
            plan_version: PlanVersionId::from_uuid(self.plan_version_id),
            plan_name: self.plan_name,
            cadence: self.cadence.parse().map_err(Error::internal)?,
            anchor: Anchor { date, zone },
            started_at: self.started_at,
            canceled_at: self.canceled_at,
            open_from: self.open_from,
        })
    }
}

macro_rules! subscriptions {
    ($sql:literal $(, $argument:expr)*) => {
        sqlx::query_as!(
            SubscriptionRow,
            r#"SELECT s.tenant_id, s.id, s.application_id, a.name AS application_name, s.plan_version_id, p.name AS plan_name, v.cadence,
                  s.anchor_date::text AS "anchor_date!", s.time_zone, s.started_at, s.canceled_at, s.open_from
               FROM subscriptions s
               JOIN applications a ON a.tenant_id = s.tenant_id AND a.id = s.application_id
               JOIN plan_versions v ON v.id = s.plan_version_id JOIN plans p ON p.id = v.plan_id "# + $sql
            $(, $argument)*
        )
    };
}

pub(super) async fn subscription(tx: &mut Tx, tenant: TenantId, id: SubscriptionId) -> Result<Option<BilledSubscription>> {
    let row = subscriptions!("WHERE s.tenant_id = $1 AND s.id = $2", tenant.uuid(), id.uuid()).fetch_optional(&mut **tx).await?;
    row.map(SubscriptionRow::into_subscription).transpose()
}

/// Locks the subscription's row until the transaction ends, and reads it under the lock.
pub(super) async fn lock_subscription(tx: &mut Tx, tenant: TenantId, id: SubscriptionId) -> Result<Option<BilledSubscription>> {
    let row =
        subscriptions!("WHERE s.tenant_id = $1 AND s.id = $2 FOR UPDATE OF s", tenant.uuid(), id.uuid()).fetch_optional(&mut **tx).await?;
    row.map(SubscriptionRow::into_subscription).transpose()
}

/// Live subscriptions, and canceled ones whose last period is not closed.
pub(super) async fn open_subscriptions(tx: &mut Tx, tenant: TenantId) -> Result<Vec<BilledSubscription>> {
    let rows = subscriptions!(
        "WHERE s.tenant_id = $1 AND (s.canceled_at IS NULL OR s.open_from < s.canceled_at) ORDER BY s.started_at, s.id LIMIT 200",
        tenant.uuid()
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(SubscriptionRow::into_subscription).collect()
}

/// Subscriptions whose open period may have ended before `ended_before`: the shortest length of its cadence has passed, or it was canceled.
pub(super) async fn maybe_due(
    tx: &mut Tx,
    after: Option<(TenantId, SubscriptionId)>,
    ended_before: Timestamp,
) -> Result<Vec<(TenantId, SubscriptionId)>> {
    let (after_tenant, after_id) = after.unzip();
    let rows = sqlx::query!(
        "SELECT s.tenant_id, s.id FROM subscriptions s JOIN plan_versions v ON v.id = s.plan_version_id
         WHERE ($1::uuid IS NULL OR (s.tenant_id, s.id) > ($1, $2))
           AND ((s.canceled_at > s.open_from AND s.canceled_at <= $3)
             OR ((s.canceled_at IS NULL OR s.canceled_at > s.open_from)
               AND s.open_from <= $3 - CASE v.cadence WHEN 'day' THEN interval '22 hours' WHEN 'week' THEN interval '6 days'
                   WHEN 'month' THEN interval '27 days' WHEN 'quarter' THEN interval '88 days' ELSE interval '364 days' END))
         ORDER BY s.tenant_id, s.id LIMIT $4",
        after_tenant.map(TenantId::uuid),
        after_id.map(SubscriptionId::uuid),
        ended_before,
        DUE_PAGE,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (TenantId::from_uuid(row.tenant_id), SubscriptionId::from_uuid(row.id))).collect())
}

pub(super) async fn set_open_from(tx: &mut Tx, tenant: TenantId, id: SubscriptionId, open_from: Timestamp) -> Result<()> {
    sqlx::query!("UPDATE subscriptions SET open_from = $3 WHERE tenant_id = $1 AND id = $2", tenant.uuid(), id.uuid(), open_from)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// What a new invoice is about.
#[derive(Debug)]
pub(super) struct NewInvoice {
    pub tenant: TenantId,
    pub id: InvoiceId,
    pub subscription: SubscriptionId,
    pub plan_version: PlanVersionId,
    pub period: Period,
    pub total: Money,
}

pub(super) async fn insert_draft(tx: &mut Tx, invoice: &NewInvoice, now: Timestamp) -> Result<()> {
    let currency = invoice.total.currency();
    sqlx::query!(
        "INSERT INTO invoices (tenant_id, id, subscription_id, plan_version_id, period_from, period_to, state, currency, subtotal, tax, total, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, 'draft', $7, $8, 0, $8, $9)",
        invoice.tenant.uuid(),
        invoice.id.uuid(),
        invoice.subscription.uuid(),
        invoice.plan_version.uuid(),
        invoice.period.from,
        invoice.period.to,
        currency.code(),
        invoice.total.amount(),
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn insert_line(tx: &mut Tx, tenant: TenantId, invoice: InvoiceId, position: i32, charge: &Charge) -> Result<()> {
    sqlx::query!(
        "INSERT INTO invoice_lines (tenant_id, invoice_id, position, description, rate_card_id, meter_id, amount, detail)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        tenant.uuid(),
        invoice.uuid(),
        position,
        charge.line.description,
        charge.rate_card.uuid(),
        charge.meter.map(MeterId::uuid),
        charge.line.total,
        serde_json::to_value(&charge.line)?,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes the next number. Others wait until this transaction ends; if it rolls back, they get the same number.
pub(super) async fn next_number(tx: &mut Tx) -> Result<i64> {
    Ok(sqlx::query_scalar!(r#"UPDATE invoice_numbers SET next = next + 1 RETURNING next - 1 AS "number!""#).fetch_one(&mut **tx).await?)
}

pub(super) async fn finalize(tx: &mut Tx, tenant: TenantId, id: InvoiceId, number: i64, now: Timestamp, due_at: Timestamp) -> Result<()> {
    sqlx::query!(
        "UPDATE invoices SET state = 'finalized', number = $3, finalized_at = $4, due_at = $5 WHERE tenant_id = $1 AND id = $2 AND state = 'draft'",
        tenant.uuid(),
        id.uuid(),
        number,
        now,
        due_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn set_state(tx: &mut Tx, tenant: TenantId, id: InvoiceId, state: InvoiceState) -> Result<()> {
    sqlx::query!("UPDATE invoices SET state = $3 WHERE tenant_id = $1 AND id = $2", tenant.uuid(), id.uuid(), state.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn set_paid(tx: &mut Tx, tenant: TenantId, id: InvoiceId, reference: &str, now: Timestamp) -> Result<()> {
    sqlx::query!(
        "UPDATE invoices SET paid_at = $3, paid_reference = $4 WHERE tenant_id = $1 AND id = $2",
        tenant.uuid(),
        id.uuid(),
        now,
        reference
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn lock_invoice(tx: &mut Tx, tenant: TenantId, id: InvoiceId) -> Result<()> {
    sqlx::query_scalar!("SELECT id FROM invoices WHERE tenant_id = $1 AND id = $2 FOR UPDATE", tenant.uuid(), id.uuid())
        .fetch_optional(&mut **tx)
        .await?;
    Ok(())
}

/// Issued invoices whose due date has passed, locked; those that another worker holds are left to it.
pub(super) async fn lock_due(tx: &mut Tx, now: Timestamp) -> Result<Vec<(TenantId, InvoiceId)>> {
    let rows = sqlx::query!(
        "SELECT tenant_id, id FROM invoices WHERE state = 'finalized' AND due_at <= $1 ORDER BY tenant_id, id LIMIT 1000 FOR UPDATE SKIP LOCKED",
        now
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (TenantId::from_uuid(row.tenant_id), InvoiceId::from_uuid(row.id))).collect())
}

struct InvoiceRow {
    tenant_id: Uuid,
    tenant_name: String,
    id: Uuid,
    number: Option<i64>,
    subscription_id: Uuid,
    application_name: String,
    plan_version_id: Uuid,
    plan_name: String,
    version: i32,
    period_from: Timestamp,
    period_to: Timestamp,
    time_zone: String,
    state: String,
    currency: String,
    subtotal: Decimal,
    tax: Decimal,
    total: Decimal,
    created_at: Timestamp,
    finalized_at: Option<Timestamp>,
    due_at: Option<Timestamp>,
    paid_at: Option<Timestamp>,
    paid_reference: Option<String>,
}

impl InvoiceRow {
    fn into_invoice(self) -> Result<Invoice> {
        let currency: Currency = self.currency.parse().map_err(Error::internal)?;
        let money = |amount| Money::new(amount, currency).map_err(Error::internal);
        Ok(Invoice {
            tenant: TenantId::from_uuid(self.tenant_id),
            tenant_name: self.tenant_name,
            id: InvoiceId::from_uuid(self.id),
            number: self.number,
            subscription: SubscriptionId::from_uuid(self.subscription_id),
            application_name: self.application_name,
            plan_version: PlanVersionId::from_uuid(self.plan_version_id),
            plan_name: self.plan_name,
            version: self.version,
            period: Period { from: self.period_from, to: self.period_to },
            time_zone: self.time_zone,
            state: InvoiceState::parse(&self.state)?,
            subtotal: money(self.subtotal)?.round(),
            tax: money(self.tax)?.round(),
            total: money(self.total)?.round(),
            created_at: self.created_at,
            finalized_at: self.finalized_at,
            due_at: self.due_at,
            paid_at: self.paid_at,
            paid_reference: self.paid_reference,
        })
    }
}

macro_rules! invoices {
    ($sql:literal $(, $argument:expr)*) => {
        sqlx::query_as!(
            InvoiceRow,
            "SELECT i.tenant_id, t.name AS tenant_name, i.id, i.number, i.subscription_id, a.name AS application_name, i.plan_version_id, p.name AS plan_name,
                v.version, i.period_from, i.period_to, s.time_zone, i.state, i.currency, i.subtotal, i.tax, i.total, i.created_at, i.finalized_at, i.due_at,
                i.paid_at, i.paid_reference
             FROM invoices i
             JOIN tenants t ON t.id = i.tenant_id
             JOIN subscriptions s ON s.tenant_id = i.tenant_id AND s.id = i.subscription_id
             JOIN applications a ON a.tenant_id = s.tenant_id AND a.id = s.application_id
             JOIN plan_versions v ON v.id = i.plan_version_id JOIN plans p ON p.id = v.plan_id " + $sql
            $(, $argument)*
        )
    };
}

pub(super) async fn invoice(tx: &mut Tx, tenant: TenantId, id: InvoiceId) -> Result<Option<Invoice>> {
    let row = invoices!("WHERE i.tenant_id = $1 AND i.id = $2", tenant.uuid(), id.uuid()).fetch_optional(&mut **tx).await?;
    row.map(InvoiceRow::into_invoice).transpose()
}

pub(super) async fn invoices(tx: &mut Tx, filter: InvoiceFilter, limit: i64, offset: i64) -> Result<Vec<Invoice>> {
    let rows = invoices!(
        "WHERE ($1::uuid IS NULL OR i.tenant_id = $1) AND ($2::uuid IS NULL OR i.subscription_id = $2) AND ($3::text IS NULL OR i.state = $3)
         ORDER BY i.period_to DESC, i.number DESC NULLS FIRST, i.id LIMIT $4 OFFSET $5",
        filter.tenant.map(TenantId::uuid),
        filter.subscription.map(SubscriptionId::uuid),
        filter.state.map(InvoiceState::as_str),
        limit,
        offset
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(InvoiceRow::into_invoice).collect()
}

pub(super) async fn count_invoices(tx: &mut Tx, filter: InvoiceFilter) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM invoices i
           WHERE ($1::uuid IS NULL OR i.tenant_id = $1) AND ($2::uuid IS NULL OR i.subscription_id = $2) AND ($3::text IS NULL OR i.state = $3)"#,
        filter.tenant.map(TenantId::uuid),
        filter.subscription.map(SubscriptionId::uuid),
        filter.state.map(InvoiceState::as_str),
    )
    .fetch_one(&mut **tx)
    .await?)
}

pub(super) async fn open_totals(tx: &mut Tx, tenant: Option<TenantId>) -> Result<Vec<(i64, Money)>> {
    let rows = sqlx::query!(
        r#"SELECT currency, count(*) AS "count!", sum(total) AS "total!" FROM invoices
           WHERE ($1::uuid IS NULL OR tenant_id = $1) AND state IN ('finalized', 'past_due') GROUP BY currency ORDER BY currency"#,
        tenant.map(TenantId::uuid)
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let currency: Currency = row.currency.parse().map_err(Error::internal)?;
            Ok((row.count, Money::new(row.total, currency).map_err(Error::internal)?))
        })
        .collect()
}

pub(super) async fn lines(tx: &mut Tx, tenant: TenantId, invoice: InvoiceId) -> Result<Vec<InvoiceLine>> {
    let rows = sqlx::query!(
        r#"SELECT l.position, l.rate_card_id, l.meter_id, l.detail, coalesce(m.unit, '') AS "unit!"
           FROM invoice_lines l LEFT JOIN meters m ON m.id = l.meter_id WHERE l.tenant_id = $1 AND l.invoice_id = $2 ORDER BY l.position"#,
        tenant.uuid(),
        invoice.uuid()
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(InvoiceLine {
                position: row.position,
                rate_card: row.rate_card_id.map(RateCardId::from_uuid),
                meter: row.meter_id.map(MeterId::from_uuid),
                unit: row.unit,
                detail: serde_json::from_value(row.detail)?,
            })
        })
        .collect()
}

/// Tenants without their sums of money. Calls are the largest count over a route's meters, as `usage::query` counts them.
pub(super) async fn accounts(
    tx: &mut Tx,
    tenant: Option<TenantId>,
    search: &str,
    since: Timestamp,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Account>, i64)> {
    let rows = sqlx::query!(
        r#"WITH found AS (
               SELECT t.*, count(*) OVER () AS total FROM tenants t
               WHERE ($1::uuid IS NULL OR t.id = $1)
                 AND ($2 = '' OR strpos(lower(t.name || ' ' || t.namespace || ' ' || t.billing_email), lower($2)) > 0)
           )
           SELECT t.id, t.name, t.namespace, t.billing_email, t.time_zone, t.is_demo, t.created_at, t.total AS "total!",
              (SELECT count(*) FROM memberships m WHERE m.tenant_id = t.id) AS "members!",
              (SELECT count(*) FROM subscriptions s WHERE s.tenant_id = t.id AND s.canceled_at IS NULL) AS "subscriptions!",
              coalesce((SELECT sum(k.calls) FROM (
                  SELECT max(m.calls) AS calls FROM (
                      SELECT u.bucket, u.subscription_id, u.route_id, u.api_key_id, u.status, u.mode, u.plan_version_id, u.period_start, u.meter_id,
                             sum(u.count) AS calls
                      FROM usage_rollup_day u WHERE u.namespace_id = t.id AND u.bucket >= $3 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9) m
                  GROUP BY m.bucket, m.subscription_id, m.route_id, m.api_key_id, m.status, m.mode, m.plan_version_id, m.period_start) k), 0)::bigint
              AS "calls!"
           FROM found t ORDER BY "calls!" DESC, t.created_at DESC, t.id LIMIT $4 OFFSET $5"#,
        tenant.map(TenantId::uuid),
        search,
        since,
        limit,
        offset,
    )
    .fetch_all(&mut **tx)
    .await?;
    let total = rows.first().map_or(0, |row| row.total);
    let accounts = rows
        .into_iter()
        .map(|row| Account {
            tenant: TenantId::from_uuid(row.id),
            name: row.name,
            namespace: row.namespace,
            billing_email: row.billing_email,
            time_zone: row.time_zone,
            is_demo: row.is_demo,
            created_at: row.created_at,
            members: row.members,
            subscriptions: row.subscriptions,
            calls: row.calls,
            invoiced: Vec::new(),
            open: Vec::new(),
        })
        .collect();
    Ok((accounts, total))
}

/// What was invoiced and not taken back, per currency.
pub(super) async fn invoiced_since(tx: &mut Tx, tenant: TenantId, since: Timestamp) -> Result<Vec<Money>> {
    let rows = sqlx::query!(
        r#"SELECT currency, sum(total) AS "total!" FROM invoices
           WHERE tenant_id = $1 AND finalized_at >= $2 AND state <> 'void' GROUP BY currency ORDER BY currency"#,
        tenant.uuid(),
        since
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(|row| Money::new(row.total, row.currency.parse().map_err(Error::internal)?).map_err(Error::internal)).collect()
}
