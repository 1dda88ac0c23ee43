//! Quantities of a meter, in millionths of a unit.

use std::{fmt, str::FromStr};

/// A quantity in millionths of a unit: what the journal stores, what limits are counted in. JSON has it as a decimal string in units, such as
/// `"1"`, `"0.25"` or `"-3"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(pub i128);

/// The text is not a decimal number with at most six digits after the point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a decimal number of units with at most six digits after the point, like \"12.5\"")]
pub struct ParseMicrosError;

impl Micros {
    /// One unit.
    pub const ONE: Self = Self(1_000_000);

    /// A whole number of units.
    pub const fn units(units: i64) -> Self {
        Self(units as i128 * 1_000_000)
    }

    /// Whether it is nothing.
    pub const fn is_zero(&self) -> bool {
        self.0 == 0
    }

    /// The value as the journal and the limits hold it, clamped to their range.
    pub fn clamped(self) -> i64 {
        i64::try_from(self.0).unwrap_or(if self.0 < 0 { i64::MIN } else { i64::MAX })
    }
}

impl From<i64> for Micros {
    fn from(micros: i64) -> Self {
        Self(i128::from(micros))
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Most are whole and small, and 128 bits are slow to divide.
        if let Ok(micros) = i64::try_from(self.0)
            && micros % 1_000_000 == 0
        {
            return fmt::Display::fmt(&(micros / 1_000_000), f);
        }
        let (whole, fraction) = (self.0.unsigned_abs() / 1_000_000, self.0.unsigned_abs() % 1_000_000);
        let sign = if self.0 < 0 { "-" } else { "" };
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{fraction:06}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl FromStr for Micros {
    type Err = ParseMicrosError;

    fn from_str(text: &str) -> Result<Self, ParseMicrosError> {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let digits_only = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits_only(whole) || !digits_only(fraction) || whole.len() > 30 || fraction.len() > 6 {
            return Err(ParseMicrosError);
        }
        let whole: i128 = whole.parse().map_err(|_| ParseMicrosError)?;
        let fraction: i128 = format!("{fraction:0<6}").parse().map_err(|_| ParseMicrosError)?;
        let value = whole * 1_000_000 + fraction;
        Ok(Self(if negative { -value } else { value }))
    }
}

impl serde::Serialize for Micros {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Micros {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Micros;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal number of units")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Micros, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Micros {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("A quantity in units, with at most six digits after the point."))
            .pattern(Some("^-?[0-9]{1,30}([.][0-9]{1,6})?$"))
            .examples(["12.5"])
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Micros {
    fn name() -> std::borrow::Cow<'static, str> {
        "Units".into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_units_and_refuses_what_is_not_exact() {
        assert_eq!("12.5".parse(), Ok(Micros(12_500_000)));
        assert_eq!("-0.000001".parse(), Ok(Micros(-1)));
        for text in ["", ".", "1.", ".5", "1e3", "1.0000001", "+1", "1_000"] {
            assert_eq!(text.parse::<Micros>(), Err(ParseMicrosError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(micros in -(10_i128.pow(30))..10_i128.pow(30)) {
            prop_assert_eq!(Micros(micros).to_string().parse::<Micros>(), Ok(Micros(micros)));
        }
    }
}
