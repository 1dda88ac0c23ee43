//! Creating an organization, and switching to another.

use askama::Template;
use axum::{
    Router,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use ids::TenantId;
use serde::Deserialize;

use super::{
    call::UserCall,
    failure::{Failure, status_of},
    form::Posted,
    shell::Shell,
};
use crate::{
    app::App,
    error::{Error, Result},
    identity::session,
    tenants::{self, NewTenant, invitation},
};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/tenants/new", get(form).post(create)).route("/tenants/switch", post(switch))
}

#[derive(Template)]
#[template(path = "pages/tenants/new.html")]
struct NewTenantPage {
    shell: Shell,
    input: TenantForm,
    zones: Vec<String>,
    /// Whether there are invitations to answer instead.
    invited: bool,
    error: Error,
}

#[derive(Deserialize)]
struct TenantForm {
    name: String,
    #[serde(default)]
    namespace: String,
    billing_email: String,
    time_zone: String,
}

async fn form(mut call: UserCall) -> Result<Html<String>, Failure> {
    let shell = call.shell("New organization", "").await?;
    let input = TenantForm {
        name: String::new(),
        namespace: String::new(),
        billing_email: call.session.user_email.clone(),
        time_zone: "UTC".to_owned(),
    };
    let invited = is_invited(&mut call).await?;
    Ok(Html(NewTenantPage { shell, input, zones: tenants::time_zones(), invited, error: super::no_error() }.render()?))
}

async fn is_invited(call: &mut UserCall) -> Result<bool> {
    Ok(!invitation::of_person(&mut call.tx, &call.actor, call.now).await?.is_empty())
}

async fn create(Posted(mut call, input): Posted<UserCall, TenantForm>) -> Result<Response, Failure> {
    let new = NewTenant {
        name: input.name.clone(),
        namespace: input.namespace.clone(),
        billing_email: input.billing_email.clone(),
        time_zone: input.time_zone.clone(),
    };
    match tenants::create(&mut call.tx, &call.actor, new, call.now).await {
        Ok(tenant) => {
            session::enter_new_tenant(&mut call.tx, &call.session, tenant.id).await?;
            let text = format!("{} is ready.", tenant.name);
            Ok(call.commit_and_go("/overview", "success", text).await?.into_response())
        }
        Err(error) if super::belongs_on_form(&error) => {
            let shell = call.shell("New organization", "").await?;
            let invited = is_invited(&mut call).await?;
            let page = NewTenantPage { shell, input, zones: tenants::time_zones(), invited, error };
            Ok((status_of(page.error.kind), Html(page.render()?)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize)]
struct Switch {
    tenant: String,
}

async fn switch(Posted(mut call, input): Posted<UserCall, Switch>) -> Result<Redirect, Failure> {
    let tenant: TenantId = input.tenant.parse().map_err(|_| Error::not_found("This organization"))?;
    session::switch_tenant(&mut call.tx, &call.session, tenant).await?;
    call.commit().await?;
    Ok(Redirect::to("/overview"))
}
