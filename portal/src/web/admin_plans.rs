//! `/admin/plans`: plans, their versions, and what these cost and allow.

use std::collections::HashMap;

use askama::Template;
use axum::{
    Router,
    extract::Path,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use calendar::Cadence;
use gateway_control::policy::BillableRule;
use ids::PlanVersionId;
use rating::Currency;
use serde::Deserialize;

use self::form::TermsForm;
use super::{
    Confirmed, belongs_on_form,
    call::UserCall,
    failure::Failure,
    form::Posted,
    form_status, no_error,
    plan_text::{self, PlanView},
    shell::Shell,
};
use crate::{
    app::App,
    catalog::{
        ListedProduct, Meter, NewPlan, Plan, PlanVersion, VersionTerms, api_product, meter,
        plan::{self},
    },
    error::{Error, Result},
    identity::Permission,
};

mod form;
mod reader;

/// Pages of this area.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/admin/plans", get(index).post(create))
        .route("/admin/plans/new", get(new))
        .route("/admin/plans/{slug}", get(show).post(update))
        .route("/admin/plans/{slug}/archive", post(archive))
        .route("/admin/plans/{slug}/restore", post(restore))
        .route("/admin/plans/{slug}/versions", post(create_version))
        .route("/admin/plans/{slug}/versions/{version}", get(edit).post(save))
        .route("/admin/plans/{slug}/versions/{version}/publish", post(publish))
        .route("/admin/plans/{slug}/versions/{version}/delete", post(delete))
}

/// A plan in the list.
struct PlanRow {
    plan: Plan,
    published: Option<i32>,
    draft: Option<i32>,
    price: String,
}

#[derive(Template)]
#[template(path = "pages/admin/plans/index.html")]
struct IndexPage {
    shell: Shell,
    plans: Vec<PlanRow>,
}

async fn index(mut call: UserCall) -> Result<Html<String>, Failure> {
    let plans = plan::plans(&mut call.tx, &call.actor).await?;
    let mut rows = Vec::with_capacity(plans.len());
    for plan in plans {
        let (plan, versions) = plan::plan_with_versions(&mut call.tx, &call.actor, &plan.slug).await?;
        let published = versions.iter().find(|version| version.published_at.is_some());
        let draft = versions.iter().find(|version| version.published_at.is_none()).map(|version| version.version);
        let views = plan_text::views(&mut call.tx, published.map(std::slice::from_ref).unwrap_or_default()).await?;
        let price = views.first().map(price_in_words).unwrap_or_default();
        rows.push(PlanRow { plan, published: published.map(|version| version.version), draft, price });
    }
    let shell = call.shell("Plans", "admin-plans").await?;
    Ok(Html(IndexPage { shell, plans: rows }.render()?))
}

fn price_in_words(view: &PlanView) -> String {
    match &view.fee {
        Some(fee) => format!("{fee} {} a {}", view.currency, view.period),
        None if view.is_free() => "Free".to_owned(),
        None => "Pay as you go".to_owned(),
    }
}

#[derive(Debug, Default, Deserialize)]
struct PlanForm {
    #[serde(default)]
    slug: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    summary: String,
    #[serde(default)]
    position: String,
}

impl PlanForm {
    fn of(plan: &Plan) -> Self {
        Self { slug: plan.slug.clone(), name: plan.name.clone(), summary: plan.summary.clone(), position: plan.position.to_string() }
    }

    fn read(&self) -> Result<NewPlan> {
        let position = self
            .position
            .trim()
            .parse()
            .map_err(|_| Error::invalid("position", "Enter a whole number; plans are shown from low to high."))?;
        Ok(NewPlan {
            slug: self.slug.trim().to_owned(),
            name: self.name.trim().to_owned(),
            summary: self.summary.trim().to_owned(),
            position,
        })
    }
}

#[derive(Template)]
#[template(path = "pages/admin/plans/new.html")]
struct NewPage {
    shell: Shell,
    form: PlanForm,
    error: Error,
}

async fn new(mut call: UserCall) -> Result<Response, Failure> {
    let count = plan::plans(&mut call.tx, &call.actor).await?.len();
    new_page(call, PlanForm { position: ((count + 1) * 10).to_string(), ..PlanForm::default() }, no_error()).await
}

async fn new_page(mut call: UserCall, form: PlanForm, error: Error) -> Result<Response, Failure> {
    let shell = call.shell("New plan", "admin-plans").await?;
    Ok((form_status(&error), Html(NewPage { shell, form, error }.render()?)).into_response())
}

async fn create(Posted(mut call, form): Posted<UserCall, PlanForm>) -> Result<Response, Failure> {
    let created = match form.read() {
        Ok(input) => plan::create_plan(&mut call.tx, &call.actor, input, call.now).await,
        Err(error) => call.actor.require(Permission::Operate).and(Err(error)),
    };
    match created {
        Ok(plan) => {
            let text = "The plan is created. Next: what does it cost, and what does it allow?";
            Ok(call.commit_and_go(&format!("/admin/plans/{}", plan.slug), "success", text).await?.into_response())
        }
        Err(error) if belongs_on_form(&error) => new_page(call, form, error).await,
        Err(error) => Err(error.into()),
    }
}

/// A version on the plan's page.
struct VersionRow {
    version: PlanVersion,
    view: PlanView,
}

#[derive(Template)]
#[template(path = "pages/admin/plans/show.html")]
struct ShowPage {
    shell: Shell,
    plan: Plan,
    versions: Vec<VersionRow>,
    /// What a first version may cover.
    products: Vec<ListedProduct>,
    form: PlanForm,
    error: Error,
}

impl ShowPage {
    fn has_draft(&self) -> bool {
        self.versions.iter().any(|row| row.version.published_at.is_none())
    }

    /// Whether a version is the one that is offered: the newest one that is published.
    fn is_offered(&self, version: &PlanVersion) -> bool {
        let offered = self.versions.iter().find(|row| row.version.published_at.is_some());
        self.plan.archived_at.is_none() && offered.is_some_and(|row| row.version.id == version.id)
    }
}

async fn show(mut call: UserCall, Path(slug): Path<String>) -> Result<Response, Failure> {
    let (plan, versions) = plan::plan_with_versions(&mut call.tx, &call.actor, &slug).await?;
    let form = PlanForm::of(&plan);
    show_page(call, plan, versions, form, no_error()).await
}

async fn show_page(mut call: UserCall, plan: Plan, versions: Vec<PlanVersion>, form: PlanForm, error: Error) -> Result<Response, Failure> {
    let views = plan_text::views(&mut call.tx, &versions).await?;
    let versions = versions.into_iter().zip(views).map(|(version, view)| VersionRow { version, view }).collect();
    let products = api_product::products(&mut call.tx, &call.actor).await?;
    let shell = call.shell(plan.name.clone(), "admin-plans").await?;
    Ok((form_status(&error), Html(ShowPage { shell, plan, versions, products, form, error }.render()?)).into_response())
}

async fn update(Path(slug): Path<String>, Posted(mut call, form): Posted<UserCall, PlanForm>) -> Result<Response, Failure> {
    let (plan, versions) = plan::plan_with_versions(&mut call.tx, &call.actor, &slug).await?;
    let form = PlanForm { slug: plan.slug.clone(), ..form };
    let updated = match form.read() {
        Ok(input) => plan::update_plan(&mut call.tx, &call.actor, plan.id, input, call.now).await,
        Err(error) => Err(error),
    };
    match updated {
        Ok(()) => Ok(call.commit_and_go(&format!("/admin/plans/{slug}"), "success", "Saved.").await?.into_response()),
        Err(error) if belongs_on_form(&error) => show_page(call, plan, versions, form, error).await,
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug, Deserialize)]
struct Nothing {}

async fn archive(Path(slug): Path<String>, Posted(call, _): Posted<UserCall, Nothing>) -> Result<Redirect, Failure> {
    set_archived(call, &slug, true).await
}

async fn restore(Path(slug): Path<String>, Posted(call, _): Posted<UserCall, Nothing>) -> Result<Redirect, Failure> {
    set_archived(call, &slug, false).await
}

async fn set_archived(mut call: UserCall, slug: &str, archived: bool) -> Result<Redirect, Failure> {
    let (plan, _) = plan::plan_with_versions(&mut call.tx, &call.actor, slug).await?;
    plan::set_plan_archived(&mut call.tx, &call.actor, plan.id, archived, call.now).await?;
    let text = if archived { "The plan is no longer offered. Those who are on it stay." } else { "The plan is offered again." };
    Ok(call.commit_and_go(&format!("/admin/plans/{slug}"), "success", text).await?)
}

/// A new draft: a copy of the newest version, or for the first one a free plan of the chosen products.
async fn create_version(
    Path(slug): Path<String>,
    Posted(mut call, fields): Posted<UserCall, HashMap<String, String>>,
) -> Result<Redirect, Failure> {
    let (plan, versions) = plan::plan_with_versions(&mut call.tx, &call.actor, &slug).await?;
    let terms = match versions.first() {
        Some(newest) => newest.terms(),
        None => VersionTerms {
            currency: Currency::USD,
            cadence: Cadence::Month,
            rate_limits: Vec::new(),
            quotas: Vec::new(),
            billable: BillableRule::default(),
            products: fields.keys().filter_map(|name| name.strip_prefix("product_")?.parse().ok()).collect(),
            rate_cards: Vec::new(),
        },
    };
    if terms.products.is_empty() {
        let text = "Choose what the plan covers: at least one API product.";
        return Ok(call.commit_and_go(&format!("/admin/plans/{slug}"), "warning", text).await?);
    }
    let version = plan::create_version(&mut call.tx, &call.actor, plan.id, terms, call.now).await?;
    call.commit().await?;
    Ok(Redirect::to(&format!("/admin/plans/{slug}/versions/{}", version.id)))
}

#[derive(Template)]
#[template(path = "pages/admin/plans/version.html")]
struct VersionPage {
    shell: Shell,
    version: PlanVersion,
    view: PlanView,
    meters: Vec<Meter>,
    products: Vec<ListedProduct>,
    form: TermsForm,
    error: Error,
}

impl VersionPage {
    /// The message at a field of the form; the operation names fields as REST does.
    fn problem(&self, field: &str) -> &str {
        self.error.field(field).unwrap_or_default()
    }

    fn problem_at(&self, list: &str, index: &usize, field: &str) -> &str {
        self.problem(&format!("{list}[{index}].{field}"))
    }

    /// What is wrong with the tiers of a price, whichever field of whichever tier it is.
    fn tiers_problem(&self, index: &usize) -> String {
        let prefix = format!("rate_cards[{index}].price.tiers");
        let found = self.error.fields.iter().filter_map(|field| Some((field.field.strip_prefix(prefix.as_str())?, field.message.as_str())));
        found
            .map(|(place, message)| if place.is_empty() { message.to_owned() } else { format!("Tier {place}: {message}") })
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// What is wrong with the one amount of a price, whatever the kind of price calls it.
    fn amount_problem(&self, index: &usize) -> &str {
        ["price.amount", "price.unit_amount", "price.percent"]
            .iter()
            .map(|field| self.problem_at("rate_cards", index, field))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    }
}

async fn edit(mut call: UserCall, Path((slug, id)): Path<(String, PlanVersionId)>) -> Result<Response, Failure> {
    let version = find(&mut call, &slug, id).await?;
    let form = TermsForm::of(&version.terms());
    version_page(call, version, form, no_error()).await
}

async fn find(call: &mut UserCall, slug: &str, id: PlanVersionId) -> Result<PlanVersion> {
    let (_, versions) = plan::plan_with_versions(&mut call.tx, &call.actor, slug).await?;
    versions.into_iter().find(|version| version.id == id).ok_or_else(|| Error::not_found("This plan version"))
}

async fn version_page(mut call: UserCall, version: PlanVersion, mut form: TermsForm, error: Error) -> Result<Response, Failure> {
    let meters = meter::meters(&mut call.tx).await?;
    let products = api_product::products(&mut call.tx, &call.actor).await?;
    form.add_spare_rows();
    let view = plan_text::views(&mut call.tx, std::slice::from_ref(&version)).await?.pop();
    let view = view.ok_or_else(|| Error::internal(anyhow::anyhow!("a version has one view")))?;
    let shell = call.shell(format!("{}, version {}", version.plan.name, version.version), "admin-plans").await?;
    Ok((form_status(&error), Html(VersionPage { shell, version, view, meters, products, form, error }.render()?)).into_response())
}

async fn save(
    Path((slug, id)): Path<(String, PlanVersionId)>,
    Posted(mut call, fields): Posted<UserCall, HashMap<String, String>>,
) -> Result<Response, Failure> {
    let version = find(&mut call, &slug, id).await?;
    let form = TermsForm::sent(&fields);
    let saved = match form.read() {
        Ok(terms) => plan::update_version(&mut call.tx, &call.actor, id, terms, call.now).await,
        Err(error) => Err(error),
    };
    match saved {
        Ok(_) => {
            let text = "The draft is saved. Nobody sees it before you publish it.";
            Ok(call.commit_and_go(&format!("/admin/plans/{slug}/versions/{id}"), "success", text).await?.into_response())
        }
        Err(error) if belongs_on_form(&error) => version_page(call, version, form, error).await,
        Err(error) => Err(error.into()),
    }
}

async fn publish(
    Path((slug, id)): Path<(String, PlanVersionId)>,
    Posted(mut call, confirmed): Posted<UserCall, Confirmed>,
) -> Result<Response, Failure> {
    confirmed.require()?;
    let version = find(&mut call, &slug, id).await?;
    match plan::publish_version(&mut call.tx, &call.actor, id, call.now).await {
        Ok(published) => {
            let text =
                format!("Version {} is offered from now on. It never changes; those on earlier versions stay on them.", published.version);
            Ok(call.commit_and_go(&format!("/admin/plans/{slug}"), "success", text).await?.into_response())
        }
        Err(error) if belongs_on_form(&error) => {
            let form = TermsForm::of(&version.terms());
            version_page(call, version, form, error).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn delete(
    Path((slug, id)): Path<(String, PlanVersionId)>,
    Posted(mut call, confirmed): Posted<UserCall, Confirmed>,
) -> Result<Redirect, Failure> {
    confirmed.require()?;
    find(&mut call, &slug, id).await?;
    plan::delete_draft(&mut call.tx, &call.actor, id, call.now).await?;
    Ok(call.commit_and_go(&format!("/admin/plans/{slug}"), "success", "The draft is deleted.").await?)
}
