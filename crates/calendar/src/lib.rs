//! Clock, timestamps and billing periods: every date rule, once.
//!
//! - [`Timestamp`]: an instant in UTC with the precision of Postgres (microseconds). JSON has it as RFC 3339.
//! - [`Clock`]: where `now` comes from. It is read at the edges only and handed down as an argument.
//! - [`Period`]: `[from, to)`; [`Anchor`] cuts time into periods of a [`Cadence`], at the midnights of a [`TimeZone`].

mod cadence;
mod clock;
mod period;
mod timestamp;
mod zone;

pub use cadence::{Cadence, CadenceError};
pub use clock::{Clock, ManualClock, SystemClock};
pub use period::{Anchor, Period};
pub use timestamp::{ParseTimestampError, Timestamp};
pub use zone::{TimeZone, ZoneError};
