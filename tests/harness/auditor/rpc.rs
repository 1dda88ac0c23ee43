//! gRPC calls, both ends of them: the client sends its messages at once, the upstream answers as many, one after the other, and ends with its code.

use std::{convert::Infallible, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Frame, Incoming},
    header::HeaderValue,
};
use tokio::net::TcpStream;

use super::{
    MARK,
    book::{Book, Fate, Plan},
    connection::Http2,
};

/// What precedes a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
const TEXT: &[u8] = b"a message";

/// One message as it is sent.
fn framed() -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + TEXT.len());
    framed.put_u8(0);
    framed.put_u32(TEXT.len() as u32);
    framed.extend_from_slice(TEXT);
    framed.freeze()
}

/// Counts the messages that end in bytes as they come.
#[derive(Debug, Default)]
struct Messages {
    rest: BytesMut,
}

impl Messages {
    fn take(&mut self, bytes: &[u8]) -> u64 {
        self.rest.extend_from_slice(bytes);
        let mut count = 0;
        while let Some(length) = self.rest.get(1..PREFIX_BYTES).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes) {
            let whole = PREFIX_BYTES + length as usize;
            if self.rest.len() < whole {
                break;
            }
            drop(self.rest.split_to(whole));
            count += 1;
        }
        count
    }
}

/// The client's end, on a connection of its own. It is whole when the upstream's code has come.
pub(super) async fn exchange(book: &Book, (authority, key): (&str, &str), mark: u64, plan: &Plan) -> anyhow::Result<Fate> {
    let request = Request::post(format!("http://{authority}{}/{mark}", plan.path))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-api-key", key)
        .body(())?;
    let Ok(stream) = TcpStream::connect(authority).await else { return Ok(Fate::NotSent) };
    stream.set_nodelay(true)?;
    let Ok(mut connection) = Http2::open(stream).await else { return Ok(Fate::NotSent) };
    book.asks(mark, plan.messages.into());
    let answer = match connection.ask(request, Some(framed().repeat(plan.messages as usize).into())).await {
        Ok(answer) => answer,
        Err(unanswered) => return Ok(book.unanswered(mark, unanswered)),
    };
    let status = answer.status().as_u16();
    let by_upstream = answer.headers().get(MARK).is_some_and(|value| value.as_bytes() == mark.to_string().as_bytes());
    if answer.headers().contains_key("grpc-status") {
        return Ok(Fate::Whole { status, by_upstream });
    }
    let (mut body, mut messages, mut code) = (answer.into_body(), Messages::default(), None);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Ok(Fate::Broken) };
        if let Some(data) = frame.data_ref() {
            (0..messages.take(data)).for_each(|_| book.was_told(mark));
        }
        if let Some(trailers) = frame.trailers_ref() {
            code = trailers.get("grpc-status").cloned();
        }
    }
    // A gateway whose upstream is gone ends the call in its place.
    let is_whole = code.is_some_and(|code| code == "0");
    Ok(if is_whole { Fate::Whole { status, by_upstream } } else { Fate::Broken })
}

/// The upstream's end.
pub(super) fn answer(
    book: Book,
    mark: u64,
    plan: Plan,
    request: Request<Incoming>,
) -> hyper::http::Result<Response<BoxBody<Bytes, Infallible>>> {
    let mut asked = request.into_body();
    let taken = book.clone();
    tokio::spawn(async move {
        let mut messages = Messages::default();
        while let Some(Ok(frame)) = asked.frame().await {
            if let Some(data) = frame.data_ref() {
                taken.was_asked(mark, messages.take(data));
            }
        }
    });
    let frames = futures_util::stream::unfold(0, move |told| {
        let book = book.clone();
        async move {
            if told > plan.messages {
                return None;
            }
            if told == plan.messages {
                let trailers: HeaderMap = [("grpc-status".parse().ok()?, HeaderValue::from_static("0"))].into_iter().collect();
                return Some((Ok(Frame::trailers(trailers)), told + 1));
            }
            pause(plan.pause).await;
            book.tells(mark);
            Some((Ok(Frame::data(framed())), told + 1))
        }
    });
    let head = Response::builder().header("content-type", "application/grpc").header(MARK, mark.to_string());
    head.body(BodyExt::boxed(StreamBody::new(frames)))
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
