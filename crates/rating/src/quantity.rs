//! Exact quantities of a meter.

use std::{fmt, str::FromStr};

use rust_decimal::Decimal;

/// The decimals of a micro-unit.
const MICRO_DECIMALS: u32 = 6;

/// Units of a meter, exact. The journal and the rollups count in micro-units (1 unit = 1,000,000); quantities that are shares of time may have
/// more decimals.
///
/// JSON: a decimal string, such as `"1000"` or `"0.5"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Quantity(Decimal);

/// Why a quantity cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The text is not a decimal number.
    #[error("`{0}` is not a quantity: use a decimal number, like 1000 or 0.5")]
    NotANumber(String),
    /// More than the range holds.
    #[error("a quantity has at most 28 digits, 6 of them behind the point when it counts micro-units")]
    OutOfRange,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self(Decimal::ZERO);

    /// From a decimal number of units.
    pub const fn new(units: Decimal) -> Self {
        Self(units)
    }

    /// From whole units.
    pub fn from_units(units: i64) -> Self {
        Self(Decimal::from(units))
    }

    /// From micro-units, as the journal has them.
    pub fn from_micros(micros: i64) -> Self {
        Self(Decimal::new(micros, MICRO_DECIMALS).normalize())
    }

    /// From a sum of micro-units that may pass 64 bits.
    pub fn from_micros_wide(micros: i128) -> Result<Self, QuantityError> {
        Decimal::try_from_i128_with_scale(micros, MICRO_DECIMALS)
            .map(|units| Self(units.normalize()))
            .map_err(|_| QuantityError::OutOfRange)
    }

    /// The decimal number of units.
    pub const fn units(self) -> Decimal {
        self.0
    }

    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// The sum.
    pub fn checked_add(self, other: Self) -> Result<Self, QuantityError> {
        self.0.checked_add(other.0).map(Self).ok_or(QuantityError::OutOfRange)
    }

    /// The difference.
    pub fn checked_sub(self, other: Self) -> Result<Self, QuantityError> {
        self.0.checked_sub(other.0).map(Self).ok_or(QuantityError::OutOfRange)
    }

    /// `numerator / denominator` of it, for quantities that are weighed by time.
    pub fn checked_share(self, numerator: u32, denominator: u32) -> Result<Self, QuantityError> {
        self.0
            .checked_mul(Decimal::from(numerator))
            .and_then(|product| product.checked_div(Decimal::from(denominator)))
            .map(Self)
            .ok_or(QuantityError::OutOfRange)
    }

    /// What lies above `floor`, nothing if nothing does. Negative usage, which corrections can leave, counts as none.
    pub(crate) fn above(self, floor: Decimal) -> Decimal {
        self.0.checked_sub(floor).unwrap_or_default().max(Decimal::ZERO)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.normalize(), f)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Decimal::from_str_exact(text).map(Self).map_err(|_| QuantityError::NotANumber(text.chars().take(40).collect()))
    }
}

#[cfg(feature = "utoipa")]
impl utoipa::PartialSchema for Quantity {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("A decimal number of units."))
            .examples(["1000", "0.5"])
            .into()
    }
}

#[cfg(feature = "utoipa")]
impl utoipa::ToSchema for Quantity {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_micro_units_exactly() {
        assert_eq!(Quantity::from_micros(1_500_000).to_string(), "1.5");
        assert_eq!(Quantity::from_micros(-1).to_string(), "-0.000001");
        assert_eq!(Quantity::from_micros(i64::MAX).to_string(), "9223372036854.775807");
        assert_eq!(
            Quantity::from_micros_wide(i128::from(i64::MAX) * 1_000_000_000).map(|quantity| quantity.to_string()),
            Ok("9223372036854775807000".into())
        );
        assert_eq!(Quantity::from_micros_wide(i128::MAX), Err(QuantityError::OutOfRange));
    }

    #[test]
    fn reads_decimal_text_only() {
        assert_eq!("0.5".parse(), Ok(Quantity::from_micros(500_000)));
        assert_eq!("ten".parse::<Quantity>(), Err(QuantityError::NotANumber("ten".into())));
        assert!(serde_json::from_str::<Quantity>("0.5").is_err());
        assert_eq!(serde_json::from_str::<Quantity>("\"0.5\"").expect("a decimal string"), Quantity::from_micros(500_000));
    }

    #[test]
    fn shares_multiply_first() {
        assert_eq!(Quantity::from_units(28).checked_share(25, 28), Ok(Quantity::from_units(25)));
        assert_eq!(Quantity::from_units(1).checked_share(1, 0), Err(QuantityError::OutOfRange));
    }
}
