//! Lists in forms, one entry a line.

use gateway_control::options::ValueMatch;

/// The lines that say something, without what stands around them.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// One name a line, in lower case.
pub(super) fn names(text: &str) -> Vec<String> {
    lines(text).map(str::to_lowercase).collect()
}

/// One name a line.
pub(super) fn of_names(names: &[String]) -> String {
    names.join("\n")
}

/// `name: value` a line, or, for any value, `name`.
pub(super) fn header_conditions(text: &str) -> Vec<ValueMatch> {
    lines(text).map(|line| condition(line, ':', true)).collect()
}

/// `name=value` a line, or, for any value, `name`.
pub(super) fn query_conditions(text: &str) -> Vec<ValueMatch> {
    lines(text).map(|line| condition(line, '=', false)).collect()
}

fn condition(line: &str, between: char, lower_case: bool) -> ValueMatch {
    let (name, value) = match line.split_once(between) {
        Some((name, value)) => (name.trim_end(), Some(value.trim_start().to_owned())),
        None => (line, None),
    };
    ValueMatch { name: if lower_case { name.to_lowercase() } else { name.to_owned() }, value }
}

/// The same as text.
pub(super) fn of_conditions(conditions: &[ValueMatch], between: &str) -> String {
    let line =
        |ValueMatch { name, value }: &ValueMatch| value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}{between}{value}"));
    conditions.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// `name: value` a line. A line without a colon is a header with an empty value.
pub(super) fn fields(text: &str) -> Vec<(String, String)> {
    let field = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        (name.trim().to_lowercase(), value.trim().to_owned())
    };
    lines(text).map(field).collect()
}

/// The same as text.
pub(super) fn of_fields(fields: &[(String, String)]) -> String {
    fields.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let conditions = header_conditions(" X-Edition:  2 \r\n\r\nx-preview\n x-empty:");
        assert_eq!(of_conditions(&conditions, ": "), "x-edition: 2\nx-preview\nx-empty: ");
        assert_eq!(header_conditions(&of_conditions(&conditions, ": ")), conditions);
        let conditions = query_conditions("Format=json=x\nflag\nempty=");
        assert_eq!(of_conditions(&conditions, "="), "Format=json=x\nflag\nempty=");
        assert_eq!(names("A.example\n\n *.B.example "), ["a.example", "*.b.example"]);
        assert_eq!(of_fields(&fields("X-A: b: c\nx-d")), "x-a: b: c\nx-d: ");
    }
}
