//! `docs/PROTOCOLS.md` names a test for each protocol in each situation, and each of them exists.

use std::collections::BTreeSet;

use e2e::repository;

const PAGE: &str = "docs/PROTOCOLS.md";
const PROTOCOLS: [&str; 7] =
    ["HTTP/1.1", "HTTP/2", "gRPC, unary", "gRPC, streaming", "WebSocket", "SSE and streaming bodies", "TLS with ALPN"];
const SITUATIONS: [&str; 7] = ["Authentication", "Limits", "Metering", "Client abort", "Upstream abort", "Revocation while open", "Drain"];

/// The cells of a line of a table, without the borders.
fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_start_matches('|').trim_end_matches('|').split('|').map(str::trim).collect()
}

/// The names of tests in a text: what stands between backticks and could be a function's name.
fn names(text: &str) -> Vec<&str> {
    let is_name =
        |word: &&str| word.contains('_') && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    text.split('`').skip(1).step_by(2).filter(is_name).collect()
}

/// Every test of the gateway: a function under a line that says so.
fn tests(files: &[repository::SourceFile]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in files.iter().filter(|file| file.is_rust() && file.path.starts_with("metering-gateway/")) {
        let mut is_test = false;
        for line in file.text.lines().map(str::trim) {
            let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            if let (true, Some(name)) = (is_test, name) {
                found.insert(name.to_owned());
            }
            is_test = line.starts_with("#[test]") || line.starts_with("#[tokio::test") || is_test && line.starts_with("#[");
        }
    }
    found
}

#[test]
fn each_protocol_is_tested_in_each_situation() {
    let files = repository::files().expect("the repository");
    let page = files.iter().find(|file| file.path == PAGE).expect(PAGE);
    let tests = tests(&files);
    let mut lines = page.text.lines().filter(|line| line.starts_with('|'));
    let head = lines.find(|line| line.contains(SITUATIONS[0])).expect("the table of situations");
    assert_eq!(cells(head)[1..], SITUATIONS, "the situations of {PAGE}");
    let rows: Vec<Vec<&str>> = lines.skip(1).take(PROTOCOLS.len()).map(cells).collect();
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), PROTOCOLS, "the protocols of {PAGE}");
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for row in &rows {
        for (cell, situation) in row[1..].iter().zip(SITUATIONS) {
            let named = names(cell);
            if named.is_empty() || named.iter().any(|name| !tests.contains(*name) || !seen.insert(*name)) {
                faults.push(format!("{} / {situation}: `{cell}` names no test of its own", row[0]));
            }
        }
        assert_eq!(row.len(), SITUATIONS.len() + 1, "{}", row[0]);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_test_that_the_page_names_exists() {
    let files = repository::files().expect("the repository");
    let page = files.iter().find(|file| file.path == PAGE).expect(PAGE);
    let tests = tests(&files);
    let details = page.text.split("## Details and their tests").nth(1).expect("the details");
    let rows: Vec<Vec<&str>> = details.lines().filter(|line| line.starts_with('|')).skip(2).map(cells).collect();
    assert!(rows.len() > 10);
    for row in rows {
        let named = names(row[1]);
        assert!(!named.is_empty(), "`{}` names no test", row[0]);
        for name in named {
            assert!(tests.contains(name), "{PAGE} names `{name}`, which is no test of the gateway");
        }
    }
}
