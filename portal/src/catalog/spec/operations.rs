//! What a document describes, as routes of the gateway.

use std::collections::{BTreeMap, HashMap};

use gateway_control::path::{PathTemplate, Segment};
use serde_json::{Map, Value};

use super::{
    Refusal, Refused, Warnings,
    pointer::{self, Pointer},
    shorten,
};

/// The most operations of a document.
const MAX_OPERATIONS: usize = 5_000;

/// The methods that a path item may have.
pub const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// One operation, as a route of the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Upper case.
    pub method: String,
    /// The path as the document has it.
    pub template: String,
    /// The path as the gateway matches it, without the product's slug.
    pub path: PathTemplate,
    /// `operationId`.
    pub operation_id: Option<String>,
    /// The operation's summary, or the first sentence of its description; at most 300 characters.
    pub summary: String,
}

/// All operations in the document's order. Those that the gateway cannot tell apart become one, with a warning.
pub fn operations(root: &Map<String, Value>, warnings: &mut Warnings) -> Result<Vec<Operation>, Refused> {
    let at = Pointer::Root;
    let at = at.key("paths");
    let paths = match root.get("paths") {
        Some(Value::Object(paths)) => paths,
        Some(_) => return Err(Refusal::at(&at, "`paths` must be an object whose keys are paths.").into()),
        None => return Err(Refusal::new("#", "`paths` is missing, so there is nothing to route; add the paths of the API.").into()),
    };
    let mut found = Found { operations: Vec::new(), by_match: HashMap::new(), merged: BTreeMap::new(), ids: HashMap::new() };
    let mut refusals = Vec::new();
    for (template, item) in paths.iter().filter(|(template, _)| !template.starts_with("x-")) {
        if let Err(refusal) = path_item(root, &at.key(template), template, item, &mut found, warnings) {
            refusals.push(refusal);
        }
        if found.operations.len() > MAX_OPERATIONS {
            return Err(Refusal::at(
                &at,
                format!("The document describes more than {MAX_OPERATIONS} operations; split it into several API products."),
            )
            .into());
        }
    }
    if !refusals.is_empty() {
        return Err(Refused(refusals));
    }
    if found.operations.is_empty() {
        return Err(Refusal::at(
            &at,
            "The document describes no operation, so there is nothing to route; add at least one method to a path.",
        )
        .into());
    }
    found.warn(warnings);
    Ok(found.operations)
}

struct Found {
    operations: Vec<Operation>,
    /// Method and shape of the path -> index of the operation.
    by_match: HashMap<(String, String), usize>,
    /// Index of an operation -> how many others the gateway cannot tell from it.
    merged: BTreeMap<usize, usize>,
    ids: HashMap<String, usize>,
}

impl Found {
    fn add(&mut self, operation: Operation) {
        if let Some(id) = &operation.operation_id {
            *self.ids.entry(id.clone()).or_default() += 1;
        }
        let next = self.operations.len();
        let first = *self.by_match.entry((operation.method.clone(), operation.path.shape())).or_insert(next);
        if first == next {
            self.operations.push(operation);
        } else {
            *self.merged.entry(first).or_default() += 1;
        }
    }

    fn warn(&self, warnings: &mut Warnings) {
        for (index, others) in &self.merged {
            let Some(operation) = self.operations.get(*index) else { continue };
            warnings.add(format!(
                "{others} more operation(s) match the same calls as {} {}; the gateway serves and meters all of them as that one route.",
                operation.method, operation.path
            ));
        }
        let mut repeated: Vec<&str> = self.ids.iter().filter(|(_, count)| **count > 1).map(|(id, _)| id.as_str()).collect();
        if !repeated.is_empty() {
            repeated.sort_unstable();
            let shown = repeated.iter().take(5).map(|id| format!("`{}`", shorten(id, 60))).collect::<Vec<_>>().join(", ");
            warnings.add(format!(
                "{} operationId(s) stand more than once ({shown}); they should be unique, but routes do not depend on them.",
                repeated.len()
            ));
        }
    }
}

fn path_item(
    root: &Map<String, Value>,
    at: &Pointer<'_>,
    template: &str,
    item: &Value,
    found: &mut Found,
    warnings: &mut Warnings,
) -> Result<(), Refusal> {
    let item = match item.get("$ref").and_then(Value::as_str) {
        // One step is enough: a path item that is a reference to a reference is refused below for having no operations of its own.
        Some(reference) => pointer::follow(root, reference),
        None => Some(item),
    };
    let Some(Value::Object(item)) = item else {
        return Err(Refusal::at(at, "A path must be an object with methods like `get` and `post`."));
    };
    if !template.starts_with('/') {
        return Err(Refusal::at(at, format!("The path `{}` must start with `/`.", shorten(template, 200))));
    }
    let mut path = None;
    for method in METHODS {
        let Some(operation) = item.get(method) else { continue };
        let Value::Object(operation) = operation else {
            return Err(Refusal::at(&at.key(method), "An operation must be an object with at least `responses`."));
        };
        if operation.get("responses").is_some_and(|responses| !responses.is_object()) {
            return Err(Refusal::at(&at.key(method).key("responses"), "`responses` must be an object whose keys are statuses."));
        }
        let path = match &path {
            Some(path) => path,
            None => {
                let (parsed, remark) = gateway_path(template).map_err(|problem| Refusal::at(at, problem))?;
                if let Some(remark) = remark {
                    warnings.add(format!("{at}: {remark}"));
                }
                path.insert(parsed)
            }
        };
        found.add(Operation {
            method: method.to_uppercase(),
            template: template.to_owned(),
            path: path.clone(),
            operation_id: operation.get("operationId").and_then(Value::as_str).map(|id| shorten(id, 200)),
            summary: summary(operation, item),
        });
    }
    Ok(())
}

fn summary(operation: &Map<String, Value>, item: &Map<String, Value>) -> String {
    let text = |object: &Map<String, Value>, key: &str| {
        object.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    text(operation, "summary")
        .or_else(|| text(operation, "description").map(|description| super::first_sentence(&description)))
        .or_else(|| text(item, "summary"))
        .map(|summary| shorten(&summary, 300))
        .unwrap_or_default()
}

/// The path of a document as a gateway matches it, and what had to be changed. A gateway matches whole segments, so a segment that is a parameter
/// only in part becomes one in whole; a query or fragment, which some documents append to tell operations apart, is cut.
pub fn gateway_path(template: &str) -> Result<(PathTemplate, Option<String>), String> {
    let cut = template.find(['?', '#']).unwrap_or(template.len());
    let mut remark =
        (cut < template.len()).then(|| "the gateway matches paths only, so what follows `?` or `#` is not part of the route.".to_owned());
    let path = template.get(..cut).unwrap_or(template);
    let mut segments = Vec::new();
    for text in path.split('/').skip(1) {
        let (segment, changed) = segment(text);
        if changed {
            remark
                .get_or_insert_with(|| format!("the gateway matches whole segments, so `{}` matches any text there.", shorten(text, 100)));
        }
        segments.push(segment);
    }
    let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
    let parsed: PathTemplate = path.parse().map_err(|error| format!("The path `{}` {error}.", shorten(template, 200)))?;
    debug_assert!(!parsed.segments().iter().any(|segment| matches!(segment, Segment::Rest(_))), "a document has no rest parameters");
    Ok((parsed, remark))
}

/// A segment as the gateway has it, and whether it matches more than the document's.
fn segment(text: &str) -> (String, bool) {
    if !text.contains(['{', '}']) {
        return (encode(text), false);
    }
    let whole = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).filter(|name| !name.contains(['{', '}']));
    let names: String = match whole {
        Some(name) => name.to_owned(),
        // The names between braces, joined: `{a}-{b}` becomes `{a_b}`.
        None => text.split('{').skip(1).filter_map(|part| part.split('}').next()).collect::<Vec<_>>().join("_"),
    };
    let allowed = |character: char| character.is_ascii_alphanumeric() || "_-.$".contains(character);
    let name: String = names.chars().map(|character| if allowed(character) { character } else { '_' }).take(100).collect();
    let name = if name.is_empty() { "value".to_owned() } else { name };
    (format!("{{{name}}}"), whole.is_none())
}

/// Percent-encodes what a path cannot hold on the wire; encoding that is there already stays.
fn encode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut encoded = String::with_capacity(text.len());
    for (at, byte) in bytes.iter().enumerate() {
        let is_encoding = *byte == b'%' && bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        if is_encoding || byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(byte) {
            encoded.push(char::from(*byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_what_a_gateway_matches() {
        let cases = [
            ("/", "/", false),
            ("/pets/{id}", "/pets/{id}", false),
            ("/pets/", "/pets/", false),
            ("/a b/é", "/a%20b/%C3%A9", false),
            ("/a%20b", "/a%20b", false),
            ("/{a}-{b}", "/{a_b}", true),
            ("/x.{format}/y", "/{format}/y", true),
            ("/{id}:cancel", "/{id}", true),
            ("/{path*}", "/{path_}", false),
            ("/{}", "/{value}", false),
            ("/#Action=AssumeRole", "/", true),
            ("/a?b=c", "/a", true),
            ("/{a", "/{a}", true),
        ];
        for (template, path, remarked) in cases {
            let (parsed, remark) = gateway_path(template).expect(template);
            assert_eq!((parsed.to_string().as_str(), remark.is_some()), (path, remarked), "{template}: {remark:?}");
        }
        assert_eq!(gateway_path("/a//b"), Err("The path `/a//b` must not have an empty segment (`//`).".to_owned()));
        assert_eq!(
            gateway_path("/a/../b"),
            Err("The path `/a/../b` must not have the segment `..`: clients resolve it before they call.".to_owned())
        );
    }
}
