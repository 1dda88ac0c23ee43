//! Fields that stand on every message of a kind: written once, where they would else be put together, cloned and written with every call.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http1::write::put_field;

/// Such fields.
#[derive(Debug, Default)]
pub struct Standing {
    fields: Vec<(HeaderName, HeaderValue)>,
    lines: Box<[u8]>,
}

impl Standing {
    /// Writes them.
    pub fn new(fields: Vec<(HeaderName, HeaderValue)>) -> Self {
        let mut lines = Vec::new();
        fields.iter().for_each(|(name, value)| put_field(&mut lines, name, value));
        Self { fields, lines: lines.into() }
    }

    /// As HTTP/1.1 has them, each with the end of its line.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Adds them to a map.
    pub fn append_to(&self, map: &mut HeaderMap) {
        self.fields.iter().for_each(|(name, value)| _ = map.append(name, value.clone()));
    }
}
