//! The chart lints, renders, and refuses what it does not know.

use std::process::Command;

use e2e::repository;

#[test]
fn the_chart_renders_and_lints() {
    if e2e::skipped("helm") {
        return;
    }
    let root = repository::root();
    let python = e2e::python();
    let output = Command::new(&python)
        .arg(root.join("tests/charts/check.py"))
        .arg(root.join("charts/tollkeeper"))
        .output()
        .unwrap_or_else(|error| panic!("{} cannot be run ({error}); `scripts/setup test` makes it", python.display()));
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}
