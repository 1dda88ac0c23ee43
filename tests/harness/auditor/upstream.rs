//! The auditor's upstream: gives each exchange what its plan says, and declares its mark.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::CONTENT_LENGTH,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::TcpListener;

use super::{
    MARK,
    book::{Book, Form, Plan},
    rpc, socket,
};

/// The most bytes in one frame.
const FRAME: u64 = 64 * 1024;
static ZEROS: [u8; FRAME as usize] = [0; FRAME as usize];

/// The running upstream; it ends with the test.
#[derive(Debug)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
}

impl Upstream {
    /// Starts it.
    pub async fn start(book: Book) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let book = book.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(book.clone(), request));
                    // A gateway that is killed leaves its connections as they are.
                    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(TokioIo::new(socket), service).await;
                });
            }
        });
        Ok(Self { address })
    }
}

async fn answer(book: Book, request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, hyper::http::Error> {
    let mark = request.uri().path().rsplit('/').next().and_then(|mark| mark.parse().ok());
    let Some((mark, plan)) = mark.and_then(|mark| Some((mark, book.seen(mark)?))) else {
        return Response::builder().status(StatusCode::NOT_FOUND).body(Full::default().boxed());
    };
    match plan.form {
        Form::Http => {}
        Form::Grpc => return rpc::answer(book, mark, plan, request),
        Form::WebSocket => {
            let Some(answer) = socket::handshake(&request, mark) else {
                return Response::builder().status(StatusCode::BAD_REQUEST).body(Full::default().boxed());
            };
            tokio::spawn(socket::answer(book, mark, plan, hyper::upgrade::on(request)));
            return answer;
        }
    }
    pause(plan.pause).await;
    let head = Response::builder().status(plan.status).header(MARK, mark.to_string());
    // Neither has a body, whatever its length would have been.
    if request.method() == hyper::Method::HEAD || plan.status == 304 || plan.status == 204 {
        return head.body(Full::default().boxed());
    }
    let head = if plan.chunks == 0 { head.header(CONTENT_LENGTH, plan.bytes) } else { head };
    head.body(BodyExt::boxed(StreamBody::new(frames(book, mark, plan))))
}

/// The body, frame by frame.
fn frames(book: Book, mark: u64, plan: Plan) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync {
    let chunk = if plan.chunks == 0 { FRAME } else { plan.bytes.div_ceil(u64::from(plan.chunks)).clamp(1, FRAME) };
    let gap = if plan.chunks == 0 { Duration::ZERO } else { plan.pause };
    futures_util::stream::unfold(0, move |done| {
        let book = book.clone();
        let bytes = chunk.min(plan.bytes - done);
        async move {
            if bytes == 0 {
                return None;
            }
            pause(gap).await;
            book.gave(mark, bytes);
            Some((Ok(Frame::data(Bytes::from_static(&ZEROS[..bytes as usize]))), done + bytes))
        }
    })
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
