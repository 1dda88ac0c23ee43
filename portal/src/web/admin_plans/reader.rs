//! Reads the texts of a form's fields, and notes those that mean nothing.

use std::str::FromStr;

use calendar::Cadence;
use gateway_control::units::Micros;
use rating::{Currency, Tier};
use rust_decimal::Decimal;

use crate::error::FieldError;

/// A value that may be told to be missing.
pub(super) trait Entered: Sized + Default {
    fn parse(text: &str) -> Option<Self>;
}

impl Entered for u32 {
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Entered for Micros {
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Entered for rating::Quantity {
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Entered for Option<Currency> {
    fn parse(text: &str) -> Option<Self> {
        text.to_uppercase().parse().ok().map(Some)
    }
}

impl Entered for Option<Cadence> {
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Some)
    }
}

/// Reads texts and notes what means nothing.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub problems: Vec<FieldError>,
}

impl Reader {
    pub(super) fn wrong(&mut self, field: String, message: impl Into<String>) {
        self.problems.push(FieldError { field: field.into(), message: message.into() });
    }

    pub(super) fn value<T: Entered>(&mut self, field: String, text: &str, message: &str) -> T {
        T::parse(text).unwrap_or_else(|| {
            self.wrong(field, message);
            T::default()
        })
    }

    pub(super) fn optional<T: FromStr>(&mut self, field: String, text: &str, message: &str) -> Option<T> {
        if text.is_empty() {
            return None;
        }
        let value = text.parse().ok();
        if value.is_none() {
            self.wrong(field, message);
        }
        value
    }

    pub(super) fn amount(&mut self, field: String, text: &str) -> Decimal {
        Decimal::from_str_exact(text).unwrap_or_else(|_| {
            self.wrong(field, "Enter a decimal number, like 0.05.");
            Decimal::ZERO
        })
    }

    pub(super) fn list<T>(&mut self, field: &str, text: &str, parse: impl Fn(&str) -> Option<T>, message: &str) -> Vec<T> {
        let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        let values: Vec<T> = parts.iter().filter_map(|part| parse(part)).collect();
        if values.len() < parts.len() {
            self.wrong(field.to_owned(), message);
        }
        values
    }

    pub(super) fn tiers(&mut self, field: String, text: &str) -> Vec<Tier> {
        let mut tiers = Vec::new();
        for (line, text) in (1..).zip(text.lines().map(str::trim).filter(|line| !line.is_empty())) {
            match tier(text) {
                Some(tier) => tiers.push(tier),
                None => self.wrong(field.clone(), format!("Line {line}, `{text}`: write where the tier ends (`*` for the last), the price of a unit, and perhaps a fee, like `1000 0.05`.")),
            }
        }
        tiers
    }
}

fn tier(line: &str) -> Option<Tier> {
    let mut parts = line.split_whitespace();
    let up_to = match parts.next()? {
        "*" => None,
        end => Some(end.parse().ok()?),
    };
    let unit_amount = Decimal::from_str_exact(parts.next()?).ok()?;
    let flat_amount = parts.next().map_or(Some(Decimal::ZERO), |text| Decimal::from_str_exact(text).ok())?;
    parts.next().is_none().then_some(Tier { up_to, unit_amount, flat_amount })
}
