//! Bytes to JSON values, bounded.
//!
//! - At most [`MAX_BYTES`] bytes are read.
//! - Objects and arrays nest at most 127 deep: the parsers stop there, that of YAML after [`nesting`] has looked ahead.
//! - At most [`MAX_VALUES`] values and [`MAX_TEXT_BYTES`] bytes of text come out. Aliases of YAML are expanded value by value under these bounds, so a
//!   document that would grow without end ("billion laughs") stops early.
//! - A key stands once in an object. YAML's merge key `<<` is honoured; tags are refused.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{Refusal, nesting};

/// The largest document.
pub const MAX_BYTES: usize = 10 * 1024 * 1024;

/// The most objects, arrays, texts, numbers, booleans and nulls.
const MAX_VALUES: usize = 2_000_000;

/// The most bytes of keys and texts together.
const MAX_TEXT_BYTES: usize = 4 * MAX_BYTES;

/// Reads JSON or YAML, whichever it is.
pub fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    if bytes.len() > MAX_BYTES {
        return Err(Refusal::new("", format!("The document has {} bytes; at most {MAX_BYTES} (10 MiB) are read.", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        Refusal::new(format!("line {line}"), "The document must be encoded in UTF-8; save it as UTF-8.")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let start = text.trim_start();
    match start.chars().next() {
        None => Err(Refusal::new("", "The document is empty.")),
        Some('{') => parse_json(text),
        Some('<') => Err(Refusal::new(
            "line 1",
            "This is a web page or XML, not an OpenAPI document. Use the address of the document itself (a \"raw\" or \"download\" link).",
        )),
        Some(_) => parse_yaml(text),
    }
}

fn parse_json(text: &str) -> Result<Value, Refusal> {
    let budget = Budget::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Seed(&budget).deserialize(&mut deserializer);
    value.and_then(|value| deserializer.end().map(|()| value)).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        // The message repeats the place at its end.
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or(&message);
        Refusal::new(place, format!("This is not valid JSON: {message}."))
    })
}

fn parse_yaml(text: &str) -> Result<Value, Refusal> {
    if let Some(line) = nesting::too_deep(text) {
        return Err(Refusal::new(
            format!("line {line}"),
            "Objects and lists are nested more than 127 deep here. Use references to shorten it.",
        ));
    }
    let budget = Budget::default();
    let mut documents = serde_yaml_ng::Deserializer::from_str(text);
    let Some(first) = documents.next() else {
        return Err(Refusal::new("", "The document is empty."));
    };
    let value = Seed(&budget).deserialize(first).map_err(|error| yaml_refusal(&error))?;
    if documents.next().is_some() {
        return Err(Refusal::new("", "The file holds several YAML documents, separated by `---`; keep the OpenAPI document only."));
    }
    Ok(value)
}

fn yaml_refusal(error: &serde_yaml_ng::Error) -> Refusal {
    let place = error.location().map(|at| format!("line {}, column {}", at.line(), at.column())).unwrap_or_default();
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message);
    Refusal::new(place, format!("This is not valid YAML: {message}."))
}

/// What may still come out.
struct Budget {
    values: Cell<usize>,
    text_bytes: Cell<usize>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { values: Cell::new(MAX_VALUES), text_bytes: Cell::new(MAX_TEXT_BYTES) }
    }
}

impl Budget {
    fn value<E: serde::de::Error>(&self) -> Result<(), E> {
        let left =
            self.values.get().checked_sub(1).ok_or_else(|| E::custom(format!("it has more than {MAX_VALUES} values, aliases included")))?;
        self.values.set(left);
        Ok(())
    }

    fn text<E: serde::de::Error>(&self, bytes: usize) -> Result<(), E> {
        let left = self.text_bytes.get().checked_sub(bytes);
        let left = left.ok_or_else(|| E::custom(format!("it has more than {MAX_TEXT_BYTES} bytes of text, aliases included")))?;
        self.text_bytes.set(left);
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Seed<'b>(&'b Budget);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.0.value()?;
        Ok(Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.0.value()?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.0.value()?;
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.0.value()?;
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.0.value()?;
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is infinite or not a number has no form in JSON"))
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        self.visit_string(value.to_string())
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        self.visit_string(value.to_string())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.0.value()?;
        self.0.text(value.len())?;
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.0.value()?;
        let mut array = Vec::new();
        while let Some(value) = access.next_element_seed(self)? {
            array.push(value);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.0.value()?;
        let mut object = Map::new();
        let mut merged = Vec::new();
        while let Some(key) = access.next_key_seed(Key(self.0))? {
            if key == "<<" {
                match access.next_value_seed(self)? {
                    Value::Object(base) => merged.push(base),
                    Value::Array(bases) => {
                        merged.extend(bases.into_iter().filter_map(|base| if let Value::Object(base) = base { Some(base) } else { None }))
                    }
                    _ => return Err(A::Error::custom("the merge key `<<` must name a mapping or a list of mappings")),
                }
                continue;
            }
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{key}` stands twice in one object; remove one of them")));
            }
            let value = access.next_value_seed(self)?;
            object.insert(key, value);
        }
        for (key, value) in merged.into_iter().flatten() {
            object.entry(key).or_insert(value);
        }
        Ok(Value::Object(object))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(A::Error::custom("a YAML tag (`!name`) has no form in JSON; write a plain value"))
    }
}

/// A key. YAML may have numbers (statuses without quotes), booleans and null there.
struct Key<'b>(&'b Budget);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        match Seed(self.0).deserialize(deserializer)? {
            Value::String(text) => Ok(text),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(value) => Ok(value.to_string()),
            Value::Null => Ok("null".to_owned()),
            Value::Array(_) | Value::Object(_) => Err(D::Error::custom("a key must be a text, not a list or mapping")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(text: &str) -> String {
        parse(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn reads_both_formats_to_the_same_value() {
        let value = json!({"openapi": "3.0.0", "responses": {"200": {"a": [1, -2, 0.5, true, null, "x"]}}});
        assert_eq!(parse(value.to_string().as_bytes()), Ok(value.clone()));
        assert_eq!(parse(b"\xef\xbb\xbf# comment\nopenapi: 3.0.0\nresponses:\n  200: {a: [1, -2, 0.5, true, null, x]}\n"), Ok(value));
    }

    #[test]
    fn merges_and_aliases_are_expanded() {
        let yaml = "base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\nlist: {<<: [*base, {c: 4}]}\nagain: *base\n";
        let expected =
            json!({"base": {"a": 1, "b": 2}, "more": {"b": 3, "a": 1}, "list": {"a": 1, "b": 2, "c": 4}, "again": {"a": 1, "b": 2}});
        assert_eq!(parse(yaml.as_bytes()), Ok(expected));
    }

    #[test]
    fn refusals_name_line_and_column() {
        assert_eq!(
            refused("{\n  \"a\": 1,\n  \"a\": 2\n}"),
            "line 3, column 5: This is not valid JSON: the key `a` stands twice in one object; remove one of them."
        );
        assert_eq!(refused("{\"a\": }"), "line 1, column 7: This is not valid JSON: expected value.");
        assert_eq!(refused("{} x"), "line 1, column 4: This is not valid JSON: trailing characters.");
        assert!(refused("a: 1\n  b: 2\n").starts_with("line 2, column 4: This is not valid YAML:"), "{}", refused("a: 1\n  b: 2\n"));
        assert!(refused("a: 1\na: 2\n").contains("the key `a` stands twice"));
        assert!(refused("a: !env HOME\n").contains("a YAML tag"));
        assert!(refused("a: .nan\n").contains("no form in JSON"));
        assert_eq!(refused(""), "The document is empty.");
        assert_eq!(
            refused("  <!doctype html>"),
            format!(
                "line 1: {}",
                "This is a web page or XML, not an OpenAPI document. Use the address of the document itself (a \"raw\" or \"download\" link)."
            )
        );
        assert!(refused("a: 1\n---\nb: 2\n").contains("several YAML documents"));
        assert_eq!(parse(b"a: 1\nb: \xff").expect_err("not UTF-8").at, "line 2");
    }

    #[test]
    fn what_would_grow_without_end_is_refused() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let alias = format!("*a{}", level - 1);
            laughs.push_str(&format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", ")));
        }
        let message = refused(&laughs);
        assert!(message.contains("more than 2000000 values") || message.contains("repetition limit"), "{message}");

        // Few values, but each alias repeats a long text.
        let quadratic = format!("long: &long {}\nlist: [{}]\n", "x".repeat(1_000_000), ["*long"; 100].join(", "));
        assert!(refused(&quadratic).contains("bytes of text"), "{}", refused(&quadratic));
    }

    #[test]
    fn deep_nesting_is_refused_in_both_formats() {
        assert!(refused(&format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200))).contains("recursion limit"));
        assert!(refused(&format!("a: {}{}", "[".repeat(200), "]".repeat(200))).contains("more than 127 deep"));
        // However long it is, its beginning tells.
        assert!(refused(&format!("a: {}", "[\n".repeat(MAX_BYTES / 2 - 2))).contains("more than 127 deep"));
        assert_eq!(parse(&vec![b' '; MAX_BYTES + 1]).expect_err("too large").at, "");
    }
}
