//! A private Postgres cluster for one data folder: found, made, started, stopped and recovered.
//!
//! Postgres refuses to run as root, so for root it runs as `postgres`, else `nobody`, and owns its folder. It listens on a free port of 127.0.0.1
//! with password authentication, and on no socket.

use std::{
    ffi::OsString,
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::Signal;
use sqlx::{Connection, PgConnection};

use crate::{data_dir::DataDir, ports::KeptPort, process::Process};

/// The oldest major version that works.
const OLDEST_MAJOR: u32 = 15;
const USER: &str = "tollkeeper";
const START_PATIENCE: Duration = Duration::from_secs(120);
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// How often a starting server is asked whether it accepts connections. It has no other way to tell.
const READY_POLL: Duration = Duration::from_millis(25);

/// A running private cluster.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    url: String,
    binaries: Binaries,
    settings: Vec<String>,
    port: KeptPort,
    password: String,
}

/// Where the server's binaries are, and of which major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    major: u32,
}

impl Binaries {
    /// Looks into `PG_BIN`, `PATH`, `pg_config --bindir` and the places where packages put them, and takes the newest of the first place that has
    /// any. `installed` prefers one major version, that of an existing cluster.
    pub fn find(installed: Option<u32>) -> anyhow::Result<Self> {
        let mut found: Vec<Self> = Vec::new();
        for place in places() {
            let mut here: Vec<Self> = place.into_iter().filter_map(|folder| Self::at(&folder)).collect();
            here.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
            found.extend(here);
        }
        let usable = |binaries: &&Self| binaries.major >= OLDEST_MAJOR;
        let preferred = found.iter().find(|binaries| Some(binaries.major) == installed);
        match (preferred.or(found.iter().find(usable)), found.first()) {
            (Some(binaries), _) => Ok(binaries.clone()),
            (None, Some(old)) => {
                bail!(
                    "Postgres {} in {} is too old: {OLDEST_MAJOR} or newer is needed. {}",
                    old.major,
                    old.folder.display(),
                    install_hint()
                )
            }
            (None, None) => bail!("no Postgres server was found on this machine. {}", install_hint()),
        }
    }

    fn at(folder: &Path) -> Option<Self> {
        if !folder.join("initdb").exists() {
            return None;
        }
        let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let version = text.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
        let major = version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
        // A binary behind a link finds its libraries from where it really is.
        let folder = folder.join("postgres").canonicalize().ok()?.parent()?.to_path_buf();
        Some(Self { folder, major })
    }
}

/// Candidate folders, grouped by place in the order of preference.
fn places() -> Vec<Vec<PathBuf>> {
    #[allow(clippy::disallowed_methods, reason = "where binaries are is a setting of this module")]
    let (pg_bin, path) = (std::env::var_os("PG_BIN"), std::env::var_os("PATH"));
    let config = Command::new("pg_config").arg("--bindir").output().ok().filter(|output| output.status.success());
    let children = |parent: &str, below: &str| -> Vec<PathBuf> {
        fs::read_dir(parent).map(|entries| entries.flatten().map(|entry| entry.path().join(below)).collect()).unwrap_or_default()
    };
    vec![
        pg_bin.map(PathBuf::from).into_iter().collect(),
        path.map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
        config.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())).into_iter().collect(),
        children("/usr/lib/postgresql", "bin"),
        children("/opt/homebrew/opt", "bin"),
        children("/usr/local/opt", "bin"),
    ]
}

fn install_hint() -> String {
    let root = rustix::process::geteuid().is_root();
    let command = if cfg!(target_os = "macos") {
        "brew install postgresql@17"
    } else if Path::new("/etc/debian_version").exists() {
        if root { "apt-get install -y postgresql" } else { "sudo apt-get install -y postgresql" }
    } else if Path::new("/etc/redhat-release").exists() {
        "sudo dnf install postgresql-server"
    } else if Path::new("/etc/alpine-release").exists() {
        "apk add postgresql"
    } else {
        "install your system's PostgreSQL server package"
    };
    format!(
        "Run `{command}` and start again, or set PG_BIN to the folder with `initdb`, or set DATABASE_URL to a server that runs elsewhere."
    )
}

/// The account under which the server runs when root starts it.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    fn for_server() -> anyhow::Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let accounts = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let find = |name: &str| {
            let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some(Self { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
        };
        find("postgres")
            .or_else(|| find("nobody"))
            .map(Some)
            .context("Postgres refuses to run as root, and neither the account `postgres` nor `nobody` exists")
    }

    fn command(account: Option<Self>, program: PathBuf) -> Command {
        let mut command = Command::new(program);
        if let Some(Self { uid, gid }) = account {
            command.uid(uid).gid(gid);
        }
        command.current_dir("/").env("LC_ALL", "C.UTF-8");
        command
    }
}

impl Postgres {
    /// Starts the cluster of a data folder, making it first where there is none. A cluster whose server was killed recovers by itself.
    pub async fn start(data: &DataDir) -> anyhow::Result<Self> {
        Self::start_with(data, &[]).await
    }

    /// The same with settings of the server on top, each as `name=value`. Tests trade durability for speed with them.
    pub async fn start_with(data: &DataDir, extra_settings: &[&str]) -> anyhow::Result<Self> {
        let folder = data.path("postgres");
        let installed = installed_major(&folder)?;
        let binaries = Binaries::find(installed)?;
        if let Some(installed) = installed.filter(|installed| *installed != binaries.major) {
            bail!(
                "the database in {} was made by Postgres {installed}, but Postgres {} was found in {}. Set PG_BIN to the folder of version \
                 {installed}, or start empty with --fresh",
                folder.display(),
                binaries.major,
                binaries.folder.display()
            );
        }
        let account = Account::for_server()?;
        let password = match data.secret("postgres-password")? {
            Some(password) if installed.is_some() => password,
            _ => initialize(data, &binaries, account, &folder)?,
        };
        let port = KeptPort::free()?;
        let settings = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=200",
            "shared_buffers=128MB",
            "max_wal_size=2GB",
            "log_min_messages=warning",
        ];
        let settings: Vec<String> = settings.iter().chain(extra_settings).map(|setting| (*setting).to_owned()).collect();
        let process = spawn(data, &binaries, &settings, port.number())?;
        let url = format!("postgres://{USER}:{password}@127.0.0.1:{}/{USER}", port.number());
        let mut postgres = Self { process, url, binaries, settings, port, password };
        postgres.wait_until_ready().await?;
        Ok(postgres)
    }

    /// Kills the server as a crash would (`kill -9`), for tests. Its children notice and end.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill_now().await
    }

    /// Starts the server again after it was killed, on the same port. It recovers by itself.
    pub async fn revive(&mut self, data: &DataDir) -> anyhow::Result<()> {
        let mut poll = tokio::time::interval(READY_POLL);
        let started = tokio::time::timeout(START_PATIENCE, async {
            loop {
                poll.tick().await;
                self.process = spawn(data, &self.binaries, &self.settings, self.port.number())?;
                match self.wait_until_ready().await {
                    Ok(()) => return anyhow::Ok(()),
                    // The killed server's children still hold its shared memory for a moment, and the new one says so and ends.
                    Err(error) if error.to_string().contains("is still in use") => {}
                    Err(error) => return Err(error),
                }
            }
        });
        started.await.context("the killed server's children do not end")?
    }

    /// Takes a base backup of the running server with `pg_basebackup`, into a folder that does not exist yet. A server that is started on it is where this
    /// one was at the end of the backup.
    pub fn base_backup(&self, into: &Path) -> anyhow::Result<()> {
        let account = Account::for_server()?;
        fs::create_dir(into).with_context(|| format!("cannot create {}", into.display()))?;
        fs::set_permissions(into, fs::Permissions::from_mode(0o700))?;
        if let Some(Account { uid, gid }) = account {
            chown(into, Some(uid), Some(gid))?;
        }
        let mut command = Account::command(account, self.binaries.folder.join("pg_basebackup"));
        command.arg("-D").arg(into).args(["-h", "127.0.0.1", "-U", USER, "--checkpoint=fast", "--no-password"]);
        command.arg("-p").arg(self.port.number().to_string()).env("PGPASSWORD", &self.password);
        let output = command.output().context("cannot run pg_basebackup")?;
        if !output.status.success() {
            bail!("pg_basebackup failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Where to connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops the server; open connections are closed.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.process.stop(Signal::INT, STOP_PATIENCE).await
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let admin_url = format!("postgres://{USER}:{}@127.0.0.1:{}/postgres", self.password, self.port.number());
        let mut poll = tokio::time::interval(READY_POLL);
        let ready = async {
            loop {
                poll.tick().await;
                if let Ok(mut connection) = PgConnection::connect(&admin_url).await {
                    return create_database(&mut connection).await;
                }
            }
        };
        tokio::select! {
            created = tokio::time::timeout(START_PATIENCE, ready) => {
                created.with_context(|| format!("Postgres did not accept connections within {} s", START_PATIENCE.as_secs()))?
            }
            status = self.process.wait() => {
                let log = fs::read_to_string(self.process.log()).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                bail!("Postgres ended at start ({}):\n{}", status?, last.into_iter().rev().collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

fn spawn(data: &DataDir, binaries: &Binaries, settings: &[String], port: u16) -> anyhow::Result<Process> {
    let mut command = Account::command(Account::for_server()?, binaries.folder.join("postgres"));
    command.arg("-D").arg(data.path("postgres")).arg("-p").arg(port.to_string());
    command.args(settings.iter().flat_map(|setting| ["-c", setting]).map(OsString::from));
    Process::spawn("postgres", command, data.root())
}

async fn create_database(connection: &mut PgConnection) -> anyhow::Result<()> {
    let exists = sqlx::query("SELECT 1 FROM pg_database WHERE datname = 'tollkeeper'").fetch_optional(&mut *connection).await?;
    if exists.is_none() {
        sqlx::query("CREATE DATABASE tollkeeper").execute(connection).await?;
    }
    Ok(())
}

/// The major version that made the cluster; `None` where there is none.
fn installed_major(folder: &Path) -> anyhow::Result<Option<u32>> {
    match fs::read_to_string(folder.join("PG_VERSION")) {
        Ok(text) => Ok(Some(text.trim().parse().with_context(|| format!("{}/PG_VERSION does not hold a version", folder.display()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", folder.display())),
    }
}

/// Makes the cluster in a folder beside its place and moves it there when it is whole, so that a start that was cut off leaves none behind.
fn initialize(data: &DataDir, binaries: &Binaries, account: Option<Account>, folder: &Path) -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("the operating system gave no random bytes")?;
    let password: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let (making, password_file) = (data.path("postgres.making"), data.path("postgres.password"));
    if making.exists() {
        fs::remove_dir_all(&making)?;
    }
    fs::create_dir(&making)?;
    fs::set_permissions(&making, fs::Permissions::from_mode(0o700))?;
    fs::write(&password_file, "")?;
    fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))?;
    fs::write(&password_file, &password)?;
    if let Some(Account { uid, gid }) = account {
        chown(&making, Some(uid), Some(gid))?;
        chown(&password_file, Some(uid), Some(gid))?;
    }
    let mut command = Account::command(account, binaries.folder.join("initdb"));
    command.arg("-D").arg(&making).args(["-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8"]);
    command.arg(format!("--pwfile={}", password_file.display()));
    let output = command.output().with_context(|| format!("cannot run {}/initdb", binaries.folder.display()))?;
    fs::remove_file(&password_file)?;
    if !output.status.success() {
        bail!("initdb failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    data.keep_secret("postgres-password", &password)?;
    fs::rename(&making, folder).with_context(|| format!("cannot move the new cluster to {}", folder.display()))?;
    Ok(password)
}
