//! A path of the document with values in it, for an example call.

use serde_json::{Map, Value};

use super::pointer;

/// Larger documents are not searched: an example is not worth the time of a page.
const MAX_SEARCHED_BYTES: usize = 1024 * 1024;

/// The path with an example of each parameter in it and the required ones of the query behind it, percent-encoded. What the document gives no
/// example of is the parameter's name in capitals.
pub fn sample_path(document: &str, method: &str, path: &str) -> String {
    let root: Map<String, Value> =
        if document.len() <= MAX_SEARCHED_BYTES { serde_json::from_str(document).unwrap_or_default() } else { Map::new() };
    let parameters = parameters(&root, method, path);
    let example = |name: &str, place: &str| {
        let parameter = parameters.iter().find(|parameter| text(parameter, "name") == Some(name) && text(parameter, "in") == Some(place));
        parameter.and_then(|parameter| example_of(&root, parameter)).unwrap_or_else(|| name.to_uppercase())
    };
    let mut filled = String::new();
    for segment in path.split('/').skip(1) {
        filled.push('/');
        match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => filled.push_str(&encode(&example(name, "path"))),
            None => filled.push_str(segment),
        }
    }
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for parameter in parameters.iter().filter(|parameter| text(parameter, "in") == Some("query")) {
        if parameter.get("required").and_then(Value::as_bool) == Some(true)
            && let Some(name) = text(parameter, "name")
        {
            query.append_pair(name, &example(name, "query"));
        }
    }
    let query = query.finish();
    if query.is_empty() { filled } else { format!("{filled}?{query}") }
}

fn parameters<'a>(root: &'a Map<String, Value>, method: &str, path: &str) -> Vec<&'a Map<String, Value>> {
    let item = root.get("paths").and_then(|paths| paths.get(path));
    let lists = [
        item.and_then(|item| item.get(method.to_lowercase())).and_then(|operation| operation.get("parameters")),
        item.and_then(|item| item.get("parameters")),
    ];
    lists
        .into_iter()
        .flatten()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|parameter| resolved(root, parameter)?.as_object())
        .collect()
}

fn resolved<'a>(root: &'a Map<String, Value>, value: &'a Value) -> Option<&'a Value> {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => pointer::follow(root, reference),
        None => Some(value),
    }
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

fn example_of(root: &Map<String, Value>, parameter: &Map<String, Value>) -> Option<String> {
    let schema = parameter.get("schema").and_then(|schema| resolved(root, schema)).and_then(Value::as_object);
    let named = parameter.get("examples").and_then(Value::as_object).and_then(|examples| examples.values().next()?.get("value"));
    let of_schema = schema.and_then(|schema| {
        let listed = schema.get("examples").and_then(Value::as_array).and_then(|examples| examples.first());
        let allowed = schema.get("enum").and_then(Value::as_array).and_then(|values| values.first());
        schema.get("example").or(listed).or_else(|| schema.get("default")).or(allowed)
    });
    match parameter.get("example").or(named).or(of_schema)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Array(values) => values.first().and_then(Value::as_str).map(str::to_owned),
        _ => None,
    }
}

fn encode(segment: &str) -> String {
    let mut encoded = String::new();
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~,:@".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn examples_of_the_document_fill_the_path_and_the_query() {
        let document = json!({
            "paths": {"/v1/{city}/{day}": {
                "parameters": [{"$ref": "#/components/parameters/City"}],
                "get": {"parameters": [
                    {"name": "units", "in": "query", "required": true, "schema": {"enum": ["metric", "imperial"]}},
                    {"name": "lang", "in": "query", "schema": {"default": "en"}},
                ]},
            }},
            "components": {"parameters": {"City": {"name": "city", "in": "path", "required": true, "example": "São Paulo"}}},
        });
        assert_eq!(sample_path(&document.to_string(), "GET", "/v1/{city}/{day}"), "/v1/S%C3%A3o%20Paulo/DAY?units=metric");
        assert_eq!(sample_path("not JSON", "GET", "/a/{id}"), "/a/ID");
    }
}
