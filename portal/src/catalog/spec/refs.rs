//! References: each must lead somewhere inside the document. Cycles are fine, because nothing follows them.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{
    Refusal, Refused,
    pointer::{self, Pointer},
};

/// Members whose keys are names that the author chose, so that `default` or `example` there is a name and not data.
const NAME_MAPS: [&str; 23] = [
    "$defs",
    "callbacks",
    "content",
    "definitions",
    "dependentSchemas",
    "encoding",
    "examples",
    "headers",
    "links",
    "parameters",
    "pathItems",
    "paths",
    "patternProperties",
    "properties",
    "requestBodies",
    "responses",
    "schemas",
    "scopes",
    "securityDefinitions",
    "securitySchemes",
    "variables",
    "webhooks",
    "mapping",
];

/// Members that hold data of the described API, in which `$ref` is a key like any other.
const DATA: [&str; 5] = ["const", "default", "enum", "example", "value"];

/// Refuses references that leave the document or lead nowhere.
pub fn check(root: &Map<String, Value>) -> Result<(), Refused> {
    let mut anchors = HashSet::new();
    visit_object(root, &Pointer::Root, false, &mut |object, _| {
        anchors.extend(["$anchor", "$dynamicAnchor"].iter().filter_map(|key| object.get(*key)?.as_str()));
    });
    // The same target is named thousands of times in a large document.
    let mut resolved = HashSet::new();
    let mut refusals = Vec::new();
    visit_object(root, &Pointer::Root, false, &mut |object, at| {
        let Some(reference) = object.get("$ref").and_then(Value::as_str) else { return };
        if resolved.contains(reference) {
            return;
        }
        let problem = match reference.strip_prefix('#') {
            None => Some(format!(
                "`$ref` names `{}`, which lies outside of the document. Bring what it names into the document, below `components`, and refer to it as `#/components/…`.",
                super::shorten(reference, 200)
            )),
            Some("") => None,
            Some(fragment) if !fragment.starts_with('/') => {
                (!anchors.contains(fragment)).then(|| format!("`$ref` names the anchor `{fragment}`, which is nowhere in the document."))
            }
            Some(_) if pointer::follow(root, reference).is_some() => None,
            Some(_) => Some(format!(
                "`$ref` names `{}`, which is not in the document. Add it, or correct the name.",
                super::shorten(reference, 200)
            )),
        };
        match problem {
            None => {
                resolved.insert(reference);
            }
            Some(problem) => refusals.push(Refusal::at(&at.key("$ref"), problem)),
        }
    });
    if refusals.is_empty() {
        return Ok(());
    }
    Err(Refused(refusals))
}

/// Calls back for every object that may be a reference, with its place.
fn visit_object<'v>(
    object: &'v Map<String, Value>,
    at: &Pointer<'_>,
    keys_are_names: bool,
    found: &mut dyn FnMut(&'v Map<String, Value>, &Pointer<'_>),
) {
    if !keys_are_names {
        found(object, at);
    }
    for (key, value) in object {
        if !keys_are_names && (DATA.contains(&key.as_str()) || key.starts_with("x-")) {
            continue;
        }
        let names = !keys_are_names && NAME_MAPS.contains(&key.as_str());
        visit(value, &at.key(key), names, found);
    }
}

fn visit<'v>(value: &'v Value, at: &Pointer<'_>, keys_are_names: bool, found: &mut dyn FnMut(&'v Map<String, Value>, &Pointer<'_>)) {
    match value {
        Value::Object(object) => visit_object(object, at, keys_are_names, found),
        Value::Array(array) => {
            for (index, value) in array.iter().enumerate() {
                visit(value, &at.index(index), false, found);
            }
        }
        _ => {}
    }
}

/// Rewrites every reference with `rewrite`, which returns the new text or `None` to leave it.
pub fn rewrite(object: &mut Map<String, Value>, keys_are_names: bool, rewrite_one: &dyn Fn(&str) -> Option<String>) {
    if !keys_are_names
        && let Some(Value::String(reference)) = object.get_mut("$ref")
        && let Some(new) = rewrite_one(reference)
    {
        *reference = new;
    }
    for (key, value) in object.iter_mut() {
        if !keys_are_names && (DATA.contains(&key.as_str()) || key.starts_with("x-")) {
            continue;
        }
        let names = !keys_are_names && NAME_MAPS.contains(&key.as_str());
        rewrite_value(value, names, rewrite_one);
    }
}

fn rewrite_value(value: &mut Value, keys_are_names: bool, rewrite_one: &dyn Fn(&str) -> Option<String>) {
    match value {
        Value::Object(object) => rewrite(object, keys_are_names, rewrite_one),
        Value::Array(array) => array.iter_mut().for_each(|value| rewrite_value(value, false, rewrite_one)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(document: Value) -> Vec<String> {
        let Value::Object(root) = document else { unreachable!("an object") };
        check(&root).err().map_or_else(Vec::new, |refused| refused.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn local_references_and_cycles_are_fine() {
        let node = json!({"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Node"}, "$ref": {"type": "string"}}});
        let document = json!({
            "components": {"schemas": {"Node": node, "default": {"$anchor": "here"}, "Any": {"$ref": "#"}, "A": {"$ref": "#here"}}},
            "paths": {"/a": {"get": {"responses": {"default": {"$ref": "#/components/schemas/Node"}}}}},
        });
        assert_eq!(problems(document), Vec::<String>::new());
    }

    #[test]
    fn what_leads_out_or_nowhere_is_named_with_its_place() {
        let document = json!({"paths": {"/a": {"get": {"responses": {
            "200": {"$ref": "https://example.com/x.yaml#/X"}, "default": {"$ref": "#/components/nothing"}, "404": {"$ref": "#nowhere"},
        }}}}});
        let found = problems(document);
        assert!(
            found[0].starts_with("#/paths/~1a/get/responses/200/$ref: `$ref` names `https://example.com/x.yaml#/X`, which lies outside"),
            "{found:?}"
        );
        assert_eq!(
            found[1],
            "#/paths/~1a/get/responses/default/$ref: `$ref` names `#/components/nothing`, which is not in the document. Add it, or correct the name."
        );
        assert_eq!(found[2], "#/paths/~1a/get/responses/404/$ref: `$ref` names the anchor `nowhere`, which is nowhere in the document.");
    }

    #[test]
    fn data_may_hold_anything() {
        let schema = json!({"example": {"$ref": "x"}, "default": {"$ref": "x"}, "enum": [{"$ref": "x"}], "const": {"$ref": "x"}, "x-vendor": {"$ref": "x"}});
        assert_eq!(problems(json!({"components": {"schemas": {"A": schema}}})), Vec::<String>::new());
        let named = json!({"components": {"schemas": {"example": {"$ref": "x"}}}});
        assert_eq!(problems(named).len(), 1, "a schema that is called `example` is no data");
    }
}
