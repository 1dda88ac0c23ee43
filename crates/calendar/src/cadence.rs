//! How long a period lasts.

use std::{fmt, str::FromStr};

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
    /// All of them, from the shortest to the longest.
    pub const ALL: [Self; 5] = [Self::Day, Self::Week, Self::Month, Self::Quarter, Self::Year];

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

    /// How many months it has; absent for those that are counted in days.
    pub const fn months(self) -> Option<i64> {
        match self {
            Self::Day | Self::Week => None,
            Self::Month => Some(1),
            Self::Quarter => Some(3),
            Self::Year => Some(12),
        }
    }

    /// How many days it has; absent for those that are counted in months.
    pub const fn days(self) -> Option<i64> {
        match self {
            Self::Day => Some(1),
            Self::Week => Some(7),
            Self::Month | Self::Quarter | Self::Year => None,
        }
    }
}

impl fmt::Display for Cadence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Cadence {
    type Err = CadenceError;

    fn from_str(text: &str) -> Result<Self, CadenceError> {
        Self::ALL.into_iter().find(|cadence| cadence.as_str() == text).ok_or_else(|| CadenceError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for cadence in Cadence::ALL {
            assert_eq!(cadence.to_string().parse(), Ok(cadence));
            assert_eq!(serde_json::to_string(&cadence).expect("a cadence is JSON"), format!("\"{cadence}\""));
            assert_ne!(cadence.months().is_some(), cadence.days().is_some());
        }
        assert_eq!("fortnight".parse::<Cadence>(), Err(CadenceError("fortnight".into())));
    }
}
