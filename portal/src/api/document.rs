//! What the OpenAPI document says of every operation.

use portal_api::Problem;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, ContentBuilder, Info, OpenApi, OpenApiBuilder, Ref, Response, ResponseBuilder,
        path::{Operation, ParameterBuilder, ParameterIn},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

const DESCRIPTION: &str = "The REST API of the Tollkeeper portal. Send a token of the page Settings, REST tokens, as \
    `Authorization: Bearer tk_rest_…`. A token that is bound to an organization sees that one only; with any other, name the organization in the header \
    `Tollkeeper-Tenant`. Errors are `application/problem+json` (RFC 9457); `errors` names the fields at fault. Lists are newest first; pass `next` as \
    `after` to read on.";

/// The document without paths.
pub(super) fn base() -> OpenApi {
    let mut info = Info::new("Tollkeeper", "1");
    info.description = Some(DESCRIPTION.to_owned());
    OpenApiBuilder::new().info(info).components(Some(Components::new())).build()
}

/// Adds to each operation what all have in common.
pub(super) fn finish(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_with(Components::new);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A REST token, `tk_rest_…`.")).build();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    add_problem(components);
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten() {
            describe(operation);
        }
    }
    document
}

fn describe(operation: &mut Operation) {
    operation.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    // Operations on the whole installation have no tenant.
    let of_installation = operation.tags.as_ref().is_some_and(|tags| tags.iter().any(|tag| tag == "operator" || tag == "catalog"));
    if !of_installation {
        let header = ParameterBuilder::new()
            .name("Tollkeeper-Tenant")
            .parameter_in(ParameterIn::Header)
            .description(Some("The organization, where the token is not bound to one."))
            .schema(Some(ids::TenantId::schema()))
            .build();
        operation.parameters.get_or_insert_with(Vec::new).push(header.into());
    }
    for (status, description) in [
        ("401", "No token, or one that is unknown, expired or revoked."),
        ("403", "The token's person is not allowed to do this."),
        ("404", "It does not exist, or not for you."),
        ("422", "The input is not valid; `errors` names the fields."),
        ("default", "Any other failure."),
    ] {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| problem(description).into());
    }
}

/// Makes the schema that [`problem`] names known.
pub(crate) fn add_problem(components: &mut Components) {
    let mut schemas = Vec::new();
    <Problem as ToSchema>::schemas(&mut schemas);
    components.schemas.extend(schemas);
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
}

/// A failure, as RFC 9457 has it.
pub(crate) fn problem(description: &str) -> Response {
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
    ResponseBuilder::new().description(description).content("application/problem+json", problem).build()
}
