//! Server-sent events (WHATWG HTML, 9.2.6), as far as their data goes: lines are told apart, the data of each event is one JSON document, and all other
//! fields are passed over.

use super::{
    figures::Figures,
    json::{Document, Kind},
};

const DATA: &[u8] = b"data";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Where in a line the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So much of a byte order mark has come; only at the start of the stream.
    Mark(usize),
    /// So much of the field's name has come, and it may be `data`.
    Name(usize),
    /// Right behind the colon, where one space is not part of the value.
    Colon,
    /// In the value of `data`.
    Data,
    /// In a line that is passed over.
    Other,
}

/// A stream on its way.
#[derive(Debug)]
pub(super) struct Events {
    at: At,
    /// The byte before was a carriage return: a line feed belongs to it.
    after_return: bool,
    /// The event has data already.
    has_data: bool,
    document: Document,
}

impl Default for Events {
    fn default() -> Self {
        Self { at: At::Mark(0), after_return: false, has_data: false, document: Document::new(Kind::Event) }
    }
}

impl Events {
    /// Takes in the next bytes. True when they told a figure.
    pub(super) fn take(&mut self, bytes: &[u8], figures: &mut Figures) -> bool {
        let mut told = false;
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            if std::mem::take(&mut self.after_return) && byte == b'\n' {
                rest = &rest[1..];
                continue;
            }
            if matches!(self.at, At::Data | At::Other) {
                let length = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                if self.at == At::Data {
                    told |= self.document.take(&rest[..length], figures);
                }
                rest = &rest[length..];
                if rest.is_empty() {
                    break;
                }
                self.end_line(rest[0]);
                rest = &rest[1..];
                continue;
            }
            if self.begins_line(byte, figures) {
                rest = &rest[1..];
            }
        }
        told
    }

    /// A byte before a value. False if it is to be looked at again.
    fn begins_line(&mut self, byte: u8, figures: &mut Figures) -> bool {
        match self.at {
            At::Mark(have) if BYTE_ORDER_MARK[have] == byte => {
                self.at = if have + 1 == BYTE_ORDER_MARK.len() { At::Name(0) } else { At::Mark(have + 1) };
            }
            At::Mark(have) => {
                self.at = if have == 0 { At::Name(0) } else { At::Other };
                return false;
            }
            At::Name(_) if matches!(byte, b'\n' | b'\r') => self.end_line(byte),
            At::Name(have) if have < DATA.len() && DATA[have] == byte => self.at = At::Name(have + 1),
            At::Name(have) if have == DATA.len() && byte == b':' => {
                self.at = At::Colon;
                if std::mem::replace(&mut self.has_data, true) {
                    // The lines of an event's data are one text, with line feeds between.
                    self.document.take(b"\n", figures);
                }
            }
            At::Name(_) => self.at = At::Other,
            At::Colon => {
                self.at = At::Data;
                return byte == b' ';
            }
            At::Data | At::Other => return false,
        }
        true
    }

    fn end_line(&mut self, byte: u8) {
        self.after_return = byte == b'\r';
        if self.at == At::Name(0) {
            // An empty line ends the event.
            self.document.restart();
            self.has_data = false;
        }
        self.at = At::Name(0);
    }
}
