//! The gateway as its own process: the real binary, its settings from the environment, stopped by a signal.

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use super::{SOON, eventually, portal::MockPortal};

/// A gateway that runs in a process of its own. It is killed when it is dropped.
pub struct GatewayProcess {
    pub data: SocketAddr,
    pub admin: SocketAddr,
    child: Child,
    /// What it has written to its log.
    log: tokio::task::JoinHandle<Vec<String>>,
}

impl GatewayProcess {
    /// Starts the binary on free ports and waits until it is ready.
    pub async fn start(portal: &MockPortal, folder: &Path, settings: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_metering-gateway"))
            .env_clear()
            .envs([
                ("GATEWAY_LISTEN", "127.0.0.1:0"),
                ("GATEWAY_ADMIN_LISTEN", "127.0.0.1:0"),
                ("GATEWAY_PORTAL_URL", portal.url().as_str()),
                ("GATEWAY_CREDENTIAL", portal.credential.reveal()),
                ("GATEWAY_DATA_DIR", folder.to_str().expect("a plain path")),
                ("GATEWAY_CORES", "2"),
                ("GATEWAY_JOURNAL_SEGMENT_BYTES", "65536"),
                ("GATEWAY_LOG_FORMAT", "json"),
            ])
            .envs(settings.iter().copied())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let mut log = BufReader::new(child.stderr.take().expect("its log")).lines();
        let (data, admin) = tokio::time::timeout(SOON, addresses(&mut log)).await.expect("serves soon");
        let log = tokio::spawn(async move {
            let mut lines = Vec::new();
            while let Ok(Some(line)) = log.next_line().await {
                lines.push(line);
            }
            lines
        });
        let gateway = Self { data, admin, child, log };
        eventually("the process is ready", async || (gateway.ready().await? == 200).then_some(())).await;
        gateway
    }

    /// The status of `/readyz`; nothing when nobody answers.
    pub async fn ready(&self) -> Option<u16> {
        Some(reqwest::get(format!("http://{}/readyz", self.admin)).await.ok()?.status().as_u16())
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Has it stand still. What is sent to it meanwhile waits, and is all there when it [goes on](Self::go_on).
    pub fn stand_still(&self) {
        self.signal(Signal::STOP);
    }

    /// Has it go on.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().expect("it runs")).expect("a process id");
        kill_process(Pid::from_raw(id).expect("a process id"), signal).expect("the signal is sent");
    }

    /// Kills it, as a machine that loses its power does.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    /// Waits for the end while nobody reads what it writes to standard output: the exit code and the log.
    pub async fn ended_unread(mut self, within: Duration) -> (Option<i32>, Vec<String>) {
        let _unread = self.child.stdout.take().expect("its output");
        let status = tokio::time::timeout(within, self.child.wait()).await.expect("ends in time").expect("it was started");
        (status.code(), self.log.await.expect("no panic"))
    }

    /// Waits for the end: the exit code, what was written to standard output, and the log.
    pub async fn ended(mut self, within: Duration) -> (Option<i32>, String, Vec<String>) {
        let mut out = String::new();
        let mut stdout = self.child.stdout.take().expect("its output");
        let reading = tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut out);
        let (status, read) = tokio::time::timeout(within, async { tokio::join!(self.child.wait(), reading) }).await.expect("ends in time");
        read.expect("text");
        (status.expect("it was started").code(), out, self.log.await.expect("no panic"))
    }
}

/// Reads the log until it says where the gateway serves.
async fn addresses(log: &mut Lines<BufReader<ChildStderr>>) -> (SocketAddr, SocketAddr) {
    let mut before = Vec::new();
    while let Some(line) = log.next_line().await.expect("text") {
        if let Ok(event) = serde_json::from_str::<Value>(&line)
            && event["message"] == "the gateway serves"
        {
            let address = |name: &str| event[name].as_str().and_then(|text| text.parse().ok()).expect("an address");
            return (address("data"), address("admin"));
        }
        before.push(line);
    }
    panic!("the gateway did not start:\n{}", before.join("\n"));
}
