//! Billing periods: `[from, to)`, cut by a cadence from an anchor in a time zone.

use std::{fmt, str::FromStr};

use jiff::{ToSpan, civil::Date};

use crate::Timestamp;

/// `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
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

    /// How many calendar days it has in a zone: from the day that holds `from` to before the day that holds `to`. Two periods that meet within a day
    /// give that day to the second, so that their days add up. The whole days of clock changes count as one each.
    pub fn days(&self, zone: &TimeZone) -> u32 {
        zone.date_at(self.to).since(zone.date_at(self.from)).map_or(0, |span| u32::try_from(span.get_days()).unwrap_or(0))
    }
}

/// An IANA time zone.
#[derive(Clone, PartialEq, Eq)]
pub struct TimeZone(jiff::tz::TimeZone);

/// The name is not one of an IANA time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an IANA time zone, like Europe/Oslo or UTC")]
pub struct ZoneError(String);

impl TimeZone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(jiff::tz::TimeZone::UTC);

    /// The calendar date at an instant in this zone.
    pub fn date_at(&self, at: Timestamp) -> Date {
        at.jiff().to_zoned(self.0.clone()).date()
    }

    /// The first instant of a date in this zone. Where midnight is skipped by a clock change, the first instant that exists.
    pub fn start_of(&self, date: Date) -> Timestamp {
        self.0
            .to_ambiguous_zoned(date.at(0, 0, 0, 0))
            .compatible()
            .map_or(Timestamp::from_micros(i64::MAX), |zoned| zoned.timestamp().into())
    }

    /// The zone's IANA name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }
}

impl FromStr for TimeZone {
    type Err = ZoneError;

    fn from_str(name: &str) -> Result<Self, ZoneError> {
        jiff::tz::TimeZone::get(name).map(Self).map_err(|_| ZoneError(name.to_owned()))
    }
}

impl fmt::Debug for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How long a period lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Cadence {
    /// A calendar day.
    Day,
    /// Seven days.
    Week,
    /// A month.
    Month,
    /// Three months.
    Quarter,
    /// Twelve months.
    Year,
}

/// The text is not a cadence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a cadence: use day, week, month, quarter or year")]
pub struct CadenceError(String);

impl Cadence {
    /// The name in JSON and in Postgres.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Year => "year",
        }
    }
}

impl FromStr for Cadence {
    type Err = CadenceError;

    fn from_str(text: &str) -> Result<Self, CadenceError> {
        [Self::Day, Self::Week, Self::Month, Self::Quarter, Self::Year]
            .into_iter()
            .find(|cadence| cadence.as_str() == text)
            .ok_or_else(|| CadenceError(text.to_owned()))
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

    /// The start date of the `index`-th period after (or before) the anchor's.
    fn start_date(&self, cadence: Cadence, index: i64) -> Date {
        let span = match cadence {
            Cadence::Day => index.days(),
            Cadence::Week => index.saturating_mul(7).days(),
            Cadence::Month => index.months(),
            Cadence::Quarter => index.saturating_mul(3).months(),
            Cadence::Year => index.saturating_mul(12).months(),
        };
        self.date.saturating_add(span)
    }

    /// The `index`-th period, counted from the anchor's own, which is 0.
    pub fn period(&self, cadence: Cadence, index: i64) -> Period {
        Period { from: self.zone.start_of(self.start_date(cadence, index)), to: self.zone.start_of(self.start_date(cadence, index + 1)) }
    }

    /// The period that holds an instant.
    pub fn period_at(&self, cadence: Cadence, at: Timestamp) -> Period {
        let date = self.zone.date_at(at);
        let months = i64::from(date.year() - self.date.year()) * 12 + i64::from(date.month() - self.date.month());
        let days = date.since(self.date).map_or(0, |span| i64::from(span.get_days()));
        let guess = match cadence {
            Cadence::Day => days,
            Cadence::Week => days.div_euclid(7),
            Cadence::Month => months,
            Cadence::Quarter => months.div_euclid(3),
            Cadence::Year => months.div_euclid(12),
        };
        // The guess ignores the day of the month, so the right period is the guessed one or a neighbour.
        (guess - 1..=guess + 1)
            .map(|index| self.period(cadence, index))
            .find(|period| period.contains(at))
            .unwrap_or_else(|| self.period(cadence, guess))
    }
}
