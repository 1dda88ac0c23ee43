//! An instant in UTC, in microseconds.

use std::{fmt, str::FromStr, time::Duration};

/// An instant in UTC with microsecond precision, which is what Postgres' `timestamptz` holds, so that a value read back equals the value written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The text is not an RFC 3339 date and time with an offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a date and time with an offset, like 2026-01-31T12:00:00Z (RFC 3339)")]
pub struct ParseTimestampError;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Self = Self(0);

    /// The first instant that there is: the start of year -9999, for a zone far enough east.
    pub const MIN: Self = Self(-377_705_023_201_000_000);

    /// The last instant that there is: the end of year 9999, for a zone far enough west.
    pub const MAX: Self = Self(253_402_207_200_000_000);

    /// The instant that lies `micros` after the Unix epoch. Values outside jiff's range (years -9999 to 9999) are clamped to it.
    pub fn from_micros(micros: i64) -> Self {
        Self(micros.clamp(Self::MIN.0, Self::MAX.0))
    }

    /// The instant that lies `seconds` after the Unix epoch.
    pub fn from_seconds(seconds: i64) -> Self {
        Self::from_micros(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The start of the UTC minute that holds this instant.
    pub const fn floor_minute(self) -> Self {
        Self(self.0.div_euclid(60_000_000) * 60_000_000)
    }

    /// The start of the UTC quarter of an hour that holds this instant.
    pub const fn floor_quarter_hour(self) -> Self {
        Self(self.0.div_euclid(900_000_000) * 900_000_000)
    }

    /// This instant moved forward.
    pub fn plus(self, duration: Duration) -> Self {
        Self::from_micros(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This instant moved back.
    pub fn minus(self, duration: Duration) -> Self {
        Self::from_micros(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long `earlier` lies before this instant; zero if it does not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The same instant as `jiff` has it.
    pub fn jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::MIN)
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(timestamp: jiff::Timestamp) -> Self {
        Self::from_micros(timestamp.as_microsecond())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.jiff(), f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, ParseTimestampError> {
        text.parse::<jiff::Timestamp>().map(Self::from).map_err(|_| ParseTimestampError)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an instant (RFC 3339)")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(feature = "utoipa")]
impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples(["2026-01-31T12:00:00Z"])
            .into()
    }
}

#[cfg(feature = "utoipa")]
impl utoipa::ToSchema for Timestamp {}

#[cfg(feature = "sqlx")]
mod postgres {
    use sqlx::{
        Decode, Encode, Postgres, Type,
        encode::IsNull,
        error::BoxDynError,
        postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef},
    };

    use super::Timestamp;

    /// 2000-01-01T00:00:00Z, from which Postgres counts, in microseconds since the Unix epoch.
    const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

    impl Type<Postgres> for Timestamp {
        fn type_info() -> PgTypeInfo {
            PgTypeInfo::with_name("TIMESTAMPTZ")
        }
    }

    impl PgHasArrayType for Timestamp {
        fn array_type_info() -> PgTypeInfo {
            PgTypeInfo::with_name("_TIMESTAMPTZ")
        }
    }

    impl Encode<'_, Postgres> for Timestamp {
        fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
            <i64 as Encode<Postgres>>::encode(self.0 - POSTGRES_EPOCH_MICROS, buffer)
        }
    }

    impl Decode<'_, Postgres> for Timestamp {
        fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
            match value.format() {
                PgValueFormat::Binary => {
                    let micros = <i64 as Decode<Postgres>>::decode(value)?;
                    Ok(Self::from_micros(micros.saturating_add(POSTGRES_EPOCH_MICROS)))
                }
                PgValueFormat::Text => Ok(value.as_str()?.replacen(' ', "T", 1).parse()?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_below_the_epoch_too() {
        assert_eq!(Timestamp::from_seconds(-1).floor_minute(), Timestamp::from_seconds(-60));
        assert_eq!(Timestamp::from_seconds(1799).floor_quarter_hour(), Timestamp::from_seconds(900));
    }

    #[test]
    fn reads_and_writes_rfc_3339() {
        let at: Timestamp = "2026-03-29T02:30:00.123456+02:00".parse().expect("a valid timestamp");
        assert_eq!(at.to_string(), "2026-03-29T00:30:00.123456Z");
        assert_eq!(Timestamp::from_micros(i64::MAX).to_string(), "9999-12-30T22:00:00Z");
        assert_eq!(Timestamp::from_micros(i64::MIN).to_string(), "-009999-01-02T01:59:59Z");
        assert_eq!("yesterday".parse::<Timestamp>(), Err(ParseTimestampError));
    }
}
