//! OpenAPI documents: from bytes to a checked [`Document`], without I/O (but [`fetch`], which gets the bytes).
//!
//! Bytes are read into JSON values by [`parse`], which bounds size, depth and growth. Version 2.0 is converted to 3.0 by [`convert`]. [`refs`] refuses
//! references that leave the document or lead nowhere. [`operations`] finds what becomes routes, [`servers`] where calls go, and [`reference`] makes
//! the text that developers are shown. Every refusal names its place in the document.

mod convert;
pub mod fetch;
mod nesting;
mod operations;
mod parse;
mod pointer;
mod reference;
mod refs;
mod sample;

mod servers;

use std::{borrow::Cow, fmt};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub use operations::{Operation, gateway_path};
pub use parse::MAX_BYTES;
pub use reference::with_servers;
pub use sample::sample_path;
pub use servers::Upstream;

use crate::error::{Error, Kind};
use pointer::Pointer;

/// The most refusals and warnings that are named; what goes beyond is counted.
const MAX_NAMED: usize = 20;

/// A document that can be imported.
#[derive(Debug, Clone)]
pub struct Document {
    /// The version that it declares, such as `2.0` or `3.1.0`.
    pub openapi: String,
    /// `info.title`.
    pub title: String,
    /// `info.version`.
    pub version: String,
    /// The first sentence of `info.summary` or `info.description`, for cards.
    pub summary: String,
    /// `info.description`, in Markdown.
    pub description: String,
    /// What it describes, in its order.
    pub operations: Vec<Operation>,
    /// Where it says that calls go.
    pub upstream: Upstream,
    /// What was tolerated, in whole sentences.
    pub warnings: Vec<String>,
    /// What the reference shows, as JSON text without `servers`; see [`with_servers`].
    pub reference: String,
    /// SHA-256 of the bytes.
    pub digest: Vec<u8>,
}

/// A problem of a document: its place, what is wrong, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A JSON pointer like `#/paths/~1pets/get`, or `line 3, column 7`, or nothing where the whole is meant.
    pub at: String,
    /// A whole sentence or two.
    pub problem: Cow<'static, str>,
}

impl Refusal {
    fn new(at: impl Into<String>, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { at: at.into(), problem: problem.into() }
    }

    fn at(at: &Pointer<'_>, problem: impl Into<Cow<'static, str>>) -> Self {
        Self::new(at.to_string(), problem)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() { f.write_str(&self.problem) } else { write!(f, "{}: {}", self.at, self.problem) }
    }
}

/// Why a document cannot be imported: at least one refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub Vec<Refusal>);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(vec![refusal])
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let mut error = Self::new(Kind::Invalid, "The document cannot be imported.");
        for refusal in refused.0.iter().take(MAX_NAMED) {
            error = error.with_field("document", refusal.to_string());
        }
        let unnamed = refused.0.len().saturating_sub(MAX_NAMED);
        if unnamed == 0 { error } else { error.with_field("document", format!("{unnamed} more problems are not listed.")) }
    }
}

/// What an import found but could live with. Repetitions of a kind are counted instead of listed for ever.
#[derive(Debug, Default)]
struct Warnings {
    named: Vec<String>,
    unnamed: usize,
}

impl Warnings {
    fn add(&mut self, warning: impl Into<String>) {
        if self.named.len() < MAX_NAMED {
            self.named.push(warning.into());
        } else {
            self.unnamed += 1;
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.unnamed > 0 {
            self.named.push(format!("{} more remarks are not listed.", self.unnamed));
        }
        self.named
    }
}

/// Reads and checks a document. `url` is where it was fetched from, against which a relative server is resolved. It is pure computation of up to
/// a second or so for the largest documents: call it where it may block.
pub fn read(bytes: &[u8], url: Option<&url::Url>) -> Result<Document, Refused> {
    let value = parse::parse(bytes)?;
    let Value::Object(root) = value else {
        return Err(Refusal::new("#", "The document must be an object that starts with `openapi` or `swagger`.").into());
    };
    let declared = version(&root)?;
    let mut warnings = Warnings::default();
    refs::check(&root)?;
    let root = match declared.family {
        Family::Two => convert::to_three(root, &mut warnings)?,
        Family::Three => root,
    };
    let info = info(&root, &mut warnings)?;
    let operations = operations::operations(&root, &mut warnings)?;
    let upstream = servers::upstream(&root, url, &mut warnings);
    Ok(Document {
        openapi: declared.text,
        title: info.title,
        version: info.version,
        summary: info.summary,
        description: info.description,
        operations,
        upstream,
        warnings: warnings.finish(),
        reference: reference::text(root),
        digest: Sha256::digest(bytes).to_vec(),
    })
}

enum Family {
    Two,
    Three,
}

struct Version {
    family: Family,
    text: String,
}

/// A number is tolerated where an author forgot the quotes: `swagger: 2.0`.
fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

fn version(root: &Map<String, Value>) -> Result<Version, Refusal> {
    if let Some(value) = root.get("swagger") {
        return match text_of(value).as_deref() {
            Some("2.0" | "2") => Ok(Version { family: Family::Two, text: "2.0".to_owned() }),
            other => {
                Err(Refusal::new("#/swagger", format!("`{}` is not a version that can be read; use `\"2.0\"`.", other.unwrap_or("?"))))
            }
        };
    }
    let Some(value) = root.get("openapi") else {
        return Err(Refusal::new(
            "#",
            "Neither `openapi` nor `swagger` is there, so this is no OpenAPI document. Add `openapi: 3.1.0` (or the version that it is written in).",
        ));
    };
    let text = text_of(value).unwrap_or_default().into_owned();
    let mut parts = text.split('.');
    match (parts.next(), parts.next()) {
        (Some("3"), Some("0" | "1")) if text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(Version { family: Family::Three, text })
        }
        _ => Err(Refusal::new("#/openapi", format!("`{}` is not a version that can be read; use 3.0.x or 3.1.x.", shorten(&text, 40)))),
    }
}

struct Info {
    title: String,
    version: String,
    summary: String,
    description: String,
}

fn info(root: &Map<String, Value>, warnings: &mut Warnings) -> Result<Info, Refusal> {
    let info = match root.get("info") {
        Some(Value::Object(info)) => info,
        Some(_) => return Err(Refusal::new("#/info", "`info` must be an object with `title` and `version`.")),
        None => return Err(Refusal::new("#", "`info` is missing; add it with `title` and `version`.")),
    };
    let title = match info.get("title").and_then(text_of) {
        Some(title) if !title.trim().is_empty() => title.trim().to_owned(),
        _ => return Err(Refusal::new("#/info/title", "The title must be a text that is not empty.")),
    };
    let version = info.get("version").and_then(text_of).map_or_else(
        || {
            warnings.add("#/info/version is missing.");
            String::new()
        },
        Cow::into_owned,
    );
    let text = |key: &str| info.get(key).and_then(Value::as_str).unwrap_or_default().trim().to_owned();
    let description = text("description");
    let summary = match text("summary") {
        summary if summary.is_empty() => first_sentence(&description),
        summary => shorten(&summary, 300),
    };
    Ok(Info { title, version, summary, description })
}

/// The first sentence of a Markdown text that is prose, without marks and links.
pub(super) fn first_sentence(markdown: &str) -> String {
    let plain = super::markdown::to_text(markdown);
    let line = plain.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let end = line.match_indices(['.', '!', '?']).map(|(at, _)| at + 1).find(|end| line[*end..].starts_with(' ') && *end > 20);
    shorten(&line[..end.unwrap_or(line.len())], 300)
}

/// At most so many characters; what is cut ends in an ellipsis.
pub(crate) fn shorten(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let cut: String = text.chars().take(max - 1).collect();
    format!("{}…", cut.trim_end())
}

#[cfg(test)]
mod tests;
