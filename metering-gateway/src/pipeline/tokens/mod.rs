//! The tokens that a language model's answer says it used, read from the body as it passes (SEMANTICS M8).
//!
//! Nothing is held back and nothing is kept: the reader sees each piece once, remembers where in the JSON it is and a few figures, and takes the same
//! room for an answer of any length. A body is read by its `Content-Type`:
//!
//! - `application/json` (and `+json`): the object `usage` of the document itself, as OpenAI (chat completions, responses, embeddings) and Anthropic
//!   (messages) write it.
//! - `text/event-stream`: the same in the data of each event, and `usage` inside `response` (OpenAI's `response.completed`) and `message` (Anthropic's
//!   `message_start`). Figures are totals so far: each one stands in for the one before.
//!
//! Text that only looks like usage, inside a string, in another object or array, or beside the data of an event, is none. A body with a
//! `Content-Encoding` is not read; the upstream is asked for one without. What [`Figures`] makes of the two vendors' fields is said there.

mod figures;
mod json;
mod sse;
#[cfg(test)]
mod tests;

use http::{HeaderMap, HeaderValue, header};

pub use figures::{Figures, Reading};
use json::{Document, Kind};
use sse::Events;

/// What the upstream of a metered route is told to send: a compressed body cannot be read.
pub const ACCEPTED_ENCODING: HeaderValue = HeaderValue::from_static("identity");

/// Follows the body of one answer.
#[derive(Debug)]
pub struct TokenReader {
    format: Format,
    figures: Figures,
}

#[derive(Debug)]
enum Format {
    Json(Document),
    Events(Events),
}

impl TokenReader {
    /// For an answer with these headers; `None` where its body is in no form that is read.
    pub fn new(headers: &HeaderMap) -> Option<Self> {
        let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
        if encodings.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).any(is_encoding) {
            return None;
        }
        let content_type = headers.get(header::CONTENT_TYPE)?.as_bytes();
        let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        let format = match essence.as_slice() {
            b"text/event-stream" => Format::Events(Events::default()),
            b"application/json" => Format::Json(Document::new(Kind::Body)),
            other if other.ends_with(b"+json") => Format::Json(Document::new(Kind::Body)),
            _ => return None,
        };
        Some(Self { format, figures: Figures::default() })
    }

    /// Takes in the next bytes. `Some` when they told a figure.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Figures> {
        let told = match &mut self.format {
            Format::Json(document) => document.take(bytes, &mut self.figures),
            Format::Events(events) => events.take(bytes, &mut self.figures),
        };
        told.then_some(self.figures)
    }
}

fn is_encoding(name: &[u8]) -> bool {
    let name = name.trim_ascii();
    !name.is_empty() && !name.eq_ignore_ascii_case(b"identity")
}
