//! What an answer says that it used, in the words of either vendor, and what that makes of each kind of token.
//!
//! | Kind | OpenAI | Anthropic |
//! |---|---|---|
//! | input | `prompt_tokens`, or `input_tokens` | `input_tokens` + `cache_creation_input_tokens` + `cache_read_input_tokens` |
//! | cached input | `cached_tokens` of the details | `cache_read_input_tokens` |
//! | cache creation | none | `cache_creation_input_tokens` |
//! | uncached input | input without the two | `input_tokens` |
//! | output | `completion_tokens`, or `output_tokens` | `output_tokens` |
//! | reasoning | `reasoning_tokens` of the details | none |
//! | total | `total_tokens`, or the sum | the sum |
//!
//! A part that usage does not name is 0 where the whole is named. Anthropic's first event says how many tokens came in, and of those that go out only the
//! first few: until a later one says the whole, what it says is a lower bound.

use gateway_control::{policy::TokenKind, units::Micros};

/// What has been told of one figure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Figure {
    /// Nothing.
    #[default]
    Absent,
    /// Something that is no number of tokens.
    Malformed,
    /// Micro-units, 0 or more.
    Known(i64),
}

impl Figure {
    /// A number as JSON has it.
    pub(super) fn parse(text: &[u8]) -> Self {
        match str::from_utf8(text).ok().and_then(|text| text.parse::<Micros>().ok()) {
            Some(tokens) if tokens.0 >= 0 => Self::Known(tokens.clamped()),
            _ => Self::Malformed,
        }
    }

    fn told(&mut self, newer: Self) {
        if newer != Self::Absent {
            *self = newer;
        }
    }

    fn or(self, other: Self) -> Self {
        if self == Self::Absent { other } else { self }
    }

    /// A part: none of the whole if the whole is told and the part is not.
    fn part_of(self, whole: Self) -> Self {
        match (self, whole) {
            (Self::Absent, Self::Known(_)) => Self::Known(0),
            _ => self,
        }
    }

    fn with(self, other: Self, sum: impl Fn(i64, i64) -> i64) -> Self {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => Self::Known(sum(a, b).max(0)),
            (Self::Malformed, _) | (_, Self::Malformed) => Self::Malformed,
            _ => Self::Absent,
        }
    }
}

/// What an answer has said so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    pub(super) prompt: Figure,
    pub(super) input: Figure,
    pub(super) output: Figure,
    pub(super) total: Figure,
    /// Of the details.
    pub(super) cached: Figure,
    /// Of the details.
    pub(super) reasoning: Figure,
    pub(super) cache_read: Figure,
    pub(super) cache_creation: Figure,
    /// There are details of the input, so that cached tokens are among it: OpenAI.
    pub(super) has_input_details: bool,
    /// The output is that of an answer which has just begun.
    pub(super) output_begins: bool,
}

/// How many tokens of a kind were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Nothing was said of it.
    Missing,
    /// What was said is no number of tokens.
    Malformed,
    /// So many micro-units and perhaps more: the whole was not told.
    AtLeast(i64),
    /// So many micro-units.
    Exactly(i64),
}

impl Figures {
    /// A later usage has been read: what it says replaces what was said before.
    pub(super) fn replace(&mut self, newer: &Self) {
        if newer.output != Figure::Absent {
            self.output_begins = newer.output_begins;
        }
        self.has_input_details |= newer.has_input_details;
        for (figure, newer) in [
            (&mut self.prompt, newer.prompt),
            (&mut self.input, newer.input),
            (&mut self.output, newer.output),
            (&mut self.total, newer.total),
            (&mut self.cached, newer.cached),
            (&mut self.reasoning, newer.reasoning),
            (&mut self.cache_read, newer.cache_read),
            (&mut self.cache_creation, newer.cache_creation),
        ] {
            figure.told(newer);
        }
    }

    /// How many tokens of a kind were used.
    pub fn read(&self, kind: TokenKind) -> Reading {
        let figure = match kind {
            TokenKind::Input => self.input(),
            TokenKind::CachedInput => self.cached_input(),
            TokenKind::CacheCreation => self.cache_creation.part_of(self.input()),
            TokenKind::UncachedInput => {
                let uncached = self.input().with(self.cached_input(), i64::saturating_sub);
                uncached.with(self.cache_creation.part_of(self.input()), i64::saturating_sub)
            }
            TokenKind::Output => self.output(),
            TokenKind::Reasoning => self.reasoning.part_of(self.output()),
            TokenKind::Total => self.total.or(self.input().with(self.output(), i64::saturating_add)),
        };
        let grows = matches!(kind, TokenKind::Output | TokenKind::Reasoning | TokenKind::Total) && self.output_begins;
        match figure {
            Figure::Absent => Reading::Missing,
            Figure::Malformed => Reading::Malformed,
            Figure::Known(micros) if grows => Reading::AtLeast(micros),
            Figure::Known(micros) => Reading::Exactly(micros),
        }
    }

    fn input(&self) -> Figure {
        if self.prompt != Figure::Absent || self.has_input_details {
            return self.prompt.or(self.input);
        }
        let add = |sum: Figure, part: Figure| sum.with(part.part_of(sum), i64::saturating_add);
        add(add(self.input, self.cache_creation), self.cache_read)
    }

    fn cached_input(&self) -> Figure {
        self.cached.or(self.cache_read).part_of(self.input())
    }

    fn output(&self) -> Figure {
        // Embeddings have a prompt and a total only.
        self.output.or(self.total.with(self.input(), i64::saturating_sub))
    }
}
