//! What changes a price's amount: a pipeline of discount and maximum, then the commitment; and proration by day.

mod commitment;
mod discount;
mod proration;

pub use commitment::plan_minimum;
pub(crate) use commitment::{Minimum, minimum_line};
pub(crate) use discount::{Adjusted, adjust};
pub use proration::{Proration, ProrationError};
