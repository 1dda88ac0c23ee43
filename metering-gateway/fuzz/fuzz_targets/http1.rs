//! HTTP/1.1: a message is read alike however it is cut into pieces, and what is read of one has nothing of the next.
#![no_main]

use bytes::BytesMut;
use http::Method;
use libfuzzer_sys::fuzz_target;
use metering_gateway::http1::{
    Error, MAX_FIELDS, MAX_HEAD_BYTES,
    decode::{Decoder, decode_all},
    head::{self, Scanned},
};

/// What a reader makes of a head that comes in two pieces, and how much of the text it leaves.
fn read<T>(text: &[u8], cut: usize, find: impl Fn(&mut BytesMut, &mut Scanned) -> Result<Option<T>, Error>) -> Option<(T, usize)> {
    let (mut buffer, mut scanned) = (BytesMut::new(), Scanned::default());
    let (first, second) = text.split_at(cut);
    for piece in [first, second] {
        buffer.extend_from_slice(piece);
        match find(&mut buffer, &mut scanned) {
            Ok(Some(found)) => {
                let left = if piece.len() == second.len() && std::ptr::eq(piece, second) { buffer.len() } else { buffer.len() + second.len() };
                return Some((found, left));
            }
            Ok(None) => (),
            Err(_) => return None,
        }
    }
    None
}

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, text) = input;
    let cut = usize::from(cut) % (text.len() + 1);
    let whole = read(text, 0, head::request);
    let pieces = read(text, cut, head::request);
    if let Some((head, left)) = &whole {
        assert!(head.request.headers().len() <= MAX_FIELDS && text.len() - left <= MAX_HEAD_BYTES);
        let (other, rest) = pieces.as_ref().expect("it is a head in pieces, too");
        assert_eq!((head.request.uri(), head.request.headers(), head.body, head.keep_alive, left), (
            other.request.uri(),
            other.request.headers(),
            other.body,
            other.keep_alive,
            rest
        ));
    }
    let answer = |buffer: &mut BytesMut, scanned: &mut Scanned| head::answer(buffer, scanned, &Method::GET);
    let (whole, pieces) = (read(text, 0, answer), read(text, cut, answer));
    assert_eq!(
        whole.map(|(head, left)| (head.answer.status(), head.answer.headers().clone(), head.body, left)),
        pieces.map(|(head, left)| (head.answer.status(), head.answer.headers().clone(), head.body, left))
    );
    let (first, second) = text.split_at(cut);
    for decoder in [Decoder::chunked(), Decoder::length(u64::from(cut as u16)), Decoder::UntilClose] {
        let (whole, pieces) = (decode_all(decoder, &[text]).ok(), decode_all(decoder, &[first, second]).ok());
        assert_eq!(whole, pieces, "{decoder:?} cut at {cut}");
    }
});
