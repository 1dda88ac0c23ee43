//! `tollkeeper up` as a person runs it: what it prints, how it stops, what survives, and what it refuses.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;
use devstack::{data_dir::DataDir, ports::free_port, postgres::Postgres};
use e2e::{stack, wait};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
};

use crate::check;

/// How long a start may take on a busy machine. What it should take is printed, not asserted.
const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(40);
/// What a second start may take.
const SECOND_START: Duration = Duration::from_secs(5);

/// The ports of one run.
#[derive(Debug, Clone, Copy)]
struct Flags {
    portal: u16,
    gateway: u16,
    gateway_admin: u16,
    demo: u16,
}

impl Flags {
    fn free() -> anyhow::Result<Self> {
        Ok(Self { portal: free_port()?, gateway: free_port()?, gateway_admin: free_port()?, demo: free_port()? })
    }

    fn command(self, data: &Path, more: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(e2e::binary("tollkeeper")?);
        command.args(["up", "--data-dir"]).arg(data).env_remove("DATABASE_URL").stdin(Stdio::null());
        let ports = [
            ("--portal-port", self.portal),
            ("--gateway-port", self.gateway),
            ("--gateway-admin-port", self.gateway_admin),
            ("--demo-port", self.demo),
        ];
        for (flag, port) in ports {
            command.args([flag, &port.to_string()]);
        }
        command.args(more);
        Ok(command)
    }
}

/// A run that is up, and what it printed until then.
struct Running {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
    printed: String,
}

impl Running {
    async fn start(command: Command) -> anyhow::Result<Self> {
        let mut child =
            tokio::process::Command::from(command).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true).spawn()?;
        let output = BufReader::new(child.stdout.take().context("its output is a pipe")?).lines();
        let mut running = Self { child, output, printed: String::new() };
        let until_up = async {
            while let Some(line) = running.output.next_line().await? {
                running.printed.push_str(&line);
                running.printed.push('\n');
                if line.trim_start().starts_with("Stop ") {
                    return Ok(());
                }
            }
            anyhow::bail!("it ended before it was up:\n{}", running.printed)
        };
        tokio::time::timeout(START_DEADLINE, until_up).await.context("it is not up in time")??;
        Ok(running)
    }

    /// The word after a label of the summary.
    fn after(&self, label: &str) -> anyhow::Result<String> {
        // The summary comes after the steps, of which some have the same names.
        let line = self.printed.lines().rev().find_map(|line| line.trim_start().strip_prefix(label));
        let word = line.and_then(|line| line.split_whitespace().next());
        Ok(word.with_context(|| format!("no `{label}` in what is printed:\n{}", self.printed))?.to_owned())
    }

    /// The printed line that calls.
    fn curl(&self) -> anyhow::Result<String> {
        let line = self.printed.lines().map(str::trim).find(|line| line.starts_with("curl "));
        Ok(line.with_context(|| format!("no call is printed:\n{}", self.printed))?.to_owned())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.child.id().context("it runs")?;
        Ok(kill_process(Pid::from_raw(id.cast_signed()).context("ids are positive")?, signal)?)
    }

    /// Stops it as Ctrl-C does.
    async fn interrupt(mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::INT)?;
        let status = tokio::time::timeout(STOP_DEADLINE, self.child.wait()).await.context("it does not stop")??;
        while let Some(line) = self.output.next_line().await? {
            self.printed.push_str(&line);
        }
        check!(self.printed.contains("Stopped. All data is kept."), "it says that it stopped:\n{}", self.printed);
        Ok(status)
    }
}

/// Ids of the processes that a data folder remembers.
fn remembered(data: &Path) -> anyhow::Result<Vec<i32>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(data.join("run"))? {
        let text = fs::read_to_string(entry?.path())?;
        ids.extend(text.lines().next().and_then(|line| line.parse::<i32>().ok()));
    }
    Ok(ids)
}

fn alive(id: i32) -> bool {
    // One that ended and was not reaped yet has no command line.
    let runs = Pid::from_raw(id).is_some_and(|pid| test_kill_process(pid).is_ok());
    runs && fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// Runs a printed command as a person pastes it.
fn paste(line: &str) -> anyhow::Result<String> {
    let output = Command::new("sh").arg("-c").arg(format!("{line} --silent --show-error --fail-with-body --noproxy '*'")).output()?;
    check!(output.status.success(), "{line}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// How many calls the database knows, all of them proven by segments.
async fn recorded(database: &sqlx::PgPool) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar("SELECT coalesce(sum(records), 0)::bigint FROM usage_segments").fetch_one(database).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_product_runs_from_one_command() -> anyhow::Result<()> {
    let (folder, flags) = (stack::folder()?, Flags::free()?);
    let outcome = runs_from_one_command(folder.path(), flags).await;
    outcome.with_context(|| stack::logs(folder.path()))
}

async fn runs_from_one_command(data: &Path, flags: Flags) -> anyhow::Result<()> {
    a_taken_port_is_one_clear_error(data, flags)?;

    let started = Instant::now();
    let first = Running::start(flags.command(data, &[])?).await?;
    println!("up: the first start takes {:?} (unoptimized)", started.elapsed());
    check!(first.after("Portal")? == format!("http://localhost:{}", flags.portal), "{}", first.printed);
    for word in ["admin@demo.tollkeeper.local", "dev@demo.tollkeeper.local", "password", "/dev/mailbox", "Data and logs", "Ctrl-C"] {
        check!(first.printed.contains(word), "`{word}` is not printed:\n{}", first.printed);
    }
    check!(paste(&first.curl()?)?.contains("\"oslo\""), "the printed call works");
    let developer = e2e::visitor::Visitor::signed_in(&first.after("Portal")?, &first.after("Developer")?, "tollkeeper-demo").await?;
    check!(developer.usage().await?.calls() > 0, "the demo's organization has a past");
    the_same_folder_takes_no_second_run(data).await?;

    let processes = remembered(data)?;
    check!(processes.len() == 3 && processes.iter().all(|id| alive(*id)), "Postgres, portal and gateway run: {processes:?}");
    for _ in 0..20 {
        paste(&first.curl()?)?;
    }
    let status = first.interrupt().await?;
    check!(status.success(), "Ctrl-C ends it well: {status}");
    check!(!processes.iter().any(|id| alive(*id)) && remembered(data)?.is_empty(), "nothing is left running of {processes:?}");

    let started = Instant::now();
    let second = Running::start(flags.command(data, &[])?).await?;
    let took = started.elapsed();
    println!("up: the second start takes {took:?}");
    check!(took < SECOND_START, "a second start takes {took:?}");
    let database = database(data).await?;
    let kept = recorded(&database).await?;
    database.close().await;
    check!(second.after("Developer")? == "dev@demo.tollkeeper.local", "{}", second.printed);
    paste(&second.curl()?)?;

    // A crash of everything's parent leaves the parts running; the next start stops them, and recovers.
    let orphans = remembered(data)?;
    let mut second = second;
    second.signal(Signal::KILL)?;
    second.child.wait().await?;
    check!(orphans.iter().all(|id| alive(*id)), "the parts outlive a killed parent");
    let started = Instant::now();
    let third = Running::start(flags.command(data, &[])?).await?;
    println!("up: the start after a kill -9 takes {:?}", started.elapsed());
    check!(!orphans.iter().any(|id| alive(*id)), "orphans are stopped");
    let database = self::database(data).await?;
    let attempt = async || Ok((recorded(&database).await? == kept + 1).then_some(()));
    wait::until("the call before the kill in the database", Duration::from_secs(5), attempt).await?;
    database.close().await;
    third.interrupt().await?;
    fresh_asks_first(data, flags)
}

/// 21 calls were made before the first stop, and the stop shipped them; the past of the demo is made of segments as well.
async fn database(data: &Path) -> anyhow::Result<sqlx::PgPool> {
    let port = fs::read_to_string(data.join("postgres/postmaster.pid"))?.lines().nth(3).context("the port is the fourth line")?.to_owned();
    let password = fs::read_to_string(data.join("secrets/postgres-password"))?;
    Ok(sqlx::PgPool::connect(&format!("postgres://tollkeeper:{password}@127.0.0.1:{port}/tollkeeper")).await?)
}

fn a_taken_port_is_one_clear_error(data: &Path, flags: Flags) -> anyhow::Result<()> {
    let holder = TcpListener::bind(("127.0.0.1", flags.gateway))?;
    let output = flags.command(data, &[])?.output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    check!(!output.status.success(), "a taken port is an error");
    check!(error.contains(&format!("port {}", flags.gateway)) && error.contains("--gateway-port"), "it is named: {error}");
    check!(!data.join("postgres").exists() && remembered(data)?.is_empty(), "nothing was started");
    drop(holder);
    Ok(())
}

async fn the_same_folder_takes_no_second_run(data: &Path) -> anyhow::Result<()> {
    let output = Flags::free()?.command(data, &[])?.output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    check!(!output.status.success() && error.contains("another stack is running"), "two runs on one folder: {error}");
    Ok(())
}

fn fresh_asks_first(data: &Path, flags: Flags) -> anyhow::Result<()> {
    let output = flags.command(data, &["--fresh"])?.output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    check!(!output.status.success() && error.contains("--yes"), "where nobody can be asked, nothing is removed: {error}");
    check!(data.join("postgres/PG_VERSION").exists(), "the data is still there");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_empty_on_a_database_of_ones_own() -> anyhow::Result<()> {
    let (elsewhere, folder, flags) = (stack::folder()?, stack::folder()?, Flags::free()?);
    let postgres = Postgres::start(&DataDir::open(elsewhere.path())?).await?;
    let outcome = starts_empty(folder.path(), flags, postgres.url()).await.with_context(|| stack::logs(folder.path()));
    outcome.and(postgres.stop().await)
}

async fn starts_empty(data: &Path, flags: Flags, url: &str) -> anyhow::Result<()> {
    let mut command = flags.command(data, &["--no-demo"])?;
    command.env("DATABASE_URL", url);
    let running = Running::start(command).await?;
    check!(!data.join("postgres").exists(), "no private cluster is started beside the one that is named");
    check!(!running.printed.contains("curl") && !running.printed.contains("Developer"), "there is no demo:\n{}", running.printed);
    let operator = e2e::visitor::Visitor::signed_in(&running.after("Portal")?, &running.after("Operator")?, "tollkeeper-demo").await?;
    let page = operator.open("/catalog").await?;
    check!(page.texts(".product-card").is_empty() && page.text().contains("Import"), "an operator is led to the import: {page}");
    let database = sqlx::PgPool::connect(url).await?;
    let users: i64 = sqlx::query_scalar("SELECT count(*) FROM users").fetch_one(&database).await?;
    check!(users == 1, "the operator stands in the database that was named");
    database.close().await;
    check!(running.interrupt().await?.success(), "it ends well");
    let mut command = flags.command(data, &["--fresh", "--yes"])?;
    let output = command.env("DATABASE_URL", url).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    check!(!output.status.success() && error.contains("DATABASE_URL"), "a database of one's own is never wiped: {error}");
    Ok(())
}
