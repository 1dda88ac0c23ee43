//! JSON pointers (RFC 6901): building the one that names a place, and following the one of a reference.

use std::{borrow::Cow, fmt};

use serde_json::{Map, Value};

/// A place in a document, as a chain of borrowed steps: building one costs nothing until it is shown.
#[derive(Debug, Clone, Copy)]
pub enum Pointer<'a> {
    /// The document.
    Root,
    /// A member of an object.
    Key(&'a Pointer<'a>, &'a str),
    /// An element of an array.
    Index(&'a Pointer<'a>, usize),
}

impl<'a> Pointer<'a> {
    /// A member of the object here.
    pub const fn key(&'a self, key: &'a str) -> Self {
        Self::Key(self, key)
    }

    /// An element of the array here.
    pub const fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }
}

impl fmt::Display for Pointer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("#"),
            Self::Key(parent, key) => write!(f, "{parent}/{}", escape(key)),
            Self::Index(parent, index) => write!(f, "{parent}/{index}"),
        }
    }
}

/// A key as a step of a pointer.
pub fn escape(key: &str) -> Cow<'_, str> {
    if key.contains(['~', '/']) { Cow::Owned(key.replace('~', "~0").replace('/', "~1")) } else { Cow::Borrowed(key) }
}

/// The value that a local reference (`#/a/b`) names. Steps are percent-decoded, as they stand in a URI's fragment.
pub fn follow<'a>(root: &'a Map<String, Value>, reference: &str) -> Option<&'a Value> {
    let mut steps = reference.strip_prefix("#/")?.split('/').map(unescape);
    let mut value = root.get(steps.next()?.as_str())?;
    for step in steps {
        value = match value {
            Value::Object(object) => object.get(step.as_str())?,
            Value::Array(array) => array.get(step.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

fn unescape(step: &str) -> String {
    percent_decode(step).replace("~1", "/").replace("~0", "~")
}

fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, hex) {
            (b'%', Some(value)) => {
                decoded.push(value);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn follows_what_it_names() {
        let Value::Object(root) = json!({"paths": {"/a~b/{c}": {"get": [1, {"x": 2}]}}}) else { unreachable!("an object") };
        let place = Pointer::Root;
        let place = place.key("paths");
        let place = place.key("/a~b/{c}");
        let place = place.key("get");
        let place = place.index(1);
        assert_eq!(place.to_string(), "#/paths/~1a~0b~1{c}/get/1");
        assert_eq!(follow(&root, &place.to_string()), Some(&json!({"x": 2})));
        assert_eq!(follow(&root, "#/paths/~1a~0b~1%7Bc%7D/get/0"), Some(&json!(1)));
        for nowhere in ["#/paths/x", "#/paths/~1a~0b~1{c}/get/2", "#/paths/~1a~0b~1{c}/get/x", "paths", "#", "#/paths/~1a~0b~1{c}/get/0/1"]
        {
            assert_eq!(follow(&root, nowhere), None, "{nowhere}");
        }
    }
}
