//! Where a body ends (RFC 9112, 6 and 7).

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

use super::{Error, MAX_FIELDS, head};

/// The longest line that gives the size of a chunk, extensions included.
const MAX_SIZE_LINE_BYTES: usize = 4 * 1024;
/// The most bytes of fields behind the last chunk.
const MAX_TRAILER_BYTES: usize = 16 * 1024;

/// What is still to come of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoder {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// Whatever comes until the connection ends.
    UntilClose,
    /// Nothing.
    Ended,
}

/// Where in the chunks the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// Before the size of one.
    Size,
    /// In one, of which so much is missing.
    Data(u64),
    /// Behind its last byte.
    DataEnd,
    /// Behind the last one.
    Trailers,
}

/// What was found in what has been read.
#[derive(Debug)]
pub enum Decoded {
    /// A piece of the body.
    Frame(Frame<Bytes>),
    /// More must be read.
    More,
    /// The body is whole.
    End,
}

impl Decoder {
    /// A body of known length.
    pub fn length(length: u64) -> Self {
        if length == 0 { Self::Ended } else { Self::Length(length) }
    }

    /// Chunks from the first.
    pub fn chunked() -> Self {
        Self::Chunked(Chunk::Size)
    }

    /// How many bytes are still to come, if that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Ended => Some(0),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Takes the next piece out of what has been read. `eof`: nothing more will come.
    ///
    /// # Errors
    /// When the body is malformed, or ends too early.
    pub fn decode(&mut self, read: &mut BytesMut, eof: bool) -> Result<Decoded, Error> {
        let decoded = match self {
            Self::Ended => Decoded::End,
            Self::Length(left) => match take(read, left) {
                Some(data) => {
                    if *left == 0 {
                        *self = Self::Ended;
                    }
                    Decoded::Frame(Frame::data(data))
                }
                None => Decoded::More,
            },
            Self::UntilClose if read.is_empty() && eof => {
                *self = Self::Ended;
                Decoded::End
            }
            Self::UntilClose if read.is_empty() => Decoded::More,
            Self::UntilClose => Decoded::Frame(Frame::data(read.split().freeze())),
            Self::Chunked(chunk) => {
                let decoded = chunk.decode(read)?;
                if matches!(decoded, Decoded::End) || matches!(&decoded, Decoded::Frame(frame) if frame.is_trailers()) {
                    *self = Self::Ended;
                }
                decoded
            }
        };
        if eof && matches!(decoded, Decoded::More) { Err(Error::Closed) } else { Ok(decoded) }
    }
}

/// Takes what is there of the bytes that are missing.
fn take(read: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    let here = read.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    if here == 0 {
        return None;
    }
    *left -= here as u64;
    Some(read.split_to(here).freeze())
}

impl Chunk {
    fn decode(&mut self, read: &mut BytesMut) -> Result<Decoded, Error> {
        loop {
            match self {
                Self::Size => match size(read)? {
                    None => return Ok(Decoded::More),
                    Some((line, 0)) => {
                        read.advance(line);
                        *self = Self::Trailers;
                    }
                    Some((line, size)) => {
                        read.advance(line);
                        *self = Self::Data(size);
                    }
                },
                Self::Data(left) => {
                    let Some(data) = take(read, left) else { return Ok(Decoded::More) };
                    if *left == 0 {
                        *self = Self::DataEnd;
                    }
                    return Ok(Decoded::Frame(Frame::data(data)));
                }
                Self::DataEnd => match &read[..] {
                    [b'\r', b'\n', ..] => {
                        read.advance(2);
                        *self = Self::Size;
                    }
                    [] | [b'\r'] => return Ok(Decoded::More),
                    _ => return Err(Error::Malformed("a chunk is longer than its size")),
                },
                Self::Trailers => return trailers(read),
            }
        }
    }
}

/// The size of a chunk, and the length of its line (RFC 9112, 7.1). Extensions are passed over. `None`: the line is not whole.
fn size(read: &[u8]) -> Result<Option<(usize, u64)>, Error> {
    const WRONG: Error = Error::Malformed("the size of a chunk is none");
    let Some(end) = read.iter().take(MAX_SIZE_LINE_BYTES).position(|byte| *byte == b'\n') else {
        return if read.len() >= MAX_SIZE_LINE_BYTES { Err(WRONG) } else { Ok(None) };
    };
    let line = read[..end].strip_suffix(b"\r").ok_or(WRONG)?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (number, rest) = line.split_at(digits);
    let is_extension = rest.trim_ascii_start().first() == Some(&b';');
    let is_plain = rest.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    if !(1..=16).contains(&digits) || !(rest.is_empty() || is_extension && is_plain) {
        return Err(WRONG);
    }
    let size = number.iter().fold(0_u64, |size, digit| size << 4 | u64::from((*digit as char).to_digit(16).unwrap_or(0)));
    Ok(Some((end + 1, size)))
}

/// The fields behind the last chunk, up to the empty line.
fn trailers(read: &mut BytesMut) -> Result<Decoded, Error> {
    if read.starts_with(b"\r\n") {
        read.advance(2);
        return Ok(Decoded::End);
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let (length, trailers) = match httparse::parse_headers(read, &mut fields) {
        Ok(httparse::Status::Complete((length, fields))) => (length, head::fields(fields.iter(), None)?),
        Ok(httparse::Status::Partial) if read.len() > MAX_TRAILER_BYTES => return Err(Error::Malformed("too much behind the last chunk")),
        Ok(httparse::Status::Partial) => return Ok(Decoded::More),
        Err(_) => return Err(Error::Malformed("what follows the last chunk is no field")),
    };
    read.advance(length);
    Ok(if trailers.is_empty() { Decoded::End } else { Decoded::Frame(Frame::trailers(trailers)) })
}

/// A whole body, and what came after it.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    /// Its bytes.
    pub body: Vec<u8>,
    /// The fields behind it.
    pub trailers: Option<HeaderMap>,
    /// What is not a part of it.
    pub rest: Vec<u8>,
}

/// What a decoder makes of a text that comes in pieces. For tests and fuzzing.
///
/// # Errors
/// As [`Decoder::decode`].
pub fn decode_all(mut decoder: Decoder, pieces: &[&[u8]]) -> Result<Whole, Error> {
    let (mut read, mut body, mut trailers, mut pieces) = (BytesMut::new(), Vec::new(), None, pieces.iter());
    let mut eof = false;
    loop {
        match decoder.decode(&mut read, eof)? {
            Decoded::End => {
                let rest = pieces.fold(read.to_vec(), |rest, piece| [&rest[..], piece].concat());
                return Ok(Whole { body, trailers, rest });
            }
            Decoded::More => match pieces.next() {
                Some(piece) => read.extend_from_slice(piece),
                None => eof = true,
            },
            Decoded::Frame(frame) => match frame.into_data() {
                Ok(data) => body.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(decoder: Decoder, text: &str) -> Result<(String, String), Error> {
        decode_all(decoder, &[text.as_bytes()])
            .map(|Whole { body, rest, .. }| (String::from_utf8(body).expect("text"), String::from_utf8(rest).expect("text")))
    }

    #[test]
    fn bodies_end_where_they_say() {
        let cases = [
            (Decoder::length(0), "next", ("", "next")),
            (Decoder::length(3), "abcnext", ("abc", "next")),
            (Decoder::UntilClose, "all of it", ("all of it", "")),
            (Decoder::chunked(), "0\r\n\r\nnext", ("", "next")),
            (Decoder::chunked(), "3\r\nabc\r\n00a;x=\"y\"\r\n0123456789\r\n0;z\r\n\r\nnext", ("abc0123456789", "next")),
            (Decoder::chunked(), "3 ;x\r\nabc\r\n0\r\nA: b\r\n\r\nnext", ("abc", "next")),
        ];
        for (decoder, text, (body, rest)) in cases {
            let (got, left) = whole(decoder, text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!((got.as_str(), left.as_str()), (body, rest), "{text:?}");
        }
    }

    #[test]
    fn what_could_be_cut_in_two_ways_is_refused() {
        for text in [
            "\r\n\r\n",
            " 3\r\nabc\r\n0\r\n\r\n",
            "3 3\r\nabc\r\n0\r\n\r\n",
            "0x3\r\nabc\r\n0\r\n\r\n",
            "-3\r\nabc\r\n0\r\n\r\n",
            "+3\r\nabc\r\n0\r\n\r\n",
            "3\nabc\r\n0\r\n\r\n",
            "3;x\nabc\r\n0\r\n\r\n",
            "3;\rx\r\nabc\r\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\r\nab\r\n0\r\n\r\n",
            "12345678901234567\r\n",
            "3;\u{0}\r\nabc\r\n0\r\n\r\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\n folded: x\r\n\r\n",
            "3\r\nabc\r\r\n0\r\n\r\n",
        ] {
            let error = whole(Decoder::chunked(), text).expect_err(text);
            assert!(matches!(error, Error::Malformed(_)), "{text:?}: {error}");
        }
        for (decoder, text) in [(Decoder::chunked(), "3\r\nab"), (Decoder::chunked(), "0\r\n"), (Decoder::length(4), "abc")] {
            assert!(matches!(whole(decoder, text), Err(Error::Closed)), "{text:?}");
        }
        let long = format!("3;{}", "x".repeat(MAX_SIZE_LINE_BYTES));
        assert!(matches!(whole(Decoder::chunked(), &long), Err(Error::Malformed(_))));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let mut text = Vec::new();
            for chunk in &chunks {
                text.extend(format!("{:X}\r\n", chunk.len()).bytes());
                text.extend(chunk);
                text.extend(b"\r\n");
            }
            text.extend(b"0\r\nx-sum: 1\r\n\r\nGET");
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len())).chain([0, text.len()]).collect();
            places.sort_unstable();
            let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let Whole { body, trailers, rest } = decode_all(Decoder::chunked(), &pieces).expect("well-formed");
            prop_assert_eq!(body, chunks.concat());
            prop_assert_eq!(trailers.expect("a field").get("x-sum").map(|value| value.as_bytes().to_vec()), Some(b"1".to_vec()));
            prop_assert_eq!(rest, b"GET");
        }
    }
}
