//! Heads of requests and answers (RFC 9112, 2 to 6).

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};

use super::{Error, MAX_FIELDS, MAX_HEAD_BYTES, decode::Decoder, lines::Lines};

/// The head of a request, and what it says of its connection.
#[derive(Debug)]
pub struct RequestHead {
    /// The request.
    pub request: Request<()>,
    /// Where its body ends.
    pub body: Decoder,
    /// Another request may follow.
    pub keep_alive: bool,
    /// The caller waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The caller takes fields behind the last chunk.
    pub takes_trailers: bool,
}

/// The head of an answer, and what it says of its connection.
#[derive(Debug)]
pub struct AnswerHead {
    /// The answer.
    pub answer: Response<()>,
    /// Its fields, where they are not in the map.
    pub lines: Option<Lines>,
    /// Where its body ends.
    pub body: Decoder,
    /// Another request may follow.
    pub keep_alive: bool,
}

/// What the fields of a head say of body and connection.
#[derive(Debug, Default)]
struct Framing {
    length: Option<u64>,
    /// There is a transfer coding, and whether it is `chunked` and nothing else.
    coding: Option<bool>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    takes_trailers: bool,
}

/// How much of a head that is not whole was looked at, so that one that trickles in is not read from its start with each byte.
#[derive(Debug, Default)]
pub struct Scanned(usize);

impl Scanned {
    /// Whether what has been read may hold a whole head.
    fn may_be_whole(&self, read: &[u8]) -> bool {
        let from = self.0.saturating_sub(3);
        self.0 == 0 || read[from.min(read.len())..].windows(2).any(|pair| pair == b"\n\n" || pair == b"\n\r")
    }

    fn not_whole<T>(&mut self, read: &[u8]) -> Result<Option<T>, Error> {
        self.0 = read.len();
        if read.len() > MAX_HEAD_BYTES { Err(Error::HeadTooLarge) } else { Ok(None) }
    }
}

/// Takes the head of a request out of what has been read. `None`: it is not whole.
///
/// # Errors
/// When it is malformed, or too large.
pub fn request(read: &mut BytesMut, scanned: &mut Scanned) -> Result<Option<RequestHead>, Error> {
    if !scanned.may_be_whole(read) {
        return scanned.not_whole(read);
    }
    let mut places = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(read, &mut places) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return scanned.not_whole(read),
        Err(error) => return Err(refused(error)),
    };
    if length > MAX_HEAD_BYTES {
        return Err(Error::HeadTooLarge);
    }
    // One copy for the target and all values of fields, which share it: what was read besides is not held with them.
    let bytes = Bytes::copy_from_slice(&read[..length]);
    let shared = Shared { bytes: &bytes, base: read.as_ptr() as usize };
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes()).map_err(|_| Error::Malformed("the method is none"))?;
    let uri = Uri::from_maybe_shared(shared.of(parsed.path.unwrap_or_default().as_bytes()))
        .map_err(|_| Error::Malformed("the target is none"))?;
    let version = version(parsed.version);
    let framing = Framing::of(parsed.headers)?;
    let headers = fields(parsed.headers.iter(), Some(&shared))?;
    let body = match (framing.coding, framing.length) {
        (Some(_), _) if version == Version::HTTP_10 => return Err(Error::Malformed("HTTP/1.0 has no transfer codings")),
        (Some(true), _) => Decoder::chunked(),
        // Another coding is refused by name before anything is read. Where its body ends cannot be told, so nothing after it is a request.
        (Some(false), _) => Decoder::Ended,
        (None, length) => Decoder::length(length.unwrap_or(0)),
    };
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = version;
    *request.headers_mut() = headers;
    // Who goes by the length and who goes by the chunks would cut what follows in two ways (RFC 9112, 6.1).
    let is_ambiguous = framing.coding.is_some() && framing.length.is_some() || framing.coding == Some(false);
    let keep_alive = framing.keeps(version) && !is_ambiguous;
    let expects_continue = framing.expects_continue && version == Version::HTTP_11;
    let takes_trailers = framing.takes_trailers && version == Version::HTTP_11;
    read.advance(length);
    *scanned = Scanned::default();
    Ok(Some(RequestHead { request, body, keep_alive, expects_continue, takes_trailers }))
}

/// Takes the head of an answer to a request of `method` out of what has been read. `None`: it is not whole. Whose caller `takes_lines` gets the fields as
/// [`Lines`], where that can be.
///
/// # Errors
/// When it is malformed, or too large.
pub fn answer(read: &mut BytesMut, scanned: &mut Scanned, method: &Method, takes_lines: bool) -> Result<Option<AnswerHead>, Error> {
    if !scanned.may_be_whole(read) {
        return scanned.not_whole(read);
    }
    let mut places = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let length = match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, read, &mut places) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return scanned.not_whole(read),
        Err(error) => return Err(refused(error)),
    };
    if length > MAX_HEAD_BYTES {
        return Err(Error::HeadTooLarge);
    }
    let status = StatusCode::from_u16(parsed.code.unwrap_or(0)).map_err(|_| Error::Malformed("the status is none"))?;
    let version = version(parsed.version);
    let framing = Framing::of(parsed.headers)?;
    let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
    // Of a body that is not sent, the length is that which it would have had.
    let lines = if takes_lines && !is_switch && *method != Method::HEAD {
        Lines::pick(&read[..length], parsed.headers, status == StatusCode::NOT_MODIFIED)
    } else {
        None
    };
    let headers = match &lines {
        Some(_) => HeaderMap::new(),
        None => {
            let bytes = Bytes::copy_from_slice(&read[..length]);
            let shared = Shared { bytes: &bytes, base: read.as_ptr() as usize };
            fields(parsed.headers.iter().filter(|field| is_switch || !is_understood(field)), Some(&shared))?
        }
    };
    let is_bare =
        *method == Method::HEAD || status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = match (framing.coding, framing.length) {
        _ if is_bare => Decoder::Ended,
        (Some(true), _) if version == Version::HTTP_11 => Decoder::chunked(),
        // Nobody asked for another coding (`TE`), and whoever gets the body could not undo it.
        (Some(_), _) => return Err(Error::Malformed("the transfer coding is not `chunked`")),
        (None, Some(length)) => Decoder::length(length),
        (None, None) => Decoder::UntilClose,
    };
    let is_ambiguous = framing.coding.is_some() && framing.length.is_some();
    let keep_alive = framing.keeps(version) && !is_ambiguous && body != Decoder::UntilClose;
    let mut answer = Response::new(());
    *answer.status_mut() = status;
    *answer.version_mut() = version;
    *answer.headers_mut() = headers;
    read.advance(length);
    *scanned = Scanned::default();
    Ok(Some(AnswerHead { answer, lines, body, keep_alive }))
}

fn refused(error: httparse::Error) -> Error {
    match error {
        httparse::Error::TooManyHeaders => Error::HeadTooLarge,
        httparse::Error::HeaderName => Error::Malformed("the name of a field is none"),
        httparse::Error::HeaderValue => Error::Malformed("the value of a field is none"),
        httparse::Error::Version => Error::Malformed("the version is not HTTP/1.0 or HTTP/1.1"),
        httparse::Error::Status => Error::Malformed("the status is none"),
        httparse::Error::NewLine | httparse::Error::Token => Error::Malformed("the first line is none"),
    }
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// A copy of what was parsed, from which pieces are shared.
#[derive(Debug)]
pub struct Shared<'a> {
    bytes: &'a Bytes,
    /// Where that which was parsed begins.
    base: usize,
}

impl Shared<'_> {
    /// The copy of a piece of what was parsed.
    fn of(&self, piece: &[u8]) -> Bytes {
        let from = (piece.as_ptr() as usize).wrapping_sub(self.base);
        self.bytes.slice(from..from + piece.len())
    }
}

/// Fields as a map.
///
/// # Errors
/// When one is none.
pub fn fields<'p>(parsed: impl Iterator<Item = &'p httparse::Header<'p>>, shared: Option<&Shared<'_>>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::with_capacity(parsed.size_hint().1.unwrap_or(0));
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Error::Malformed("the name of a field is none"))?;
        let value = match shared {
            Some(shared) if !field.value.is_empty() => HeaderValue::from_maybe_shared(shared.of(field.value)),
            _ => HeaderValue::from_bytes(field.value),
        };
        headers.try_append(name, value.map_err(|_| Error::Malformed("the value of a field is none"))?).map_err(|_| Error::HeadTooLarge)?;
    }
    Ok(headers)
}

impl Framing {
    fn of(fields: &[httparse::Header<'_>]) -> Result<Self, Error> {
        let mut framing = Self::default();
        for field in fields {
            let value = field.value;
            match field.name.len() {
                14 if field.name.eq_ignore_ascii_case("content-length") => framing.add_length(value)?,
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    let is_chunked = value.trim_ascii().eq_ignore_ascii_case(b"chunked");
                    framing.coding = Some(is_chunked && framing.coding.is_none());
                }
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    framing.close |= names(value, b"close");
                    framing.keep_alive |= names(value, b"keep-alive");
                }
                6 if field.name.eq_ignore_ascii_case("expect") => framing.expects_continue |= value.eq_ignore_ascii_case(b"100-continue"),
                2 if field.name.eq_ignore_ascii_case("te") => framing.takes_trailers |= names(value, b"trailers"),
                _ => (),
            }
        }
        Ok(framing)
    }

    /// RFC 9110, 8.6: digits only, and the same wherever it is said.
    fn add_length(&mut self, digits: &[u8]) -> Result<(), Error> {
        const WRONG: Error = Error::Malformed("the length of the body is none, or there are two");
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(WRONG);
        }
        let mut length = 0_u64;
        for digit in digits {
            length = length.checked_mul(10).and_then(|length| length.checked_add(u64::from(digit - b'0'))).ok_or(WRONG)?;
        }
        if self.length.replace(length).is_some_and(|before| before != length) { Err(WRONG) } else { Ok(()) }
    }

    /// RFC 9112, 9.3.
    fn keeps(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }
}

/// Whether a field of an answer says something about its connection only, which has been understood: nobody else needs to see it.
pub(super) fn is_understood(field: &httparse::Header<'_>) -> bool {
    match field.name.len() {
        10 if field.name.eq_ignore_ascii_case("connection") => {
            field.value.eq_ignore_ascii_case(b"keep-alive") || field.value.eq_ignore_ascii_case(b"close")
        }
        10 => field.name.eq_ignore_ascii_case("keep-alive"),
        17 => field.name.eq_ignore_ascii_case("transfer-encoding"),
        _ => false,
    }
}

/// Whether a list names a token.
pub fn names(list: &[u8], token: &[u8]) -> bool {
    list.eq_ignore_ascii_case(token)
        || list.split(|byte| *byte == b',').any(|part| {
            let word = part.split(|byte| *byte == b';').next().unwrap_or_default();
            word.trim_ascii().eq_ignore_ascii_case(token)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Result<Option<RequestHead>, Error> {
        request(&mut BytesMut::from(text), &mut Scanned::default())
    }

    fn framed(fields: &str) -> (Decoder, bool) {
        let head = ask(&format!("POST /x HTTP/1.1\r\nhost: a\r\n{fields}\r\n")).expect("well-formed").expect("whole");
        (head.body, head.keep_alive)
    }

    #[test]
    fn requests_say_where_they_end() {
        assert_eq!(framed(""), (Decoder::Ended, true));
        assert_eq!(framed("content-length: 0\r\n"), (Decoder::Ended, true));
        assert_eq!(framed("content-length: 5\r\nContent-Length: 5\r\n"), (Decoder::Length(5), true));
        assert_eq!(framed("connection: foo, Close\r\ncontent-length: 5\r\n"), (Decoder::Length(5), false));
        assert_eq!(framed("transfer-encoding: Chunked\r\n"), (Decoder::chunked(), true));
        assert_eq!(framed("transfer-encoding: chunked\r\ncontent-length: 5\r\n"), (Decoder::chunked(), false));
        assert_eq!(framed("transfer-encoding: gzip, chunked\r\n"), (Decoder::Ended, false));
        for wrong in ["5, 5", "+5", "-1", "0x5", "5 5", "", "99999999999999999999"] {
            assert!(ask(&format!("POST / HTTP/1.1\r\ncontent-length: {wrong}\r\n\r\n")).is_err(), "{wrong}");
        }
        assert!(ask("POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n").is_err());
        assert!(ask("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn a_head_is_the_same_however_it_trickles_in() {
        let text = b"GET /a?b=c HTTP/1.1\r\nHost: api.example\r\nX-One: 1\r\nx-one: 2\r\nx-empty:\r\n\r\nGET";
        let (mut read, mut scanned) = (BytesMut::new(), Scanned::default());
        let mut found = None;
        for byte in text {
            read.extend_from_slice(&[*byte]);
            if found.is_none() {
                found = request(&mut read, &mut scanned).expect("well-formed");
            }
        }
        let head = found.expect("whole");
        assert_eq!(&read[..], b"GET", "what follows is left");
        assert_eq!((head.request.uri().to_string().as_str(), head.request.headers().len()), ("/a?b=c", 4));
        let values: Vec<_> = head.request.headers().get_all("x-one").iter().collect();
        assert_eq!(values, ["1", "2"]);
    }

    #[test]
    fn heads_are_bounded() {
        let long = format!("GET / HTTP/1.1\r\nx: {}", "v".repeat(MAX_HEAD_BYTES));
        assert!(matches!(ask(&long), Err(Error::HeadTooLarge)));
        assert!(matches!(ask(&format!("{long}\r\n\r\n")), Err(Error::HeadTooLarge)));
        let many: String = (0..=MAX_FIELDS).map(|n| format!("x-{n}: v\r\n")).collect();
        assert!(matches!(ask(&format!("GET / HTTP/1.1\r\n{many}\r\n")), Err(Error::HeadTooLarge)));
    }

    #[test]
    fn answers_say_where_they_end() {
        type Expected = Option<(Decoder, bool)>;
        let cases: [(&str, Method, Expected); 10] = [
            ("200 OK\r\ncontent-length: 3", Method::GET, Some((Decoder::Length(3), true))),
            ("200 OK\r\ncontent-length: 3", Method::HEAD, Some((Decoder::Ended, true))),
            ("204 No Content\r\ncontent-length: 3", Method::GET, Some((Decoder::Ended, true))),
            ("304 Not Modified\r\ntransfer-encoding: chunked", Method::GET, Some((Decoder::Ended, true))),
            ("200 OK\r\nx: y", Method::GET, Some((Decoder::UntilClose, false))),
            ("200\r\nconnection: close\r\ncontent-length: 0", Method::GET, Some((Decoder::Ended, false))),
            ("200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3", Method::GET, Some((Decoder::chunked(), false))),
            ("200 OK\r\ntransfer-encoding: gzip, chunked", Method::GET, None),
            ("200 OK\r\ncontent-length: 3\r\ncontent-length: 4", Method::GET, None),
            ("99999 OK\r\ncontent-length: 3", Method::GET, None),
        ];
        for (text, method, expected) in cases {
            let mut read = BytesMut::from(format!("HTTP/1.1 {text}\r\n\r\n").as_str());
            let head = answer(&mut read, &mut Scanned::default(), &method, false).ok().flatten();
            assert_eq!(head.map(|head| (head.body, head.keep_alive)), expected, "{method} {text}");
        }
    }
}
