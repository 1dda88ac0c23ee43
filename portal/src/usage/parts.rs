//! The parts of a range, by which sums answer each: whole UTC days where it can be, whole hours before and after, and quarters of an hour at its ends. Pure.

use calendar::{Period, Timestamp};

const QUARTER_SECONDS: i64 = 900;
const HOUR_SECONDS: i64 = 3600;
const DAY_SECONDS: i64 = 86_400;

/// Six instants in order, each the end of one part and the start of the next. Of `from..days_from` and `days_to..to`, what is next to the ends is covered
/// by quarters and the rest by hours; without a whole day both instants of the days are `hours_to`, and without a whole hour all four are `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    /// From the start of a quarter of an hour.
    pub from: Timestamp,
    /// The first whole hour.
    pub hours_from: Timestamp,
    /// The first whole day.
    pub days_from: Timestamp,
    /// The end of the last whole day.
    pub days_to: Timestamp,
    /// The end of the last whole hour.
    pub hours_to: Timestamp,
    /// To the end of a quarter of an hour.
    pub to: Timestamp,
}

impl Parts {
    /// By days, hours and quarters. The range is widened to whole quarters.
    pub(super) fn by_days(range: Period) -> Self {
        let hours = Self::by_hours(range);
        let (days_from, days_to) = whole((hours.hours_from, hours.hours_to), DAY_SECONDS);
        Self { days_from, days_to, ..hours }
    }

    /// By hours and quarters.
    pub(super) fn by_hours(range: Period) -> Self {
        let quarters = Self::by_quarters(range);
        let (hours_from, hours_to) = whole((quarters.from, quarters.to), HOUR_SECONDS);
        Self { hours_from, days_from: hours_to, days_to: hours_to, hours_to, ..quarters }
    }

    /// By quarters alone.
    pub(super) fn by_quarters(range: Period) -> Self {
        let (from, to) = (floor(range.from, QUARTER_SECONDS), ceil(range.to, QUARTER_SECONDS));
        Self { from, hours_from: to, days_from: to, days_to: to, hours_to: to, to }
    }
}

/// The whole units inside of a stretch; its end twice if it has none.
fn whole((from, to): (Timestamp, Timestamp), width: i64) -> (Timestamp, Timestamp) {
    let (first, last) = (ceil(from, width), floor(to, width));
    if first < last { (first, last) } else { (to, to) }
}

fn floor(at: Timestamp, width: i64) -> Timestamp {
    Timestamp::from_seconds(at.seconds().div_euclid(width) * width)
}

/// The start of the unit that begins at an instant or next after it.
pub(super) fn ceil(at: Timestamp, width: i64) -> Timestamp {
    let floor = floor(at, width);
    if floor == at { at } else { Timestamp::from_seconds(floor.seconds() + width) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(quarter: i64) -> Timestamp {
        Timestamp::from_seconds(quarter * QUARTER_SECONDS)
    }

    proptest! {
        /// Each quarter of the range is covered by one part, and no other is; hours and days are whole.
        #[test]
        fn parts_cover_a_range_once(from in 0_i64..400, quarters in 1_i64..1000, by in 0..3_usize) {
            let range = Period { from: at(from), to: at(from + quarters) };
            let of: [fn(Period) -> Parts; 3] = [Parts::by_quarters, Parts::by_hours, Parts::by_days];
            let parts = of[by](range);
            let Parts { from: start, hours_from, days_from, days_to, hours_to, to } = parts;
            let of_quarters = [(start, hours_from), (hours_to, to)];
            let of_hours = [(hours_from, days_from), (days_to, hours_to)];
            let of_days = [(days_from, days_to)];
            for quarter in 0..1500 {
                let is_in = |(from, to): &(Timestamp, Timestamp)| *from <= at(quarter) && at(quarter) < *to;
                let parts = of_quarters.iter().chain(&of_hours).chain(&of_days).filter(|part| is_in(part)).count();
                prop_assert_eq!(parts, usize::from((from..from + quarters).contains(&quarter)), "quarter {} of {:?}", quarter, parts);
            }
            for (part, width) in of_hours.iter().map(|part| (part, HOUR_SECONDS)).chain(of_days.iter().map(|part| (part, DAY_SECONDS))) {
                prop_assert!(part.0 == part.1 || (floor(part.0, width), floor(part.1, width)) == *part, "{:?}", parts);
            }
            // What can be in whole hours, is.
            let most = [0, (floor(range.to, HOUR_SECONDS).seconds() - ceil(range.from, HOUR_SECONDS).seconds()).max(0)][by.min(1)];
            let wider = of_hours.iter().chain(&of_days).map(|(from, to)| to.seconds() - from.seconds()).sum::<i64>();
            prop_assert_eq!(wider, most, "{:?}", parts);
        }
    }

    #[test]
    fn a_range_is_widened_to_whole_quarters() {
        let range = Period { from: Timestamp::from_seconds(901), to: Timestamp::from_seconds(8000) };
        let parts = Parts::by_hours(range);
        assert_eq!((parts.from, parts.hours_from, parts.hours_to, parts.to), (at(1), at(4), at(8), at(9)));
    }
}
