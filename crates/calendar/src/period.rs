//! Billing periods: `[from, to)`, cut by a cadence from an anchor in a time zone.

use jiff::{ToSpan, civil::Date};

use crate::{Cadence, TimeZone, Timestamp};

/// `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Period {
    /// The first instant inside.
    pub from: Timestamp,
    /// The first instant after.
    pub to: Timestamp,
}

impl Period {
    /// Whether the instant lies inside.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.to
    }

    /// Whether no instant lies inside.
    pub fn is_empty(&self) -> bool {
        self.to <= self.from
    }

    /// What both have in common; absent when that is nothing.
    pub fn intersection(&self, other: Self) -> Option<Self> {
        let both = Self { from: self.from.max(other.from), to: self.to.min(other.to) };
        (!both.is_empty()).then_some(both)
    }

    /// How many calendar days it has in a zone: from the day that holds `from` to before the day that holds `to`. Two periods that meet within a day
    /// give that day to the second, so that their days add up. A day that a clock change made shorter or longer counts as one.
    pub fn days(&self, zone: &TimeZone) -> u32 {
        zone.date_at(self.to).since(zone.date_at(self.from)).map_or(0, |span| u32::try_from(span.get_days()).unwrap_or(0))
    }
}

/// Where periods are counted from: a date in a time zone. Periods start at midnight there. A month that lacks the anchor's day starts its period
/// on its last day, and the next month returns to the anchor's day (31 January, 28 February, 31 March).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The date of the first period's start.
    pub date: Date,
    /// The zone in which days start.
    pub zone: TimeZone,
}

impl Anchor {
    /// The anchor at the day that holds `at` in `zone`.
    pub fn at(at: Timestamp, zone: TimeZone) -> Self {
        Self { date: zone.date_at(at), zone }
    }

    /// The start date of the `index`-th period after (or before) the anchor's. Where the calendar of years -9999 to 9999 ends, it stands still.
    fn start_date(&self, cadence: Cadence, index: i64) -> Date {
        // Bounds that the whole calendar fits in keep the spans within what jiff takes.
        let span = match (cadence.months(), cadence.days()) {
            (Some(months), _) => index.saturating_mul(months).clamp(-239_976, 239_976).months(),
            (None, days) => index.saturating_mul(days.unwrap_or(1)).clamp(-7_304_484, 7_304_484).days(),
        };
        self.date.saturating_add(span)
    }

    /// The `index`-th period, counted from the anchor's own, which is 0.
    pub fn period(&self, cadence: Cadence, index: i64) -> Period {
        let start = |index| self.zone.start_of(self.start_date(cadence, index));
        Period { from: start(index), to: start(index.saturating_add(1)) }
    }

    /// The index of the period that holds an instant.
    pub fn index_at(&self, cadence: Cadence, at: Timestamp) -> i64 {
        let date = self.zone.date_at(at);
        let months = i64::from(date.year() - self.date.year()) * 12 + i64::from(date.month() - self.date.month());
        let days = date.since(self.date).map_or(0, |span| i64::from(span.get_days()));
        let mut index = match (cadence.months(), cadence.days()) {
            (Some(length), _) => months.div_euclid(length),
            (None, length) => days.div_euclid(length.unwrap_or(1)),
        };
        // The guess leaves out the day of the month; and where a clock change turns the date back, an instant may lie after the start of a later
        // day than its own date says. Both are at most a step or two.
        for _ in 0..4 {
            let period = self.period(cadence, index);
            if at < period.from {
                index -= 1;
            } else if at >= period.to {
                index += 1;
            } else {
                break;
            }
        }
        index
    }

    /// The period that holds an instant. Within a day of the calendar's ends (years -9999 and 9999) the period is stretched so that it does.
    pub fn period_at(&self, cadence: Cadence, at: Timestamp) -> Period {
        let period = self.period(cadence, self.index_at(cadence, at));
        if period.contains(at) {
            return period;
        }
        Period { from: period.from.min(at), to: period.to.max(Timestamp::from_micros(at.micros().saturating_add(1))) }
    }

    /// The periods that share an instant with `[from, to)`, whole and in order, but no more than `at_most` of them. The rest begins at the last one's end.
    pub fn periods_between(&self, cadence: Cadence, from: Timestamp, to: Timestamp, at_most: usize) -> impl Iterator<Item = Period> {
        let first = self.index_at(cadence, from);
        (0..)
            .map(move |step| first.saturating_add(step))
            // Where the calendar ends, periods are empty for ever.
            .take_while(move |index| self.start_date(cadence, *index) < Date::MAX)
            .map(move |index| self.period(cadence, index))
            .take_while(move |period| from < to && period.from < to)
            .filter(move |period| !period.is_empty() && period.to > from)
            .take(at_most)
    }
}

#[cfg(test)]
mod tests;
