//! A private Postgres and portal processes on it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use local_postgres::{data_dir::DataDir, postgres::Postgres};
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::process::{Process, Start, free_address};

/// What `docs/OPERATIONS.md` says to set where there is much usage, and statistics. `fsync`, `full_page_writes` and `synchronous_commit` stay on.
const SETTINGS: [&str; 6] = [
    "shared_buffers=2GB",
    "wal_buffers=64MB",
    "max_wal_size=16GB",
    "checkpoint_timeout=15min",
    "shared_preload_libraries=pg_stat_statements",
    "pg_stat_statements.track=all",
];

/// Postgres and what it takes to start portals on it.
#[derive(Debug)]
pub struct Stand {
    /// The database.
    pub postgres: Postgres,
    /// Connections for the measurement's own questions.
    pub pool: PgPool,
    folder: PathBuf,
}

/// All cores of the machine.
pub fn all_cores() -> Vec<usize> {
    (0..std::thread::available_parallelism().map_or(1, usize::from)).collect()
}

impl Stand {
    /// Starts Postgres in a folder, which it makes, and applies the migrations.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_with(folder, &[]).await
    }

    /// The same, with settings that go before the usual ones.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start_with(folder: &Path, settings: &[&str]) -> anyhow::Result<Self> {
        let data = DataDir::open(folder)?;
        let postgres = Postgres::start_with(&data, &[&SETTINGS[..], settings].concat()).await?;
        let url = postgres.url().to_owned();
        let migrate = Command::new(portal_binary()?).arg("migrate").env("DATABASE_URL", &url).status()?;
        ensure!(migrate.success(), "the migrations could not be applied");
        let pool = PgPoolOptions::new().max_connections(8).connect(&url).await?;
        sqlx::query("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").execute(&pool).await?;
        // The lock of the folder is not needed: its name is this run's own.
        drop(data);
        Ok(Self { postgres, pool, folder: folder.to_owned() })
    }

    /// Starts a portal that serves and works.
    ///
    /// # Errors
    /// When it does not start.
    pub fn portal(&self, name: &str) -> anyhow::Result<Process> {
        let address = free_address()?;
        let url = format!("DATABASE_URL={}", self.postgres.url());
        let listen = format!("PORTAL_LISTEN={address}");
        let log = "PORTAL_LOG=warn";
        let binary = portal_binary()?.display().to_string();
        let start = Start { name, address, cores: &all_cores(), folder: &self.folder };
        Process::start(&start, Path::new("env"), &[&url, &listen, log, &binary, "serve", "--with-worker"])
    }

    /// The statements that took longest, for the tool's own output.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn slowest_statements(&self) -> anyhow::Result<Vec<String>> {
        let rows: Vec<(String, i64, f64, f64)> = sqlx::query_as(
            "SELECT left(regexp_replace(query, '\\s+', ' ', 'g'), 110), calls, total_exec_time, mean_exec_time FROM pg_stat_statements
             ORDER BY total_exec_time DESC LIMIT 12",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|(query, calls, total, mean)| format!("{total:9.0} ms {calls:7} x {mean:8.2} ms  {query}")).collect())
    }

    /// User and system time of all of Postgres' processes that run now, the statistics' own included.
    pub fn postgres_cpu(&self) -> Duration {
        let Some(postmaster) = fs::read_to_string(self.folder.join("postgres/postmaster.pid")).ok() else { return Duration::ZERO };
        let Some(postmaster) = postmaster.lines().next().and_then(|line| line.parse::<u32>().ok()) else { return Duration::ZERO };
        let tick_hz = rustix::param::clock_ticks_per_second();
        let mut ticks = 0;
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // proc(5): behind the name stand the state, the parent, and at the 12th place user and system time.
            let fields: Vec<&str> = stat.rsplit_once(") ").map_or(Vec::new(), |(_, rest)| rest.split(' ').collect());
            let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
            let own = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) == Some(postmaster);
            if own || number(1) == u64::from(postmaster) {
                ticks += number(11) + number(12);
                // What ended children of the server took.
                ticks += if own { number(13) + number(14) } else { 0 };
            }
        }
        Duration::from_millis(ticks * 1_000 / tick_hz)
    }
}

/// The portal that stands beside this binary.
///
/// # Errors
/// When there is none.
pub fn portal_binary() -> anyhow::Result<PathBuf> {
    let binary = std::env::current_exe()?.with_file_name("portal");
    ensure!(binary.exists(), "build it with `cargo build --profile dist -p portal`: {} is not there", binary.display());
    Ok(binary)
}

/// How large a table is with its partitions and indexes, in bytes: rows, indexes.
///
/// # Errors
/// When the database does not answer.
pub async fn table_bytes(pool: &PgPool, table: &str) -> anyhow::Result<(i64, i64)> {
    sqlx::query_as(
        "SELECT coalesce(sum(pg_table_size(relid)), 0)::bigint, coalesce(sum(pg_indexes_size(relid)), 0)::bigint
         FROM (SELECT relid FROM pg_partition_tree($1::regclass) WHERE isleaf UNION SELECT $1::regclass) t",
    )
    .bind(table)
    .fetch_one(pool)
    .await
    .with_context(|| format!("the size of {table} cannot be read"))
}
