//! An organization's settings and audit log.

use askama::Template;
use axum::{
    Router,
    extract::Query,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

use super::{
    call::Call,
    failure::{Failure, status_of},
    form::Posted,
    shell::Shell,
};
use crate::{
    app::App,
    audit::{self, Recorded},
    error::{Error, Result},
    identity::Permission,
    tenants::{self, Tenant, TenantSettings},
};

/// How many entries of the audit log a page shows.
const PER_PAGE: i64 = 50;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/settings", get(show).post(save)).route("/settings/audit", get(audit_log))
}

#[derive(Template)]
#[template(path = "pages/settings/index.html")]
struct SettingsPage {
    shell: Shell,
    tenant: Tenant,
    input: SettingsForm,
    zones: Vec<String>,
    may_change: bool,
    error: Error,
}

#[derive(Deserialize)]
struct SettingsForm {
    name: String,
    billing_email: String,
    time_zone: String,
}

async fn show(mut call: Call) -> Result<Html<String>, Failure> {
    let tenant = tenants::get(&mut call.tx, &call.actor, call.tenant).await?;
    let input =
        SettingsForm { name: tenant.name.clone(), billing_email: tenant.billing_email.clone(), time_zone: tenant.time_zone.clone() };
    Ok(Html(settings_page(call, tenant, input, super::no_error()).await?.render()?))
}

async fn save(Posted(mut call, input): Posted<Call, SettingsForm>) -> Result<Response, Failure> {
    let settings =
        TenantSettings { name: input.name.clone(), billing_email: input.billing_email.clone(), time_zone: input.time_zone.clone() };
    match tenants::update(&mut call.tx, &call.actor, call.tenant, settings, call.now).await {
        Ok(()) => Ok(call.commit_and_go("/settings", "success", "The settings are saved.").await?.into_response()),
        Err(error) if super::belongs_on_form(&error) => {
            let tenant = tenants::get(&mut call.tx, &call.actor, call.tenant).await?;
            let page = settings_page(call, tenant, input, error).await?;
            Ok((status_of(page.error.kind), Html(page.render()?)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn settings_page(mut call: Call, tenant: Tenant, input: SettingsForm, error: Error) -> Result<SettingsPage> {
    let may_change = call.actor.require(Permission::Own(call.tenant)).is_ok();
    let shell = call.shell("Settings", "settings").await?;
    Ok(SettingsPage { shell, tenant, input, zones: tenants::time_zones(), may_change, error })
}

#[derive(Template)]
#[template(path = "pages/settings/audit.html")]
struct AuditPage {
    shell: Shell,
    entries: Vec<Recorded>,
    summary: String,
    previous: String,
    next: String,
}

impl AuditPage {
    /// What changed, as short JSON.
    fn change(entry: &Recorded) -> String {
        match (&entry.before, &entry.after) {
            (Some(before), Some(after)) => format!("{before} → {after}"),
            (None, Some(after)) => after.to_string(),
            (Some(before), None) => before.to_string(),
            (None, None) => String::new(),
        }
    }
}

#[derive(Deserialize)]
struct PageNumber {
    page: Option<u32>,
}

async fn audit_log(mut call: Call, Query(query): Query<PageNumber>) -> Result<Html<String>, Failure> {
    call.actor.require(Permission::View(call.tenant))?;
    let page = i64::from(query.page.unwrap_or(1).clamp(1, 100_000));
    let offset = (page - 1) * PER_PAGE;
    let entries = audit::of_tenant(&mut call.tx, call.tenant, PER_PAGE, offset).await?;
    let total = audit::count_of_tenant(&mut call.tx, call.tenant).await?;
    let last = offset + i64::try_from(entries.len()).unwrap_or(0);
    let shell = call.shell("Audit log", "settings").await?;
    let page = AuditPage {
        shell,
        summary: if entries.is_empty() { format!("{total} entries") } else { format!("{} to {last} of {total}", offset + 1) },
        previous: if page > 1 { format!("?page={}", page - 1) } else { String::new() },
        next: if last < total && !entries.is_empty() { format!("?page={}", page + 1) } else { String::new() },
        entries,
    };
    Ok(Html(page.render()?))
}
