//! Time zones, and the days in them.

use std::{fmt, str::FromStr};

use jiff::{civil::Date, tz::AmbiguousOffset};

use crate::Timestamp;

/// An IANA time zone. Where the machine has no time zone database, the one built into the program is used.
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

    /// The first instant of a date in this zone. Where a clock change skips midnight, the instant of the change; where it skips the whole date, that is
    /// the start of the next one. Where midnight comes twice, the first.
    pub fn start_of(&self, date: Date) -> Timestamp {
        let midnight = self.0.to_ambiguous_zoned(date.at(0, 0, 0, 0));
        let skipped = matches!(midnight.offset(), AmbiguousOffset::Gap { .. });
        let Ok(start) = midnight.compatible() else {
            // Only within a day of the ends of the calendar, which differ by the zone's offset.
            return Timestamp::from_micros(if date.year() < 0 { i64::MIN } else { i64::MAX });
        };
        let start = start.timestamp();
        if skipped {
            // "Compatible" goes on by the length of the gap from midnight, which is later than its end when the gap began before midnight.
            let change = self.0.preceding(start).next().map(|transition| transition.timestamp());
            if let Some(change) = change.filter(|change| change.to_zoned(self.0.clone()).date() >= date) {
                return change.into();
            }
        }
        start.into()
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

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl serde::Serialize for TimeZone {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> serde::Deserialize<'de> for TimeZone {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_day_starts_at_its_first_instant() {
        let cases = [
            ("UTC", date(2026, 1, 31), "2026-01-31T00:00:00Z"),
            ("Europe/Oslo", date(2026, 3, 30), "2026-03-29T22:00:00Z"),
            ("Asia/Kathmandu", date(2026, 1, 1), "2025-12-31T18:15:00Z"),
            ("Australia/Lord_Howe", date(2026, 1, 1), "2025-12-31T13:00:00Z"),
            // Midnight was skipped: the day began at one o'clock.
            ("America/Sao_Paulo", date(2018, 11, 4), "2018-11-04T03:00:00Z"),
            // The clocks went from half past eleven on the 30th to half past midnight.
            ("America/Toronto", date(1919, 3, 31), "1919-03-31T04:30:00Z"),
            // Midnight came twice.
            ("America/Havana", date(2023, 11, 5), "2023-11-05T04:00:00Z"),
            // The 30th did not exist: Samoa went over the date line.
            ("Pacific/Apia", date(2011, 12, 30), "2011-12-30T10:00:00Z"),
            ("Pacific/Apia", date(2011, 12, 31), "2011-12-30T10:00:00Z"),
        ];
        for (zone, day, start) in cases {
            assert_eq!(zone.parse::<TimeZone>().expect(zone).start_of(day).to_string(), start, "{day} in {zone}");
        }
    }

    #[test]
    fn names_round_trip() {
        let zone: TimeZone = serde_json::from_str("\"Europe/Oslo\"").expect("a zone");
        assert_eq!(serde_json::to_string(&zone).expect("a zone is JSON"), "\"Europe/Oslo\"");
        assert_eq!(TimeZone::UTC.to_string(), "UTC");
        assert_eq!("Mars/Olympus".parse::<TimeZone>(), Err(ZoneError("Mars/Olympus".into())));
    }
}
