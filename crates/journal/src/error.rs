//! What can go wrong, each error naming the file or field and what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::record::RecordError;

/// An operation on the journal failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A setting cannot be used.
    #[error("journal setting `{field}`: {fix}")]
    Config {
        /// The field of `Config`.
        field: &'static str,
        /// What to set it to.
        fix: String,
    },
    /// Another process holds this folder.
    #[error("the journal in {dir} is in use by another process; stop that one or give this one a folder of its own")]
    InUse {
        /// The journal's folder.
        dir: PathBuf,
    },
    /// The file was written by a newer version of this software; nothing was changed.
    #[error("{path} has format version {version}, this software reads up to version {known}; run the newer version, or another folder")]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// The version it names.
        version: u32,
        /// The newest version that is read.
        known: u32,
    },
    /// The file is not what its place says, and nothing can be rebuilt from its neighbours.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A segment failed its checksums when it was read. Its original stands in `damaged/`; what could be kept is offered in its place under the same number.
    #[error("segment {seq} of stream {stream} is damaged ({what}): kept {kept_records} records, the original is {set_aside}")]
    SegmentDamaged {
        /// The stream.
        stream: u32,
        /// The segment.
        seq: u64,
        /// What is wrong.
        what: String,
        /// Whole records before the damage, which are offered again.
        kept_records: u64,
        /// Where the original stands.
        set_aside: PathBuf,
    },
    /// There is no such segment waiting to be shipped.
    #[error("segment {seq} of stream {stream} is not waiting to be shipped")]
    NoSuchSegment {
        /// The stream.
        stream: u32,
        /// The segment.
        seq: u64,
    },
    /// A record cannot be read.
    #[error("segment {seq} of stream {stream}: {source}")]
    Record {
        /// The stream.
        stream: u32,
        /// The segment.
        seq: u64,
        /// What is wrong with it.
        source: RecordError,
    },
    /// The operating system refused.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

impl JournalError {
    /// True when the disk has no room left.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// Puts the deed and the file into an I/O error.
pub(crate) trait IoContext<T> {
    /// `doing` is a gerund: "opening", "flushing".
    fn at(self, doing: &'static str, path: &Path) -> Result<T, JournalError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, doing: &'static str, path: &Path) -> Result<T, JournalError> {
        self.map_err(|source| JournalError::Io { doing, path: path.to_owned(), source })
    }
}

impl<T> IoContext<T> for rustix::io::Result<T> {
    fn at(self, doing: &'static str, path: &Path) -> Result<T, JournalError> {
        self.map_err(|errno| JournalError::Io { doing, path: path.to_owned(), source: errno.into() })
    }
}

/// Admission is refused: the call would have no room for its record. The gateway answers 503, or serves it unbilled and counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The folder would grow beyond `disk_bound_bytes`: usage is not being shipped, or the bound is too small for the calls in flight.
    #[error("the journal is at its disk bound")]
    DiskBound,
    /// The file system has no room for another segment, or refuses to make one.
    #[error("the disk under the journal is full or refuses writes")]
    Disk,
    /// Numbers that are safe from reuse after a power loss have run out, because the head page could not be flushed.
    #[error("the journal's receipt numbers could not be reserved on disk")]
    Receipts,
}

/// A record was not appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The receipt was taken from another stream: a defect of the caller.
    #[error("the receipt belongs to stream {0}")]
    ForeignReceipt(u32),
    /// There was no room although room was reserved: a defect of the journal.
    #[error("no room in spite of the reservation")]
    NoRoom,
}
