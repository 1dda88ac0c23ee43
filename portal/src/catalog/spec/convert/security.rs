//! Security definitions.

use serde_json::{Map, Value, json};

/// One definition. What is unknown stays as it is.
pub fn convert(definition: Value) -> Value {
    let Value::Object(mut object) = definition else { return definition };
    match object.get("type").and_then(Value::as_str) {
        Some("basic") => {
            object.insert("type".to_owned(), json!("http"));
            object.insert("scheme".to_owned(), json!("basic"));
        }
        Some("oauth2") => {
            let name = match object.shift_remove("flow").as_ref().and_then(Value::as_str) {
                Some("application") => "clientCredentials",
                Some("accessCode") => "authorizationCode",
                Some("password") => "password",
                _ => "implicit",
            };
            let mut flow = Map::new();
            for key in ["authorizationUrl", "tokenUrl", "scopes"] {
                if let Some(value) = object.shift_remove(key) {
                    flow.insert(key.to_owned(), value);
                }
            }
            flow.entry("scopes").or_insert_with(|| json!({}));
            object.insert("flows".to_owned(), json!({name: flow}));
        }
        _ => {}
    }
    Value::Object(object)
}
