//! How a journal is set up, and what is refused before anything is touched.

use std::time::Duration;

use crate::error::JournalError;
use crate::segment::{FOOTER_BYTES, HEADER_BYTES, MAX_RECORD_BYTES};

/// The smallest segment that is accepted, in bytes.
pub const MIN_SEGMENT_SIZE_BYTES: u64 = 8 * 1024;
/// The largest segment that is accepted, in bytes: a reader loads a whole segment.
pub const MAX_SEGMENT_SIZE_BYTES: u64 = 256 * 1024 * 1024;
/// The most streams one journal may have.
pub const MAX_STREAMS: u32 = 1024;
/// How many segments of room each stream must have under the disk bound: one being written, one spare, one being shipped.
pub const MIN_SEGMENTS_PER_STREAM: u64 = 3;

/// Settings of a journal. `Config::default()` is right for one stream; a gateway sets `streams` to its number of cores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How many writers are handed out, one a core. Folders of streams beyond it (the machine had more cores once) are still recovered and shipped.
    pub streams: u32,
    /// Bytes a segment is preallocated with; a multiple of 4096. A stream seals and moves on when a record does not fit.
    pub segment_size_bytes: u64,
    /// A segment is sealed when its first record is this old, so that usage is shipped soon even when little is used.
    pub max_age: Duration,
    /// The most bytes the folder may take, preallocated segments and retained ones included. Admission is refused before it is reached.
    pub disk_bound_bytes: u64,
    /// How often the keeper flushes to the disk: the most that a power loss may cost.
    pub flush_interval: Duration,
    /// How long an acked segment stays, should the portal ask for it again. Given up early, oldest first, when the disk bound needs the room.
    pub retain_acked: Duration,
    /// What names this boot of the machine, so that a killed process is told from lost power. `None` counts every unclean stop as lost power.
    pub boot_id: Option<[u8; 16]>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            streams: 1,
            // A second of what one core may record at most, so that the batches of a busy second are one.
            segment_size_bytes: 8 * 1024 * 1024,
            max_age: Duration::from_secs(1),
            disk_bound_bytes: 8 * 1024 * 1024 * 1024,
            flush_interval: Duration::from_millis(100),
            retain_acked: Duration::from_secs(24 * 60 * 60),
            boot_id: read_boot_id(),
        }
    }
}

impl Config {
    /// Refuses settings with which a promise could not be kept; the error names the field and the fix.
    pub(crate) fn validate(&self) -> Result<(), JournalError> {
        if self.streams == 0 || self.streams > MAX_STREAMS {
            return Err(JournalError::Config { field: "streams", fix: format!("set it to 1..={MAX_STREAMS} (now {})", self.streams) });
        }
        let size = self.segment_size_bytes;
        if !(MIN_SEGMENT_SIZE_BYTES..=MAX_SEGMENT_SIZE_BYTES).contains(&size) || !size.is_multiple_of(4096) {
            return Err(JournalError::Config {
                field: "segment_size_bytes",
                fix: format!("set it to a multiple of 4096 in {MIN_SEGMENT_SIZE_BYTES}..={MAX_SEGMENT_SIZE_BYTES} (now {size})"),
            });
        }
        let least = u64::from(self.streams) * (MIN_SEGMENTS_PER_STREAM * size + 4096);
        if self.disk_bound_bytes < least {
            return Err(JournalError::Config {
                field: "disk_bound_bytes",
                fix: format!(
                    "set it to at least {least}, which is {MIN_SEGMENTS_PER_STREAM} segments a stream (now {})",
                    self.disk_bound_bytes
                ),
            });
        }
        if self.flush_interval.is_zero() {
            return Err(JournalError::Config { field: "flush_interval", fix: "set it above zero".to_owned() });
        }
        Ok(())
    }

    /// How many calls one empty segment has room for, if each writes the largest record.
    pub(crate) fn slots_per_segment(&self) -> u64 {
        (self.segment_size_bytes - (HEADER_BYTES + FOOTER_BYTES) as u64) / MAX_RECORD_BYTES as u64
    }
}

/// The kernel's name for this boot, or `None` where there is none to read (other systems than Linux).
fn read_boot_id() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    let mut id = [0; 16];
    hex::decode_to_slice(digits, &mut id).ok()?;
    Some(id)
}
