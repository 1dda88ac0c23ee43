//! The share of a period, in calendar days.

use calendar::{Period, TimeZone};
use rust_decimal::Decimal;

use crate::{MoneyError, money::share};

/// `days` of a period's `of_days`, both counted in the calendar of the tenant's time zone. The day of a change belongs to what comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Proration {
    days: u32,
    of_days: u32,
}

/// The days do not make a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProrationError {
    /// A period of no days.
    #[error("a period to prorate over must have at least one day")]
    EmptyPeriod,
    /// More days than the period has.
    #[error("{days} days cannot be served of a period of {of_days}: serve within the period")]
    BeyondPeriod {
        /// The days served.
        days: u32,
        /// The days of the whole period.
        of_days: u32,
    },
}

impl Proration {
    /// The whole period.
    pub const WHOLE: Self = Self { days: 1, of_days: 1 };

    /// `days` of `of_days`.
    pub const fn new(days: u32, of_days: u32) -> Result<Self, ProrationError> {
        if of_days == 0 {
            return Err(ProrationError::EmptyPeriod);
        }
        if days > of_days {
            return Err(ProrationError::BeyondPeriod { days, of_days });
        }
        Ok(Self { days, of_days })
    }

    /// The share of `whole` that was `served`. A change within a day gives that day to what begins with it.
    pub fn between(served: Period, whole: Period, zone: &TimeZone) -> Result<Self, ProrationError> {
        Self::new(served.days(zone), whole.days(zone))
    }

    /// The days served.
    pub const fn days(self) -> u32 {
        self.days
    }

    /// The days of the whole period.
    pub const fn of_days(self) -> u32 {
        self.of_days
    }

    /// Whether it is the whole period.
    pub const fn is_whole(self) -> bool {
        self.days == self.of_days
    }

    /// The share of an amount, unrounded.
    pub fn of(self, amount: Decimal) -> Result<Decimal, MoneyError> {
        if self.is_whole() {
            return Ok(amount);
        }
        share(amount, Decimal::from(self.days), Decimal::from(self.of_days))
    }
}

#[cfg(test)]
mod tests {
    use calendar::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn period(from: &str, to: &str) -> Period {
        let at = |text: &str| text.parse::<Timestamp>().expect(text);
        Period { from: at(from), to: at(to) }
    }

    /// Row 101: from 8 February in UTC, which is 7 February in Los Angeles, 22 of 28 days remain.
    #[test]
    fn days_are_those_of_the_tenants_zone() {
        let zone: TimeZone = "America/Los_Angeles".parse().expect("a zone");
        let february = period("2023-02-01T00:00:00-08:00", "2023-03-01T00:00:00-08:00");
        let served = period("2023-02-08T02:00:00Z", "2023-03-01T00:00:00-08:00");
        assert_eq!(Proration::between(served, february, &zone), Proration::new(22, 28));
        assert_eq!(Proration::between(served, february, &TimeZone::UTC), Proration::new(21, 28));
    }

    #[test]
    fn the_day_of_change_belongs_to_the_new_plan() {
        let zone: TimeZone = "Europe/Oslo".parse().expect("a zone");
        // The clocks go forward on 29 March 2026: a month of 31 days and 743 hours.
        let march = period("2026-03-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00");
        let old = Period { to: "2026-03-16T15:30:00+01:00".parse().expect("a timestamp"), ..march };
        let new = Period { from: old.to, ..march };
        assert_eq!(Proration::between(old, march, &zone), Proration::new(15, 31));
        assert_eq!(Proration::between(new, march, &zone), Proration::new(16, 31));
    }

    #[test]
    fn refuses_what_is_no_share() {
        assert_eq!(Proration::new(0, 0), Err(ProrationError::EmptyPeriod));
        assert_eq!(Proration::new(32, 31), Err(ProrationError::BeyondPeriod { days: 32, of_days: 31 }));
    }

    proptest! {
        /// Whatever day a plan changes, both shares of one fee make the fee.
        #[test]
        fn two_shares_make_the_whole(cents in 0_i64..1_000_000_000, of_days in 1_u32..366, at in 0_u32..366) {
            let days = at.min(of_days);
            let fee = Decimal::new(cents, 2);
            let old = Proration::new(days, of_days).and_then(|old| Ok((old, Proration::new(of_days - days, of_days)?))).expect("shares");
            let sum = old.0.of(fee).expect("in range") + old.1.of(fee).expect("in range");
            prop_assert!((sum - fee).abs() < Decimal::new(1, 15), "{} of {}", sum, fee);
        }
    }
}
