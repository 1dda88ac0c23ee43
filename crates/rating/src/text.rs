//! Numbers as formulas show them.

use rust_decimal::{Decimal, RoundingStrategy};

/// The decimals that a formula shows; what has more ends in an ellipsis.
const SHOWN_DECIMALS: u32 = 12;

/// Without trailing zeros, cut at [`SHOWN_DECIMALS`].
pub fn number(value: Decimal) -> String {
    let value = value.normalize();
    if value.scale() <= SHOWN_DECIMALS {
        return value.to_string();
    }
    format!("{}…", value.round_dp_with_strategy(SHOWN_DECIMALS, RoundingStrategy::ToZero))
}

/// `a + b - c`: a sum whose negative terms are subtracted.
pub fn signed(value: Decimal) -> String {
    if value < Decimal::ZERO { format!(" - {}", number(-value)) } else { format!(" + {}", number(value)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_fits_and_says_when_there_is_more() {
        assert_eq!(number(Decimal::new(1_500, 3)), "1.5");
        assert_eq!(number(Decimal::new(1_000, 0)), "1000");
        assert_eq!(number(Decimal::ONE / Decimal::from(3)), "0.333333333333…");
        assert_eq!(signed(Decimal::from(-2)), " - 2");
        assert_eq!(signed(Decimal::from(2)), " + 2");
    }
}
