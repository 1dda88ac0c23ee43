//! Schemas: what 2.0 writes in another way than 3.0.

use serde_json::{Value, json};

/// Converts a schema and all schemas inside, in place.
pub fn convert(schema: &mut Value) {
    let Value::Object(object) = schema else { return };
    if object.get("type").and_then(Value::as_str) == Some("file") {
        object.insert("type".to_owned(), json!("string"));
        object.insert("format".to_owned(), json!("binary"));
    }
    if let Some(name) = object.get("discriminator").and_then(Value::as_str) {
        let discriminator = json!({"propertyName": name});
        object.insert("discriminator".to_owned(), discriminator);
    }
    if let Some(nullable) = object.get("x-nullable").and_then(Value::as_bool) {
        object.shift_remove("x-nullable");
        object.insert("nullable".to_owned(), json!(nullable));
    }
    for (key, value) in object.iter_mut() {
        match (key.as_str(), value) {
            ("properties" | "definitions" | "patternProperties", Value::Object(named)) => named.values_mut().for_each(convert),
            ("allOf" | "anyOf" | "oneOf" | "items", Value::Array(list)) => list.iter_mut().for_each(convert),
            ("items" | "additionalProperties" | "not", value) => convert(value),
            _ => {}
        }
    }
}

/// Whether the value is a file.
pub fn is_binary(schema: &Value) -> bool {
    schema.get("format").and_then(Value::as_str) == Some("binary")
}
