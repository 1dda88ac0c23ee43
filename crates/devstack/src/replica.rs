//! Further gateways beside the stack's own: replicas share its credential, and have a journal and ports of their own.

use anyhow::Context;
use rustix::process::Signal;

use crate::{
    data_dir::DataDir,
    gateway_credential,
    ports::Ports,
    process::Process,
    stack::{STOP_PATIENCE, Stack, gateway_environment, start_gateway_process},
};

/// A running replica of the gateway.
#[derive(Debug)]
pub struct Replica {
    name: &'static str,
    ports: Ports,
    process: Process,
}

impl Replica {
    /// Starts one and waits until it is ready. Its journal and its log are named after it.
    pub async fn start(stack: &Stack, name: &'static str) -> anyhow::Result<Self> {
        let free = Ports::FREE.resolve()?;
        let ports = Ports { gateway: free.gateway, gateway_admin: free.gateway_admin, ..stack.ports };
        Ok(Self { name, ports, process: launch(stack.data(), name, ports).await? })
    }

    /// Where API calls go.
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.ports.gateway)
    }

    /// Where its health and metrics are.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.gateway_admin)
    }

    /// Kills it as a crash would (`kill -9`).
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill_now().await
    }

    /// Starts it again after it was killed, with the journal that it left, and waits until it is ready.
    pub async fn revive(&mut self, stack: &Stack) -> anyhow::Result<()> {
        self.process = launch(stack.data(), self.name, self.ports).await?;
        Ok(())
    }

    /// Stops it in order: it ships its usage and gives its leases back.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.process.stop(Signal::TERM, STOP_PATIENCE).await
    }
}

async fn launch(data: &DataDir, name: &'static str, ports: Ports) -> anyhow::Result<Process> {
    let credential = data.secret(gateway_credential::SECRET)?.context("the gateway has no credential")?;
    let mut environment = gateway_environment(data, ports, &credential);
    environment.retain(|(variable, _)| *variable != "GATEWAY_DATA_DIR");
    environment.push(("GATEWAY_DATA_DIR", data.path(name).display().to_string()));
    start_gateway_process(data, name, ports, environment).await
}
