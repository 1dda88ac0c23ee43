//! Callers and upstreams that mean harm, with the bytes that they would send. While each is at work, another caller keeps getting its answers.

mod floods;
mod frames;
mod heads;
mod http2;
mod keys;
pub mod namespaces;
mod paths;
mod slow;
mod smuggling;
mod turns;
mod upstreams;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use gateway_control::usage::UsageRow;
use metering_gateway::Config;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};

use crate::harness::{SOON, Stage, eventually, policy::World};

/// The metered route behind which an upstream does harm.
const HOSTILE: &str = "/weather/v1/any/{*rest}";
/// The good answer to everything that is not hostile.
const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What an upstream does on a connection once it has read a request's head.
#[derive(Clone)]
enum Act {
    Send(Vec<u8>),
    /// Sends the same again and again for as long as it is taken.
    Repeat(Vec<u8>),
    Pause(Duration),
    /// Reads and says nothing more.
    Hang,
    /// Closes the connection.
    Close,
}

fn send(text: impl AsRef<[u8]>) -> Act {
    Act::Send(text.as_ref().to_vec())
}

/// An upstream that notes every byte it receives and answers as it is told, by the head of the request.
struct RawUpstream {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl RawUpstream {
    async fn start(script: impl Fn(&str) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let heard = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let (script, connections) = (Arc::new(script), heard.clone());
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let number = {
                    let mut heard = connections.lock().expect("no panic");
                    heard.push(Vec::new());
                    heard.len() - 1
                };
                tokio::spawn(converse(stream, number, connections.clone(), script.clone()));
            }
        });
        Self { address, heard }
    }

    /// Everything received, by connection, as text.
    fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("no panic").iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// The heads of all requests, in the order of their arrival on each connection.
    fn targets(&self) -> Vec<String> {
        let all = self.heard().concat();
        all.split("\r\n").filter_map(|line| line.strip_suffix(" HTTP/1.1")).map(str::to_owned).collect()
    }
}

type Script = dyn Fn(&str) -> Vec<Act> + Send + Sync;

async fn converse(mut stream: TcpStream, number: usize, heard: Arc<Mutex<Vec<Vec<u8>>>>, script: Arc<Script>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut unread = Vec::new();
    loop {
        while let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&unread[..end]).into_owned();
            unread.drain(..end + 4);
            let is_good = head.contains("/v1/echo");
            for act in if is_good { vec![send(GOOD)] } else { script(&head) } {
                let sent = match act {
                    Act::Send(bytes) => stream.write_all(&bytes).await.is_ok(),
                    Act::Repeat(bytes) => loop {
                        if stream.write_all(&bytes).await.is_err() {
                            break false;
                        }
                    },
                    Act::Pause(time) => {
                        tokio::time::sleep(time).await;
                        true
                    }
                    Act::Hang => break,
                    Act::Close => return,
                };
                if !sent {
                    return;
                }
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => {
                unread.extend_from_slice(&buffer[..read]);
                heard.lock().expect("no panic")[number].extend_from_slice(&buffer[..read]);
            }
        }
    }
}

/// A stage whose upstream is a raw one.
async fn stage(script: impl Fn(&str) -> Vec<Act> + Send + Sync + 'static, adjust: impl FnOnce(&mut Config)) -> (Stage, RawUpstream) {
    let upstream = RawUpstream::start(script).await;
    let address = upstream.address;
    let stage = Stage::with(move |world| hostile_world(world, address), adjust).await;
    (stage, upstream)
}

fn hostile_world(world: &mut World, upstream: SocketAddr) {
    world.service.upstream = format!("http://{upstream}/base");
    let call = world.route("/weather/v1/echo").meters.clone();
    world.route(HOSTILE).meters = call;
}

/// A stage whose upstream answers everything well.
async fn calm_stage(adjust: impl FnOnce(&mut Config)) -> (Stage, RawUpstream) {
    stage(|_| vec![send(GOOD)], adjust).await
}

/// A caller's connection, byte by byte.
struct Raw(TcpStream);

impl Raw {
    async fn connect(stage: &Stage) -> Self {
        let stream = TcpStream::connect(stage.gateway.addresses.data).await.expect("a connection");
        stream.set_nodelay(true).expect("an open connection");
        Self(stream)
    }

    /// Sends bytes; a gateway that has closed the connection meanwhile is fine.
    async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Everything until the gateway closes the connection, which it does soon.
    async fn rest(&mut self) -> String {
        let mut answer = Vec::new();
        let mut buffer = vec![0; 16 * 1024];
        let reading = async {
            // A close with unread bytes resets the connection, which ends it as well.
            while let Ok(read @ 1..) = self.0.read(&mut buffer).await {
                answer.extend_from_slice(&buffer[..read]);
            }
        };
        timeout(SOON, reading).await.expect("the gateway closes the connection");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// One answer with a length, of a connection that stays open.
    async fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        let mut buffer = vec![0; 16 * 1024];
        let reading = async {
            loop {
                let read = self.0.read(&mut buffer).await.expect("an answer");
                assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8_lossy(&answer).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
                if length.is_some_and(|length: usize| body.len() >= length) {
                    return text;
                }
            }
        };
        timeout(SOON, reading).await.expect("an answer soon")
    }
}

/// Sends one text on a connection of its own and returns all answers to it. The gateway closes the connection, if need be because the text says so.
async fn ask(stage: &Stage, text: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::connect(stage).await;
    raw.send(text).await;
    raw.rest().await
}

/// The statuses of the answers in a text.
fn statuses(answers: &str) -> Vec<u16> {
    answers.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().expect("a status")).collect()
}

/// A well-behaved caller with a connection of its own, who keeps calling and must always be answered.
struct Bystander {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    calling: JoinHandle<()>,
}

impl Bystander {
    fn start(stage: &Stage) -> Self {
        Self::with_key(stage, stage.world.live.reveal())
    }

    fn with_key(stage: &Stage, key: &str) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let client = reqwest::Client::builder().no_proxy().timeout(SOON).build().expect("a client");
        let request = client.get(stage.gateway.url("/weather/v1/echo")).header("x-api-key", key);
        let (stopped, count) = (stop.clone(), answered.clone());
        let calling = tokio::spawn(async move {
            while !stopped.load(SeqCst) {
                let answer = request.try_clone().expect("no body").send().await.expect("a bystander is answered");
                assert_eq!(answer.status(), 200, "a bystander is served");
                answer.bytes().await.expect("the whole answer");
                count.fetch_add(1, SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Self { stop, answered, calling }
    }

    /// Has been answered a few times more.
    async fn goes_on(&self) {
        let before = self.answered.load(SeqCst);
        eventually("a bystander gets answers", async || (self.answered.load(SeqCst) >= before + 5).then_some(())).await;
    }

    /// Ends it; every call was answered.
    async fn done(self) -> u64 {
        self.goes_on().await;
        self.stop.store(true, SeqCst);
        self.calling.await.expect("a bystander was never moved");
        self.answered.load(SeqCst)
    }
}

/// A figure of `/metrics`.
async fn metric(stage: &Stage, name: &str) -> i64 {
    let text = stage.client.get(stage.gateway.admin("/metrics")).send().await.expect("metrics").text().await.expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix("tollkeeper_gateway_")?.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse::<f64>().expect("a number") as i64
}

/// Waits until a figure is as it should be.
async fn becomes(stage: &Stage, name: &str, check: impl Fn(i64) -> bool) {
    eventually(name, async || check(metric(stage, name).await).then_some(())).await;
}

/// The rows of the hostile route once they count so many calls.
async fn hostile_rows(stage: &mut Stage, calls: u64) -> Vec<UsageRow> {
    let route = stage.world.route(HOSTILE).id;
    eventually(&format!("{calls} calls are shipped"), async || {
        let rows: Vec<_> = stage.portal.rows().into_iter().filter(|row| row.key.route == route).collect();
        let count: u64 = rows.iter().map(|row| row.count).sum();
        assert!(count <= calls, "{count} calls arrived, {calls} were made");
        (count == calls).then_some(rows)
    })
    .await
}

/// What the process keeps in memory, in bytes: gateway, portal, upstream and callers together.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    pages.split(' ').nth(1).expect("resident pages").parse::<u64>().expect("a number") * 4096
}
