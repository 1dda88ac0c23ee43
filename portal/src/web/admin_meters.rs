//! `/admin/meters`: what is counted.

use askama::Template;
use axum::{
    Router,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

use super::{belongs_on_form, call::UserCall, failure::Failure, form::Posted, form_status, no_error, shell::Shell};
use crate::{
    app::App,
    catalog::meter::{self, Aggregation, Meter, NewMeter},
    error::Error,
    identity::Permission,
};

/// Pages of this area.
pub fn routes() -> Router<App> {
    Router::new().route("/admin/meters", get(index).post(create))
}

#[derive(Debug, Default, Deserialize)]
struct MeterForm {
    #[serde(default)]
    slug: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    unit: String,
    #[serde(default)]
    aggregation: String,
}

#[derive(Template)]
#[template(path = "pages/admin/meters.html")]
struct Page {
    shell: Shell,
    meters: Vec<Meter>,
    form: MeterForm,
    error: Error,
}

async fn index(call: UserCall) -> Result<Response, Failure> {
    call.actor.require(Permission::Operate)?;
    page(call, MeterForm { aggregation: "sum".to_owned(), ..MeterForm::default() }, no_error()).await
}

async fn page(mut call: UserCall, form: MeterForm, error: Error) -> Result<Response, Failure> {
    let meters = meter::meters(&mut call.tx).await?;
    let shell = call.shell("Meters", "admin-products").await?;
    Ok((form_status(&error), Html(Page { shell, meters, form, error }.render()?)).into_response())
}

async fn create(Posted(mut call, form): Posted<UserCall, MeterForm>) -> Result<Response, Failure> {
    let created = match form.aggregation.parse::<Aggregation>() {
        Ok(aggregation) => {
            let text = |text: &str| text.trim().to_owned();
            let input = NewMeter { slug: text(&form.slug), name: text(&form.name), unit: text(&form.unit), aggregation };
            meter::create_meter(&mut call.tx, &call.actor, input, call.now).await
        }
        Err(problem) => call.actor.require(Permission::Operate).and_then(|()| Err(Error::invalid("aggregation", problem))),
    };
    match created {
        Ok(meter) => {
            let text = format!("The meter {} is there. Let routes move it, then price it in a plan.", meter.name);
            Ok(call.commit_and_go("/admin/meters", "success", text).await?.into_response())
        }
        Err(error) if belongs_on_form(&error) => {
            // A violated constraint has ended the transaction; the page needs one to read.
            let app = call.app.clone();
            call.tx = app.begin().await?;
            page(call, form, error).await
        }
        Err(error) => Err(error.into()),
    }
}
