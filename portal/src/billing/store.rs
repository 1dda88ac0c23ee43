//! The SQL of invoices.

use calendar::{Period, Timestamp};
use ids::{InvoiceId, MeterId, PlanVersionId, RateCardId, SubscriptionId, TenantId, Uuid};
use rating::{Currency, Money};
use rust_decimal::Decimal;

use super::{
    charges::Charge,
    invoice::{Invoice, InvoiceFilter, InvoiceLine},
    state::InvoiceState,
};
use crate::{
    db::Tx,
    error::{Error, Result},
};

/// What a new invoice is about.
#[derive(Debug)]
pub(super) struct NewInvoice {
    pub tenant: TenantId,
    pub id: InvoiceId,
    pub subscription: SubscriptionId,
    pub plan_version: PlanVersionId,
    pub kind: InvoiceKind,
    pub corrects: Option<InvoiceId>,
    pub period: Period,
    pub total: Money,
}

/// What an invoice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvoiceKind {
    /// That of a period.
    Period,
    /// What came late, after a cancellation.
    Final,
    /// What was billed too much; its total is negative.
    CreditNote,
}

impl InvoiceKind {
    /// The name in JSON and in Postgres.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Period => "period",
            Self::Final => "final",
            Self::CreditNote => "credit_note",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let known = [Self::Period, Self::Final, Self::CreditNote].into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| Error::internal(anyhow::anyhow!("`{text}` is no kind of invoice")))
    }
}

pub(super) async fn insert_draft(tx: &mut Tx, invoice: &NewInvoice, now: Timestamp) -> Result<()> {
    let currency = invoice.total.currency();
    sqlx::query!(
        "INSERT INTO invoices (tenant_id, id, subscription_id, plan_version_id, period_from, period_to, state, currency, subtotal, tax, total, created_at,
             kind, corrects)
         VALUES ($1, $2, $3, $4, $5, $6, 'draft', $7, $8, 0, $8, $9, $10, $11)",
        invoice.tenant.uuid(),
        invoice.id.uuid(),
        invoice.subscription.uuid(),
        invoice.plan_version.uuid(),
        invoice.period.from,
        invoice.period.to,
        currency.code(),
        invoice.total.amount(),
        now,
        invoice.kind.as_str(),
        invoice.corrects.map(InvoiceId::uuid),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A line of the invoice's own period, or of an earlier one.
pub(super) async fn insert_line(
    tx: &mut Tx,
    tenant: TenantId,
    invoice: InvoiceId,
    position: i32,
    service: Option<Period>,
    charge: &Charge,
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO invoice_lines (tenant_id, invoice_id, position, description, rate_card_id, meter_id, amount, detail, service_from, service_to)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        tenant.uuid(),
        invoice.uuid(),
        position,
        charge.line.description,
        charge.rate_card.uuid(),
        charge.meter.map(MeterId::uuid),
        charge.line.total,
        serde_json::to_value(&charge.line)?,
        service.map(|service| service.from) as Option<Timestamp>,
        service.map(|service| service.to) as Option<Timestamp>,
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

/// Issued invoices whose due date has passed, locked; those that another worker holds are left to it. What is owed back is never past due.
pub(super) async fn lock_due(tx: &mut Tx, now: Timestamp) -> Result<Vec<(TenantId, InvoiceId)>> {
    let rows = sqlx::query!(
        "SELECT tenant_id, id FROM invoices WHERE state = 'finalized' AND total > 0 AND due_at <= $1 ORDER BY tenant_id, id LIMIT 1000 FOR UPDATE SKIP LOCKED",
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
    kind: String,
    corrects: Option<Uuid>,
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
            kind: InvoiceKind::parse(&self.kind)?,
            corrects: self.corrects.map(InvoiceId::from_uuid),
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
            "SELECT i.tenant_id, t.name AS tenant_name, i.id, i.kind, i.corrects, i.number, i.subscription_id, a.name AS application_name, i.plan_version_id, p.name AS plan_name,
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
        r#"SELECT l.position, l.service_from, l.service_to, l.rate_card_id, l.meter_id, l.detail, coalesce(m.unit, '') AS "unit!"
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
                service: row.service_from.zip(row.service_to).map(|(from, to)| Period { from, to }),
                rate_card: row.rate_card_id.map(RateCardId::from_uuid),
                meter: row.meter_id.map(MeterId::from_uuid),
                unit: row.unit,
                detail: serde_json::from_value(row.detail)?,
            })
        })
        .collect()
}
