//! Pure rating: quantities and prices in, explained lines out. No I/O, no clock, no floats: the same input gives the same lines, for ever.
//!
//! - [`Currency`], [`Money`], [`Quantity`]: exact decimals.
//! - [`RateCard`]: the terms of one meter or fixed fee, a [`Price`] with allowance, discount, maximum and minimum spend. It is stored as JSON.
//! - [`rate`]: one rate card, a quantity and a [`Proration`] to [`DetailedLine`]s, which carry what "explain this charge" shows. They are stored as JSON.
//! - [`rate_late`]: what a period owes, or is owed, for units that became known after it was billed to its end.
//! - [`plan_minimum`]: the true-up of a plan's minimum over all its lines.
//!
//! Order of a card: free units, price, percentage discount, maximum spend, and at the end of the period the minimum spend as a line of its own.
//! Coupons, taxes, credit notes and credit come later and belong to invoices.
//!
//! # Versions of stored JSON
//!
//! A price says by its `type` which version it is: a type's meaning and fields never change. A new meaning is a new type (`graduated_v2`), beside
//! the old one, which is kept for ever. Unknown fields and types are refused, so that no program rates a card that it understands in part. A new field
//! of [`RateCard`] must be absent where it is not used. A [`DetailedLine`] carries a `version`. The golden tests hold each version.

mod adjust;
mod card;
mod currency;
mod line;
mod money;
mod price;
mod quantity;
mod rate;
mod text;

pub use adjust::{Proration, ProrationError, plan_minimum};
pub use card::{InvalidRateCard, Problem, RateCard};
pub use currency::{Currency, CurrencyError};
pub use line::{Adjustment, Basis, DetailedLine, LINE_VERSION, LineKind, Step};
pub use money::{Money, MoneyError};
pub use price::{Flat, Graduated, Package, Percentage, Price, PriceType, Tier, Unit, Volume};
pub use quantity::{Quantity, QuantityError};
pub use rate::{RateCardInput, RateError, rate, rate_late};
