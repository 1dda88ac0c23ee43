//! The portal's port: who says nothing, or too slowly, is let go; the others are served.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, extract::ConnectInfo, routing::get};
use portal::listener::{self, Bounds};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const BOUNDS: Bounds = Bounds { connections: 4, head_timeout: Duration::from_secs(2) };
/// Far more than any of these tests needs to wait for what must happen.
const LONG: Duration = Duration::from_secs(30);

struct Port {
    address: SocketAddr,
    stop: CancellationToken,
    go_on: watch::Sender<bool>,
    served: JoinHandle<()>,
}

/// A port with `/peer`, which says who asks, and `/slow`, which answers when it may go on.
async fn port() -> Port {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, (go_on, wait)) = (CancellationToken::new(), watch::channel(false));
    let router = Router::new().route("/peer", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string())).route(
        "/slow",
        get(async move || {
            let _ = wait.clone().wait_for(|go_on| *go_on).await;
            "done"
        }),
    );
    let served = tokio::spawn(listener::serve(router, listener, BOUNDS, stop.clone()));
    Port { address, stop, go_on, served }
}

impl Port {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    /// What `/peer` answers on a connection of its own, and from where it was asked.
    async fn peer(&self) -> (String, SocketAddr) {
        let mut stream = self.connect().await;
        let from = stream.local_addr().expect("an address");
        stream.write_all(b"GET /peer HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.expect("a request");
        (rest(&mut stream).await, from)
    }
}

/// Everything until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too: what was sent after the other side had closed.
    let ended = timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the portal closes the connection");
    if let Err(error) = ended {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8(bytes).expect("a text")
}

#[tokio::test]
async fn those_who_say_nothing_are_let_go_and_others_are_served() {
    let port = port().await;
    let mut silent = Vec::new();
    for _ in 0..BOUNDS.connections - 1 {
        silent.push(port.connect().await);
    }
    let (answer, from) = port.peer().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&from.to_string()), "{answer}");
    for mut stream in silent {
        assert_eq!(rest(&mut stream).await, "", "nothing was asked, so nothing is answered");
    }
}

#[tokio::test]
async fn a_head_that_comes_a_byte_at_a_time_is_not_waited_for() {
    let port = port().await;
    let (head, whole) = ("GET /peer HTTP/1.1\r\nhost: a\r\nx: ", "GET /peer HTTP/1.1\r\nhost: a\r\n\r\n");
    // The last one has been answered once, and then takes its time.
    for start in [String::new(), head.to_owned(), format!("{whole}{head}")] {
        let mut stream = port.connect().await;
        stream.write_all(start.as_bytes()).await.expect("the beginning of a request");
        let (mut reader, mut writer) = stream.split();
        let drip = async {
            // Each byte is soon followed by another, so that only a bound on the whole head ends this.
            while writer.write_all(b"G").await.is_ok() {
                tokio::time::sleep(BOUNDS.head_timeout / 10).await;
            }
        };
        let mut buffer = Vec::new();
        let closed = async {
            let _ = reader.read_to_end(&mut buffer).await;
        };
        // Far longer than the bound, and shorter than the half minute that the protocol's implementation waits by itself.
        timeout(BOUNDS.head_timeout * 7, async {
            tokio::select! { () = drip => {}, () = closed => {} }
        })
        .await
        .expect("the portal closes the connection");
    }
}

#[tokio::test]
async fn a_connection_waits_for_a_place() {
    let port = port().await;
    let mut busy = Vec::new();
    for _ in 0..BOUNDS.connections {
        let mut stream = port.connect().await;
        stream.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.expect("a request");
        busy.push(stream);
    }
    let mut next = std::pin::pin!(port.peer());
    assert!(timeout(BOUNDS.head_timeout * 2, next.as_mut()).await.is_err(), "all places are taken, by callers who have asked");
    port.go_on.send_replace(true);
    for mut stream in busy {
        assert!(rest(&mut stream).await.ends_with("done"));
    }
    let (answer, _) = timeout(LONG, next).await.expect("there is a place now");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_stop_lets_answers_end_and_idle_connections_go() {
    let port = port().await;
    let mut slow = port.connect().await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("a request");
    let mut idle = port.connect().await;
    idle.write_all(b"GET /peer HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("a request");
    let mut first = [0; 12];
    timeout(LONG, idle.read_exact(&mut first)).await.expect("an answer").expect("an answer");
    port.stop.cancel();
    rest(&mut idle).await;
    assert!(!port.served.is_finished(), "an answer is still due");
    port.go_on.send_replace(true);
    assert!(rest(&mut slow).await.ends_with("done"));
    timeout(LONG, port.served).await.expect("the end").expect("no panic");
    TcpStream::connect(port.address).await.expect_err("nobody listens any more");
}
