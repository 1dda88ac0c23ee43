//! One address of an upstream: a real HTTP/1.1 server that counts what it sees and misbehaves on demand.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};

/// What it does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Answers with its name, after a while.
    Answer(Duration),
    /// Answers with a status.
    Status(u16),
    /// Reads the call and closes the connection.
    Cut,
    /// Answers the first call of a connection, and closes it when the next has come.
    CutReused,
    /// Answers when there is a permit.
    Hold,
    /// Never answers.
    Hang,
    /// Answers with what is not HTTP.
    Garbage,
}

pub const AT_ONCE: Manner = Manner::Answer(Duration::ZERO);

#[derive(Debug)]
pub struct Seen {
    pub connections: AtomicUsize,
    pub open: AtomicUsize,
    pub calls: AtomicUsize,
    /// Calls that are being answered, and the most that ever were at once.
    pub busy: AtomicUsize,
    pub peak_busy: AtomicUsize,
    pub held: Semaphore,
    targets: Mutex<Vec<String>>,
    manner: Mutex<Manner>,
}

#[derive(Debug)]
pub struct Member {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

impl Seen {
    pub fn be(&self, manner: Manner) {
        *self.manner.lock().expect("no panic") = manner;
    }

    pub fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    pub fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    /// The targets of all calls, in the order in which they came.
    pub fn targets(&self) -> Vec<String> {
        self.targets.lock().expect("no panic").clone()
    }
}

impl Member {
    pub async fn start(manner: Manner) -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"), manner).await
    }

    /// At a certain address, so that several can share a port.
    pub async fn at(address: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Seen {
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            peak_busy: AtomicUsize::new(0),
            held: Semaphore::new(0),
            targets: Mutex::default(),
            manner: Mutex::new(manner),
        });
        let shared = seen.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = shared.clone();
                tokio::spawn(async move {
                    seen.connections.fetch_add(1, SeqCst);
                    seen.open.fetch_add(1, SeqCst);
                    serve(stream, address, &seen).await;
                    seen.open.fetch_sub(1, SeqCst);
                });
            }
        });
        Self { address, seen, accepting }
    }

    /// Takes no more connections, as a server that is gone.
    pub async fn vanish(self) {
        self.accepting.abort();
        // The port is closed when the task is gone.
        let _ = self.accepting.await;
    }
}

/// An address at which nobody listens.
pub async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("an address")
}

/// Serves one connection until either side has had enough.
async fn serve(stream: TcpStream, address: SocketAddr, seen: &Seen) {
    stream.set_nodelay(true).expect("a connection");
    let mut stream = BufReader::new(stream);
    for number in 0.. {
        let Some(body) = read(&mut stream, seen).await else { return };
        seen.calls.fetch_add(1, SeqCst);
        let manner = *seen.manner.lock().expect("no panic");
        let status = match manner {
            Manner::Answer(after) => {
                let busy = seen.busy.fetch_add(1, SeqCst) + 1;
                seen.peak_busy.fetch_max(busy, SeqCst);
                tokio::time::sleep(after).await;
                seen.busy.fetch_sub(1, SeqCst);
                200
            }
            Manner::Status(status) => status,
            Manner::Cut => return,
            Manner::CutReused if number > 0 => return,
            Manner::CutReused => 200,
            Manner::Hold => {
                // Whoever leaves meanwhile is noticed.
                tokio::select! {
                    permit = seen.held.acquire() => permit.expect("a permit").forget(),
                    _ = stream.fill_buf() => return,
                }
                200
            }
            Manner::Hang => {
                let _ = stream.fill_buf().await;
                return;
            }
            Manner::Garbage => {
                let _ = stream.write_all(b"SSH-2.0-not-http\r\n\r\n").await;
                return;
            }
        };
        let text = format!("{address} {body}");
        let answer = format!("HTTP/1.1 {status} As asked\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads a call and returns its body, whose length must be declared.
async fn read(stream: &mut BufReader<TcpStream>, seen: &Seen) -> Option<String> {
    let mut length = 0;
    let mut first = true;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if std::mem::take(&mut first) {
            let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
            seen.targets.lock().expect("no panic").push(target);
        } else if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        } else if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(String::from_utf8_lossy(&body).into_owned())
}
