//! `/api/v1/products/{slug}/service`: where a product's calls go.

use gateway_control::options::{ServiceOptions, UpstreamProtocol};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    catalog::service::{Service, ServiceSettings},
};

mod get;
mod put;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get::get_service, put::put_service))
}

fn shown(service: Service) -> portal_api::Service {
    let ServiceSettings { upstream_url, sandbox_url, connect_timeout_ms, first_byte_timeout_ms, options } = service.settings;
    let ServiceOptions { addresses, protocol, max_connections, max_waiting, max_retries, eject_after_failures } = options;
    let protocol = match protocol {
        UpstreamProtocol::Auto => portal_api::UpstreamProtocol::Auto,
        UpstreamProtocol::Http1 => portal_api::UpstreamProtocol::Http1,
        UpstreamProtocol::Http2 => portal_api::UpstreamProtocol::Http2,
    };
    let settings = portal_api::ServiceSettings {
        upstream_url,
        sandbox_url,
        connect_timeout_ms,
        first_byte_timeout_ms,
        addresses,
        protocol,
        max_connections,
        max_waiting,
        max_retries,
        eject_after_failures,
    };
    portal_api::Service { id: service.id, settings }
}

fn read(settings: portal_api::ServiceSettings) -> ServiceSettings {
    let protocol = match settings.protocol {
        portal_api::UpstreamProtocol::Auto => UpstreamProtocol::Auto,
        portal_api::UpstreamProtocol::Http1 => UpstreamProtocol::Http1,
        portal_api::UpstreamProtocol::Http2 => UpstreamProtocol::Http2,
    };
    ServiceSettings {
        upstream_url: settings.upstream_url,
        sandbox_url: settings.sandbox_url,
        connect_timeout_ms: settings.connect_timeout_ms,
        first_byte_timeout_ms: settings.first_byte_timeout_ms,
        options: ServiceOptions {
            addresses: settings.addresses,
            protocol,
            max_connections: settings.max_connections,
            max_waiting: settings.max_waiting,
            max_retries: settings.max_retries,
            eject_after_failures: settings.eject_after_failures,
        },
    }
}
