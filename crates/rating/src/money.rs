//! Exact amounts of one currency.

use std::fmt;

use rust_decimal::{Decimal, RoundingStrategy, prelude::ToPrimitive};

use crate::Currency;

/// No amount reaches this. Below it a decimal of 28 digits has at least 13 of them behind the point, so that no price, tier, discount or proration
/// comes near a digit that an invoice shows.
const LIMIT: Decimal = Decimal::from_parts(2_764_472_320, 232_830, 0, false, 0);

/// An exact decimal amount of a currency. It stays unrounded until the total of a line, which [`Money::round`] makes.
///
/// JSON: `{"amount":"12.50","currency":"USD"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Money {
    #[cfg_attr(feature = "utoipa", schema(value_type = String, examples("12.50")))]
    amount: Decimal,
    currency: Currency,
}

/// Why an amount cannot be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Amounts of two currencies do not add up.
    #[error("an amount in {right} cannot be combined with one in {left}: a subscription has one currency")]
    CurrencyMismatch {
        /// The currency of the left side.
        left: Currency,
        /// The currency of the right side.
        right: Currency,
    },
    /// The result is too large.
    #[error("an amount reaches 1000000000000000 (10^15): lower the price or the quantity")]
    OutOfRange,
    /// A share of nothing.
    #[error("an amount cannot be divided by zero")]
    DivisionByZero,
}

impl Money {
    /// An amount of a currency, not rounded.
    pub fn new(amount: Decimal, currency: Currency) -> Result<Self, MoneyError> {
        Ok(Self { amount: in_range(Some(amount))?, currency })
    }

    /// The total of a line, which was in range when the line was made. Sums check the range again.
    pub(crate) const fn of_line(total: Decimal, currency: Currency) -> Self {
        Self { amount: total, currency }
    }

    /// Nothing.
    pub const fn zero(currency: Currency) -> Self {
        Self { amount: Decimal::ZERO, currency }
    }

    /// An amount in the currency's smallest unit: 1250 for 12.50 USD. Payment providers speak of money so.
    pub fn from_minor_units(minor: i64, currency: Currency) -> Result<Self, MoneyError> {
        Self::new(Decimal::new(minor, currency.exponent()), currency)
    }

    /// The decimal amount.
    pub const fn amount(&self) -> Decimal {
        self.amount
    }

    /// The currency.
    pub const fn currency(&self) -> Currency {
        self.currency
    }

    /// Whether it is nothing.
    pub const fn is_zero(&self) -> bool {
        self.amount.is_zero()
    }

    /// Whether it is below nothing.
    pub fn is_negative(&self) -> bool {
        self.amount < Decimal::ZERO
    }

    /// The sum, unrounded.
    pub fn checked_add(&self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        Ok(Self { amount: add(self.amount, other.amount)?, ..*self })
    }

    /// The difference, unrounded.
    pub fn checked_sub(&self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        Ok(Self { amount: sub(self.amount, other.amount)?, ..*self })
    }

    /// The multiple, unrounded.
    pub fn checked_mul(&self, factor: Decimal) -> Result<Self, MoneyError> {
        Ok(Self { amount: mul(self.amount, factor)?, ..*self })
    }

    /// `numerator / denominator` of it, unrounded. It multiplies first, so that a share that comes out even is exact.
    pub fn checked_share(&self, numerator: Decimal, denominator: Decimal) -> Result<Self, MoneyError> {
        Ok(Self { amount: share(self.amount, numerator, denominator)?, ..*self })
    }

    /// The sum of amounts of one currency.
    pub fn sum(currency: Currency, amounts: impl IntoIterator<Item = Self>) -> Result<Self, MoneyError> {
        amounts.into_iter().try_fold(Self::zero(currency), |total, amount| total.checked_add(amount))
    }

    /// Rounded half away from zero to the currency's precision, written with exactly that many decimals.
    pub fn round(&self) -> Self {
        Self { amount: round(self.amount, self.currency), ..*self }
    }

    /// The rounded amount in the currency's smallest unit.
    pub fn minor_units(&self) -> Result<i64, MoneyError> {
        let scaled = round(self.amount, self.currency) * Decimal::from(10_u32.pow(self.currency.exponent()));
        scaled.to_i64().ok_or(MoneyError::OutOfRange)
    }

    fn same_currency(&self, other: Self) -> Result<(), MoneyError> {
        if self.currency == other.currency {
            Ok(())
        } else {
            Err(MoneyError::CurrencyMismatch { left: self.currency, right: other.currency })
        }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

fn in_range(result: Option<Decimal>) -> Result<Decimal, MoneyError> {
    result.filter(|amount| amount.abs() < LIMIT).ok_or(MoneyError::OutOfRange)
}

pub(crate) fn add(left: Decimal, right: Decimal) -> Result<Decimal, MoneyError> {
    in_range(left.checked_add(right))
}

pub(crate) fn sub(left: Decimal, right: Decimal) -> Result<Decimal, MoneyError> {
    in_range(left.checked_sub(right))
}

pub(crate) fn mul(left: Decimal, right: Decimal) -> Result<Decimal, MoneyError> {
    in_range(left.checked_mul(right))
}

pub(crate) fn share(amount: Decimal, numerator: Decimal, denominator: Decimal) -> Result<Decimal, MoneyError> {
    if denominator.is_zero() {
        return Err(MoneyError::DivisionByZero);
    }
    in_range(amount.checked_mul(numerator).and_then(|product| product.checked_div(denominator)))
}

/// Half away from zero, with exactly the currency's decimals.
pub(crate) fn round(amount: Decimal, currency: Currency) -> Decimal {
    let mut rounded = amount.round_dp_with_strategy(currency.exponent(), RoundingStrategy::MidpointAwayFromZero);
    rounded.rescale(currency.exponent());
    // A debt that rounds to nothing is nothing, not minus nothing.
    if rounded.is_zero() { rounded.abs() } else { rounded }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn money(text: &str, code: &str) -> Money {
        Money::new(text.parse().expect("a decimal"), code.parse().expect("a currency")).expect("in range")
    }

    #[test]
    fn rounds_half_away_from_zero_to_the_precision_of_the_currency() {
        let cases = [
            ("0.005", "USD", "0.01"),
            ("-0.005", "USD", "-0.01"),
            ("0.004999", "USD", "0.00"),
            ("-0.004", "USD", "0.00"),
            ("2.5", "JPY", "3"),
            ("3.5", "JPY", "4"),
            ("-2.5", "JPY", "-3"),
            ("1.0005", "KWD", "1.001"),
            ("12", "USD", "12.00"),
            // Worked examples, rows 83, 87 and 119.
            ("13.3333", "USD", "13.33"),
            ("2177.4193548387096774193548387", "EUR", "2177.42"),
            ("17.9699999999999988631316", "EUR", "17.97"),
        ];
        for (amount, code, rounded) in cases {
            assert_eq!(money(amount, code).round().amount().to_string(), rounded, "{amount} {code}");
        }
        assert_eq!(money("17.9699999999999988631316", "EUR").minor_units(), Ok(1797));
        assert_eq!(money("-1.5", "JPY").minor_units(), Ok(-2));
    }

    #[test]
    fn refuses_other_currencies_and_what_is_too_large() {
        let usd = money("1", "USD");
        let mismatch = usd.checked_add(money("1", "EUR")).expect_err("two currencies");
        assert_eq!(mismatch.to_string(), "an amount in EUR cannot be combined with one in USD: a subscription has one currency");
        assert_eq!(usd.checked_mul(Decimal::MAX), Err(MoneyError::OutOfRange));
        assert_eq!(money("999999999999999", "USD").checked_add(usd), Err(MoneyError::OutOfRange));
        assert_eq!(money("-999999999999999", "USD").checked_sub(usd), Err(MoneyError::OutOfRange));
        assert_eq!(usd.checked_share(Decimal::ONE, Decimal::ZERO), Err(MoneyError::DivisionByZero));
        assert_eq!(LIMIT.to_string(), "1000000000000000");
    }

    #[test]
    fn json_has_decimal_strings_and_refuses_numbers() {
        let json = r#"{"amount":"12.50","currency":"USD"}"#;
        assert_eq!(serde_json::to_string(&money("12.50", "USD")).expect("money is JSON"), json);
        assert_eq!(serde_json::from_str::<Money>(json).expect("the JSON just written"), money("12.5", "USD"));
        assert!(serde_json::from_str::<Money>(r#"{"amount":12.5,"currency":"USD"}"#).is_err());
    }

    proptest! {
        #[test]
        fn rounding_moves_by_at_most_half_a_minor_unit_and_is_stable(mantissa in -1_000_000_000_000_000_i64..1_000_000_000_000_000, scale in 0_u32..9, at in 0_usize..155) {
            let currency = Currency::all().nth(at).expect("one of the 155");
            let amount = Decimal::new(mantissa, scale);
            let rounded = round(amount, currency);
            let half = Decimal::new(5, currency.exponent() + 1);
            prop_assert!((rounded - amount).abs() <= half);
            if (rounded - amount).abs() == half {
                prop_assert!(rounded.abs() > amount.abs());
            }
            prop_assert_eq!(round(rounded, currency), rounded);
            prop_assert_eq!(round(-amount, currency), -rounded);
        }

        #[test]
        fn minor_units_round_trip(minor in -100_000_000_000_000_i64..100_000_000_000_000, at in 0_usize..155) {
            let currency = Currency::all().nth(at).expect("one of the 155");
            prop_assert_eq!(Money::from_minor_units(minor, currency).and_then(|money| money.minor_units()), Ok(minor));
        }
    }
}
