//! The states of an invoice.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where an invoice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceState {
    /// Not issued yet.
    Draft,
    /// Issued, to be paid until it is due.
    Finalized,
    /// Paid, or nothing was to be paid.
    Paid,
    /// Issued, not paid, and due.
    PastDue,
    /// Given up.
    Uncollectible,
    /// Taken back. It keeps its number.
    Void,
}

impl InvoiceState {
    /// All of them, in the order in which a filter offers them.
    pub const ALL: [Self; 6] = [Self::Draft, Self::Finalized, Self::PastDue, Self::Paid, Self::Uncollectible, Self::Void];

    /// The name in JSON and in Postgres.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Finalized => "finalized",
            Self::Paid => "paid",
            Self::PastDue => "past_due",
            Self::Uncollectible => "uncollectible",
            Self::Void => "void",
        }
    }

    /// For people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Draft => "Draft",
            Self::Finalized => "Open",
            Self::Paid => "Paid",
            Self::PastDue => "Past due",
            Self::Uncollectible => "Uncollectible",
            Self::Void => "Void",
        }
    }

    /// The colour of its badge.
    pub const fn tone(self) -> &'static str {
        match self {
            Self::Draft | Self::Void => "",
            Self::Finalized => "info",
            Self::Paid => "success",
            Self::PastDue => "warning",
            Self::Uncollectible => "error",
        }
    }

    /// Reads [`Self::as_str`].
    pub fn parse(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| Error::invalid("state", "Choose draft, finalized, past_due, paid, uncollectible or void."))
    }

    /// Whether money is awaited.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Finalized | Self::PastDue)
    }

    /// Whether it may become `next`.
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Draft, Self::Finalized)
                | (Self::Finalized, Self::Paid | Self::PastDue | Self::Void)
                | (Self::PastDue, Self::Paid | Self::Uncollectible | Self::Void)
                | (Self::Uncollectible, Self::Paid | Self::Void)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_paid_or_void_stays_so() {
        for next in InvoiceState::ALL {
            assert!(!InvoiceState::Paid.may_become(next), "{next:?}");
            assert!(!InvoiceState::Void.may_become(next), "{next:?}");
            assert!(!next.may_become(InvoiceState::Draft), "{next:?}");
            assert_eq!(InvoiceState::parse(next.as_str()).ok(), Some(next));
        }
    }
}
