use serde_json::{Value, json};

use super::*;

fn convert(document: Value) -> Value {
    let Value::Object(root) = document else { unreachable!("an object") };
    let mut warnings = Warnings::default();
    let converted = to_three(root, &mut warnings).expect("a document that converts");
    assert_eq!(warnings.finish(), Vec::<String>::new());
    Value::Object(converted)
}

#[test]
fn servers_are_made_of_schemes_host_and_base_path() {
    let urls = |document: Value| -> Vec<String> {
        let converted = convert(document);
        converted["servers"].as_array().expect("a list").iter().map(|server| server["url"].as_str().expect("a text").to_owned()).collect()
    };
    assert_eq!(
        urls(json!({"schemes": ["http", "https", "wss"], "host": "a.example.com:8443", "basePath": "/v1/"})),
        ["https://a.example.com:8443/v1", "http://a.example.com:8443/v1"]
    );
    assert_eq!(urls(json!({"host": "a.example.com"})), ["https://a.example.com"]);
    assert_eq!(urls(json!({"basePath": "/v1"})), ["/v1"]);
    assert_eq!(urls(json!({"basePath": "/"})), ["/"]);
}

#[test]
fn plain_parameters_get_a_schema_and_a_style() {
    let converted = convert(json!({
        "parameters": {"Limit": {"name": "limit", "in": "query", "type": "integer", "maximum": 100, "x-example": 5}},
        "paths": {"/a/{id}": {
            "parameters": [{"name": "id", "in": "path", "type": "string", "description": "The id."}],
            "get": {"parameters": [
                {"$ref": "#/parameters/Limit"},
                {"name": "tags", "in": "query", "type": "array", "items": {"type": "string"}, "collectionFormat": "multi"},
                {"name": "pipes", "in": "query", "type": "array", "items": {"type": "string"}, "collectionFormat": "pipes"},
                {"name": "x-ids", "in": "header", "type": "array", "items": {"type": "integer"}},
            ], "responses": {}},
        }},
    }));
    assert_eq!(
        converted["components"]["parameters"]["Limit"],
        json!({"name": "limit", "in": "query", "example": 5, "schema": {"type": "integer", "maximum": 100}})
    );
    let item = &converted["paths"]["/a/{id}"];
    assert_eq!(
        item["parameters"],
        json!([{"name": "id", "in": "path", "required": true, "description": "The id.", "schema": {"type": "string"}}])
    );
    assert_eq!(
        item["get"]["parameters"],
        json!([
            {"$ref": "#/components/parameters/Limit"},
            {"name": "tags", "in": "query", "style": "form", "explode": true, "schema": {"type": "array", "items": {"type": "string"}}},
            {"name": "pipes", "in": "query", "style": "pipeDelimited", "explode": false, "schema": {"type": "array", "items": {"type": "string"}}},
            {"name": "x-ids", "in": "header", "style": "simple", "explode": false, "schema": {"type": "array", "items": {"type": "integer"}}},
        ])
    );
}

#[test]
fn bodies_are_content_of_each_type_that_is_consumed() {
    let converted = convert(json!({
        "consumes": ["application/json", "application/xml"],
        "definitions": {"Pet": {"type": "object"}},
        "parameters": {"Pet": {"name": "pet", "in": "body", "required": true, "schema": {"$ref": "#/definitions/Pet"}}},
        "paths": {"/a": {
            "post": {"parameters": [{"name": "body", "in": "body", "description": "A pet.", "schema": {"$ref": "#/definitions/Pet"}}], "responses": {}},
            "put": {"consumes": ["text/plain"], "parameters": [{"$ref": "#/parameters/Pet"}], "responses": {}},
        }},
    }));
    let schema = json!({"schema": {"$ref": "#/components/schemas/Pet"}});
    assert_eq!(
        converted["paths"]["/a"]["post"]["requestBody"],
        json!({"description": "A pet.", "content": {"application/json": schema, "application/xml": schema}})
    );
    assert_eq!(converted["paths"]["/a"]["put"]["requestBody"], json!({"$ref": "#/components/requestBodies/Pet"}));
    assert_eq!(converted["components"]["requestBodies"]["Pet"]["required"], true);
    assert!(converted["paths"]["/a"]["put"].get("consumes").is_none());
}

#[test]
fn form_fields_are_one_object() {
    let fields = json!([
        {"name": "name", "in": "formData", "type": "string", "required": true, "description": "Its name."},
        {"name": "file", "in": "formData", "type": "file"},
    ]);
    let converted = convert(json!({"paths": {"/a": {"post": {"parameters": fields, "responses": {}}}}}));
    assert_eq!(
        converted["paths"]["/a"]["post"]["requestBody"],
        json!({"required": true, "content": {"multipart/form-data": {"schema": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string", "description": "Its name."}, "file": {"type": "string", "format": "binary"}},
        }}}})
    );
    let converted =
        convert(json!({"paths": {"/a": {"post": {"parameters": [{"name": "q", "in": "formData", "type": "string"}], "responses": {}}}}}));
    assert!(converted["paths"]["/a"]["post"]["requestBody"]["content"].get("application/x-www-form-urlencoded").is_some());
}

#[test]
fn responses_have_content_and_headers_with_schemas() {
    let converted = convert(json!({
        "produces": ["application/json"],
        "responses": {"NotFound": {"description": "Not there.", "schema": {"type": "string"}}},
        "paths": {"/a": {"get": {"responses": {
            "200": {
                "schema": {"type": "array", "items": {"type": "integer", "x-nullable": true}},
                "examples": {"application/json": [1], "text/csv": "1"},
                "headers": {"x-total": {"type": "integer", "description": "All."}},
            },
            "204": {"description": "Nothing."},
            "404": {"$ref": "#/responses/NotFound"},
        }}}},
    }));
    let responses = &converted["paths"]["/a"]["get"]["responses"];
    let schema = json!({"type": "array", "items": {"type": "integer", "nullable": true}});
    assert_eq!(
        responses["200"],
        json!({
            "description": "",
            "content": {"application/json": {"schema": schema, "example": [1]}, "text/csv": {"schema": schema, "example": "1"}},
            "headers": {"x-total": {"description": "All.", "schema": {"type": "integer"}}},
        })
    );
    assert_eq!(responses["204"], json!({"description": "Nothing."}));
    assert_eq!(responses["404"], json!({"$ref": "#/components/responses/NotFound"}));
    assert_eq!(converted["components"]["responses"]["NotFound"]["content"]["application/json"]["schema"], json!({"type": "string"}));
}

#[test]
fn schemas_and_security_change_their_forms() {
    let converted = convert(json!({
        "definitions": {
            "Pet": {"discriminator": "kind", "properties": {"kind": {"type": "string"}, "next": {"$ref": "#/definitions/Pet"}}},
            "Cat": {"allOf": [{"$ref": "#/definitions/Pet"}, {"additionalProperties": {"x-nullable": true, "type": "string"}}]},
        },
        "securityDefinitions": {
            "basic": {"type": "basic"},
            "key": {"type": "apiKey", "in": "query", "name": "k"},
            "oauth": {"type": "oauth2", "flow": "accessCode", "authorizationUrl": "https://a", "tokenUrl": "https://b", "scopes": {"r": "Read"}},
        },
        "x-vendor": {"kept": true},
    }));
    assert_eq!(converted["components"]["schemas"]["Pet"]["discriminator"], json!({"propertyName": "kind"}));
    assert_eq!(converted["components"]["schemas"]["Pet"]["properties"]["next"], json!({"$ref": "#/components/schemas/Pet"}));
    assert_eq!(converted["components"]["schemas"]["Cat"]["allOf"][1]["additionalProperties"], json!({"nullable": true, "type": "string"}));
    let schemes = &converted["components"]["securitySchemes"];
    assert_eq!(schemes["basic"], json!({"type": "http", "scheme": "basic"}));
    assert_eq!(schemes["key"], json!({"type": "apiKey", "in": "query", "name": "k"}));
    assert_eq!(
        schemes["oauth"],
        json!({"type": "oauth2", "flows": {"authorizationCode": {"authorizationUrl": "https://a", "tokenUrl": "https://b", "scopes": {"r": "Read"}}}})
    );
    assert_eq!(converted["x-vendor"], json!({"kept": true}));
    assert_eq!(converted["openapi"], TARGET);
}

#[test]
fn a_reference_into_something_that_changed_its_shape_is_refused() {
    let document = json!({"paths": {"/a": {"get": {"responses": {"200": {"description": "", "schema": {"type": "string"}}}}},
        "/b": {"get": {"responses": {"200": {"description": "", "schema": {"$ref": "#/paths/~1a/get/responses/200/schema"}}}}}}});
    let Value::Object(root) = document else { unreachable!("an object") };
    refs::check(&root).expect("it leads somewhere in 2.0");
    let refused = to_three(root, &mut Warnings::default()).expect_err("it leads nowhere in 3.0");
    assert!(refused.0[0].to_string().contains("`#/paths/~1a/get/responses/200/schema`"), "{refused:?}");
}
