//! Heads and bodies on their way out.

use std::{
    io::{self, Write as _},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use http_body::{Body, Frame};

use super::Wire;
use crate::pipeline::{body::AnswerBody, outgoing::Outgoing, said::Said};

/// Pieces up to this size are copied behind what is to be sent before them, so that both leave in one piece; larger ones are sent from where they are.
const COPIED_BYTES: usize = 8 * 1024;
/// So much is gathered before it is sent, as long as there is more at hand.
const GATHERED_BYTES: usize = 16 * 1024;

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes are still to come.
    Length(u64),
    /// Chunks, and whether fields may follow the last one.
    Chunked {
        /// The receiver takes fields behind the last chunk.
        trailers: bool,
    },
    /// It ends with the connection.
    UntilClose,
}

/// Why a body could not be sent.
#[derive(Debug)]
pub enum WriteError<E> {
    /// The connection broke.
    Io(io::Error),
    /// The body broke off.
    Body(E),
    /// The body is longer or shorter than its head says.
    Length,
}

/// Sends one body.
#[derive(Debug)]
pub struct Writer {
    framing: Framing,
    ended: bool,
    /// Nothing hangs on when exactly it leaves.
    departs: bool,
}

/// What a turn of taking frames came to.
enum Gathered<E> {
    /// Something is to be sent, and there may be more after it.
    More,
    /// The next frame is waited for.
    Waits,
    /// The body is whole.
    Ended,
    Failed(WriteError<E>),
}

impl Writer {
    /// A body that is delimited so. One that `departs` may leave at the end of the core's turn, once it is whole.
    pub fn new(framing: Framing, departs: bool) -> Self {
        Self { framing, ended: framing == Framing::None, departs }
    }

    /// Sends what there is of the body, and of what waits on the wire. Ready when all of it has been sent, or will be at the end of the core's turn.
    pub fn poll<B>(&mut self, wire: &Rc<Wire>, mut body: Pin<&mut B>, cx: &mut Context<'_>) -> Poll<Result<(), WriteError<B::Error>>>
    where
        B: Body<Data = Bytes>,
    {
        loop {
            let gathered = self.gather(wire, body.as_mut(), cx);
            if self.departs && matches!(gathered, Gathered::Ended) && wire.departs(cx) {
                return Poll::Ready(Ok(()));
            }
            ready!(wire.poll_flush(cx)).map_err(WriteError::Io)?;
            match gathered {
                Gathered::More => (),
                Gathered::Waits => return Poll::Pending,
                Gathered::Ended => return Poll::Ready(Ok(())),
                Gathered::Failed(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn gather<B: Body<Data = Bytes>>(&mut self, wire: &Wire, mut body: Pin<&mut B>, cx: &mut Context<'_>) -> Gathered<B::Error> {
        while !self.ended {
            // A piece that is not copied goes alone.
            if wire.with(|inner| !inner.tail.is_empty() || !inner.trail.is_empty() || inner.queued() >= GATHERED_BYTES) {
                return Gathered::More;
            }
            let polled = if self.is_whole(&*body) { Poll::Ready(None) } else { body.as_mut().poll_frame(cx) };
            match polled {
                Poll::Pending => return Gathered::Waits,
                Poll::Ready(Some(Err(error))) => return Gathered::Failed(WriteError::Body(error)),
                Poll::Ready(Some(Ok(frame))) => {
                    if !self.put(wire, frame) {
                        return Gathered::Failed(WriteError::Length);
                    }
                }
                Poll::Ready(None) if matches!(self.framing, Framing::Length(left) if left > 0) => {
                    return Gathered::Failed(WriteError::Length);
                }
                Poll::Ready(None) => self.end(wire, None),
            }
        }
        Gathered::Ended
    }

    /// Whether there is nothing more to ask the body for.
    fn is_whole<B: Body>(&self, body: &B) -> bool {
        self.framing == Framing::Length(0) || body.is_end_stream()
    }

    /// Puts a frame on the wire. False if it is more than the head says.
    fn put(&mut self, wire: &Wire, frame: Frame<Bytes>) -> bool {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                self.end(wire, frame.trailers_ref());
                return true;
            }
        };
        if let Framing::Length(left) = &mut self.framing {
            let Some(rest) = left.checked_sub(data.len() as u64) else { return false };
            *left = rest;
        }
        // A chunk without bytes would be the last.
        if data.is_empty() {
            return true;
        }
        let is_chunked = matches!(self.framing, Framing::Chunked { .. });
        wire.with(|inner| {
            let out = inner.out();
            if is_chunked {
                // Writing to a vector cannot fail.
                let _ = write!(out, "{:x}\r\n", data.len());
            }
            if data.len() <= COPIED_BYTES {
                out.extend_from_slice(&data);
                out.extend_from_slice(if is_chunked { b"\r\n" } else { b"" });
            } else {
                inner.tail = data;
                inner.trail = if is_chunked { b"\r\n" } else { b"" };
            }
        });
        true
    }

    fn end(&mut self, wire: &Wire, trailers: Option<&HeaderMap>) {
        self.ended = true;
        let Framing::Chunked { trailers: takes } = self.framing else { return };
        wire.with(|inner| {
            let out = inner.out();
            out.extend_from_slice(b"0\r\n");
            if let Some(trailers) = trailers.filter(|_| takes) {
                put_fields(out, trailers);
            }
            out.extend_from_slice(b"\r\n");
        });
    }
}

/// Writes a field with the end of its line.
pub fn put_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes fields, but for those that frame the body, which are the sender's to say.
fn put_fields(out: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        if *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING {
            put_field(out, name, value);
        }
    }
}

fn put_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Puts the head of a request on the wire, and says how its body is delimited.
pub fn request<B: Body>(wire: &Wire, head: &Outgoing<'_>, body: &B) -> Writer {
    let framing = match body.size_hint().exact() {
        _ if body.is_end_stream() => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked { trailers: true },
    };
    let mut has_length = false;
    wire.with(|inner| {
        let out = inner.out();
        out.extend_from_slice(head.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(head.target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        out.extend_from_slice(head.standing_lines());
        head.for_each(|name, value| {
            if *name == header::CONTENT_LENGTH {
                has_length = true;
            } else if *name != header::TRANSFER_ENCODING {
                put_field(out, name, value);
            }
        });
        match framing {
            Framing::Length(length) => put_length(out, length),
            Framing::Chunked { .. } => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            // RFC 9110, 8.6: methods that come with a body say that there is none.
            Framing::None if has_length || has_body(&head.method) => put_length(out, 0),
            _ => (),
        }
        out.extend_from_slice(b"\r\n");
    });
    // The rest of a body may hold its answer up, and another protocol takes the connection over.
    Writer::new(framing, framing == Framing::None && !head.switches)
}

fn has_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// What an answer's head depends on besides the answer.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// It was asked with `HEAD`.
    pub is_head: bool,
    /// The version that was asked in.
    pub version: Version,
    /// Fields may follow the last chunk.
    pub takes_trailers: bool,
    /// Another request may follow.
    pub keep_alive: bool,
}

/// Puts the head of an answer on the wire, and says how its body is delimited. The connection ends with a body that nothing else delimits.
pub fn answer(wire: &Wire, answer: &Response<AnswerBody>, asked: &mut Asked, date: &[u8], said: Option<&Said>) -> Writer {
    let (status, headers, body) = (answer.status(), answer.headers(), answer.body());
    let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
    let bare = status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = match body.size_hint().exact() {
        _ if bare || asked.is_head => Framing::None,
        Some(length) => Framing::Length(length),
        None if body.is_end_stream() => Framing::Length(0),
        None if asked.version == Version::HTTP_10 => Framing::UntilClose,
        None => Framing::Chunked { trailers: asked.takes_trailers },
    };
    asked.keep_alive &= framing != Framing::UntilClose
        && !headers.get_all(header::CONNECTION).iter().any(|value| super::head::names(value.as_bytes(), b"close"));
    wire.with(|inner| {
        inner.inbound.expects_continue = false;
        let out = inner.out();
        put_status(out, status, asked.version);
        let mut has_date = false;
        for (name, value) in headers {
            has_date |= *name == header::DATE;
            // Of a body that is not sent, the length is that which it would have had.
            let frames = *name == header::CONTENT_LENGTH && (framing != Framing::None || status == StatusCode::NO_CONTENT)
                || *name == header::TRANSFER_ENCODING
                || *name == header::CONNECTION && !is_switch;
            if !frames && !said.is_some_and(|said| said.covers(name)) {
                put_field(out, name, value);
            }
        }
        if let Some(lines) = body.lines() {
            has_date |= lines.has_date();
            out.extend_from_slice(lines.bytes());
        }
        if let Some(said) = said {
            said.write(out);
        }
        match framing {
            Framing::Length(length) => put_length(out, length),
            Framing::Chunked { .. } => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            Framing::None if asked.is_head && !bare && !headers.contains_key(header::CONTENT_LENGTH) => {
                if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
                    put_length(out, length);
                }
            }
            Framing::None | Framing::UntilClose => (),
        }
        if !has_date && !status.is_informational() {
            out.extend_from_slice(b"date: ");
            out.extend_from_slice(date);
            out.extend_from_slice(b"\r\n");
        }
        if !asked.keep_alive && !is_switch {
            out.extend_from_slice(b"connection: close\r\n");
        } else if asked.version == Version::HTTP_10 && !is_switch {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
    });
    Writer::new(framing, asked.keep_alive && !is_switch)
}

fn put_status(out: &mut Vec<u8>, status: StatusCode, version: Version) {
    out.extend_from_slice(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}
