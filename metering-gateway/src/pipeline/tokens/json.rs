//! One JSON document (RFC 8259), of which only the figures of its usage are read. Objects on the way to them are followed, all else is passed over by
//! counting brackets outside strings, so that neither length nor depth needs room. What is no JSON ends the reading of that document.

use super::figures::{Figure, Figures};

/// The longest name or number that means anything here.
const MAX_TEXT: usize = 32;
/// The document, `response` or `message`, `usage`, details.
const MAX_LEVELS: usize = 4;

/// Where a document stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is the whole body.
    Body,
    /// It is the data of an event.
    Event,
}

/// An object on the way to the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Document,
    Response,
    Message,
    Usage,
    InputDetails,
    OutputDetails,
}

/// What a member's name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Usage,
    Response,
    Message,
    InputDetails,
    OutputDetails,
    Prompt,
    Input,
    Output,
    Total,
    Cached,
    Reasoning,
    CacheRead,
    CacheCreation,
    Other,
}

impl Name {
    fn of(text: &[u8]) -> Self {
        match text {
            b"usage" => Self::Usage,
            b"response" => Self::Response,
            b"message" => Self::Message,
            b"prompt_tokens_details" | b"input_tokens_details" => Self::InputDetails,
            b"completion_tokens_details" | b"output_tokens_details" => Self::OutputDetails,
            b"prompt_tokens" => Self::Prompt,
            b"input_tokens" => Self::Input,
            b"completion_tokens" | b"output_tokens" => Self::Output,
            b"total_tokens" => Self::Total,
            b"cached_tokens" => Self::Cached,
            b"reasoning_tokens" => Self::Reasoning,
            b"cache_read_input_tokens" => Self::CacheRead,
            b"cache_creation_input_tokens" => Self::CacheCreation,
            _ => Self::Other,
        }
    }
}

/// What the next byte is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The start of the document.
    Start,
    /// A member's name, or the end of the object if it is empty.
    NameOrEnd,
    /// A member's name, behind a comma.
    Name,
    /// Inside a member's name.
    InName,
    /// Behind a backslash in a name.
    NameEscape,
    /// So many digits of `\u` in a name have come, and what they say.
    NameUnicode(u8, u16),
    /// Between a name and its value.
    Colon,
    /// A member's value.
    Value,
    /// A number that is a figure.
    Number,
    /// A number or word that is passed over.
    Word,
    /// A string or container that is passed over.
    Passing(Passing),
    /// Behind a member.
    Comma,
    /// Behind the document, or behind what is no JSON.
    Over,
}

/// What is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Passing {
    /// Containers that are open; 0 for a string alone.
    open: u64,
    in_string: bool,
    escaped: bool,
}

/// A document on its way.
#[derive(Debug)]
pub(super) struct Document {
    kind: Kind,
    at: At,
    levels: [Level; MAX_LEVELS],
    depth: usize,
    name: Name,
    text: [u8; MAX_TEXT],
    /// Longer than the room says that it means nothing.
    text_length: usize,
    usage: Figures,
}

impl Document {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            at: At::Start,
            levels: [Level::Document; MAX_LEVELS],
            depth: 0,
            name: Name::Other,
            text: [0; MAX_TEXT],
            text_length: 0,
            usage: Figures::default(),
        }
    }

    /// Another document follows.
    pub(super) fn restart(&mut self) {
        (self.at, self.depth) = (At::Start, 0);
    }

    /// Takes in the next bytes. True when an object `usage` ended in them, whose figures are then in `figures`.
    pub(super) fn take(&mut self, bytes: &[u8], figures: &mut Figures) -> bool {
        let mut told = false;
        let mut rest = bytes;
        while let Some(byte) = rest.first() {
            let passed = match self.at {
                At::Over => return told,
                At::Passing(passing) => self.pass_over(passing, rest),
                At::InName => self.in_name(rest),
                At::Number => self.in_number(rest),
                At::Word => {
                    let length = rest.iter().position(|byte| is_end_of_word(*byte));
                    self.at = if length.is_some() { At::Comma } else { At::Word };
                    length.unwrap_or(rest.len())
                }
                _ => {
                    told |= self.next(*byte, figures);
                    1
                }
            };
            rest = &rest[passed..];
        }
        told
    }

    /// One byte of the structure. True when it ended `usage`.
    fn next(&mut self, byte: u8, figures: &mut Figures) -> bool {
        let is_space = matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        match (self.at, byte) {
            (At::NameEscape, b'u') => self.at = At::NameUnicode(0, 0),
            (At::NameEscape, _) => self.mean_nothing(),
            (At::NameUnicode(digits, value), _) => self.unicode(digits, value, byte),
            (_, _) if is_space => (),
            (At::Start, b'{') => self.open(Level::Document),
            (At::NameOrEnd | At::Name, b'"') => (self.at, self.text_length) = (At::InName, 0),
            (At::NameOrEnd | At::Comma, b'}') => return self.close(figures),
            (At::Comma, b',') => self.at = At::Name,
            (At::Colon, b':') => self.at = At::Value,
            (At::Value, _) => self.value(byte),
            _ => self.at = At::Over,
        }
        false
    }

    /// The first byte of a member's value.
    fn value(&mut self, byte: u8) {
        let inner = self.inner();
        let is_figure = self.figure().is_some();
        match byte {
            b'{' if inner.is_some() => {
                let inner = inner.unwrap_or(Level::Document);
                match inner {
                    Level::Usage => self.usage = Figures { output_begins: self.level() == Level::Message, ..Figures::default() },
                    Level::InputDetails => self.usage.has_input_details = true,
                    _ => (),
                }
                return self.open(inner);
            }
            b'0'..=b'9' | b'-' if is_figure => {
                (self.text[0], self.text_length, self.at) = (byte, 1, At::Number);
                return;
            }
            // `null` says nothing, as if the member were not there.
            b'n' => self.at = At::Word,
            b'"' => self.at = At::Passing(Passing { open: 0, in_string: true, escaped: false }),
            b'{' | b'[' => self.at = At::Passing(Passing { open: 1, in_string: false, escaped: false }),
            b',' | b'}' | b']' | b':' => self.at = At::Over,
            _ => self.at = At::Word,
        }
        if byte != b'n'
            && let Some(figure) = self.figure()
        {
            *figure = Figure::Malformed;
        }
    }

    /// The object that a member's value is, if it leads to figures.
    fn inner(&self) -> Option<Level> {
        Some(match (self.level(), self.name) {
            (Level::Document | Level::Response | Level::Message, Name::Usage) => Level::Usage,
            (Level::Document, Name::Response) if self.kind == Kind::Event => Level::Response,
            (Level::Document, Name::Message) if self.kind == Kind::Event => Level::Message,
            (Level::Usage, Name::InputDetails) => Level::InputDetails,
            (Level::Usage, Name::OutputDetails) => Level::OutputDetails,
            _ => return None,
        })
    }

    /// The figure that a member's value is, if it is one.
    fn figure(&mut self) -> Option<&mut Figure> {
        let usage = &mut self.usage;
        Some(match (self.levels[self.depth.saturating_sub(1)], self.name) {
            (Level::Usage, Name::Prompt) => &mut usage.prompt,
            (Level::Usage, Name::Input) => &mut usage.input,
            (Level::Usage, Name::Output) => &mut usage.output,
            (Level::Usage, Name::Total) => &mut usage.total,
            (Level::Usage, Name::CacheRead) => &mut usage.cache_read,
            (Level::Usage, Name::CacheCreation) => &mut usage.cache_creation,
            (Level::InputDetails, Name::Cached) => &mut usage.cached,
            (Level::OutputDetails, Name::Reasoning) => &mut usage.reasoning,
            _ => return None,
        })
    }

    fn level(&self) -> Level {
        self.levels[self.depth.saturating_sub(1)]
    }

    fn open(&mut self, level: Level) {
        self.levels[self.depth] = level;
        self.depth += 1;
        self.at = At::NameOrEnd;
    }

    fn close(&mut self, figures: &mut Figures) -> bool {
        let is_usage = self.level() == Level::Usage;
        if is_usage {
            figures.replace(&self.usage);
        }
        self.depth -= 1;
        self.at = if self.depth == 0 { At::Over } else { At::Comma };
        is_usage
    }

    fn in_name(&mut self, bytes: &[u8]) -> usize {
        for (passed, byte) in bytes.iter().enumerate() {
            match byte {
                b'"' => {
                    self.name = self.text.get(..self.text_length).map_or(Name::Other, Name::of);
                    self.at = At::Colon;
                    return passed + 1;
                }
                b'\\' => {
                    self.at = At::NameEscape;
                    return passed + 1;
                }
                _ => self.push(*byte),
            }
        }
        bytes.len()
    }

    /// A digit of `\u` in a name. Every name with a meaning is of ASCII, which may be written so.
    fn unicode(&mut self, digits: u8, value: u16, byte: u8) {
        let Some(digit) = char::from(byte).to_digit(16) else {
            self.at = At::Over;
            return;
        };
        let value = value << 4 | digit as u16;
        if digits < 3 {
            self.at = At::NameUnicode(digits + 1, value);
            return;
        }
        match u8::try_from(value) {
            Ok(byte) if byte.is_ascii() => {
                self.push(byte);
                self.at = At::InName;
            }
            _ => self.mean_nothing(),
        }
    }

    fn mean_nothing(&mut self) {
        (self.at, self.text_length) = (At::InName, MAX_TEXT + 1);
    }

    fn in_number(&mut self, bytes: &[u8]) -> usize {
        let length = bytes.iter().position(|byte| is_end_of_word(*byte));
        bytes[..length.unwrap_or(bytes.len())].iter().for_each(|byte| self.push(*byte));
        let Some(length) = length else { return bytes.len() };
        let told = self.text.get(..self.text_length).map_or(Figure::Malformed, Figure::parse);
        if let Some(figure) = self.figure() {
            *figure = told;
        }
        self.at = At::Comma;
        length
    }

    fn push(&mut self, byte: u8) {
        match self.text.get_mut(self.text_length) {
            Some(place) => {
                *place = byte;
                self.text_length += 1;
            }
            None => self.text_length = MAX_TEXT + 1,
        }
    }

    /// Passes over a string or container, up to its end if it ends in these bytes, and says how many they were.
    fn pass_over(&mut self, mut passing: Passing, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if passing.escaped {
                passing.escaped = false;
                at += 1;
            } else if passing.in_string {
                let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) else { break };
                at += found + 1;
                passing.escaped = bytes[at - 1] == b'\\';
                passing.in_string = passing.escaped;
            } else {
                let is_mark = |byte: &u8| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']');
                let Some(found) = bytes[at..].iter().position(is_mark) else { break };
                at += found + 1;
                match bytes[at - 1] {
                    b'"' => passing.in_string = true,
                    b'{' | b'[' => passing.open += 1,
                    _ => passing.open -= 1,
                }
            }
            if passing.open == 0 && !passing.in_string {
                self.at = At::Comma;
                return at;
            }
        }
        self.at = At::Passing(passing);
        bytes.len()
    }
}

fn is_end_of_word(byte: u8) -> bool {
    matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t')
}
