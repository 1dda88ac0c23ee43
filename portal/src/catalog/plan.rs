//! Plans and their versions. A version is a draft until it is published, and immutable from then on: subscriptions and usage name it for ever.

use calendar::{Cadence, Timestamp};
use gateway_control::policy::BillableRule;
use ids::{ApiProductId, MeterId, PlanId, PlanVersionId, RateCardId};
use quota::{QuotaLimit, RateLimit};
use rating::Currency;
use serde_json::json;

use super::{
    check::Problems,
    rate_card::{NewRateCard, RateCard},
};
use crate::{
    audit::{self, Entry},
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
};

mod store;
mod terms;

pub use terms::VersionTerms;

/// An offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its id.
    pub id: PlanId,
    /// Its name in URLs.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// One sentence.
    pub summary: String,
    /// The order in which plans are shown, and in which a change is an upgrade.
    pub position: i32,
    /// When it was created.
    pub created_at: Timestamp,
    /// Since when it is no longer offered. Subscriptions to it go on.
    pub archived_at: Option<Timestamp>,
}

/// An edition of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanVersion {
    /// Its id.
    pub id: PlanVersionId,
    /// The plan.
    pub plan: Plan,
    /// 1 for the first.
    pub version: i32,
    /// The currency of all its prices.
    pub currency: Currency,
    /// How long a billing and quota period lasts.
    pub cadence: Cadence,
    /// How fast calls may come.
    pub rate_limits: Vec<RateLimit>,
    /// How much a period allows.
    pub quotas: Vec<QuotaLimit>,
    /// Which answers count.
    pub billable: BillableRule,
    /// The API products that it covers, by name.
    pub products: Vec<ApiProductId>,
    /// What it costs, in the order of the invoice.
    pub rate_cards: Vec<RateCard>,
    /// Since when it is offered; `None` for a draft.
    pub published_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
}

impl PlanVersion {
    /// Whether it covers an API product.
    pub fn covers(&self, product: ApiProductId) -> bool {
        self.products.contains(&product)
    }

    /// The terms, to base a new version on.
    pub fn terms(&self) -> VersionTerms {
        VersionTerms {
            currency: self.currency,
            cadence: self.cadence,
            rate_limits: self.rate_limits.clone(),
            quotas: self.quotas.clone(),
            billable: self.billable.clone(),
            products: self.products.clone(),
            rate_cards: self.rate_cards.iter().map(NewRateCard::from).collect(),
        }
    }

    /// The meters that its prices and quotas name, each once.
    pub fn meters(&self) -> Vec<MeterId> {
        let mut meters: Vec<MeterId> =
            self.rate_cards.iter().filter_map(|card| card.meter).chain(self.quotas.iter().map(|quota| quota.meter)).collect();
        meters.sort_unstable();
        meters.dedup();
        meters
    }
}

/// What a new plan is.
#[derive(Debug, Clone)]
pub struct NewPlan {
    /// 1 to 63 lower-case letters, digits and hyphens.
    pub slug: String,
    /// 1 to 100 characters.
    pub name: String,
    /// At most 300 characters.
    pub summary: String,
    /// The order in which plans are shown.
    pub position: i32,
}

/// The newest published version of each plan that is offered, in the order of the plans.
pub async fn published_plans(tx: &mut Tx) -> Result<Vec<PlanVersion>> {
    let ids = store::published_version_ids(tx, None).await?;
    store::versions(tx, &ids).await
}

/// The newest published version of an offered plan.
pub async fn published_plan(tx: &mut Tx, slug: &str) -> Result<PlanVersion> {
    let ids = store::published_version_ids(tx, Some(slug)).await?;
    store::versions(tx, &ids).await?.pop().ok_or_else(|| Error::not_found("This plan"))
}

/// A version, draft or not, of a plan that may be archived: what a subscription is on.
pub async fn plan_version(tx: &mut Tx, id: PlanVersionId) -> Result<PlanVersion> {
    store::versions(tx, &[id]).await?.pop().ok_or_else(|| Error::not_found("This plan version"))
}

/// Versions by their ids, in the order of plans and versions; an id that names none is left out.
pub async fn plan_versions(tx: &mut Tx, ids: &[PlanVersionId]) -> Result<Vec<PlanVersion>> {
    store::versions(tx, ids).await
}

/// All plans, archived ones too, in their order.
pub async fn plans(tx: &mut Tx, actor: &Actor) -> Result<Vec<Plan>> {
    actor.require(Permission::Operate)?;
    store::plans(tx).await
}

/// One plan with all its versions, the newest first.
pub async fn plan_with_versions(tx: &mut Tx, actor: &Actor, slug: &str) -> Result<(Plan, Vec<PlanVersion>)> {
    actor.require(Permission::Operate)?;
    let plan = store::plan_by_slug(tx, slug).await?.ok_or_else(|| Error::not_found("This plan"))?;
    let ids = store::version_ids_of(tx, plan.id).await?;
    let mut versions = store::versions(tx, &ids).await?;
    versions.sort_by_key(|version| std::cmp::Reverse(version.version));
    Ok((plan, versions))
}

/// Creates a plan without a version.
pub async fn create_plan(tx: &mut Tx, actor: &Actor, input: NewPlan, now: Timestamp) -> Result<Plan> {
    actor.require(Permission::Operate)?;
    check_plan(&input)?;
    let NewPlan { slug, name, summary, position } = input;
    let plan = Plan { id: PlanId::new(), slug, name, summary, position, created_at: now, archived_at: None };
    store::insert_plan(tx, &plan).await?;
    let after = Some(json!({"slug": plan.slug, "name": plan.name}));
    audit::record(tx, actor, Entry { action: "plan.created", target: plan.id.to_string(), after, ..Entry::default() }, now).await?;
    Ok(plan)
}

/// Changes a plan's texts and place. Its slug stays, because links and records name it.
pub async fn update_plan(tx: &mut Tx, actor: &Actor, id: PlanId, input: NewPlan, now: Timestamp) -> Result<()> {
    actor.require(Permission::Operate)?;
    check_plan(&input)?;
    if !store::update_plan(tx, id, &input).await? {
        return Err(Error::not_found("This plan"));
    }
    let after = Some(json!({"name": input.name, "summary": input.summary, "position": input.position}));
    audit::record(tx, actor, Entry { action: "plan.updated", target: id.to_string(), after, ..Entry::default() }, now).await
}

/// Stops offering a plan, or offers it again. Subscriptions to it go on.
pub async fn set_plan_archived(tx: &mut Tx, actor: &Actor, id: PlanId, archived: bool, now: Timestamp) -> Result<()> {
    actor.require(Permission::Operate)?;
    if !store::set_archived(tx, id, archived.then_some(now)).await? {
        return Err(Error::not_found("This plan"));
    }
    let action = if archived { "plan.archived" } else { "plan.restored" };
    audit::record(tx, actor, Entry { action, target: id.to_string(), ..Entry::default() }, now).await
}

/// Adds a draft version to a plan. A plan has at most one draft.
pub async fn create_version(tx: &mut Tx, actor: &Actor, plan: PlanId, terms: VersionTerms, now: Timestamp) -> Result<PlanVersion> {
    actor.require(Permission::Operate)?;
    terms.check(tx).await?;
    let plan = store::lock_plan(tx, plan).await?.ok_or_else(|| Error::not_found("This plan"))?;
    let id = PlanVersionId::new();
    store::insert_version(tx, id, plan.id, &terms, now).await?;
    store::insert_parts(tx, id, &with_ids(&terms.rate_cards), &terms.products).await?;
    let version = plan_version(tx, id).await?;
    record(tx, actor, "plan_version.created", &version, now).await?;
    Ok(version)
}

/// Replaces the terms of a draft.
pub async fn update_version(tx: &mut Tx, actor: &Actor, id: PlanVersionId, terms: VersionTerms, now: Timestamp) -> Result<PlanVersion> {
    actor.require(Permission::Operate)?;
    terms.check(tx).await?;
    require_draft(tx, id).await?;
    store::update_version(tx, id, &terms).await?;
    store::delete_parts(tx, id).await?;
    store::insert_parts(tx, id, &with_ids(&terms.rate_cards), &terms.products).await?;
    let version = plan_version(tx, id).await?;
    record(tx, actor, "plan_version.updated", &version, now).await?;
    Ok(version)
}

/// Offers a version: the plan's earlier versions stay with those who are on them. Every product that it covers must be published.
pub async fn publish_version(tx: &mut Tx, actor: &Actor, id: PlanVersionId, now: Timestamp) -> Result<PlanVersion> {
    actor.require(Permission::Operate)?;
    require_draft(tx, id).await?;
    let drafts = store::unpublished_products(tx, id).await?;
    if !drafts.is_empty() {
        let message =
            format!("Publish {} first, or take it out of this version: a plan sells published API products only.", drafts.join(", "));
        return Err(Error::conflict(message.clone()).with_field("products", message));
    }
    store::publish_version(tx, id, now).await?;
    let version = plan_version(tx, id).await?;
    record(tx, actor, "plan_version.published", &version, now).await?;
    Ok(version)
}

/// Throws a draft away.
pub async fn delete_draft(tx: &mut Tx, actor: &Actor, id: PlanVersionId, now: Timestamp) -> Result<()> {
    actor.require(Permission::Operate)?;
    require_draft(tx, id).await?;
    let version = plan_version(tx, id).await?;
    store::delete_parts(tx, id).await?;
    store::delete_version(tx, id).await?;
    record(tx, actor, "plan_version.deleted", &version, now).await
}

async fn record(tx: &mut Tx, actor: &Actor, action: &'static str, version: &PlanVersion, now: Timestamp) -> Result<()> {
    let after = Some(json!({"plan": version.plan.slug, "version": version.version}));
    audit::record(tx, actor, Entry { action, target: version.id.to_string(), after, ..Entry::default() }, now).await
}

async fn require_draft(tx: &mut Tx, id: PlanVersionId) -> Result<()> {
    match store::lock_version(tx, id).await? {
        None => Err(Error::not_found("This plan version")),
        Some(None) => Ok(()),
        Some(Some(_)) => Err(Error::conflict("A published version never changes. Make a new version of the plan instead.")),
    }
}

fn with_ids(cards: &[NewRateCard]) -> Vec<RateCard> {
    let card =
        |card: &NewRateCard| RateCard { id: RateCardId::new(), name: card.name.clone(), meter: card.meter, terms: card.terms.clone() };
    cards.iter().map(card).collect()
}

fn check_plan(input: &NewPlan) -> Result<()> {
    let mut problems = Problems::default();
    problems.slug("slug", &input.slug);
    problems.text("name", &input.name, 1, 100);
    problems.text("summary", &input.summary, 0, 300);
    problems.finish()
}
