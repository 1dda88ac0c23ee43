//! `/api/v1/corrections`: corrections of usage.

use portal_api::CorrectionOutcome;
use rust_decimal::Decimal;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    billing::CorrectUsage,
    error::{Error, Result},
    usage::corrections::{Correction, Outcome},
};

mod create;
mod list;
mod of_subscription;
mod preview;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list::list_corrections, create::create_correction))
        .routes(routes!(preview::preview_correction))
        .routes(routes!(of_subscription::list_corrections_of_subscription))
}

fn input_of(body: portal_api::CorrectUsage) -> Result<CorrectUsage> {
    let units: Decimal =
        body.units.trim().parse().map_err(|_| Error::invalid("units", "Give a decimal number of units, such as -12 or 0.5."))?;
    Ok(CorrectUsage {
        tenant: body.tenant,
        subscription: body.subscription,
        period_start: body.period_start,
        meter: body.meter,
        units,
        reason: body.reason,
        reference: body.reference,
        idempotency_key: body.idempotency_key,
    })
}

const fn shown_outcome(outcome: Outcome) -> CorrectionOutcome {
    match outcome {
        Outcome::OpenPeriod => CorrectionOutcome::OpenPeriod,
        Outcome::NextInvoice => CorrectionOutcome::NextInvoice,
        Outcome::FinalInvoice => CorrectionOutcome::FinalInvoice,
        Outcome::CreditNote => CorrectionOutcome::CreditNote,
        Outcome::NoCharge => CorrectionOutcome::NoCharge,
    }
}

fn shown(correction: Correction) -> portal_api::Correction {
    portal_api::Correction {
        id: correction.id,
        tenant: correction.tenant,
        subscription: correction.subscription,
        plan_version: correction.plan_version,
        period_start: correction.period_start,
        meter: correction.meter,
        units: correction.units.to_string(),
        reason: correction.reason,
        reference: correction.reference,
        outcome: shown_outcome(correction.outcome),
        cost_before: correction.cost_before,
        cost_after: correction.cost_after,
        credit_note: correction.credit_note,
        created_at: correction.created_at,
    }
}
