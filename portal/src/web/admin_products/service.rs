//! `/admin/products/{slug}/service`: how a product's calls are spread over its upstream.

use askama::Template;
use axum::{
    extract::Path,
    response::{Html, IntoResponse, Response},
};
use gateway_control::options::{ServiceOptions, UpstreamProtocol};
use serde::Deserialize;

use super::{lines, traffic::number};
use crate::{
    catalog::{
        ApiProduct, api_product,
        service::{Service, ServiceSettings},
    },
    error::{Error, FieldError, Kind, Result},
    web::{belongs_on_form, call::UserCall, failure::Failure, form::Posted, form_status, no_error, shell::Shell},
};

/// What may be spoken: the value in the form, and its words.
const PROTOCOLS: [(&str, &str); 3] =
    [("auto", "What both agree on (TLS), or HTTP/1.1"), ("http1", "HTTP/1.1"), ("http2", "HTTP/2, as gRPC needs")];

/// The fields of the form, as they were entered.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServiceForm {
    upstream_url: String,
    sandbox_url: String,
    connect_timeout_ms: String,
    first_byte_timeout_ms: String,
    addresses: String,
    protocol: String,
    max_connections: String,
    max_waiting: String,
    max_retries: String,
    eject_after_failures: String,
}

impl ServiceForm {
    fn of(settings: &ServiceSettings) -> Self {
        let options = &settings.options;
        let text = |value: Option<u32>| value.map(|value| value.to_string()).unwrap_or_default();
        let protocol = match options.protocol {
            UpstreamProtocol::Auto => "auto",
            UpstreamProtocol::Http1 => "http1",
            UpstreamProtocol::Http2 => "http2",
        };
        Self {
            upstream_url: settings.upstream_url.clone(),
            sandbox_url: settings.sandbox_url.clone().unwrap_or_default(),
            connect_timeout_ms: settings.connect_timeout_ms.to_string(),
            first_byte_timeout_ms: settings.first_byte_timeout_ms.to_string(),
            addresses: lines::of_names(&options.addresses),
            protocol: protocol.to_owned(),
            max_connections: text(options.max_connections),
            max_waiting: text(options.max_waiting),
            max_retries: text(options.max_retries.map(u32::from)),
            eject_after_failures: text(options.eject_after_failures),
        }
    }

    fn read(&self) -> Result<ServiceSettings> {
        let mut problems = Vec::new();
        let protocol = match self.protocol.as_str() {
            "auto" => UpstreamProtocol::Auto,
            "http1" => UpstreamProtocol::Http1,
            "http2" => UpstreamProtocol::Http2,
            _ => {
                problems.push(FieldError { field: "protocol".into(), message: "Choose what is spoken.".to_owned() });
                UpstreamProtocol::Auto
            }
        };
        let settings = ServiceSettings {
            upstream_url: self.upstream_url.clone(),
            sandbox_url: Some(self.sandbox_url.clone()),
            // What is empty becomes 0, which the operation refuses with the field's name.
            connect_timeout_ms: number("connect_timeout_ms", &self.connect_timeout_ms, &mut problems).unwrap_or(0),
            first_byte_timeout_ms: number("first_byte_timeout_ms", &self.first_byte_timeout_ms, &mut problems).unwrap_or(0),
            options: ServiceOptions {
                addresses: lines::names(&self.addresses),
                protocol,
                max_connections: number("max_connections", &self.max_connections, &mut problems),
                max_waiting: number("max_waiting", &self.max_waiting, &mut problems),
                max_retries: number("max_retries", &self.max_retries, &mut problems),
                eject_after_failures: number("eject_after_failures", &self.eject_after_failures, &mut problems),
            },
        };
        if problems.is_empty() {
            return Ok(settings);
        }
        Err(Error { fields: problems, ..Error::new(Kind::Invalid, "Please correct the marked fields.") })
    }
}

#[derive(Template)]
#[template(path = "pages/admin/products/service.html")]
struct ShowPage {
    shell: Shell,
    product: ApiProduct,
    form: ServiceForm,
    error: Error,
}

impl ShowPage {
    fn at(&self, field: &str) -> &str {
        self.error.field(field).unwrap_or_default()
    }
}

pub(super) async fn show(mut call: UserCall, Path(slug): Path<String>) -> Result<Response, Failure> {
    let (product, service) = api_product::product(&mut call.tx, &call.actor, &slug).await?;
    show_page(call, product, ServiceForm::of(&service.settings), no_error()).await
}

async fn show_page(mut call: UserCall, product: ApiProduct, form: ServiceForm, error: Error) -> Result<Response, Failure> {
    let status = form_status(&error);
    let shell = call.shell(product.name.clone(), "admin-products").await?;
    Ok((status, Html(ShowPage { shell, product, form, error }.render()?)).into_response())
}

pub(super) async fn update(Path(slug): Path<String>, Posted(mut call, form): Posted<UserCall, ServiceForm>) -> Result<Response, Failure> {
    let (product, _) = api_product::product(&mut call.tx, &call.actor, &slug).await?;
    let updated: Result<Service> = match form.read() {
        Ok(settings) => api_product::update_service(&mut call.tx, &call.actor, &slug, settings, call.now).await,
        Err(error) => Err(error),
    };
    match updated {
        Ok(_) => Ok(call.commit_and_go(&format!("/admin/products/{slug}/service"), "success", "Saved.").await?.into_response()),
        Err(error) if belongs_on_form(&error) => show_page(call, product, form, error).await,
        Err(error) => Err(error.into()),
    }
}
