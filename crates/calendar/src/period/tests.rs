use jiff::civil::date;
use proptest::prelude::*;

use super::*;

const ZONES: [&str; 16] = [
    "UTC",
    "Europe/Oslo",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "America/Havana",
    "America/Toronto",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
];

fn anchor(date: Date, zone: &str) -> Anchor {
    Anchor { date, zone: zone.parse().expect(zone) }
}

fn timestamp(text: &str) -> Timestamp {
    text.parse().expect(text)
}

#[test]
fn months_return_to_the_anchors_day() {
    let anchor = anchor(date(2024, 1, 31), "UTC");
    let starts: Vec<String> = (0..14).map(|index| anchor.zone.date_at(anchor.period(Cadence::Month, index).from).to_string()).collect();
    assert_eq!(
        starts.join(" "),
        "2024-01-31 2024-02-29 2024-03-31 2024-04-30 2024-05-31 2024-06-30 2024-07-31 2024-08-31 2024-09-30 2024-10-31 2024-11-30 2024-12-31 2025-01-31 2025-02-28"
    );
    let leap = Anchor { date: date(2024, 2, 29), ..anchor };
    let years: Vec<u32> = (0..5).map(|index| leap.period(Cadence::Year, index).days(&leap.zone)).collect();
    assert_eq!(years, [365, 365, 365, 366, 365]);
    assert_eq!(leap.zone.date_at(leap.period(Cadence::Year, 4).from), date(2028, 2, 29));
}

#[test]
fn days_are_calendar_days() {
    // (zone, start, cadence, days, hours)
    let cases = [
        ("Europe/Oslo", date(2026, 3, 1), Cadence::Month, 31, 743),
        ("Europe/Oslo", date(2026, 10, 1), Cadence::Month, 31, 745),
        ("UTC", date(2026, 2, 1), Cadence::Month, 28, 672),
        ("UTC", date(2023, 1, 1), Cadence::Quarter, 90, 2160),
        ("UTC", date(2024, 1, 1), Cadence::Year, 366, 8784),
        ("Europe/Oslo", date(2026, 3, 23), Cadence::Week, 7, 167),
        // The calendar of Samoa's last days of 2011 has a date that no instant fell on.
        ("Pacific/Apia", date(2011, 12, 1), Cadence::Month, 31, 720),
        ("Pacific/Apia", date(2011, 12, 30), Cadence::Day, 0, 0),
    ];
    for (zone, start, cadence, days, hours) in cases {
        let anchor = anchor(start, zone);
        let period = anchor.period(cadence, 0);
        assert_eq!(period.days(&anchor.zone), days, "{start} in {zone}");
        assert_eq!(period.to.since(period.from).as_secs(), hours * 3600, "{start} in {zone}");
    }
}

#[test]
fn finds_the_period_where_the_date_goes_back() {
    // At one minute past midnight on 7 November 2010 the clocks of Newfoundland went back to one minute past eleven on the 6th.
    let anchor = anchor(date(2010, 2, 7), "America/St_Johns");
    for (at, start) in [
        ("2010-11-07T02:29:59Z", "2010-10-07T02:30:00Z"),
        ("2010-11-07T02:30:00Z", "2010-11-07T02:30:00Z"),
        ("2010-11-07T03:00:00Z", "2010-11-07T02:30:00Z"),
    ] {
        assert_eq!(anchor.period_at(Cadence::Month, timestamp(at)).from, timestamp(start), "{at}");
    }
    assert_eq!(anchor.zone.date_at(timestamp("2010-11-07T03:00:00Z")), date(2010, 11, 6), "the date is that of the day before");
}

#[test]
fn holds_at_the_ends_of_the_calendar() {
    for zone in ZONES {
        let anchor = anchor(date(2026, 1, 31), zone);
        for cadence in Cadence::ALL {
            for at in [i64::MIN, i64::MAX] {
                let at = Timestamp::from_micros(at);
                let period = anchor.period_at(cadence, at);
                assert!(period.from <= at && at <= period.to, "{cadence} in {zone}: {period:?}");
                assert!(anchor.periods_between(cadence, at, at.plus(std::time::Duration::from_secs(1)), 5).count() <= 1);
            }
            for index in [i64::MIN, i64::MAX] {
                assert!(anchor.period(cadence, index).is_empty());
            }
        }
    }
}

#[test]
fn periods_between_are_whole_and_bounded() {
    let anchor = anchor(date(2026, 1, 31), "UTC");
    let dates = |from: &str, to: &str, at_most| -> Vec<String> {
        let periods = anchor.periods_between(Cadence::Month, timestamp(from), timestamp(to), at_most);
        periods.map(|period| anchor.zone.date_at(period.from).to_string()).collect()
    };
    assert_eq!(dates("2026-02-01T00:00:00Z", "2026-04-30T00:00:00Z", 9), ["2026-01-31", "2026-02-28", "2026-03-31"]);
    assert_eq!(dates("2026-02-01T00:00:00Z", "2026-04-30T00:00:01Z", 9).len(), 4);
    assert_eq!(dates("2026-02-01T00:00:00Z", "2026-04-30T00:00:01Z", 2), ["2026-01-31", "2026-02-28"]);
    assert_eq!(dates("2026-02-01T00:00:00Z", "2026-02-01T00:00:00Z", 9), [""; 0], "nothing has nothing in common");
    assert_eq!(dates("2026-02-02T00:00:00Z", "2026-02-01T00:00:00Z", 9), [""; 0]);
}

#[test]
fn intersections_are_absent_when_empty() {
    let period = |from: i64, to: i64| Period { from: Timestamp::from_seconds(from), to: Timestamp::from_seconds(to) };
    assert_eq!(period(0, 10).intersection(period(5, 20)), Some(period(5, 10)));
    assert_eq!(period(0, 10).intersection(period(10, 20)), None);
    assert!(period(3, 3).is_empty() && !period(3, 4).is_empty());
}

fn any_anchor() -> impl Strategy<Value = Anchor> {
    // From 1900 to 2100, the 29th to 31st and turns of the year more often.
    let day = prop_oneof![1_i8..=28, 29_i8..=31];
    (1900_i16..2100, 1_i8..=12, day, 0..ZONES.len()).prop_map(|(year, month, day, zone)| {
        let last = date(year, month, 1).days_in_month();
        anchor(date(year, month, day.min(last)), ZONES[zone])
    })
}

fn any_cadence() -> impl Strategy<Value = Cadence> {
    (0..Cadence::ALL.len()).prop_map(|index| Cadence::ALL[index])
}

/// Instants from 1880 to 2120, some within two days of a change of a zone's clock.
fn any_instant() -> impl Strategy<Value = Timestamp> {
    let changes = [1_325_239_200, 1_289_097_060, -745_491_600, 745_934_400, 1_541_300_400, 1_699_160_400, 1_774_746_000, -1_599_960_600];
    let near = (0..changes.len(), -172_800_000_000_i64..172_800_000_000)
        .prop_map(move |(change, offset)| Timestamp::from_micros(changes[change] * 1_000_000 + offset));
    prop_oneof![(-2_840_000_000_000_000_i64..4_733_000_000_000_000).prop_map(Timestamp::from_micros), near]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn periods_tile_the_line(anchor in any_anchor(), cadence in any_cadence(), first in -2_000_i64..2_000) {
        let first = if cadence.months().is_some() { first / 12 } else { first };
        let mut before = anchor.period(cadence, first);
        for index in first + 1..first + 40 {
            let period = anchor.period(cadence, index);
            prop_assert_eq!(before.to, period.from);
            prop_assert!(period.from <= period.to);
            before = period;
        }
    }

    #[test]
    fn every_instant_lies_in_one_period(anchor in any_anchor(), cadence in any_cadence(), at in any_instant()) {
        let index = anchor.index_at(cadence, at);
        let period = anchor.period_at(cadence, at);
        prop_assert!(period.contains(at));
        prop_assert_eq!(period, anchor.period(cadence, index));
        prop_assert!(!anchor.period(cadence, index - 1).contains(at));
        prop_assert!(!anchor.period(cadence, index + 1).contains(at));
        prop_assert_eq!(anchor.period_at(cadence, period.from), period);
        prop_assert_eq!(anchor.period_at(cadence, Timestamp::from_micros(period.to.micros() - 1)), period);
    }

    /// By the calendar alone, without a search: months start on the anchor's day or the month's last, days and weeks are counted.
    #[test]
    fn periods_start_on_the_dates_of_the_calendar(anchor in any_anchor(), cadence in any_cadence(), at in any_instant()) {
        let index = anchor.index_at(cadence, at);
        let expected = match cadence.months() {
            Some(months) => {
                let month = i64::from(anchor.date.year()) * 12 + i64::from(anchor.date.month()) - 1 + index * months;
                let year = i16::try_from(month.div_euclid(12)).expect("a year near ours");
                let first = date(year, i8::try_from(month.rem_euclid(12) + 1).expect("a month"), 1);
                first.with().day(anchor.date.day().min(first.days_in_month())).build().expect("a day of the month")
            }
            None => anchor.date.checked_add((index * cadence.days().expect("days or months")).days()).expect("a date near ours"),
        };
        prop_assert_eq!(anchor.period(cadence, index).from, anchor.zone.start_of(expected));
    }

    #[test]
    fn days_of_a_cut_period_add_up(anchor in any_anchor(), cadence in any_cadence(), at in any_instant(), cut in 0_u32..1000) {
        let whole = anchor.period_at(cadence, at);
        let length = whole.to.micros() - whole.from.micros();
        let change = Timestamp::from_micros(whole.from.micros() + length / 1000 * i64::from(cut));
        let (old, new) = (Period { to: change, ..whole }, Period { from: change, ..whole });
        prop_assert_eq!(old.days(&anchor.zone) + new.days(&anchor.zone), whole.days(&anchor.zone));
    }

    #[test]
    fn periods_between_are_those_that_touch(anchor in any_anchor(), cadence in any_cadence(), from in any_instant(), days in 0_u64..800) {
        let to = from.plus(std::time::Duration::from_secs(days * 86_400));
        let periods: Vec<Period> = anchor.periods_between(cadence, from, to, 2_000).collect();
        if from < to {
            prop_assert!(periods.first().is_some_and(|period| period.contains(from)));
            prop_assert!(periods.last().is_some_and(|period| period.from < to && to <= period.to));
        }
        for pair in periods.windows(2) {
            prop_assert_eq!(pair[0].to, pair[1].from);
        }
    }

    #[test]
    fn a_day_starts_on_or_after_its_date(zone in 0..ZONES.len(), at in any_instant()) {
        let zone: TimeZone = ZONES[zone].parse().expect("a zone");
        let day = zone.date_at(at);
        let start = zone.start_of(day);
        prop_assert!(start <= at);
        prop_assert!(zone.date_at(start) >= day);
        prop_assert!(zone.date_at(Timestamp::from_micros(start.micros() - 1)) < zone.date_at(start));
    }
}
