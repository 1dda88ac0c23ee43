//! Real callers and a real gRPC server, of Python's libraries, in a process of their own: `tests/peer.py`.

use std::{path::PathBuf, process::Stdio};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::SOON;

/// A process of `tests/peer.py`. It ends with the test.
pub struct Peer {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

fn python() -> PathBuf {
    #[allow(clippy::disallowed_methods, reason = "where the tests' Python is, is a setting of the tests")]
    let set = std::env::var("TOLLKEEPER_TEST_PYTHON").ok().filter(|path| !path.is_empty());
    let installed = || concat!(env!("CARGO_MANIFEST_DIR"), "/../test-output/python/bin/python").to_owned();
    set.unwrap_or_else(installed).into()
}

impl Peer {
    pub fn start() -> Self {
        let python = python();
        let mut child = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peer.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be run ({error}); `scripts/setup test` makes it", python.display()));
        let commands = child.stdin.take().expect("a pipe");
        let answers = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, commands, answers }
    }

    /// Gives a command and waits for what it is answered.
    pub async fn ask(&mut self, command: Value) -> Value {
        self.commands.write_all(format!("{command}\n").as_bytes()).await.expect("the process takes commands");
        let line = tokio::time::timeout(SOON * 3, self.answers.next_line()).await.expect("answered in time");
        let line = line.expect("a line").expect("the process goes on; its error stands above");
        serde_json::from_str(&line).expect("JSON")
    }

    /// Starts the gRPC server, and returns its port.
    pub async fn serve(&mut self) -> u16 {
        let answer = self.ask(json!({ "do": "serve" })).await;
        answer["port"].as_u64().and_then(|port| port.try_into().ok()).expect("a port")
    }

    /// Waits for the first piece of the call's answer.
    pub async fn first(&mut self) {
        let answer = self.ask(json!({ "do": "first" })).await;
        if answer["came"] != true || answer["ended"] == true {
            panic!("the call did not begin: {answer} {}", self.end().await);
        }
    }

    /// Waits for the end of the call, and tells what came of it.
    pub async fn end(&mut self) -> Value {
        self.ask(json!({ "do": "wait" })).await
    }

    /// Makes a call and waits for its end.
    pub async fn call(&mut self, command: Value) -> Value {
        self.ask(command).await;
        self.end().await
    }

    /// Breaks the call off.
    pub async fn cancel(&mut self) {
        self.ask(json!({ "do": "cancel" })).await;
    }

    /// Kills the process, and with it all of its connections.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }
}
