//! Path templates of routes: what the portal accepts when it writes a route, and what a gateway matches.
//!
//! A template is `/` and segments between slashes. A segment is literal text, `{name}` for any one non-empty segment, or, as the last one, `{*name}`
//! for all that follows. Names are for people: only places matter, so `/pets/{id}` and `/pets/{name}` match the same paths. An empty last segment
//! is a trailing slash, which is part of the path: `/pets` and `/pets/` are two routes.

use std::{fmt, str::FromStr};

/// The longest template.
pub const MAX_TEMPLATE_BYTES: usize = 1_000;

/// The most segments of a template.
pub const MAX_SEGMENTS: usize = 64;

/// The longest name of a parameter.
const MAX_NAME_BYTES: usize = 100;

/// One segment of a template.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// Text that must be equal, percent-encoded as it is on the wire.
    Literal(String),
    /// Any one non-empty segment.
    Param(String),
    /// One or more segments to the end of the path; the last segment only.
    Rest(String),
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathTemplate {
    segments: Vec<Segment>,
}

/// Why a text is not a template. Each message is the end of a sentence that starts with the path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It is relative.
    #[error("must start with `/`")]
    NoLeadingSlash,
    /// Too many bytes or segments.
    #[error("must have at most {MAX_TEMPLATE_BYTES} bytes and {MAX_SEGMENTS} segments")]
    TooLong,
    /// Two slashes in a row.
    #[error("must not have an empty segment (`//`)")]
    EmptySegment,
    /// `.` or `..`, which clients resolve before they call.
    #[error("must not have the segment `{0}`: clients resolve it before they call")]
    DotSegment(String),
    /// A character that no path can hold on the wire.
    #[error("must not have `{character}` in the segment `{segment}`; write it percent-encoded")]
    Character {
        /// The character.
        character: char,
        /// Where it stands.
        segment: String,
    },
    /// Braces that do not enclose the whole segment.
    #[error("has the segment `{0}`: braces must enclose the whole segment, like `{{name}}`")]
    PartialParam(String),
    /// A name that is empty, too long, or has other characters than letters, digits, `_`, `-`, `.` and `$`.
    #[error("has the parameter `{0}`: a name has 1 to {MAX_NAME_BYTES} letters, digits, `_`, `-`, `.` or `$`")]
    ParamName(String),
    /// A rest parameter that is not last.
    #[error("has `{{*{0}}}` before its end: only the last segment may match all that follows")]
    RestNotLast(String),
}

impl PathTemplate {
    /// The segments, without the leading slash.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether it matches a request's path (without the query), as a gateway does.
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        let mut parts = path.split('/');
        for segment in &self.segments {
            match (segment, parts.next()) {
                (Segment::Literal(text), Some(part)) if text == part => {}
                (Segment::Param(_), Some(part)) if !part.is_empty() => {}
                (Segment::Rest(_), Some(_)) => return true,
                _ => return false,
            }
        }
        parts.next().is_none()
    }

    /// The template with its names removed: two templates match the same paths if, and only if, their shapes are equal.
    pub fn shape(&self) -> String {
        let mut shape = String::new();
        for segment in &self.segments {
            shape.push('/');
            match segment {
                Segment::Literal(text) => shape.push_str(text),
                Segment::Param(_) => shape.push_str("{}"),
                Segment::Rest(_) => shape.push_str("{*}"),
            }
        }
        shape
    }
}

impl FromStr for PathTemplate {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(PathError::TooLong);
        }
        let parts: Vec<&str> = text.strip_prefix('/').ok_or(PathError::NoLeadingSlash)?.split('/').collect();
        if parts.len() > MAX_SEGMENTS {
            return Err(PathError::TooLong);
        }
        let last = parts.len() - 1;
        let segments = parts.iter().enumerate().map(|(at, part)| segment(part, at == last)).collect::<Result<_, _>>()?;
        Ok(Self { segments })
    }
}

fn segment(text: &str, is_last: bool) -> Result<Segment, PathError> {
    if let Some(inner) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).filter(|inner| !inner.contains(['{', '}'])) {
        return match inner.strip_prefix('*') {
            Some(name) if !is_last => Err(PathError::RestNotLast(name.to_owned())),
            Some(name) => param_name(name).map(Segment::Rest),
            None => param_name(inner).map(Segment::Param),
        };
    }
    if text.contains(['{', '}']) {
        return Err(PathError::PartialParam(text.to_owned()));
    }
    match text {
        "" if !is_last => Err(PathError::EmptySegment),
        "." | ".." => Err(PathError::DotSegment(text.to_owned())),
        _ => literal(text),
    }
}

fn param_name(name: &str) -> Result<String, PathError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.$".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) {
        return Err(PathError::ParamName(name.chars().take(MAX_NAME_BYTES).collect()));
    }
    Ok(name.to_owned())
}

/// RFC 3986, 3.3: `pchar`, with well-formed percent-encoding.
fn literal(text: &str) -> Result<Segment, PathError> {
    let bytes = text.as_bytes();
    for (at, character) in text.char_indices() {
        let allowed = match character {
            '%' => bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
            _ => character.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@".contains(character),
        };
        if !allowed {
            return Err(PathError::Character { character, segment: text.to_owned() });
        }
    }
    Ok(Segment::Literal(text.to_owned()))
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Param(name) => write!(f, "/{{{name}}}")?,
                Segment::Rest(name) => write!(f, "/{{*{name}}}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template(text: &str) -> PathTemplate {
        text.parse().expect(text)
    }

    #[test]
    fn matches_whole_segments() {
        let cases = [
            ("/", "/", true),
            ("/", "", false),
            ("/", "/a", false),
            ("/pets", "/pets", true),
            ("/pets", "/pets/", false),
            ("/pets/", "/pets/", true),
            ("/pets/{id}", "/pets/7", true),
            ("/pets/{id}", "/pets/", false),
            ("/pets/{id}", "/pets/7/toys", false),
            ("/pets/{id}/toys", "/pets/7/toys", true),
            ("/files/{*rest}", "/files/a/b/c", true),
            ("/files/{*rest}", "/files", false),
            ("/files/{*rest}", "/files/", true),
        ];
        for (text, path, matches) in cases {
            assert_eq!(template(text).matches(path), matches, "{text} on {path}");
        }
    }

    #[test]
    fn refusals_say_what_to_write_instead() {
        let cases = [
            ("pets", "must start with `/`"),
            ("", "must start with `/`"),
            ("/a//b", "must not have an empty segment (`//`)"),
            ("/a/../b", "must not have the segment `..`: clients resolve it before they call"),
            ("/a b", "must not have ` ` in the segment `a b`; write it percent-encoded"),
            ("/a%2", "must not have `%` in the segment `a%2`; write it percent-encoded"),
            ("/a?b", "must not have `?` in the segment `a?b`; write it percent-encoded"),
            ("/a#b", "must not have `#` in the segment `a#b`; write it percent-encoded"),
            ("/{a}-{b}", "has the segment `{a}-{b}`: braces must enclose the whole segment, like `{name}`"),
            ("/x.{format}", "has the segment `x.{format}`: braces must enclose the whole segment, like `{name}`"),
            ("/{}", "has the parameter ``: a name has 1 to 100 letters, digits, `_`, `-`, `.` or `$`"),
            ("/{*rest}/a", "has `{*rest}` before its end: only the last segment may match all that follows"),
        ];
        for (text, message) in cases {
            assert_eq!(text.parse::<PathTemplate>().expect_err(text).to_string(), message);
        }
        assert_eq!(format!("/{}", "a".repeat(MAX_TEMPLATE_BYTES)).parse::<PathTemplate>(), Err(PathError::TooLong));
        assert_eq!("/a".repeat(MAX_SEGMENTS + 1).parse::<PathTemplate>(), Err(PathError::TooLong));
    }

    #[test]
    fn names_do_not_matter_to_the_shape() {
        assert_eq!(template("/pets/{id}").shape(), template("/pets/{name}").shape());
        assert_ne!(template("/pets/{id}").shape(), template("/pets/id").shape());
        assert_ne!(template("/pets/{id}").shape(), template("/pets/{*id}").shape());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_round_trips(text in "/?[a-z{}*./%# é]{0,30}") {
            if let Ok(parsed) = text.parse::<PathTemplate>() {
                prop_assert_eq!(parsed.to_string(), text);
            }
        }
    }
}
