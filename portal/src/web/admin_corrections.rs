//! `/admin/tenants/{tenant}/subscriptions/{subscription}/corrections`: corrections of usage, previewed before they are made.

use askama::Template;
use axum::{
    Router,
    extract::Path,
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use calendar::Timestamp;
use ids::{SubscriptionId, TenantId};
use rust_decimal::Decimal;
use serde::Deserialize;

use super::{
    belongs_on_form,
    call::UserCall,
    failure::Failure,
    form::Posted,
    form_status, no_error,
    plan_text::{decimal, grouped},
    shell::Shell,
};
use crate::{
    app::App,
    billing::{
        CorrectUsage, Effect,
        correction::{self, Correctable},
        invoice,
    },
    error::{Error, Result},
    identity::{Permission, session::Flash},
    random,
    usage::corrections::{self, Correction, Outcome},
};

/// How many corrections the page lists.
const SHOWN: i64 = 200;

/// Pages of this area.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/admin/tenants/{tenant}/subscriptions/{subscription}/corrections", get(index).post(preview))
        .route("/admin/tenants/{tenant}/subscriptions/{subscription}/corrections/confirm", post(confirm))
}

/// The form.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Form {
    period_start: String,
    meter: String,
    units: String,
    reason: String,
    reference: String,
    idempotency_key: String,
    /// By how much the cost changed when it was previewed.
    previewed: String,
}

/// What a preview shows.
struct EffectView {
    units_before: String,
    units_after: String,
    before: String,
    after: String,
    difference: String,
    currency: String,
    outcome: &'static str,
    lines: Vec<(String, String, String)>,
}

impl EffectView {
    fn new(effect: &Effect) -> Result<Self> {
        Ok(Self {
            units_before: effect.units_before.normalize().to_string(),
            units_after: effect.units_after.normalize().to_string(),
            before: effect.before.round().amount().to_string(),
            after: effect.after.round().amount().to_string(),
            difference: effect.difference()?.round().amount().to_string(),
            currency: effect.after.currency().to_string(),
            outcome: effect.outcome.label(),
            lines: effect
                .lines
                .iter()
                .map(|late| (late.charge.line.description.clone(), late.charge.line.formula.clone(), late.charge.line.total.to_string()))
                .collect(),
        })
    }
}

#[derive(Template)]
#[template(path = "pages/admin/tenants/corrections.html")]
struct Index {
    shell: Shell,
    tenant: TenantId,
    subject: Correctable,
    form: Form,
    effect: Option<EffectView>,
    made: Vec<Correction>,
    error: Error,
}

type Subject = Path<(TenantId, SubscriptionId)>;

async fn page(call: &mut UserCall, of: (TenantId, SubscriptionId), form: Form, effect: Option<EffectView>, error: Error) -> Result<Index> {
    let subject = correction::correctable(&mut call.tx, &call.actor, of.0, of.1, call.now).await?;
    let made = corrections::list(&mut call.tx, &call.actor, Some(of.0), Some(of.1), SHOWN, 0).await?;
    let shell = call.shell(format!("Corrections of {}", subject.application_name), "admin-tenants").await?;
    Ok(Index { shell, tenant: of.0, subject, form, effect, made, error })
}

async fn index(Path(of): Subject, mut call: UserCall) -> Result<Html<String>, Failure> {
    call.actor.require(Permission::Operate)?;
    let mut key = [0; 16];
    random::fill(&mut key)?;
    let form = Form { idempotency_key: hex::encode(key), ..Form::default() };
    Ok(Html(page(&mut call, of, form, None, no_error()).await?.render()?))
}

fn input_of(of: (TenantId, SubscriptionId), form: &Form) -> Result<CorrectUsage> {
    let period_start: Timestamp = form.period_start.parse().map_err(|_| Error::invalid("period_start", "Choose a period."))?;
    let units: Decimal = form.units.trim().parse().map_err(|_| Error::invalid("units", "Enter a number of units, such as -12 or 0.5."))?;
    Ok(CorrectUsage {
        tenant: of.0,
        subscription: of.1,
        period_start,
        meter: form.meter.parse().map_err(|_| Error::invalid("meter", "Choose a meter."))?,
        units,
        reason: form.reason.clone(),
        reference: form.reference.clone(),
        idempotency_key: form.idempotency_key.clone(),
    })
}

async fn effect_of(call: &mut UserCall, of: (TenantId, SubscriptionId), form: &Form) -> Result<Effect> {
    call.actor.require(Permission::Operate)?;
    correction::preview(&mut call.tx, &call.actor, &input_of(of, form)?, call.now).await
}

async fn preview(Path(of): Subject, Posted(mut call, form): Posted<UserCall, Form>) -> Result<Response, Failure> {
    match effect_of(&mut call, of, &form).await {
        Ok(effect) => shown(call, of, form, &effect, no_error()).await,
        Err(error) => refused(call, of, form, error).await,
    }
}

/// The preview, which carries what it showed into the confirmation.
async fn shown(mut call: UserCall, of: (TenantId, SubscriptionId), form: Form, effect: &Effect, error: Error) -> Result<Response, Failure> {
    let view = EffectView::new(effect)?;
    let form = Form { previewed: view.difference.clone(), ..form };
    let status = form_status(&error);
    Ok((status, Html(page(&mut call, of, form, Some(view), error).await?.render()?)).into_response())
}

async fn refused(mut call: UserCall, of: (TenantId, SubscriptionId), form: Form, error: Error) -> Result<Response, Failure> {
    if !belongs_on_form(&error) {
        return Err(error.into());
    }
    let page = page(&mut call, of, form, None, error).await?;
    Ok((form_status(&page.error), Html(page.render()?)).into_response())
}

/// What was done, in sentences; the credit note's name may follow.
fn told(made: &Correction) -> String {
    let units = made.units.abs();
    let were = if units == Decimal::ONE { "was" } else { "were" };
    let way = if made.units.is_sign_negative() { "taken off" } else { "added" };
    let currency = made.cost_after.currency();
    let change = made.cost_after.amount() - made.cost_before.amount();
    let cost = if change.is_zero() {
        "the same".to_owned()
    } else {
        let how = if change.is_sign_negative() { "less" } else { "more" };
        format!("{} {} {how}", grouped(&decimal(change.abs(), currency)), currency.code())
    };
    let what = match made.outcome {
        Outcome::OpenPeriod if change.is_zero() => ".",
        Outcome::OpenPeriod => ", on its own invoice.",
        Outcome::NextInvoice => ", as a line on the next invoice.",
        Outcome::FinalInvoice => ", on a final invoice that will follow.",
        Outcome::CreditNote => ". A credit note was issued:",
        Outcome::NoCharge => ".",
    };
    format!("{} {} {were} {way}. The period costs {cost}{what}", grouped(&units.to_string()), made.unit_name())
}

async fn confirm(Path(of): Subject, Posted(mut call, form): Posted<UserCall, Form>) -> Result<Response, Failure> {
    let effect = match effect_of(&mut call, of, &form).await {
        Ok(effect) => effect,
        Err(error) => return refused(call, of, form, error).await,
    };
    let key = form.idempotency_key.trim();
    let is_made = corrections::by_key(&mut call.tx, &call.actor, of.0, key).await?.is_some();
    if !is_made && EffectView::new(&effect)?.difference != form.previewed {
        let error = Error::conflict("The cost has changed since this was previewed. Look at it again.");
        return shown(call, of, form, &effect, error).await;
    }
    let input = input_of(of, &form)?;
    match correction::correct(&mut call.tx, &call.actor, &input, call.now).await {
        Ok(made) => {
            let to = format!("/admin/tenants/{}/subscriptions/{}/corrections", of.0, of.1);
            let link = match made.credit_note {
                Some(note) => {
                    let (invoice, _) = invoice::get(&mut call.tx, &call.actor, of.0, note).await?;
                    Some((invoice.display_number(), format!("/admin/tenants/{}/invoices/{note}", of.0)))
                }
                None => None,
            };
            let flash = Flash { kind: "success".to_owned(), text: told(&made), link };
            Ok(call.commit_and_tell(&to, flash).await?.into_response())
        }
        Err(error) => refused(call, of, form, error).await,
    }
}
