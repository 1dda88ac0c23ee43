//! Parameters: those of paths, queries and headers, bodies, and the fields of forms.

use serde_json::{Map, Value, json};

use super::{Object, Shared, operation::form_types, schema};

/// The media types of forms; the second is for files.
pub const FORM_TYPES: [&str; 2] = ["application/x-www-form-urlencoded", "multipart/form-data"];

/// What 2.0 has on the parameter itself and 3.0 has in its schema.
const OF_SCHEMA: [&str; 17] = [
    "type",
    "format",
    "items",
    "default",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "enum",
    "multipleOf",
    "x-nullable",
];

/// The body of an operation.
pub enum Body {
    /// Written at the operation or path.
    Own(Object),
    /// A shared one, by name.
    Shared(String),
}

/// Parameters by their kinds.
pub struct Split {
    /// Of paths, queries and headers, converted.
    pub plain: Vec<Value>,
    /// The one in the body.
    pub body: Option<Body>,
    /// Of a form, as they were.
    pub fields: Vec<Object>,
}

impl Split {
    pub fn of(parameters: Option<&Value>, shared: &Shared) -> Self {
        let mut split = Self { plain: Vec::new(), body: None, fields: Vec::new() };
        for value in parameters.and_then(Value::as_array).into_iter().flatten() {
            let Some(parameter) = value.as_object() else { continue };
            let named = parameter.get("$ref").and_then(Value::as_str).and_then(|reference| shared.parameter(reference));
            let resolved = named.map_or(parameter, |(_, parameter)| parameter);
            match (resolved.get("in").and_then(Value::as_str), named) {
                (Some("body"), Some((name, _))) => split.body = Some(Body::Shared(name.to_owned())),
                (Some("body"), None) => split.body = Some(Body::Own(parameter.clone())),
                (Some("formData"), _) => split.fields.push(resolved.clone()),
                // A reference to a converted shared parameter; it is rewritten with all others.
                (_, Some(_)) => split.plain.push(value.clone()),
                (_, None) if parameter.contains_key("$ref") => split.plain.push(value.clone()),
                (_, None) => split.plain.push(convert(parameter)),
            }
        }
        split
    }
}

/// A parameter of a path, query or header.
pub fn convert(parameter: &Object) -> Value {
    let mut converted = with_schema(parameter);
    // A path's parameter is always required.
    if parameter.get("in").and_then(Value::as_str) == Some("path") {
        converted.insert("required".to_owned(), json!(true));
    }
    Value::Object(converted)
}

/// Moves what describes the value into `schema`, and the format of lists into `style` and `explode`. Headers of responses are like that, too.
pub fn with_schema(parameter: &Object) -> Object {
    let mut converted = Map::new();
    let mut inner = Map::new();
    for (key, value) in parameter {
        match key.as_str() {
            "collectionFormat" => {}
            "schema" => inner.extend(value.as_object().cloned().unwrap_or_default()),
            "x-example" => {
                converted.insert("example".to_owned(), value.clone());
            }
            key if OF_SCHEMA.contains(&key) => {
                inner.insert(key.to_owned(), value.clone());
            }
            key => {
                converted.insert(key.to_owned(), value.clone());
            }
        }
    }
    if inner.get("type").and_then(Value::as_str) == Some("array") {
        style(parameter, &mut converted);
    }
    let mut inner = Value::Object(inner);
    schema::convert(&mut inner);
    converted.insert("schema".to_owned(), inner);
    converted
}

fn style(parameter: &Object, converted: &mut Object) {
    let in_query = matches!(parameter.get("in").and_then(Value::as_str), Some("query"));
    let (style, explode) = match parameter.get("collectionFormat").and_then(Value::as_str).unwrap_or("csv") {
        "multi" if in_query => ("form", true),
        "ssv" if in_query => ("spaceDelimited", false),
        "pipes" if in_query => ("pipeDelimited", false),
        // Tabs have no form in 3.0; commas are the nearest.
        _ if in_query => ("form", false),
        _ => ("simple", false),
    };
    converted.insert("style".to_owned(), json!(style));
    converted.insert("explode".to_owned(), json!(explode));
}

/// A `requestBody` of a parameter in the body.
pub fn body(parameter: &Object, consumes: &[String]) -> Value {
    let mut converted = Map::new();
    for (key, value) in parameter {
        if matches!(key.as_str(), "description" | "required") || (key.starts_with("x-") && key != "x-example" && key != "x-examples") {
            converted.insert(key.clone(), value.clone());
        }
    }
    let mut schema = parameter.get("schema").cloned().unwrap_or_else(|| json!({}));
    schema::convert(&mut schema);
    let types: Vec<&str> = if consumes.is_empty() { vec!["application/json"] } else { consumes.iter().map(String::as_str).collect() };
    let content: Object = types.into_iter().map(|name| (name.to_owned(), json!({"schema": schema}))).collect();
    converted.insert("content".to_owned(), Value::Object(content));
    Value::Object(converted)
}

/// A `requestBody` of form fields: one object, a property a field.
pub fn form(fields: &[Object], consumes: &[String]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut has_file = false;
    for field in fields {
        let Some(name) = field.get("name").and_then(Value::as_str) else { continue };
        has_file |= field.get("type").and_then(Value::as_str) == Some("file");
        let mut with_schema = with_schema(field);
        let mut property = with_schema.shift_remove("schema").unwrap_or_else(|| json!({}));
        if let (Value::Object(property), Some(description)) = (&mut property, field.get("description")) {
            property.insert("description".to_owned(), description.clone());
        }
        if field.get("required").and_then(Value::as_bool) == Some(true) {
            required.push(json!(name));
        }
        properties.insert(name.to_owned(), property);
    }
    let mut schema = json!({"type": "object", "properties": properties});
    let is_required = !required.is_empty();
    if let (Value::Object(schema), true) = (&mut schema, is_required) {
        schema.insert("required".to_owned(), Value::Array(required));
    }
    let content: Object = form_types(consumes, has_file).into_iter().map(|name| (name, json!({"schema": schema}))).collect();
    let mut body = json!({"content": content});
    if let (Value::Object(body), true) = (&mut body, is_required) {
        body.insert("required".to_owned(), json!(true));
    }
    body
}
