//! The private cluster, with the server that is on the machine.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use local_postgres::{data_dir::DataDir, postgres::Postgres, process};
use sqlx::{Connection, PgConnection, Row};

/// Below a folder that the account of a server started by root may pass through.
fn folder() -> tempfile::TempDir {
    local_postgres::data_dir::temporary("local-postgres-").expect("a temporary folder")
}

async fn execute(url: &str, statement: &'static str) {
    let mut connection = PgConnection::connect(url).await.expect("a connection");
    sqlx::query(statement).execute(&mut connection).await.expect(statement);
}

async fn count_notes(url: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.expect("a connection");
    sqlx::query("SELECT count(*) FROM notes").fetch_one(&mut connection).await.expect("a count").get(0)
}

#[tokio::test]
async fn keeps_its_data_over_a_stop_and_over_a_kill() {
    let folder = folder();
    let data = DataDir::open(folder.path()).expect("a data folder");

    let postgres = Postgres::start(&data).await.expect("a first start");
    execute(postgres.url(), "CREATE TABLE notes (text text)").await;
    execute(postgres.url(), "INSERT INTO notes VALUES ('before the stop')").await;
    postgres.stop().await.expect("a clean stop");

    let mut postgres = Postgres::start(&data).await.expect("a second start");
    assert_eq!(count_notes(postgres.url()).await, 1);
    execute(postgres.url(), "INSERT INTO notes VALUES ('before the kill')").await;
    postgres.process().kill_now().await.expect("a kill");

    process::stop_orphans(data.root()).await.expect("nothing is left to stop");
    let postgres = Postgres::start(&data).await.expect("a start that recovers");
    assert_eq!(count_notes(postgres.url()).await, 2, "a committed row survives");
    postgres.stop().await.expect("a clean stop");
}

#[tokio::test]
async fn stops_what_a_killed_run_left_behind() {
    let folder = folder();
    let data = DataDir::open(folder.path()).expect("a data folder");
    let postgres = Postgres::start(&data).await.expect("a first start");
    let url = postgres.url().to_owned();
    // The owner dies without stopping its child.
    std::mem::forget(postgres);
    assert_eq!(process::stop_orphans(data.root()).await.expect("the orphan stops"), ["postgres"]);
    assert!(PgConnection::connect(&url).await.is_err(), "the server is gone");
    Postgres::start(&data).await.expect("a start on the same folder").stop().await.expect("a clean stop");
}

#[tokio::test]
async fn names_a_cluster_of_another_major_version() {
    let folder = folder();
    let data = DataDir::open(folder.path()).expect("a data folder");
    fs::create_dir(data.path("postgres")).expect("a folder");
    fs::write(data.path("postgres").join("PG_VERSION"), "9\n").expect("a version");
    let error = format!("{:#}", Postgres::start(&data).await.expect_err("version 9 cannot be served"));
    assert!(error.contains("made by Postgres 9") && error.contains("PG_BIN") && error.contains("--fresh"), "{error}");
}

#[tokio::test]
async fn only_one_stack_uses_a_folder_and_others_cannot_read_its_secrets() {
    let folder = folder();
    let data = DataDir::open(folder.path()).expect("a data folder");
    let error = format!("{:#}", DataDir::open(folder.path()).expect_err("the folder is in use"));
    assert!(error.contains("another stack is running"), "{error}");
    data.keep_secret("x", "secret").expect("a secret is kept");
    let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
    assert_eq!((mode(&data.path("secrets")), mode(&data.path("secrets/x"))), (0o700, 0o600));
}
