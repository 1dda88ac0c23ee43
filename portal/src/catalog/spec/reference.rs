//! The document as developers are shown it: calls go to the gateway, with the product's key. What it describes is untouched.

use serde_json::{Map, Value, json};

use super::operations::METHODS;

/// The name of the one security scheme.
const SCHEME: &str = "apiKey";

/// The document's text without `servers`. It is stored so, because the gateway's address is a setting that may change; see [`with_servers`].
pub fn text(mut root: Map<String, Value>) -> String {
    root.shift_remove("servers");
    for item in root.get_mut("paths").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut)
    {
        item.shift_remove("servers");
        for operation in METHODS {
            if let Some(Value::Object(operation)) = item.get_mut(operation) {
                operation.shift_remove("servers");
                operation.shift_remove("security");
            }
        }
    }
    let scheme = json!({SCHEME: {
        "type": "apiKey",
        "in": "header",
        "name": gateway_control::headers::API_KEY,
        "description": "A key of an application that is subscribed to a plan which covers this API.",
    }});
    match root.get_mut("components").and_then(Value::as_object_mut) {
        Some(components) => {
            components.insert("securitySchemes".to_owned(), scheme);
        }
        None => {
            root.insert("components".to_owned(), json!({"securitySchemes": scheme}));
        }
    }
    root.insert("security".to_owned(), json!([{SCHEME: []}]));
    Value::Object(root).to_string()
}

/// The stored text with the one server that calls go to.
pub fn with_servers(text: &str, base_url: &str) -> String {
    let members = text.trim_start().strip_prefix('{').unwrap_or(text);
    format!("{{\"servers\":{},{members}", json!([{"url": base_url}]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_go_to_the_gateway_with_a_key() {
        let Value::Object(root) = json!({
            "openapi": "3.0.0",
            "servers": [{"url": "https://internal.example.com"}],
            "security": [{"oauth": ["read"]}],
            "paths": {"/a": {"servers": [{"url": "x"}], "get": {"security": [], "servers": [], "summary": "A", "x-vendor": 1}}},
            "components": {"schemas": {"S": {"type": "string"}}, "securitySchemes": {"oauth": {"type": "oauth2"}}},
        }) else {
            unreachable!("an object")
        };
        let shown = with_servers(&text(root), "https://gateway.example.com/weather");
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(shown["servers"], json!([{"url": "https://gateway.example.com/weather"}]));
        assert_eq!(shown["security"], json!([{"apiKey": []}]));
        assert_eq!(shown["components"]["securitySchemes"]["apiKey"]["name"], "x-api-key");
        assert_eq!(shown["components"]["securitySchemes"].as_object().expect("an object").len(), 1);
        assert_eq!(shown["components"]["schemas"], json!({"S": {"type": "string"}}));
        assert_eq!(shown["paths"], json!({"/a": {"get": {"summary": "A", "x-vendor": 1}}}));
    }
}
