//! Further gateways beside the stack's own: replicas share its credential, and have a journal and ports of their own.

use std::{ffi::OsString, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    data_dir::DataDir,
    gateway_credential,
    ports::{KeptPort, Ports},
    process::Process,
    stack::{STOP_PATIENCE, Stack, binary, gateway_environment, start_gateway_process},
};

/// How a replica differs from the stack's gateway.
#[derive(Debug, Clone, Default)]
pub struct ReplicaOptions {
    /// Its journal and its log are named after it.
    pub name: &'static str,
    /// Variables beside those that each gateway of the stack has, or instead of them.
    pub environment: Vec<(&'static str, String)>,
    /// A program with its arguments that starts the gateway, whose path follows, by turning into it (`exec`). Empty: it is started directly.
    pub wrapper: Vec<OsString>,
}

/// A running replica of the gateway.
#[derive(Debug)]
pub struct Replica {
    options: ReplicaOptions,
    ports: Ports,
    _kept: [KeptPort; 2],
    process: Process,
}

impl Replica {
    /// Starts one as the stack's own gateway is, and waits until it is ready.
    pub async fn start(stack: &Stack, name: &'static str) -> anyhow::Result<Self> {
        Self::start_with(stack, ReplicaOptions { name, ..ReplicaOptions::default() }).await
    }

    /// Starts one and waits until it is ready.
    pub async fn start_with(stack: &Stack, options: ReplicaOptions) -> anyhow::Result<Self> {
        let kept = [KeptPort::free()?, KeptPort::free()?];
        let [gateway, gateway_admin] = kept.each_ref().map(KeptPort::number);
        let ports = Ports { gateway, gateway_admin, ..stack.ports };
        let process = launch(stack.data(), &options, ports).await?;
        Ok(Self { options, ports, _kept: kept, process })
    }

    /// Where API calls go.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.gateway)
    }

    /// Where its health and metrics are.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.gateway_admin)
    }

    /// The id of its process, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.id()
    }

    /// The folder of its journal and of its cached policy.
    pub fn folder(&self, stack: &Stack) -> PathBuf {
        stack.data().path(self.options.name)
    }

    /// Kills it as a crash would (`kill -9`).
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill_now().await
    }

    /// Asks it to stop in order, and does not wait for it: [`Self::wait`] does.
    pub fn ask_to_stop(&self) -> anyhow::Result<()> {
        let pid = self.process.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("the gateway does not run")?;
        Ok(kill_process(pid, Signal::TERM)?)
    }

    /// Waits until its process has ended, and says how.
    ///
    /// # Errors
    /// When it has not after so long, with the end of its log. It is killed then.
    pub async fn wait(&mut self, patience: Duration) -> anyhow::Result<std::process::ExitStatus> {
        if let Ok(ended) = tokio::time::timeout(patience, self.process.wait()).await {
            return ended;
        }
        let states = self.process.id().map(thread_states).unwrap_or_default();
        self.process.kill_now().await?;
        bail!(
            "the gateway did not end within {patience:?}; what its threads did:\n{states}and the end of its log:\n{}",
            self.process.last_lines()
        )
    }

    /// Starts it again after it has ended, with what it left in its folder, and waits until it is ready.
    pub async fn revive(&mut self, stack: &Stack) -> anyhow::Result<()> {
        self.process = launch(stack.data(), &self.options, self.ports).await?;
        Ok(())
    }

    /// Stops it in order: it ships its usage and gives its leases back.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.process.stop(Signal::TERM, STOP_PATIENCE).await
    }
}

/// What each thread of a process waits for in the system, as far as the system says.
fn thread_states(pid: u32) -> String {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let state = |thread: PathBuf| {
        let stat = read(thread.join("stat"));
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?');
        format!("    {} {state} {}\n", read(thread.join("comm")).trim(), read(thread.join("wchan")).trim())
    };
    threads.map(|thread| state(thread.path())).collect()
}

async fn launch(data: &DataDir, options: &ReplicaOptions, ports: Ports) -> anyhow::Result<Process> {
    let credential = data.secret(gateway_credential::SECRET)?.context("the gateway has no credential")?;
    let gateway = binary("metering-gateway")?;
    let mut command = match options.wrapper.split_first() {
        None => Command::new(gateway),
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(gateway);
            command
        }
    };
    command.envs(gateway_environment(data, ports, &credential));
    command.env("GATEWAY_DATA_DIR", data.path(options.name));
    command.envs(options.environment.iter().map(|(name, value)| (*name, value.as_str())));
    start_gateway_process(data, options.name, ports, command).await
}
