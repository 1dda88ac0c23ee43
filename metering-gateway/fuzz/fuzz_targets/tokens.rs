//! The tokens in a body are the same however its bytes are cut, and no kind is more than the whole that it is a part of.
#![no_main]

use gateway_control::policy::TokenKind;
use http::{HeaderMap, HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use metering_gateway::pipeline::tokens::{Figures, Reading, TokenReader};

fn figures(content_type: &'static str, pieces: &mut dyn Iterator<Item = &[u8]>) -> Figures {
    let headers: HeaderMap = [(header::CONTENT_TYPE, HeaderValue::from_static(content_type))].into_iter().collect();
    let mut reader = TokenReader::new(&headers).expect("a form that is read");
    pieces.filter_map(|piece| reader.take(piece)).last().unwrap_or_default()
}

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (cut, bytes) = (usize::from(input.0) + 1, input.1);
    for content_type in ["application/json", "text/event-stream"] {
        let whole = figures(content_type, &mut std::iter::once(&bytes[..]));
        assert_eq!(whole, figures(content_type, &mut bytes.chunks(cut)));
        for kind in TokenKind::ALL {
            if let Reading::Exactly(micros) | Reading::AtLeast(micros) = whole.read(kind) {
                assert!(micros >= 0, "{kind:?}");
            }
        }
        if let (Reading::Exactly(input), Reading::Exactly(uncached)) = (whole.read(TokenKind::Input), whole.read(TokenKind::UncachedInput)) {
            assert!(uncached <= input, "a part of the input");
        }
    }
});
