//! OpenAPI 2.0 to 3.0.3. Paths keep their places, so that refusals of later stages name places of the original.
//!
//! | 2.0 | 3.0 |
//! |---|---|
//! | `schemes`, `host`, `basePath` | `servers` |
//! | `definitions`, `responses` | `components.schemas`, `components.responses` |
//! | `parameters` of paths, queries, headers | `components.parameters`, with `schema`, `style`, `explode` |
//! | `in: body` | `requestBody` with each of `consumes`; shared ones in `components.requestBodies` |
//! | `in: formData` | `requestBody` with one object schema |
//! | `produces`, `schema`, `examples` of responses | `content` |
//! | `securityDefinitions` | `components.securitySchemes` |
//! | `discriminator: name`, `x-nullable`, `type: file` | `discriminator.propertyName`, `nullable`, binary strings |

mod operation;
mod parameter;
mod schema;
mod security;

use serde_json::{Map, Value, json};

use super::{Refused, Warnings, refs};

type Object = Map<String, Value>;

/// The version that the result declares.
const TARGET: &str = "3.0.3";

/// Converts a document whose references were checked.
pub fn to_three(mut root: Object, warnings: &mut Warnings) -> Result<Object, Refused> {
    let shared = Shared::take(&mut root);
    let mut converted = Map::new();
    converted.insert("openapi".to_owned(), json!(TARGET));
    for key in ["info", "tags", "externalDocs"] {
        if let Some(value) = root.shift_remove(key) {
            converted.insert(key.to_owned(), value);
        }
    }
    converted.insert("servers".to_owned(), servers(&root));
    if let Some(security) = root.shift_remove("security") {
        converted.insert("security".to_owned(), security);
    }
    if let Some(paths) = root.shift_remove("paths") {
        converted.insert("paths".to_owned(), operation::paths(paths, &shared, warnings));
    }
    converted.insert("components".to_owned(), components(&mut root, &shared));
    for (key, value) in root {
        if key.starts_with("x-") {
            converted.insert(key, value);
        }
    }
    refs::rewrite(&mut converted, false, &|reference| shared.rewritten(reference));
    // A reference into the middle of something whose shape changed leads nowhere now.
    refs::check(&converted)?;
    Ok(converted)
}

/// What operations refer to.
struct Shared {
    parameters: Object,
    consumes: Vec<String>,
    produces: Vec<String>,
}

impl Shared {
    fn take(root: &mut Object) -> Self {
        let parameters = match root.shift_remove("parameters") {
            Some(Value::Object(parameters)) => parameters,
            _ => Map::new(),
        };
        Self { parameters, consumes: media_types(root.get("consumes")), produces: media_types(root.get("produces")) }
    }

    /// The shared parameter that a reference names.
    fn parameter(&self, reference: &str) -> Option<(&str, &Object)> {
        let name = reference.strip_prefix("#/parameters/")?.replace("~1", "/").replace("~0", "~");
        self.parameters.iter().find(|(key, _)| **key == name).and_then(|(key, value)| Some((key.as_str(), value.as_object()?)))
    }

    fn rewritten(&self, reference: &str) -> Option<String> {
        const MOVED: [(&str, &str); 3] = [
            ("#/definitions/", "#/components/schemas/"),
            ("#/parameters/", "#/components/parameters/"),
            ("#/responses/", "#/components/responses/"),
        ];
        MOVED.iter().find_map(|(from, to)| Some(format!("{to}{}", reference.strip_prefix(from)?)))
    }
}

fn media_types(value: Option<&Value>) -> Vec<String> {
    let types = value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    types.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

fn servers(root: &Object) -> Value {
    let text = |key: &str| root.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let base = text("basePath").map_or(String::new(), |base| format!("/{}", base.trim_matches('/')));
    let base = base.trim_end_matches('/');
    let Some(host) = text("host") else {
        return json!([{"url": if base.is_empty() { "/" } else { base }}]);
    };
    let mut schemes = media_types(root.get("schemes"));
    schemes.retain(|scheme| matches!(scheme.as_str(), "http" | "https"));
    // Calls should not travel in clear if they need not.
    schemes.sort_by_key(|scheme| scheme != "https");
    if schemes.is_empty() {
        schemes.push("https".to_owned());
    }
    Value::Array(schemes.iter().map(|scheme| json!({"url": format!("{scheme}://{host}{base}")})).collect())
}

fn components(root: &mut Object, shared: &Shared) -> Value {
    let mut components = Map::new();
    if let Some(Value::Object(mut definitions)) = root.shift_remove("definitions") {
        definitions.values_mut().for_each(schema::convert);
        components.insert("schemas".to_owned(), Value::Object(definitions));
    }
    let mut parameters = Map::new();
    let mut bodies = Map::new();
    for (name, value) in &shared.parameters {
        let Some(parameter) = value.as_object() else { continue };
        match parameter.get("in").and_then(Value::as_str) {
            Some("body") => {
                bodies.insert(name.clone(), parameter::body(parameter, &shared.consumes));
            }
            // The fields of a form become one schema in each operation.
            Some("formData") => {}
            _ => {
                parameters.insert(name.clone(), parameter::convert(parameter));
            }
        }
    }
    for (key, value) in [("parameters", parameters), ("requestBodies", bodies)] {
        if !value.is_empty() {
            components.insert(key.to_owned(), Value::Object(value));
        }
    }
    if let Some(Value::Object(responses)) = root.shift_remove("responses") {
        let converted = responses.into_iter().map(|(name, response)| (name, operation::response(response, &shared.produces))).collect();
        components.insert("responses".to_owned(), Value::Object(converted));
    }
    if let Some(Value::Object(definitions)) = root.shift_remove("securityDefinitions") {
        let schemes = definitions.into_iter().map(|(name, definition)| (name, security::convert(definition))).collect();
        components.insert("securitySchemes".to_owned(), Value::Object(schemes));
    }
    Value::Object(components)
}

#[cfg(test)]
mod tests;
