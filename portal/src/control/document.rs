//! What the OpenAPI document of the gateways' calls says of all of them.

use utoipa::openapi::{
    Components, Info, OpenApi, OpenApiBuilder,
    path::Operation,
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};

use crate::api::document::{add_problem, problem};

const DESCRIPTION: &str = "What metering gateways and the portal say to each other. Every call carries the gateway's own credential as \
    `Authorization: Bearer tk_gway_…`, over HTTP/1.1 or HTTP/2. Every body carries the version of its format; the portal speaks the current and the previous \
    one. Fields that a peer does not know are ignored. Quantities are decimal strings in units. Errors are `application/problem+json` (RFC 9457).";

/// The document without paths.
pub(super) fn base() -> OpenApi {
    let mut info = Info::new("Tollkeeper gateway control", "1");
    info.description = Some(DESCRIPTION.to_owned());
    OpenApiBuilder::new().info(info).components(Some(Components::new())).build()
}

/// Adds to each operation what all have in common.
pub(super) fn finish(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_with(Components::new);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A gateway's credential, `tk_gway_…`.")).build();
    components.add_security_scheme("credential", SecurityScheme::Http(bearer));
    add_problem(components);
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            describe(operation);
        }
    }
    document
}

fn describe(operation: &mut Operation) {
    operation.security = Some(vec![SecurityRequirement::new("credential", Vec::<String>::new())]);
    for (status, description) in [
        ("401", "No credential, or one that is unknown, expired or revoked."),
        ("403", "What the call is about belongs to another gateway."),
        ("422", "The input is malformed, or in a format that the portal does not speak; `errors` names the fields."),
        ("503", "Not now. Try again in a moment; nothing has changed."),
        ("default", "Any other failure."),
    ] {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| problem(description).into());
    }
}
