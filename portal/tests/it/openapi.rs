//! The committed contracts are what the code says today.

use std::{fs, path::Path};

fn assert_up_to_date(name: &str, current: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi").join(name);
    let committed = fs::read_to_string(&path).unwrap_or_else(|error| panic!("openapi/{name}: {error}; `make openapi` writes it"));
    assert!(committed.trim() == current.trim(), "openapi/{name} is out of date: run `make openapi` and commit it");
}

#[test]
fn the_rest_contract_is_up_to_date() {
    assert_up_to_date("portal.v1.json", &portal::api::openapi_json().expect("the document"));
}

#[test]
fn the_contract_of_gateways_is_up_to_date() {
    assert_up_to_date("gateway-control.v1.json", &portal::control::openapi_json().expect("the document"));
}
