//! `.sqlx/` is what the queries in the code and the migrations say today.

use std::{collections::BTreeMap, fs};

use e2e::repository;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor, PgPool, SqlSafeStr};

fn prepared() -> BTreeMap<String, Value> {
    let folder = repository::root().join(".sqlx");
    let entries = fs::read_dir(&folder).expect("`make sqlx-prepare` writes .sqlx/");
    entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).expect("a query")))
        .map(|(path, text)| (path, serde_json::from_str(&text).expect("a query is JSON")))
        .collect()
}

/// The words of a text, with quotes as they stand in a query.
fn words(text: &str) -> Vec<String> {
    text.replace("\\\"", "\"").replace("\\\n", " ").split_whitespace().map(str::to_owned).collect()
}

/// How much of a query stands in the code, in percent of its runs of four words. Queries that macros put together from parts miss some runs where
/// the parts meet; a query that nobody uses any more misses most.
fn share_in(sources: &str, query: &[String]) -> usize {
    let runs: Vec<String> = query.windows(4.min(query.len())).map(|run| run.join(" ")).collect();
    runs.iter().filter(|run| sources.contains(run.as_str())).count() * 100 / runs.len().max(1)
}

/// Whether a query's description is the prepared one. What an outer join may leave null is read off the plan, which changes with the sizes of tables.
fn says_the_same(prepared: &Value, described: &Value) -> bool {
    let (mut before, mut now) = (prepared["describe"].clone(), described.clone());
    if prepared["query"].as_str().is_some_and(|text| text.contains("LEFT JOIN")) {
        before["nullable"].take();
        now["nullable"].take();
    }
    before == now
}

#[sqlx::test(migrations = "../migrations")]
async fn every_prepared_query_has_the_types_that_the_migrations_give(pool: PgPool) {
    let queries = prepared();
    assert!(queries.len() > 50, "only {} queries are prepared", queries.len());
    let mut faults = Vec::new();
    for (path, query) in &queries {
        let text = query["query"].as_str().expect("the query's text").to_owned();
        match pool.describe(AssertSqlSafe(text).into_sql_str()).await {
            Ok(described) => {
                let described = serde_json::to_value(described).expect("a description is JSON");
                if !says_the_same(query, &described) {
                    faults.push(format!("{path}: prepared {}\n  but the schema gives {described}", query["describe"]));
                }
            }
            Err(error) => faults.push(format!("{path}: {error}")),
        }
    }
    assert!(faults.is_empty(), "run `make sqlx-prepare`:\n{}", faults.join("\n"));
}

#[test]
fn every_prepared_query_stands_in_the_code() {
    let sources: String = repository::files()
        .expect("the repository")
        .iter()
        .filter(|file| file.is_rust() && file.path.starts_with("portal/"))
        .map(|file| words(&file.text).join(" "))
        .collect();
    let stale: Vec<String> = prepared()
        .into_iter()
        .filter(|(_, query)| share_in(&sources, &words(query["query"].as_str().expect("the query's text"))) < 75)
        .map(|(path, _)| path)
        .collect();
    assert!(stale.is_empty(), "run `make sqlx-prepare`, these are used no more: {stale:#?}");
}
