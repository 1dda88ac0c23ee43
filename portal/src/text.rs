//! Rules for texts that people enter.

use crate::error::{Error, Result};

/// A name: 1 to 100 characters after trimming, on one line.
pub fn name(field: &'static str, text: &str) -> Result<String> {
    bounded(field, text, 1, 100)
}

/// A text on one line, trimmed, of `min` to `max` characters.
pub fn bounded(field: &'static str, text: &str, min: usize, max: usize) -> Result<String> {
    let text = text.trim();
    let count = text.chars().count();
    if count < min {
        return Err(Error::invalid(
            field,
            if min == 1 { "Enter a value.".to_owned() } else { format!("Enter at least {min} characters.") },
        ));
    }
    if count > max {
        return Err(Error::invalid(field, format!("Enter at most {max} characters.")));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(field, "Use one line without control characters."));
    }
    Ok(text.to_owned())
}

/// A mail address: trimmed, of a shape that a mail server may accept. Whether it exists is found out by writing to it.
pub fn email(field: &'static str, text: &str) -> Result<String> {
    let wrong = || Error::invalid(field, "Enter an e-mail address like name@example.com.");
    let text = text.trim();
    if text.len() > 254 || text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | ';' | '"')) {
        return Err(wrong());
    }
    let (local, domain) = text.rsplit_once('@').ok_or_else(wrong)?;
    let labels_fit = domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    if local.is_empty() || local.len() > 64 || local.contains('@') || !labels_fit || text.parse::<lettre::Address>().is_err() {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

/// A DNS label (RFC 1123), as Kubernetes names namespaces: 1 to 63 lower-case letters, digits and inner hyphens.
pub fn dns_label(field: &'static str, text: &str) -> Result<String> {
    let text = text.trim();
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > 63 || !text.bytes().all(inner) || text.starts_with('-') || text.ends_with('-') {
        return Err(Error::invalid(
            field,
            "Use 1 to 63 lower-case letters, digits and hyphens; the first and last must be a letter or digit.",
        ));
    }
    Ok(text.to_owned())
}

/// The DNS label that a name suggests: `Café Déjà vu, Inc.` gives `caf-d-j-vu-inc`.
pub fn suggest_dns_label(name: &str) -> String {
    let mut label = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            label.push(c);
        } else if !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
        if label.len() == 63 {
            break;
        }
    }
    let label = label.trim_end_matches('-');
    if label.is_empty() { "organization".to_owned() } else { label.to_owned() }
}

/// The label for the `number`th of those that would have the same one: `acme`, `acme-2`, `acme-3`. It stays a label.
pub fn numbered_dns_label(label: &str, number: u32) -> String {
    if number <= 1 {
        return label.to_owned();
    }
    let suffix = format!("-{number}");
    let kept: String = label.chars().take(63 - suffix.len()).collect();
    format!("{}{suffix}", kept.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_labels() {
        for (name, label) in [
            ("Café Déjà vu, Inc.", "caf-d-j-vu-inc"),
            ("  ACME  ", "acme"),
            ("???", "organization"),
            ("日本", "organization"),
            (&"ab ".repeat(40), "ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab"),
        ] {
            assert_eq!(suggest_dns_label(name), label);
            assert_eq!(dns_label("namespace", label).ok().as_deref(), Some(label));
        }
    }

    #[test]
    fn numbered_labels_stay_labels() {
        let long = "a".repeat(60) + "-bc";
        for (label, number, numbered) in [
            ("acme", 1, "acme".to_owned()),
            ("acme", 2, "acme-2".to_owned()),
            (&long, 12, "a".repeat(60) + "-12"),
            (&"b".repeat(63), 7, "b".repeat(61) + "-7"),
        ] {
            assert_eq!(numbered_dns_label(label, number), numbered);
            assert!(dns_label("namespace", &numbered).is_ok(), "{numbered}");
        }
    }

    #[test]
    fn addresses_that_no_server_takes_are_refused() {
        for good in ["a@example.com", "first.last+tag@sub.example.org", "demo@localhost"] {
            assert_eq!(email("email", good).ok().as_deref(), Some(good));
        }
        for bad in ["", "@", "a@", "@b", "a b@example.com", "a@-b.com", "a@b..com", "A <a@b.com>", "a@b.com,c@d.com", "a@b.com\nBcc: x@y.z"]
        {
            assert!(email("email", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_follow_rfc_1123() {
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", &"a".repeat(64)] {
            assert!(dns_label("namespace", bad).is_err(), "{bad}");
        }
    }
}
