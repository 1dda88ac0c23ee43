//! The durable usage log of a gateway.
//!
//! # Constraints
//!
//! 1. A call is admitted only if its record is certain to have room: in blocks that the file system has given out, under the disk bound.
//! 2. A record survives `kill -9` of the process the moment it is appended: it is stored into a mapping shared with the page cache.
//! 3. Power loss costs at most one flush interval of records; no receipt number and no shipped segment number is ever used twice.
//! 4. The request path takes no lock and makes no system call while there is room: each core has its own stream and writer. Digests, flushes and new
//!    files are the keeper's, on a thread of its own.
//!    Who must know that a record is on the disk waits for the keeper's flush, which all that wait share (`commit.rs`).
//! 5. A flush that failed is never tried again on the same file: the kernel may have dropped the pages and would report success.
//! 6. Whatever bytes stand on the disk, reading them gives records whose checksums are right, or an error. Never a panic.
//! 7. This crate knows ids as 16 bytes and times as microseconds UTC; it reads no clock.
//!
//! # On-disk layout
//!
//! ```text
//! <dir>/journal                      identity and lock (identity.rs)
//! <dir>/<stream>/head                next receipt number, receipt ceiling, next seq, last digest (head.rs)
//! <dir>/<stream>/<seq>.seg           a segment: being written, made ahead, or sealed and waiting to be shipped (segment.rs)
//! <dir>/<stream>/<seq>-<at>.acked    a segment that the portal has, retained
//! <dir>/quarantine/<stream>-<seq>.seg   refused by the portal
//! <dir>/damaged/<stream>-<seq>.seg      the original of a segment that was not whole
//! ```
//!
//! Numbers in names are 16 hexadecimal digits, `<stream>` is decimal. All formats carry a magic and a version, are little endian, and are checked by
//! CRC-32C; a segment also by SHA-256. A newer version is refused by name and left untouched.
//!
//! # What each crash leaves
//!
//! | A kill between | leaves | which recovery |
//! |---|---|---|
//! | number taken, record appended | a number without a record | leaves out: the missing numbers are the broken calls |
//! | payload stored, length stored | the beginning of a record that nobody was told of | cuts off |
//! | segment made, taken into use | an unused file | removes; its seq is used again |
//! | moved on, sealed | two files without a footer | seals both, in order, with the digests that the keeper would have given them |
//! | footer stored, file cut | a footer in the middle of a file | seals again, the same |
//! | renamed by an ack | either name | offers again, or not; the portal takes a segment once |
//!
//! Power loss may also take any page that was not flushed. Then records end at the first one that is not whole; what stands behind is set aside and
//! reported, and receipt numbers go on at the ceiling that had been flushed before any number below it was given out. A lost head page is rebuilt
//! from the segments' headers; the newest sealed segment of each stream is therefore never dropped.

mod account;
mod budget;
mod catalog;
mod commit;
mod config;
mod encoding;
mod error;
mod found;
mod head;
mod identity;
mod journal;
mod keeper;
mod mapping;
mod names;
mod pace;
mod reader;
mod record;
mod recovery;
mod salvage;
mod segment;
mod stats;
mod stream;
mod writer;

pub use account::{SealedSegment, StreamAccount};
pub use config::{Config, MAX_SEGMENT_SIZE_BYTES, MAX_STREAMS, MIN_SEGMENT_SIZE_BYTES, MIN_SEGMENTS_PER_STREAM};
pub use error::{AppendError, Full, JournalError};
pub use journal::{Journal, Opened};
pub use keeper::{Keeper, Tended};
pub use pace::Pace;
pub use reader::{PendingSegment, SegmentReader};
pub use record::{
    AnsweredBy, Dimensions, KeyMode, MAX_DIMENSIONS_BYTES, MAX_METERS, MICRO_UNITS, MeterItem, Meters, Outcome, RECORD_VERSION,
    RecordError, RecordKind, Usage, UsageRecord,
};
pub use recovery::{DamagedSegment, RecoveryReport, SealedByRecovery, SkippedReceipts};
pub use segment::{MAX_RECORD_BYTES, SEGMENT_VERSION, SegmentInfo};
pub use stats::{Failure, Stats};
pub use writer::{Receipt, StreamWriter};
