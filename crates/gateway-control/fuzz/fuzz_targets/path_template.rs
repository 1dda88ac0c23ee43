//! The first line is a template, the second a path: a template that is accepted reads back from its own text, and matches without panicking.
#![no_main]

use gateway_control::path::PathTemplate;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (template, path) = text.split_once('\n').unwrap_or((text, "/"));
    let Ok(parsed) = template.parse::<PathTemplate>() else { return };
    let again: PathTemplate = parsed.to_string().parse().expect("its own text is a template");
    assert_eq!(parsed, again);
    assert_eq!(parsed.matches(path), again.matches(path));
    assert!(!parsed.matches(""), "a path starts with a slash");
});
