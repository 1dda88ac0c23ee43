//! A real upstream that speaks HTTP/2 only, counts what it sees, and misbehaves on demand.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
};

/// What the upstream has seen so far.
#[derive(Debug)]
pub struct Seen {
    pub connections: AtomicUsize,
    pub open_connections: AtomicUsize,
    pub peak_connections: AtomicUsize,
    pub calls: AtomicUsize,
    pub resets: AtomicUsize,
    /// Bytes of answers that the flow control took.
    pub flooded: AtomicUsize,
    /// The most streams that were open at once on any connection.
    pub peak_streams: AtomicUsize,
    /// The next call to `/once` is refused before it is looked at.
    pub refuse: AtomicBool,
    /// Calls to `/hold` are answered when they get a permit.
    pub held: Semaphore,
    pub holding: AtomicUsize,
}

#[derive(Debug)]
pub struct Http2Upstream {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
}

impl Seen {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            connections: AtomicUsize::new(0),
            open_connections: AtomicUsize::new(0),
            peak_connections: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            resets: AtomicUsize::new(0),
            flooded: AtomicUsize::new(0),
            peak_streams: AtomicUsize::new(0),
            refuse: AtomicBool::new(false),
            held: Semaphore::new(0),
            holding: AtomicUsize::new(0),
        })
    }
}

/// Starts it without TLS; each connection may have `max_streams` streams.
pub async fn start(max_streams: u32) -> Http2Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let seen = Seen::new();
    let shared = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("a connection");
            tokio::spawn(serve(stream, max_streams, shared.clone()));
        }
    });
    Http2Upstream { address, seen }
}

/// Serves one connection.
pub async fn serve(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, max_streams: u32, seen: Arc<Seen>) {
    let number = seen.connections.fetch_add(1, SeqCst) + 1;
    let _open = OpenConnection::new(seen.clone());
    let Ok(mut connection) = h2::server::Builder::new().max_concurrent_streams(max_streams).handshake::<_, Bytes>(io).await else { return };
    let open = Arc::new(AtomicUsize::new(0));
    while let Some(Ok((request, respond))) = connection.accept().await {
        let count = open.fetch_add(1, SeqCst) + 1;
        seen.peak_streams.fetch_max(count, SeqCst);
        if request.uri().path().ends_with("/goodbye") {
            connection.graceful_shutdown();
        }
        if request.uri().path().ends_with("/cut") {
            connection.abrupt_shutdown(Reason::INTERNAL_ERROR);
        }
        let (seen, open) = (seen.clone(), open.clone());
        tokio::spawn(async move {
            answer(request, respond, seen, number).await;
            open.fetch_sub(1, SeqCst);
        });
    }
}

/// Counts a connection while it is open.
struct OpenConnection(Arc<Seen>);

impl OpenConnection {
    fn new(seen: Arc<Seen>) -> Self {
        let open = seen.open_connections.fetch_add(1, SeqCst) + 1;
        seen.peak_connections.fetch_max(open, SeqCst);
        Self(seen)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open_connections.fetch_sub(1, SeqCst);
    }
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, seen: Arc<Seen>, connection: usize) {
    let path = request.uri().path().to_owned();
    let last = path.rsplit('/').next().unwrap_or_default();
    if last == "once" && seen.refuse.swap(false, SeqCst) {
        return respond.send_reset(Reason::REFUSED_STREAM);
    }
    seen.calls.fetch_add(1, SeqCst);
    match last {
        "bidi" => bidi(request, respond).await,
        "flood" => flood(respond, &seen).await,
        "hold" => {
            seen.holding.fetch_add(1, SeqCst);
            seen.held.acquire().await.expect("a permit").forget();
            whole(respond, Response::new(()), Bytes::from("held"));
        }
        "hang" => {
            let body = request.into_body();
            // The stream stays open until the other side ends it.
            let reset = poll_fn(|cx| respond.poll_reset(cx)).await;
            seen.resets.fetch_add(usize::from(reset.is_ok()), SeqCst);
            drop(body);
        }
        "short" => {
            let (head, _) = Response::builder().header("content-length", "1000").body(()).expect("a head").into_parts();
            let mut stream = respond.send_response(Response::from_parts(head, ()), false).expect("a head is sent");
            stream.send_data(Bytes::from("not all"), false).expect("sent");
            // A reset overtakes what has not been sent yet.
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            stream.send_reset(Reason::NO_ERROR);
        }
        "status" => {
            let (head, _) = Response::builder().status(204).header("grpc-status", "7").body(()).expect("a head").into_parts();
            respond.send_response(Response::from_parts(head, ()), true).expect("a head is sent");
        }
        _ => echo(request, respond, connection).await,
    }
}

/// What arrived, with the body.
async fn echo(request: Request<RecvStream>, respond: SendResponse<Bytes>, connection: usize) {
    let (head, mut body) = request.into_parts();
    let mut text = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).expect("a window");
        text.extend_from_slice(&data);
    }
    let headers: Vec<(String, String)> =
        head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned())).collect();
    let seen = json!({
        "method": head.method.as_str(), "scheme": head.uri.scheme_str(), "authority": head.uri.authority().map(|name| name.as_str()),
        "target": head.uri.path_and_query().map(|target| target.as_str()), "headers": headers, "body": String::from_utf8_lossy(&text),
        "connection": connection,
    });
    whole(respond, Response::new(()), Bytes::from(seen.to_string()));
}

fn whole(mut respond: SendResponse<Bytes>, head: Response<()>, body: Bytes) {
    // A peer that has gone meanwhile is the test's business.
    let Ok(mut stream) = respond.send_response(head, false) else { return };
    let _ = stream.send_data(body, true);
}

/// Head at once, then each piece as it comes, then trailers that repeat the request's.
async fn bidi(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut stream = respond.send_response(Response::new(()), false).expect("a head is sent");
    let mut body = request.into_body();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).expect("a window");
        if stream.send_data(data, false).is_err() {
            return;
        }
    }
    let asked = body.trailers().await.ok().flatten().unwrap_or_default();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    if let Some(value) = asked.get("x-asked") {
        trailers.insert("x-asked", value.clone());
    }
    let _ = stream.send_trailers(trailers);
}

/// As much as the windows allow, for ever.
async fn flood(mut respond: SendResponse<Bytes>, seen: &Seen) {
    let mut stream: SendStream<Bytes> = respond.send_response(Response::new(()), false).expect("a head is sent");
    loop {
        stream.reserve_capacity(16 * 1024);
        while stream.capacity() == 0 {
            let Some(Ok(_)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
        }
        let piece = Bytes::from(vec![b'x'; stream.capacity()]);
        let length = piece.len();
        if stream.send_data(piece, false).is_err() {
            return;
        }
        seen.flooded.fetch_add(length, SeqCst);
    }
}
