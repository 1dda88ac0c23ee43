//! The committed REST contract is what the code says today.

use std::{fs, path::Path};

#[test]
fn the_committed_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi/portal.v1.json");
    let committed = fs::read_to_string(&path).expect("`make openapi` writes openapi/portal.v1.json");
    let current = portal::api::openapi_json().expect("the document");
    assert!(committed.trim() == current.trim(), "openapi/portal.v1.json is out of date: run `make openapi` and commit it");
}
