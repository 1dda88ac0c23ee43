//! Who may import whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use cargo_metadata::{DependencyKind, MetadataCommand};
use e2e::repository;

/// What each crate of the workspace may use of the workspace, tests and benches aside.
const MAY_USE: [(&str, &[&str]); 15] = [
    ("ids", &[]),
    ("calendar", &[]),
    ("journal", &[]),
    ("telemetry", &[]),
    ("local-postgres", &[]),
    ("rating", &["ids", "calendar"]),
    ("quota", &["ids", "calendar"]),
    ("gateway-control", &["quota", "calendar", "ids"]),
    ("portal-api", &["rating", "calendar", "ids"]),
    ("portal", &["gateway-control", "portal-api", "rating", "quota", "calendar", "ids", "telemetry"]),
    ("metering-gateway", &["gateway-control", "quota", "journal", "calendar", "ids", "telemetry"]),
    (
        "devstack",
        &[
            "local-postgres",
            "portal",
            "metering-gateway",
            "gateway-control",
            "journal",
            "portal-api",
            "rating",
            "quota",
            "calendar",
            "ids",
            "telemetry",
        ],
    ),
    ("tollkeeper", &["devstack", "portal-api", "telemetry", "calendar", "ids"]),
    ("loadtest", &["gateway-control", "quota", "calendar", "ids", "journal", "local-postgres"]),
    ("e2e", &["devstack", "portal-api", "journal", "calendar", "ids", "rating", "gateway-control"]),
];

#[test]
fn crates_use_only_what_they_may() {
    let metadata = MetadataCommand::new().manifest_path(repository::root().join("Cargo.toml")).no_deps().exec().expect("cargo metadata");
    let allowed: BTreeMap<_, BTreeSet<_>> = MAY_USE.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect();
    let members: BTreeSet<_> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(members, allowed.keys().copied().collect(), "every crate has its rule here");
    let mut faults = Vec::new();
    for package in &metadata.packages {
        for dependency in package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal) {
            let name = dependency.name.as_str();
            if members.contains(name) && !allowed[package.name.as_str()].contains(name) {
                faults.push(format!("{} must not use {name}", package.name));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn gateways_do_without_what_describes_the_contracts() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "metering-gateway", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(repository::root())
        .output()
        .expect("cargo tree");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let crates = String::from_utf8(tree.stdout).expect("names of crates");
    assert!(crates.lines().any(|line| line.starts_with("gateway-control ")), "{crates}");
    assert!(!crates.lines().any(|line| line.starts_with("utoipa ")), "metering-gateway is built with utoipa: who enables it?");
}

/// The layers inside the portal, from the bottom up. A module uses its own layer and those below. The small modules of `FOR_ALL` are
/// for all.
const PORTAL_LAYERS: [&[&str]; 9] = [
    &["audit", "jobs", "mail"],
    &["identity"],
    &["tenants", "catalog", "gateways"],
    &["subscriptions", "applications"],
    &["entitlements", "usage"],
    &["policy", "billing", "webhooks"],
    &["stripe"],
    &["reconciliation"],
    &["web", "api", "control", "worker"],
];
const FOR_ALL: [&str; 7] = ["error", "db", "random", "config", "app", "metrics", "text"];

/// Uses that point upward, each with its reason.
const EXCEPTIONS: [(&str, &str, &str); 2] = [
    ("portal/src/audit.rs", "identity", "an entry names the actor, whose type stands in `identity`"),
    ("portal/src/api/problem.rs", "web", "same layer"),
];

#[test]
fn the_portal_imports_downward_only() {
    let layer_of = |module: &str| PORTAL_LAYERS.iter().position(|layer| layer.contains(&module));
    let mut faults = Vec::new();
    for file in repository::files().expect("the repository").iter().filter(|file| file.is_rust()) {
        let Some(rest) = file.path.strip_prefix("portal/src/") else { continue };
        let own = rest.split(['/', '.']).next().unwrap_or_default();
        let Some(own_layer) = layer_of(own) else { continue };
        for (module, line) in used_modules(file) {
            let excepted = EXCEPTIONS.iter().any(|(path, used, _)| *path == file.path && *used == module);
            if FOR_ALL.contains(&module.as_str()) || excepted {
                continue;
            }
            match layer_of(&module) {
                Some(layer) if layer > own_layer => {
                    faults.push(format!("{}:{line}: `{own}` must not use `{module}`, which stands above it", file.path))
                }
                Some(_) => {}
                None => faults.push(format!("{}:{line}: `{module}` has no layer in this test", file.path)),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The top-level modules that a file names through `crate::`, with a line of each.
fn used_modules(file: &repository::SourceFile) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut in_group = false;
    for (number, line) in file.production_lines().filter(|(_, line)| !line.trim_start().starts_with("//")) {
        if in_group {
            // Inside `use crate::{`, the names at four spaces are the modules.
            if line.starts_with('}') {
                in_group = false;
            } else if line.starts_with("    ") && !line.starts_with("     ") {
                let names = line.split(['{', ':']).next().unwrap_or_default();
                found.extend(
                    names.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "}").map(|name| (name.to_owned(), number)),
                );
            }
            continue;
        }
        in_group = line.trim_end() == "use crate::{";
        for part in line.split("crate::").skip(1) {
            if let Some(group) = part.strip_prefix('{') {
                let names = group.split('}').next().unwrap_or_default();
                found.extend(names.split(',').map(|name| (name.split("::").next().unwrap_or_default().trim().to_owned(), number)));
            } else {
                let name: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                found.push((name, number));
            }
        }
    }
    found.retain(|(name, _)| name.starts_with(|first: char| first.is_ascii_lowercase()));
    found
}

#[test]
fn sql_stands_in_stores_only() {
    let mut faults = Vec::new();
    for file in repository::files().expect("the repository").iter().filter(|file| file.is_rust() && file.path.starts_with("portal/src/")) {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let allowed = name.ends_with("store.rs") || file.path.contains("/store/") || file.path.starts_with("portal/src/jobs/");
        let infrastructure = ["portal/src/db.rs", "portal/src/audit.rs", "portal/src/web/health.rs"].contains(&file.path.as_str());
        if allowed || infrastructure {
            continue;
        }
        for (number, line) in file.production_lines() {
            if line.contains("sqlx::query") || line.contains("QueryBuilder") {
                faults.push(format!("{}:{number}: SQL belongs into the domain's store.rs", file.path));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
