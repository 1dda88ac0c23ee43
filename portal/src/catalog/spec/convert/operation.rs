//! Path items, operations and responses.

use serde_json::{Map, Value, json};

use super::{
    Object, Shared, media_types,
    parameter::{self, FORM_TYPES},
    schema,
};
use crate::catalog::spec::{Warnings, operations::METHODS};

/// All path items. What is no object stays as it is, for a later stage to refuse with its place.
pub fn paths(paths: Value, shared: &Shared, warnings: &mut Warnings) -> Value {
    let Value::Object(paths) = paths else { return paths };
    let item = |(template, item): (String, Value)| match item {
        Value::Object(item) if !template.starts_with("x-") => {
            let converted = path_item(item, shared, &template, warnings);
            (template, Value::Object(converted))
        }
        other => (template, other),
    };
    Value::Object(paths.into_iter().map(item).collect())
}

fn path_item(mut item: Object, shared: &Shared, template: &str, warnings: &mut Warnings) -> Object {
    let common = parameter::Split::of(item.shift_remove("parameters").as_ref(), shared);
    let mut converted = Map::new();
    for (key, value) in item {
        match value {
            Value::Object(object) if METHODS.contains(&key.as_str()) => {
                let place = format!("{} {template}", key.to_uppercase());
                converted.insert(key, Value::Object(operation(object, &common, shared, &place, warnings)));
            }
            other => {
                converted.insert(key, other);
            }
        }
    }
    if !common.plain.is_empty() {
        converted.insert("parameters".to_owned(), Value::Array(common.plain));
    }
    converted
}

fn operation(mut operation: Object, common: &parameter::Split, shared: &Shared, place: &str, warnings: &mut Warnings) -> Object {
    let own = |operation: &mut Object, key: &str, default: &[String]| match operation.shift_remove(key) {
        Some(value) => media_types(Some(&value)),
        None => default.to_vec(),
    };
    let consumes = own(&mut operation, "consumes", &shared.consumes);
    let produces = own(&mut operation, "produces", &shared.produces);
    operation.shift_remove("schemes");
    let split = parameter::Split::of(operation.shift_remove("parameters").as_ref(), shared);

    let body = split.body.as_ref().or(common.body.as_ref());
    let fields = if split.fields.is_empty() { &common.fields } else { &split.fields };
    if body.is_some() && !fields.is_empty() {
        warnings.add(format!("{place} has a body and form fields, of which an operation may have one; the reference shows the body."));
    }
    let body = match body {
        Some(parameter::Body::Own(body)) => Some(parameter::body(body, &consumes)),
        Some(parameter::Body::Shared(name)) => {
            Some(json!({"$ref": format!("#/components/requestBodies/{}", crate::catalog::spec::pointer::escape(name))}))
        }
        None if fields.is_empty() => None,
        None => Some(parameter::form(fields, &consumes)),
    };
    let responses = operation.shift_remove("responses");

    if !split.plain.is_empty() {
        operation.insert("parameters".to_owned(), Value::Array(split.plain));
    }
    if let Some(body) = body {
        operation.insert("requestBody".to_owned(), body);
    }
    let responses = match responses {
        Some(Value::Object(responses)) => {
            let convert = |(status, value): (String, Value)| {
                let value = if status.starts_with("x-") { value } else { response(value, &produces) };
                (status, value)
            };
            Value::Object(responses.into_iter().map(convert).collect())
        }
        Some(other) => other,
        None => json!({}),
    };
    operation.insert("responses".to_owned(), responses);
    operation
}

/// One response; a reference stays one.
pub fn response(value: Value, produces: &[String]) -> Value {
    let Value::Object(mut response) = value else { return value };
    if response.contains_key("$ref") {
        return Value::Object(response);
    }
    response.entry("description").or_insert_with(|| json!(""));
    let mut body = response.shift_remove("schema");
    let examples = match response.shift_remove("examples") {
        Some(Value::Object(examples)) => examples,
        _ => Map::new(),
    };
    if let Some(schema) = &mut body {
        schema::convert(schema);
    }
    let mut types: Vec<String> = produces.to_vec();
    types.extend(examples.keys().filter(|key| key.contains('/') && !produces.contains(key)).cloned());
    if types.is_empty() {
        types.push(if body.as_ref().is_some_and(schema::is_binary) { "application/octet-stream" } else { "application/json" }.to_owned());
    }
    if body.is_some() || !examples.is_empty() {
        let mut content = Map::new();
        for media_type in types {
            let mut media = Map::new();
            if let Some(schema) = &body {
                media.insert("schema".to_owned(), schema.clone());
            }
            if let Some(example) = examples.get(&media_type) {
                media.insert("example".to_owned(), example.clone());
            }
            content.insert(media_type, Value::Object(media));
        }
        response.insert("content".to_owned(), Value::Object(content));
    }
    if let Some(Value::Object(headers)) = response.get_mut("headers") {
        for header in headers.values_mut() {
            if let Value::Object(object) = header {
                *header = Value::Object(parameter::with_schema(object));
            }
        }
    }
    Value::Object(response)
}

/// The media types of a form: those that the operation names, else the one that its fields need.
pub fn form_types(consumes: &[String], has_file: bool) -> Vec<String> {
    let named: Vec<String> =
        consumes.iter().filter(|name| FORM_TYPES.contains(&name.split(';').next().unwrap_or_default().trim())).cloned().collect();
    if !named.is_empty() {
        return named;
    }
    vec![FORM_TYPES[usize::from(has_file)].to_owned()]
}
