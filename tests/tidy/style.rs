//! Sizes, words, names.

use std::collections::BTreeSet;

use e2e::repository;

/// A file longer than this holds more than one thing; a file of tests may be somewhat longer.
const MAX_LINES: usize = 400;
const MAX_TEST_LINES: usize = 650;

#[test]
fn files_hold_one_thing() {
    let endings = [".rs", ".html", ".css", ".js", ".mjs", ".py", ".sql"];
    let long: Vec<String> = repository::files()
        .expect("the repository")
        .iter()
        .filter(|file| endings.iter().any(|ending| file.path.ends_with(ending)))
        .filter(|file| file.text.lines().count() > if file.path.contains("tests/") { MAX_TEST_LINES } else { MAX_LINES })
        .map(|file| format!("{}: {} lines", file.path, file.text.lines().count()))
        .collect();
    assert!(long.is_empty(), "split these:\n{}", long.join("\n"));
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not contain them.
    let words = [
        ["to", "do!("].concat(),
        ["unimpl", "emented!("].concat(),
        ["FIX", "ME"].concat(),
        ["#[ign", "ore]"].concat(),
        ["lorem ", "ipsum"].concat(),
    ];
    let mut faults = Vec::new();
    for file in repository::files().expect("the repository") {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(word.as_str())) {
                faults.push(format!("{}:{}: {word}", file.path, number + 1));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn unsafe_code_stands_in_the_one_mapping_file() {
    let word = ["uns", "afe "].concat();
    let offenders: Vec<String> = repository::files()
        .expect("the repository")
        .into_iter()
        .filter(|file| file.is_rust() && file.path != "crates/journal/src/mapping.rs" && !file.path.ends_with("tests/tidy/style.rs"))
        .filter(|file| file.text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(&word)))
        .map(|file| file.path)
        .collect();
    assert!(offenders.is_empty(), "{offenders:?}");
}

#[test]
fn every_crate_domain_and_open_file_explains_itself() {
    let files = repository::files().expect("the repository");
    let undocumented: Vec<&str> = files
        .iter()
        .filter(|file| file.is_rust() && !file.text.trim_start().starts_with("//!"))
        // An endpoint's file holds the endpoint, whose own doc is the REST document's; a file of unit tests belongs to the file beside it.
        .filter(|file| !file.path.starts_with("portal/src/api/") && !file.path.ends_with("/tests.rs"))
        .map(|file| file.path.as_str())
        .collect();
    assert!(undocumented.is_empty(), "each file opens with what it is for: {undocumented:?}");
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    for domain in ["identity", "tenants", "catalog", "applications", "subscriptions", "entitlements", "usage", "policy", "billing"] {
        let readme = format!("portal/src/{domain}/README.md");
        assert!(paths.contains(readme.as_str()), "{readme} states the domain's invariants");
    }
}

#[test]
fn the_wall_clock_and_the_environment_are_read_in_their_places_only() {
    let clippy = repository::files().expect("the repository").into_iter().find(|file| file.path == "clippy.toml").expect("clippy.toml");
    for banned in ["SystemTime::now", "jiff::Timestamp::now", "std::env::var"] {
        assert!(clippy.text.contains(banned), "clippy.toml bans {banned}");
    }
}

#[test]
fn migrations_are_numbered_without_gaps() {
    let files = repository::files().expect("the repository");
    let names: Vec<&str> =
        files.iter().filter_map(|file| file.path.strip_prefix("migrations/")).filter(|name| name.ends_with(".sql")).collect();
    for (index, name) in names.iter().enumerate() {
        assert!(name.starts_with(&format!("{:04}_", index + 1)), "{name} should have number {:04}", index + 1);
    }
    assert!(!names.is_empty());
}

#[test]
fn the_lock_file_of_the_assets_names_no_host() {
    let files = repository::files().expect("the repository");
    let lock = files.iter().find(|file| file.path == "package-lock.json").expect("package-lock.json");
    assert!(!lock.text.contains("\"resolved\""), "install with `omit-lockfile-registry-resolved`");
    assert!(lock.text.contains("\"integrity\""));
}
