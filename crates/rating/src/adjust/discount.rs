//! The percentage discount, and the maximum spend after it.

use rust_decimal::Decimal;

use crate::{
    MoneyError, RateCard,
    money::{mul, sub},
};

/// A period's amount after what the card takes off.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Adjusted {
    /// What the percentage takes off, positive.
    pub discount: Decimal,
    /// What goes beyond the maximum after that, positive.
    pub beyond_maximum: Decimal,
    /// What is left.
    pub left: Decimal,
}

/// First the percentage, then the maximum.
pub(crate) fn adjust(card: &RateCard, amount: Decimal) -> Result<Adjusted, MoneyError> {
    let discount = match card.discount_percent {
        Some(percent) => mul(amount, mul(percent, Decimal::new(1, 2))?)?,
        None => Decimal::ZERO,
    };
    let discounted = sub(amount, discount)?;
    let beyond_maximum = card.maximum_spend.map_or(Decimal::ZERO, |maximum| (discounted - maximum).max(Decimal::ZERO));
    Ok(Adjusted { discount, beyond_maximum, left: sub(discounted, beyond_maximum)? })
}

#[cfg(test)]
mod tests {
    use crate::{
        Proration,
        rate::testing::{card, lines},
    };

    #[test]
    fn the_percentage_comes_before_the_maximum() {
        // (terms, amounts of the adjustments, total) of 100 units at 1
        let cases: &[(&str, &[&str], &str)] = &[
            (r#""discount_percent":"10""#, &["-10"], "90.00"),
            (r#""maximum_spend":"80""#, &["-20"], "80.00"),
            (r#""discount_percent":"10","maximum_spend":"80""#, &["-10", "-10"], "80.00"),
            (r#""discount_percent":"25","maximum_spend":"80""#, &["-25"], "75.00"),
            (r#""discount_percent":"100","maximum_spend":"80""#, &["-100"], "0.00"),
            (r#""discount_percent":"33.333333""#, &["-33.333333"], "66.67"),
        ];
        for (terms, amounts, total) in cases {
            let card = card(&format!(r#"{{"price":{{"type":"unit","unit_amount":"1"}},{terms}}}"#));
            let line = &lines(&card, "100", None, true, Proration::WHOLE)[0];
            let found: Vec<String> = line.adjustments.iter().map(|adjustment| adjustment.amount().normalize().to_string()).collect();
            assert_eq!(found, *amounts, "{terms}");
            assert_eq!(line.total.to_string(), *total, "{terms}");
        }
    }
}
