//! Clock, timestamps and billing periods: every date rule, once.
//!
//! - [`Timestamp`]: an instant in UTC with the precision of Postgres (microseconds). JSON has it as RFC 3339.
//! - [`Clock`]: where `now` comes from. It is read at the edges only and handed down as an argument.
//! - [`Period`]: `[from, to)`.

mod clock;
mod period;
mod timestamp;

pub use clock::{Clock, ManualClock, SystemClock};
pub use period::{Anchor, Cadence, CadenceError, Period, TimeZone, ZoneError};
pub use timestamp::{ParseTimestampError, Timestamp};
