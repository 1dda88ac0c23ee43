//! gRPC over HTTP/2 (grpc.github.io, "gRPC over HTTP2"), as far as a gateway takes part: denials in its form, deadlines, statuses in trailers, and
//! messages, which are counted as they pass.
//!
//! What is recorded of a call that failed: before its first message to the caller, the HTTP status that the gRPC code stands for, so that a failure
//! is not billed as a success; after it, the status of the head, as for any answer that broke off, because what was forwarded was used.

use std::{borrow::Cow, fmt::Write as _, rc::Rc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use tokio::time::Instant;

use super::{body::AnswerBody, meter::Open, respond::Failure};

/// The code of a call's end, in its trailers.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// How long a client that retries by itself shall wait (gRFC A6), in milliseconds; negative for not at all.
const GRPC_RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// What a problem document would have as its type, for programs.
const PROBLEM: HeaderName = HeaderName::from_static("tollkeeper-problem");
const CONTENT_TYPE: &[u8] = b"application/grpc";
/// What stands before each message: a flag and its length.
const PREFIX_BYTES: usize = 5;

/// gRPC's code of the end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u16);

impl Code {
    /// The call succeeded.
    pub const OK: Self = Self(0);
    /// The end had no code.
    pub const UNKNOWN: Self = Self(2);
    /// The deadline is over.
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// A limit or quota is used up.
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// The upstream, or the gateway, is not there.
    pub const UNAVAILABLE: Self = Self(14);

    /// The code that says what a status of the gateway's own says.
    pub fn of(status: StatusCode) -> Self {
        Self(match status {
            StatusCode::BAD_REQUEST => 3,
            StatusCode::UNAUTHORIZED => 16,
            StatusCode::PAYMENT_REQUIRED | StatusCode::FORBIDDEN => 7,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => 12,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => 8,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => 14,
            StatusCode::GATEWAY_TIMEOUT => 4,
            _ => 13,
        })
    }

    /// The HTTP status that says the same (google.rpc.Code).
    pub fn status(self) -> StatusCode {
        match self.0 {
            0 => StatusCode::OK,
            // Client closed request.
            1 => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            3 | 9 | 11 => StatusCode::BAD_REQUEST,
            4 => StatusCode::GATEWAY_TIMEOUT,
            5 => StatusCode::NOT_FOUND,
            6 | 10 => StatusCode::CONFLICT,
            7 => StatusCode::FORBIDDEN,
            8 => StatusCode::TOO_MANY_REQUESTS,
            12 => StatusCode::NOT_IMPLEMENTED,
            14 => StatusCode::SERVICE_UNAVAILABLE,
            16 => StatusCode::UNAUTHORIZED,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The code in trailers, or in the head of an answer that is nothing else.
    pub fn read(fields: &HeaderMap) -> Option<Self> {
        fields.get(GRPC_STATUS).map(|code| code.to_str().ok().and_then(|code| code.parse().ok()).map_or(Self::UNKNOWN, Self))
    }
}

/// Whether a request is a gRPC call, which only HTTP/2 carries. gRPC-Web is another protocol, which has its errors in its own form.
pub fn is_call<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_2
        && request.method() == Method::POST
        && request.headers().get(header::CONTENT_TYPE).is_some_and(|value| {
            let rest = value.as_bytes().strip_prefix(CONTENT_TYPE);
            rest.is_some_and(|rest| rest.first().is_none_or(|next| b"+; ".contains(next)))
        })
}

/// How long the caller waits, if it says so: up to eight digits and a unit.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let (amount, unit) = headers.get(GRPC_TIMEOUT)?.to_str().ok()?.split_at_checked(headers[GRPC_TIMEOUT].len().checked_sub(1)?)?;
    if amount.len() > 8 || !amount.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = amount.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// When the caller's time is over, if it says so.
pub fn deadline(headers: &HeaderMap) -> Option<Instant> {
    Instant::now().checked_add(timeout(headers)?)
}

/// The trailers of a call that the gateway ends.
pub fn trailers(code: Code, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    put(&mut trailers, code, message);
    trailers
}

/// An answer that is a head only (Trailers-Only), as the gateway gives when it lets no call through.
pub fn denial(failure: &Failure) -> Response<AnswerBody> {
    let mut answer = Response::new(AnswerBody::empty());
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    put(headers, Code::of(failure.status()), &format!("{}: {}", failure.title(), failure.detail()));
    headers.insert(PROBLEM, HeaderValue::from_static(failure.slug()));
    if let Some(seconds) = failure.retry_after_seconds() {
        headers.insert(GRPC_RETRY_PUSHBACK, HeaderValue::from(seconds.saturating_mul(1000)));
    }
    answer
}

fn put(fields: &mut HeaderMap, code: Code, message: &str) {
    fields.insert(GRPC_STATUS, HeaderValue::from(code.0));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(message)) {
        fields.insert(GRPC_MESSAGE, message);
    }
}

/// `Status-Message` is percent-encoded UTF-8.
fn percent_encoded(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'%';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    text.bytes()
        .fold(String::new(), |mut out, byte| {
            if plain(byte) {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
            out
        })
        .into()
}

/// Follows the messages of one direction: prefixes are read, payloads are passed over unseen.
#[derive(Debug, Default)]
pub struct MessageCounter {
    prefix: [u8; PREFIX_BYTES],
    have: usize,
    payload_left: u32,
}

impl MessageCounter {
    /// Takes in the next bytes and says how many messages ended in them.
    pub fn take(&mut self, mut bytes: &[u8]) -> u64 {
        let mut messages = 0;
        loop {
            if self.have == PREFIX_BYTES {
                let passed = bytes.len().min(self.payload_left as usize);
                bytes = &bytes[passed..];
                self.payload_left -= passed as u32;
                if self.payload_left > 0 {
                    return messages;
                }
                messages += 1;
                self.have = 0;
            }
            let taken = bytes.len().min(PREFIX_BYTES - self.have);
            self.prefix[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < PREFIX_BYTES {
                return messages;
            }
            self.payload_left = u32::from_be_bytes([self.prefix[1], self.prefix[2], self.prefix[3], self.prefix[4]]);
        }
    }
}

/// Counts the messages of a request on its way to the upstream.
#[derive(Debug)]
pub struct MessageTap {
    counter: MessageCounter,
    open: Rc<Open>,
}

impl MessageTap {
    /// Counts for an exchange.
    pub fn new(open: Rc<Open>) -> Self {
        Self { counter: MessageCounter::default(), open }
    }

    /// These bytes pass.
    pub fn take(&mut self, bytes: &[u8]) {
        let messages = self.counter.take(bytes);
        if messages > 0 {
            self.open.messages(messages);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_grpc_itself_is_grpc() {
        let is = |version, method: Method, content_type: &str| {
            is_call(&Request::builder().version(version).method(method).header("content-type", content_type).body(()).expect("a request"))
        };
        for content_type in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            assert!(is(Version::HTTP_2, Method::POST, content_type), "{content_type}");
            assert!(!is(Version::HTTP_11, Method::POST, content_type), "{content_type}");
            assert!(!is(Version::HTTP_2, Method::GET, content_type), "{content_type}");
        }
        for content_type in ["application/grpc-web", "application/grpc-web-text", "application/grpcx", "application/json", ""] {
            assert!(!is(Version::HTTP_2, Method::POST, content_type), "{content_type}");
        }
    }

    #[test]
    fn timeouts_are_read_by_the_letter() {
        let read = |text: &str| timeout(&[(GRPC_TIMEOUT, HeaderValue::from_str(text).expect("a value"))].into_iter().collect());
        assert_eq!(read("1S"), Some(Duration::from_secs(1)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!((read("7u"), read("7n")), (Some(Duration::from_micros(7)), Some(Duration::from_nanos(7))));
        for wrong in ["", "S", "1", "1s", "-1S", "123456789S", "1 S", "0x1S"] {
            assert!(read(wrong).is_none_or(|read| wrong == "S" && read.is_zero()), "{wrong:?}");
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encoded("slow down; 100 a minute"), "slow down; 100 a minute");
        assert_eq!(percent_encoded("100 %\né"), "100 %25%0A%C3%A9");
    }

    #[test]
    fn codes_and_statuses_say_the_same() {
        for (status, code) in [(401, 16), (402, 7), (403, 7), (404, 12), (429, 8), (502, 14), (503, 14), (504, 4), (500, 13)] {
            assert_eq!(Code::of(StatusCode::from_u16(status).expect("a status")), Code(code), "{status}");
        }
        for (code, status) in [(0, 200), (1, 499), (5, 404), (7, 403), (8, 429), (13, 500), (14, 503), (16, 401), (99, 500)] {
            assert_eq!(Code(code).status().as_u16(), status, "{code}");
        }
    }

    proptest! {
        /// However the bytes are cut, as many messages are counted as are whole.
        #[test]
        fn counts_however_the_bytes_are_cut(sizes in proptest::collection::vec(prop_oneof![0..20_usize, 1_000..3_000_usize], 0..20), cut in 1..2_000_usize) {
            let mut bytes = Vec::new();
            for size in &sizes {
                bytes.push(0);
                bytes.extend((*size as u32).to_be_bytes());
                bytes.extend(vec![1; *size]);
            }
            let mut counter = MessageCounter::default();
            prop_assert_eq!(bytes.chunks(cut).map(|chunk| counter.take(chunk)).sum::<u64>(), sizes.len() as u64);
            let mut counter = MessageCounter::default();
            if let Some((_, all_but_last)) = bytes.split_last() {
                prop_assert_eq!(counter.take(all_but_last), sizes.len() as u64 - 1);
            }
        }
    }
}
