use proptest::prelude::*;
use serde_json::json;

use super::*;

const PETS: &str = r##"openapi: 3.1.0
info: {title: Pets, version: 1.0.0, description: "Pets of all possible kinds. Even snakes."}
servers: [{url: "https://pets.example.com/v1"}]
paths:
  /pets:
    get: {summary: List pets, operationId: list, parameters: [{$ref: "#/components/parameters/Limit"}], responses: {"200": {description: Fine.}}}
    post: {responses: {default: {$ref: "#/components/responses/Failed"}}}
  /pets/{id}.{format}:
    get: {operationId: list, description: "Gets one. In a format.", responses: {"200": {description: Fine., content: {application/json: {schema: {$ref: "#/components/schemas/Pet"}}}}}}
components:
  parameters: {Limit: {name: limit, in: query, schema: {type: integer}}}
  responses: {Failed: {description: Failed.}}
  schemas: {Pet: {type: object, properties: {next: {$ref: "#/components/schemas/Pet"}}}}
"##;

const OLD: &str = r##"{"swagger": "2.0", "info": {"title": "Old", "version": "1"}, "host": "old.example.com", "basePath": "/v1", "schemes": ["https"],
"consumes": ["application/json"], "parameters": {"Body": {"in": "body", "name": "b", "schema": {"$ref": "#/definitions/Pet"}}},
"definitions": {"Pet": {"type": "object", "discriminator": "kind", "properties": {"next": {"$ref": "#/definitions/Pet"}}}},
"responses": {"Failed": {"description": "Failed.", "schema": {"type": "file"}}},
"securityDefinitions": {"oauth": {"type": "oauth2", "flow": "implicit", "authorizationUrl": "https://a", "scopes": {}}},
"paths": {"/pets": {"parameters": [{"in": "header", "name": "x", "type": "array", "items": {"type": "string"}, "collectionFormat": "csv"}],
"post": {"parameters": [{"$ref": "#/parameters/Body"}, {"in": "formData", "name": "f", "type": "file"}], "responses": {"400": {"$ref": "#/responses/Failed"}}}}}}"##;

fn refused(text: &str) -> String {
    read(text.as_bytes(), None).expect_err(text).0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_document_is_described() {
    let document = read(PETS.as_bytes(), None).expect("a good document");
    assert_eq!(
        (document.title.as_str(), document.version.as_str(), document.summary.as_str()),
        ("Pets", "1.0.0", "Pets of all possible kinds.")
    );
    assert_eq!(document.upstream, Upstream::Usable("https://pets.example.com/v1".into()));
    let routes: Vec<(String, String)> = document
        .operations
        .iter()
        .map(|operation| (format!("{} {}", operation.method, operation.path), operation.summary.clone()))
        .collect();
    assert_eq!(
        routes,
        [
            ("GET /pets".to_owned(), "List pets".to_owned()),
            ("POST /pets".to_owned(), String::new()),
            ("GET /pets/{id_format}".to_owned(), "Gets one. In a format.".to_owned()),
        ]
    );
    assert_eq!(document.warnings.len(), 2, "{:?}", document.warnings);
    assert!(
        document.warnings[0].starts_with("#/paths/~1pets~1{id}.{format}: the gateway matches whole segments"),
        "{:?}",
        document.warnings
    );
    assert!(document.warnings[1].starts_with("1 operationId(s) stand more than once (`list`)"), "{:?}", document.warnings);
}

#[test]
fn refusals_name_place_and_fix() {
    let with = |paths: &str| format!("openapi: 3.0.0\ninfo: {{title: A, version: 1}}\npaths: {paths}\n");
    for (text, message) in [
        ("[1]", "#: The document must be an object that starts with `openapi` or `swagger`."),
        (
            "a: 1",
            "#: Neither `openapi` nor `swagger` is there, so this is no OpenAPI document. Add `openapi: 3.1.0` (or the version that it is written in).",
        ),
        ("swagger: '1.2'", "#/swagger: `1.2` is not a version that can be read; use `\"2.0\"`."),
        ("openapi: 4.0.0", "#/openapi: `4.0.0` is not a version that can be read; use 3.0.x or 3.1.x."),
        ("openapi: 3.0.0", "#: `info` is missing; add it with `title` and `version`."),
        ("openapi: 3.0.0\ninfo: {title: ' '}", "#/info/title: The title must be a text that is not empty."),
        ("openapi: 3.0.0\ninfo: {title: A, version: 1}", "#: `paths` is missing, so there is nothing to route; add the paths of the API."),
        (&with("{}"), "#/paths: The document describes no operation, so there is nothing to route; add at least one method to a path."),
        (&with("[a]"), "#/paths: `paths` must be an object whose keys are paths."),
        (&with("{a: {get: {}}}"), "#/paths/a: The path `a` must start with `/`."),
        (&with("{/a: 1}"), "#/paths/~1a: A path must be an object with methods like `get` and `post`."),
        (&with("{/a: {get: 1}}"), "#/paths/~1a/get: An operation must be an object with at least `responses`."),
        (&with("{/a: {get: {responses: []}}}"), "#/paths/~1a/get/responses: `responses` must be an object whose keys are statuses."),
        (
            &with("{/a//b: {get: {}}, /c/../d: {get: {}}}"),
            "#/paths/~1a~1~1b: The path `/a//b` must not have an empty segment (`//`).\n#/paths/~1c~1..~1d: The path `/c/../d` must not have the segment `..`: clients resolve it before they call.",
        ),
    ] {
        assert_eq!(refused(text), message);
    }
    let many: serde_json::Map<String, Value> = (0..=5_000).map(|index| (format!("/a{index}"), json!({"get": {}}))).collect();
    let many = json!({"openapi": "3.0.0", "info": {"title": "A", "version": "1"}, "paths": many}).to_string();
    assert!(refused(&many).contains("more than 5000 operations"));
}

#[test]
fn an_unquoted_version_is_understood() {
    let text = OLD.replace("\"2.0\"", "2.0");
    assert_eq!(read(text.as_bytes(), None).expect("a good document").openapi, "2.0");
}

/// Values that stand where authors do not expect them.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!(true)),
        Just(json!(-1)),
        Just(json!("")),
        Just(json!("#/paths")),
        Just(json!("/{a}{b}{")),
        Just(json!([])),
        Just(json!([[{}]])),
        Just(json!({})),
        Just(json!({"$ref": "#"})),
        Just(json!({"$ref": "#/paths/~1pets"})),
        Just(json!({"$ref": 1})),
        Just(json!({"in": "body", "schema": {"type": "array"}})),
    ]
}

/// Replaces, removes or renames the `at`-th value, counted in order of the walk.
fn mutate(value: &mut Value, at: &mut usize, kind: u8, new: &Value) {
    if *at == 0 {
        *value = new.clone();
        *at = usize::MAX;
        return;
    }
    *at = at.saturating_sub(1);
    match value {
        Value::Object(object) => {
            let keys: Vec<String> = object.keys().cloned().collect();
            for key in keys {
                if *at == usize::MAX {
                    return;
                }
                if *at == 0 && kind > 0 {
                    let moved = object.shift_remove(&key).unwrap_or(Value::Null);
                    if kind == 1 {
                        object.insert(format!("{key}\u{0}é{{"), moved);
                    }
                    *at = usize::MAX;
                    return;
                }
                if let Some(value) = object.get_mut(&key) {
                    mutate(value, at, kind, new);
                }
            }
        }
        Value::Array(array) => {
            for value in array {
                if *at == usize::MAX {
                    return;
                }
                mutate(value, at, kind, new);
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_document_with_any_value_changed_is_read_or_refused(old: bool, changes in prop::collection::vec((0_usize..90, 0_u8..3, odd()), 1..4)) {
        let mut value = parse::parse(if old { OLD } else { PETS }.as_bytes()).expect("a good document");
        for (mut at, kind, new) in changes {
            mutate(&mut value, &mut at, kind, &new);
        }
        match read(value.to_string().as_bytes(), None) {
            Ok(document) => {
                serde_json::from_str::<Value>(&with_servers(&document.reference, "https://gateway.example.com")).expect("the reference is JSON");
                prop_assert!(!document.operations.is_empty());
            }
            Err(refused) => prop_assert!(refused.0.iter().all(|refusal| refusal.at.starts_with('#'))),
        }
    }

    #[test]
    fn a_document_with_any_bytes_changed_is_read_or_refused(old: bool, at in 0.0..1.0_f64, cut in 0_usize..40, insert in "[\\[\\]{}:\"'&*!|>#%@,\n a-z0-9-]{0,12}") {
        let text = if old { OLD } else { PETS };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a short text")]
        let start = (text.len() as f64 * at) as usize;
        let end = (start + cut).min(text.len());
        let changed = [&text.as_bytes()[..start], insert.as_bytes(), &text.as_bytes()[end..]].concat();
        let _ = read(&changed, None);
    }
}
