//! Checks of texts that several inputs share. Each adds what is wrong to the fields at fault, so that a form shows all of them at once.

use gateway_control::rules::Fault;

use crate::error::{Error, FieldError, Kind, Result};

/// The fields found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<FieldError>);

impl Problems {
    /// Names one more field.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError { field: field.into().into(), message: message.into() });
    }

    /// What gateways would refuse.
    pub fn faults(&mut self, faults: Vec<Fault>) {
        faults.into_iter().for_each(|fault| self.add(fault.field, fault.message));
    }

    /// A slug: the DNS label that stands in URLs and paths.
    pub fn slug(&mut self, field: &str, slug: &str) {
        self.label(field, slug, b"-", "and hyphens");
    }

    /// A meter's slug, which may have underscores too.
    pub fn meter_slug(&mut self, field: &str, slug: &str) {
        self.label(field, slug, b"-_", "hyphens and underscores");
    }

    fn label(&mut self, field: &str, slug: &str, also: &[u8], also_named: &str) {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let inside = slug.bytes().all(|byte| alphanumeric(byte) || also.contains(&byte));
        let ends = slug.bytes().next().is_some_and(alphanumeric) && slug.bytes().last().is_some_and(alphanumeric);
        if slug.len() > 63 || !inside || !ends {
            self.add(
                field,
                format!("Use 1 to 63 lower-case letters, digits {also_named}, with a letter or digit at both ends, like `weather-api`."),
            );
        }
    }

    /// A text of so many characters; `min` 0 allows an empty one.
    pub fn text(&mut self, field: &str, text: &str, min: usize, max: usize) {
        let length = text.chars().count();
        if length < min {
            self.add(field, "Fill this in.");
        } else if length > max {
            self.add(field, format!("Use at most {max} characters; it has {length}."));
        } else if text.contains('\0') {
            self.add(field, "Remove the NUL character.");
        }
    }

    /// Fails if a field is wrong.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Error { fields: self.0, ..Error::new(Kind::Invalid, "Please correct the marked fields.") })
    }
}
