//! How deep a YAML text nests, told before the parser sees it.
//!
//! The parser counts the depth only after it has read the whole document, and the deeper a document nests, the longer each of its tokens may take.
//! This scan takes the same short time for each character, and stops at the bound. It cuts a text into the parser's own tokens, as far as depth
//! needs them (YAML 1.2, chapters 6 to 8): quotes, comments, plain and block scalars are skipped whole, so that brackets in a description count for
//! nothing. Where a text is not YAML it goes on as it can: the parser stops there.

use std::str::Chars;

/// How deep collections nest at most, as in JSON.
const MAX_DEPTH: usize = 127;

/// The line at which the text nests too deep, if it does.
pub fn too_deep(text: &str) -> Option<usize> {
    Scanner { rest: text.chars(), line: 1, column: 0, flow: 0, indents: Vec::new(), key: None, may_be_key: true }.run()
}

struct Scanner<'t> {
    rest: Chars<'t>,
    line: usize,
    /// In characters, from 0.
    column: usize,
    /// How many flow collections are open.
    flow: usize,
    /// The columns of the open block collections.
    indents: Vec<usize>,
    /// Line and column of what turns out to be a key if a colon follows.
    key: Option<(usize, usize)>,
    may_be_key: bool,
}

impl Scanner<'_> {
    fn run(mut self) -> Option<usize> {
        loop {
            self.skip_space();
            let first = self.peek()?;
            if self.flow == 0 {
                self.close_blocks();
            }
            self.token(first);
            if self.flow + self.indents.len() > MAX_DEPTH {
                return Some(self.line);
            }
        }
    }

    fn token(&mut self, first: char) {
        let spaced = is_space_or_end(self.nth(1));
        let in_block = self.flow == 0;
        match first {
            '%' if self.column == 0 => self.skip_line(),
            '-' | '.' if self.is_document_mark() => {
                self.indents.clear();
                (0..3).for_each(|_| self.advance());
                self.may_be_key = false;
            }
            '[' | '{' => {
                self.begin_node();
                self.flow += 1;
                self.advance();
            }
            ']' | '}' => {
                self.flow = self.flow.saturating_sub(1);
                self.advance();
                self.may_be_key = false;
            }
            ',' => self.advance(),
            '-' if spaced => self.indicator(in_block.then_some(self.column)),
            '?' if spaced || !in_block => self.indicator(in_block.then_some(self.column)),
            ':' if spaced || !in_block => {
                let key = self.key.take_if(|_| in_block).filter(|(line, _)| *line == self.line);
                if let Some((_, column)) = key {
                    self.indicator(Some(column));
                    self.may_be_key = false;
                } else {
                    self.indicator(in_block.then_some(self.column));
                }
            }
            '!' => {
                self.begin_node();
                self.skip_while(|c| !is_space_or_end(Some(c)) && !is_flow_indicator(c));
            }
            '*' | '&' => {
                self.begin_node();
                self.advance();
                self.skip_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            }
            '|' | '>' if in_block => self.block_scalar(),
            '\'' | '"' => self.quoted(first),
            _ => self.plain(),
        }
    }

    /// Takes `-`, `?` or `:`, which in a block opens a collection at this column unless it is open.
    fn indicator(&mut self, column: Option<usize>) {
        if let Some(column) = column {
            if self.indents.last().is_none_or(|open| *open < column) {
                self.indents.push(column);
            }
            self.key = None;
            self.may_be_key = true;
        }
        self.advance();
    }

    /// Notes where a node begins, which may be a key.
    fn begin_node(&mut self) {
        if self.flow == 0 && self.may_be_key {
            self.key = Some((self.line, self.column));
        }
        self.may_be_key = false;
    }

    fn close_blocks(&mut self) {
        while self.indents.last().is_some_and(|open| *open > self.column) {
            self.indents.pop();
        }
    }

    /// The least column at which a scalar goes on.
    fn content_column(&self) -> usize {
        self.indents.last().map_or(0, |open| open + 1)
    }

    fn plain(&mut self) {
        self.begin_node();
        self.advance();
        loop {
            while let Some(c) = self.peek().filter(|c| !is_space_or_end(Some(*c))) {
                if (c == ':' && is_space_or_end(self.nth(1))) || (self.flow > 0 && is_flow_indicator(c)) {
                    return;
                }
                self.advance();
            }
            let line = self.line;
            self.skip_while(|c| is_space_or_end(Some(c)));
            self.may_be_key = self.line != line;
            let ends = self.flow == 0 && self.column < self.content_column();
            if ends || self.peek().is_none_or(|c| c == '#') || self.is_document_mark() {
                return;
            }
        }
    }

    fn quoted(&mut self, quote: char) {
        self.begin_node();
        self.advance();
        while let Some(c) = self.peek() {
            self.advance();
            if c == '\\' && quote == '"' {
                self.advance();
            } else if c == quote {
                // Twice, a single quote stands for itself.
                if quote == '"' || self.peek() != Some('\'') {
                    return;
                }
                self.advance();
            }
        }
    }

    fn block_scalar(&mut self) {
        self.key = None;
        self.may_be_key = true;
        self.advance();
        let mut given = None;
        while let Some(c) = self.peek().filter(|c| matches!(c, '+' | '-' | '1'..='9')) {
            given = c.to_digit(10).map(|digit| digit as usize).or(given);
            self.advance();
        }
        self.skip_line();
        let mut indent = given.map(|digit| self.indents.last().copied().unwrap_or(0) + digit);
        loop {
            let found = self.skip_blank_lines(indent);
            let column = *indent.get_or_insert(found.max(self.content_column()).max(1));
            if self.column != column || self.peek().is_none() {
                return;
            }
            self.skip_line();
        }
    }

    /// Skips indentation and empty lines of a block scalar, and answers the widest.
    fn skip_blank_lines(&mut self, indent: Option<usize>) -> usize {
        let mut widest = 0;
        loop {
            while self.peek() == Some(' ') && indent.is_none_or(|indent| self.column < indent) {
                self.advance();
            }
            widest = widest.max(self.column);
            if !self.peek().is_some_and(is_break) {
                return widest;
            }
            self.skip_line();
        }
    }

    fn skip_space(&mut self) {
        loop {
            self.skip_while(|c| matches!(c, ' ' | '\t' | '\u{feff}'));
            match self.peek() {
                Some('#') => self.skip_line(),
                Some(c) if is_break(c) => self.skip_line(),
                _ => return,
            }
            self.may_be_key = true;
        }
    }

    /// Skips the rest of the line and its break.
    fn skip_line(&mut self) {
        self.skip_while(|c| !is_break(c));
        if self.peek() == Some('\r') && self.nth(1) == Some('\n') {
            self.advance();
        }
        self.advance();
    }

    fn skip_while(&mut self, skipped: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&skipped) {
            self.advance();
        }
    }

    fn is_document_mark(&self) -> bool {
        let text = self.rest.as_str();
        self.column == 0 && (text.starts_with("---") || text.starts_with("...")) && is_space_or_end(self.nth(3))
    }

    fn peek(&self) -> Option<char> {
        self.nth(0)
    }

    fn nth(&self, index: usize) -> Option<char> {
        self.rest.clone().nth(index)
    }

    fn advance(&mut self) {
        match self.rest.next() {
            Some('\r') if self.peek() == Some('\n') => {}
            Some(c) if is_break(c) => (self.line, self.column) = (self.line + 1, 0),
            Some(_) => self.column += 1,
            None => {}
        }
    }
}

/// The line breaks of YAML 1.1, which the parser knows.
fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_space_or_end(c: Option<char>) -> bool {
    c.is_none_or(|c| matches!(c, ' ' | '\t') || is_break(c))
}

fn is_flow_indicator(c: char) -> bool {
    matches!(c, ',' | '[' | ']' | '{' | '}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated(text: &str) -> String {
        text.repeat(200)
    }

    #[test]
    fn brackets_in_texts_and_comments_are_no_nesting() {
        let many = repeated("[ { ");
        for text in [
            format!("a: \"{many}\\\" {many}\"\nb: 1\n"),
            format!("a: '{many}'' {many}'\nb: 1\n"),
            format!("a: 1 # {many}\n# {many}\nb: 1\n"),
            format!("a: plain {many}\n  goes on\n  {many}\nb: 1\n"),
            format!("a: |\n  {many}\n\n   {many} '\n  \"\nb: 1\n"),
            format!("a:\n  - b: >-\n      {many}\n    c: |2\n        {many}\n  - |\n    {many}\n"),
            format!("a: [x, 'y]', \"z]\"]\nb:\r\n  c: |\r\n    {many}\r\n  d: 1\r\n"),
            format!("\"key\": &x !!str {many}").replace("[ { ", "text "),
            repeated("- a: [1, {b: c}]\n  d:\n  - e\n"),
            repeated("/a/{id}:\n  get: {x: [y]}\n"),
        ] {
            assert_eq!(too_deep(&text), None, "{text}");
        }
    }

    #[test]
    fn nesting_is_found_in_every_guise() {
        for text in [
            format!("a: {}", repeated("[")),
            format!("a:\n  {}", repeated("[\n  ")),
            format!("a: {}", repeated("{a: ")),
            format!("a: {}", repeated("[\"x\", 'y', z, ")),
            format!("a: # comment\n  {}", repeated("[ # '\n")),
            format!("a: it's\nb: \"\\\\\"\nc: {}", repeated("[")),
            format!("a: |\n  text\nb: {}", repeated("[")),
            format!("a: >\n\nb: {}", repeated("[")),
            format!("a: plain\n{}", repeated("[")),
            format!("? {}", repeated("[")),
            format!("a: &x {}", repeated("[")),
            format!("a: !x'{}", repeated("[")),
            format!("a: \u{2028}{}", repeated("[")),
            repeated("- "),
            repeated("? "),
            (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(),
        ] {
            assert!(too_deep(&text).is_some(), "{text}");
        }
        let at_most = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(too_deep(&at_most(MAX_DEPTH)), None);
        assert_eq!(too_deep(&format!("\n{}", at_most(MAX_DEPTH + 1))), Some(2));
    }
}
