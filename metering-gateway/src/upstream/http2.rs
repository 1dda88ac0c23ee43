//! HTTP/2 to upstreams (RFC 9113): one connection carries many exchanges.
//!
//! Windows are fixed. A connection's window is as large as those of all its streams together, so a caller who reads slowly fills its own stream's window
//! and never stops the others on the connection; what one connection may hold unread is bounded by that.

use std::{
    cell::Cell,
    future::{Future as _, poll_fn},
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, SendStream,
    client::{self, SendRequest},
};
use http::{Request, Response, Uri, header, uri::Scheme};
use http_body::Body as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    task::AbortHandle,
};

use super::{
    answer::{Http2Body, UpstreamBody},
    body::RequestBody,
    connect::{Hooks, Open},
};
use crate::{pipeline::outgoing::Outgoing, policy::services::Upstream};

/// The most streams that are opened on one connection, even when the peer allows more.
pub const MAX_STREAMS: usize = 128;
/// How many streams are opened before the peer has said how many it allows.
pub const FIRST_STREAMS: usize = 8;
/// What stands for "the peer has not said yet".
const NOT_SAID: usize = usize::MAX - 1;
/// How much of one answer may be under way to a caller.
const STREAM_WINDOW: u32 = 256 * 1024;
/// How much of all answers on a connection.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;
/// The most bytes of one request's body that wait in the connection.
const MAX_SEND_BUFFER: usize = 256 * 1024;
/// The largest head of an answer.
const MAX_HEAD_BYTES: u32 = 64 * 1024;
/// How long a connection that nobody needs may take to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection. Once the last owner drops it, it says goodbye and closes.
pub struct Http2 {
    /// The tick from which on it opens no more streams.
    pub expires: u64,
    sender: SendRequest<Bytes>,
    state: Rc<State>,
}

struct State {
    streams: Cell<usize>,
    /// All streams that were ever open.
    opened: Cell<u64>,
    /// Heads of answers that came.
    answers: Cell<u64>,
    /// How many streams that were, and when, as the idleness was last looked at.
    looked: Cell<(u64, u64)>,
    max_streams: Cell<usize>,
    closed: Cell<bool>,
    /// No more streams: the peer has said goodbye, or the connection has become old or suspect.
    retiring: Cell<bool>,
    dropped: Notify,
    /// Told whenever room for streams may have appeared.
    changed: Box<dyn Fn()>,
}

impl std::fmt::Debug for Http2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http2").field("streams", &self.state.streams).finish_non_exhaustive()
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        // The connection notices that nobody can send any more only when it is looked at.
        self.state.dropped.notify_one();
    }
}

impl Http2 {
    /// Starts HTTP/2 on a connection; it is driven beside the exchanges until it ends.
    ///
    /// # Errors
    /// When the preface cannot be sent.
    pub async fn start<T: AsyncRead + AsyncWrite + Unpin + 'static>(io: T, hooks: Hooks) -> Result<Rc<Self>, h2::Error> {
        let Hooks { changed, ended, expires } = hooks;
        let (sender, connection) = builder().handshake(io).await?;
        let state = Rc::new(State {
            streams: Cell::new(0),
            opened: Cell::new(0),
            answers: Cell::new(0),
            looked: Cell::default(),
            max_streams: Cell::new(FIRST_STREAMS),
            closed: Cell::new(false),
            retiring: Cell::new(false),
            dropped: Notify::new(),
            changed,
        });
        tokio::task::spawn_local(drive(connection, state.clone(), ended));
        Ok(Rc::new(Self { expires, sender, state }))
    }

    /// Whether no stream can be opened any more.
    pub fn is_closed(&self) -> bool {
        self.state.closed.get() || self.state.retiring.get()
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.state.streams.get()
    }

    /// For how many ticks no stream has been open, as far as those who look from time to time can tell.
    pub fn idle_ticks(&self, now: u64) -> u64 {
        let (opened, since) = self.state.looked.get();
        if self.streams() > 0 || self.state.opened.get() != opened {
            self.state.looked.set((self.state.opened.get(), now));
            return 0;
        }
        now - since
    }

    /// Opens no more streams; the connection closes after those that are open.
    pub fn retire(&self) {
        self.state.retiring.set(true);
    }

    /// Reserves a stream, if the peer allows one more.
    pub fn reserve(self: &Rc<Self>) -> Option<Stream> {
        let streams = self.state.streams.get();
        if self.is_closed() || streams >= self.state.max_streams.get() {
            return None;
        }
        self.state.streams.set(streams + 1);
        self.state.opened.set(self.state.opened.get() + 1);
        Some(Stream { connection: self.clone(), upload: None, answers_before: self.state.answers.get() })
    }
}

fn builder() -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(NOT_SAID)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD_BYTES)
        .max_send_buffer_size(MAX_SEND_BUFFER);
    builder
}

async fn drive<T: AsyncRead + AsyncWrite + Unpin>(connection: client::Connection<T>, state: Rc<State>, ended: Rc<Open>) {
    let mut connection = connection;
    let driving = poll_fn(|cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        let max_streams = match connection.max_concurrent_send_streams() {
            NOT_SAID => FIRST_STREAMS,
            said => said.min(MAX_STREAMS),
        };
        if state.max_streams.replace(max_streams) < max_streams {
            (state.changed)();
        }
        polled
    });
    let forsaken = async {
        state.dropped.notified().await;
        tokio::time::sleep(CLOSE_TIMEOUT).await;
    };
    tokio::select! {
        result = driving => if let Err(error) = result {
            // What breaks a connection is seen, and told, by the exchanges on it.
            tracing::debug!(%error, "a connection to an upstream ended");
        },
        () = forsaken => tracing::debug!("an upstream did not take the goodbye of a connection"),
    }
    state.closed.set(true);
    // Another may be opened only when this one is closed.
    drop(connection);
    drop(ended);
    (state.changed)();
}

/// A stream of a connection. Dropped before its answer was read whole, it is reset, and its upload ends.
#[derive(Debug)]
pub struct Stream {
    connection: Rc<Http2>,
    upload: Option<AbortHandle>,
    /// How many answers had come on the connection when the stream was reserved.
    answers_before: u64,
}

/// Why a stream brought no answer.
#[derive(Debug)]
pub struct StreamFailure {
    /// What happened.
    pub error: h2::Error,
    /// The peer has certainly not processed the request: it may be sent again, whatever its method is.
    pub is_unprocessed: bool,
}

impl StreamFailure {
    fn unsent(error: h2::Error) -> Self {
        Self { error, is_unprocessed: true }
    }

    /// RFC 9113, 8.7.
    fn sent(error: h2::Error) -> Self {
        let is_refused = error.is_go_away() || error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        Self { is_unprocessed: error.is_remote() && is_refused, error }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.abort();
        }
        let state = &self.connection.state;
        state.streams.set(state.streams.get() - 1);
        (state.changed)();
    }
}

impl Stream {
    /// No answer came in time. If none came on the whole connection meanwhile, it may be dead, and opens no more streams.
    pub fn suspect(&self) {
        if self.connection.state.answers.get() == self.answers_before {
            self.connection.retire();
        }
    }

    /// Sends a request and waits for the head of its answer, which may come before the request has ended. The head of the request is only read, so
    /// that it can be sent again elsewhere.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(
        &mut self,
        upstream: &Upstream,
        head: &Outgoing<'_>,
        body: RequestBody,
    ) -> Result<Response<UpstreamBody>, StreamFailure> {
        let mut sender = self.connection.sender.clone();
        if let Err(error) = poll_fn(|cx| sender.poll_ready(cx)).await {
            self.connection.retire();
            return Err(StreamFailure::unsent(error));
        }
        let ends = body.is_end_stream();
        let (answer, stream) = sender.send_request(request(upstream, head)?, ends).map_err(StreamFailure::unsent)?;
        if !ends {
            self.upload = Some(tokio::task::spawn_local(upload(body, stream)).abort_handle());
        }
        let (parts, body) = answer.await.map_err(StreamFailure::sent)?.into_parts();
        let answers = &self.connection.state.answers;
        answers.set(answers.get() + 1);
        let body = UpstreamBody::Http2(Http2Body::new(body, &parts.headers));
        Ok(Response::from_parts(parts, body))
    }
}

/// The head in the form of HTTP/2: scheme and authority stand in the target, and `Host` does not exist.
fn request(upstream: &Upstream, head: &Outgoing<'_>) -> Result<Request<()>, StreamFailure> {
    let mut target = http::uri::Parts::default();
    target.scheme = Some(if upstream.group.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
    target.authority = Some(upstream.authority.clone());
    let wrong = |_| StreamFailure::sent(h2::Error::from(h2::Reason::INTERNAL_ERROR));
    target.path_and_query = Some(head.target.as_str().try_into().map_err(wrong)?);
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.version_mut() = http::Version::HTTP_2;
    // A target of scheme, authority and path is always one.
    *request.uri_mut() = Uri::from_parts(target).unwrap_or_default();
    *request.headers_mut() = head.to_map();
    request.headers_mut().remove(header::HOST);
    Ok(request)
}

/// Sends a request's body as fast as the peer takes it; at most one frame of it waits here.
async fn upload(mut body: RequestBody, mut stream: SendStream<Bytes>) {
    loop {
        let frame = poll_fn(|cx| {
            // Whoever resets the stream does not want the rest.
            if stream.poll_reset(cx).is_ready() { Poll::Ready(None) } else { Pin::new(&mut body).poll_frame(cx).map(Some) }
        })
        .await;
        let sent = match frame {
            None => return,
            Some(None) => return drop(stream.send_data(Bytes::new(), true)),
            Some(Some(Err(error))) => {
                tracing::debug!(%error, "a request's body ended early");
                return stream.send_reset(Reason::CANCEL);
            }
            Some(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    let last = body.is_end_stream();
                    send_data(&mut stream, data, last).await.map(|()| last)
                }
                Err(frame) => frame.into_trailers().map_or(Ok(false), |trailers| stream.send_trailers(trailers).map(|()| true)),
            },
        };
        match sent {
            Ok(false) => (),
            Ok(true) => return,
            Err(error) => return tracing::debug!(%error, "an upstream took no more of a request's body"),
        }
    }
}

async fn send_data(stream: &mut SendStream<Bytes>, mut data: Bytes, last: bool) -> Result<(), h2::Error> {
    if data.is_empty() {
        return if last { stream.send_data(data, true) } else { Ok(()) };
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        while stream.capacity() == 0 {
            // `None`: the stream is no longer open for sending.
            poll_fn(|cx| stream.poll_capacity(cx)).await.ok_or(Reason::STREAM_CLOSED)??;
        }
        let piece = data.split_to(stream.capacity().min(data.len()));
        stream.send_data(piece, last && data.is_empty())?;
    }
    Ok(())
}
