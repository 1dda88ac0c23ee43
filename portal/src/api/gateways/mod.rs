//! `/api/v1/gateways`: metering gateways, for operators.

use calendar::Timestamp;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    gateways::{Gateway, Instance, Issued},
};

mod create;
mod grant;
mod leases;
mod list;
mod revoke;
mod rotate;
mod write_off;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list::list_gateways, create::create_gateway))
        .routes(routes!(revoke::revoke_gateway))
        .routes(routes!(rotate::rotate_gateway))
        .routes(routes!(leases::list_leases))
        .routes(routes!(write_off::write_off_leases))
        .routes(routes!(grant::grant_quota))
}

fn shown(gateway: Gateway, now: Timestamp) -> portal_api::Gateway {
    portal_api::Gateway {
        id: gateway.id,
        name: gateway.name,
        hint: gateway.hint,
        namespaces: gateway.namespaces,
        created_at: gateway.created_at,
        revoked_at: gateway.revoked_at,
        previous_until: gateway.previous_until,
        instances: gateway.instances.into_iter().map(|instance| shown_instance(instance, now)).collect(),
    }
}

fn shown_instance(instance: Instance, now: Timestamp) -> portal_api::GatewayInstance {
    let live = instance.is_live(now);
    let status = instance.status;
    portal_api::GatewayInstance {
        journal: instance.journal,
        last_seen_at: instance.last_seen_at,
        live,
        version: status.as_ref().map(|status| status.version.clone()),
        generation: status.as_ref().map(|status| status.generation.0),
        unshipped_records: status.as_ref().map(|status| status.unshipped_records),
        alerts: status.map(|status| status.alerts).unwrap_or_default(),
    }
}

fn issued(issued: Issued, now: Timestamp) -> portal_api::IssuedGateway {
    portal_api::IssuedGateway { credential: issued.credential.reveal().to_owned(), gateway: shown(issued.gateway, now) }
}
