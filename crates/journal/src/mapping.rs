//! The only file with `unsafe`: files mapped into memory, shared with the page cache.
//!
//! A store into a shared mapping is in the page cache the moment it is executed, so it outlives `kill -9` without a system call on the request path.
//!
//! # Why this is sound
//!
//! Rust asks of a mapping that nobody else changes or shortens the file while references into it live.
//!
//! - Nobody else: the folder is held by an exclusive file lock for the life of the process (`identity.rs`), files are opened by this crate only, and
//!   each file is mapped once for its bytes. A process that ignores the lock and the file mode (0600) can break this, as it could break any file of ours.
//! - Not shortened: `SegmentMap` is moved, never shared. It goes from who made it to the stream's writer and to the keeper, and the keeper drops it
//!   before it cuts the file to its sealed length. The head's length never changes.
//! - No missing blocks: files are preallocated in full before they are mapped, so a store does not meet a full disk (which would raise SIGBUS).
//!   File systems that copy on write (btrfs, ZFS) do not promise this; they are not supported for the journal's folder.
//! - Shared between threads: `HeadMap` gives out atomics only. `SegmentMap` gives slices, by `&self` and `&mut self` of its one owner. `FlushMap` gives
//!   nothing out.
#![allow(unsafe_code)]

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapMut, MmapOptions, MmapRaw};

/// What is to be brought to the disk: a file, or the pages that hold a part of a segment's bytes.
#[derive(Debug)]
pub(crate) struct Dirty<'a> {
    pub file: &'a File,
    pub part: Option<(&'a FlushMap, Range<u64>)>,
}

impl Dirty<'_> {
    /// Brings it to the disk, and what is needed to find it there.
    pub fn write_out(&self) -> io::Result<()> {
        match &self.part {
            None => self.file.sync_data(),
            Some((map, bytes)) => {
                #[cfg(target_os = "linux")]
                begin_writing(self.file, bytes);
                map.flush(bytes)
            }
        }
    }
}

/// How many bytes the system begins to write at once.
#[cfg(target_os = "linux")]
const WRITTEN_AT_ONCE: u64 = 128 * 1024;

/// Has the system begin to write whole pages of a file, a few at a time: a flush that finds all of them to be written takes them in one go, for which a call on
/// the same processor would have to wait. The last page, which is still being filled, is left to the flush, as is all of what is few, or cannot be begun: the
/// flush says whether everything is on the disk.
#[cfg(target_os = "linux")]
fn begin_writing(file: &File, bytes: &Range<u64>) {
    use std::os::fd::AsRawFd as _;
    let (start, end) = (bytes.start - bytes.start % PAGE_BYTES, bytes.end - bytes.end % PAGE_BYTES);
    if end.saturating_sub(start) <= WRITTEN_AT_ONCE {
        return;
    }
    for offset in crate::pace::Pace::new(1).over((start..end).step_by(WRITTEN_AT_ONCE as usize)) {
        let length = WRITTEN_AT_ONCE.min(end - offset);
        // SAFETY: the call takes numbers only, and the file is open while it is borrowed.
        let begun =
            unsafe { libc::sync_file_range(file.as_raw_fd(), offset.cast_signed(), length.cast_signed(), libc::SYNC_FILE_RANGE_WRITE) };
        if begun != 0 {
            return tracing::debug!(error = %io::Error::last_os_error(), "a flush is not begun in pieces");
        }
    }
}

/// A second mapping of a segment's file, through which nothing is read or written: by it the keeper names the pages that it wants on the disk.
///
/// A flush makes the pages that it takes read-only again, and the next store into each of them meets a page fault. `fdatasync` takes all pages that were
/// made ahead ([`SegmentMap::populate`]) with those that were written. This takes only those that were written, so that the writer meets one fault
/// a flush, not one a page.
#[derive(Debug)]
pub(crate) struct FlushMap(MmapRaw);

impl FlushMap {
    /// Maps the first `len` bytes of `file`.
    pub fn new(file: &File, len: usize) -> io::Result<Self> {
        Ok(Self(MmapOptions::new().len(len).map_raw_read_only(file)?))
    }

    /// `msync(MS_SYNC)`, which is `fdatasync` of a part.
    fn flush(&self, bytes: &Range<u64>) -> io::Result<()> {
        self.0.flush_range(bytes.start as usize, (bytes.end - bytes.start) as usize)
    }
}

/// The unit in which the system keeps files in memory.
#[cfg(target_os = "linux")]
const PAGE_BYTES: u64 = 4_096;

/// How many bytes of pages are made at once, some microseconds each, and how many are let go: who waits for the processor has it in between.
#[cfg(target_os = "linux")]
const MADE_AT_ONCE: usize = 32 * 1024;
#[cfg(target_os = "linux")]
const LET_GO_AT_ONCE: usize = 256 * 1024;

/// So many bytes come from memory at once.
const CACHE_LINE: usize = 64;

/// A segment file, mapped by its one owner.
#[derive(Debug)]
pub(crate) struct SegmentMap(MmapMut);

impl SegmentMap {
    /// Maps the first `len` bytes of `file`, which must be allocated.
    pub fn new(file: &File, len: usize) -> io::Result<Self> {
        // SAFETY: the folder is locked, the file is preallocated to `len` and is cut only after this map is dropped (module doc).
        let map = unsafe { MmapOptions::new().len(len).map_mut(file)? };
        // Otherwise the first store has the system read ahead what it takes a file to be read for: up to megabytes of zeros, for which a call waits.
        #[cfg(unix)]
        if let Err(error) = map.advise(memmap2::Advice::Random) {
            tracing::debug!(%error, "the system reads ahead what segments do not hold yet");
        }
        Ok(Self(map))
    }

    /// Brings the pages of the first bytes into memory and marks them as written, so that the writer meets no page fault there. Systems that cannot do it
    /// fault later, which costs time and nothing else.
    pub fn populate(&self, bytes: u64) {
        let end = usize::try_from(bytes).map_or(self.0.len(), |bytes| bytes.min(self.0.len()));
        #[cfg(not(target_os = "linux"))]
        let _ = end;
        #[cfg(target_os = "linux")]
        for offset in crate::pace::Pace::new(1).over((0..end).step_by(MADE_AT_ONCE)) {
            let length = MADE_AT_ONCE.min(end - offset);
            if let Err(error) = self.0.advise_range(memmap2::Advice::PopulateWrite, offset, length) {
                return tracing::debug!(%error, "a segment's pages are not made ahead");
            }
        }
    }

    /// Unmaps the segment, a few pages at a time. The bytes stay in the file.
    pub fn release(self) {
        #[cfg(target_os = "linux")]
        for offset in crate::pace::Pace::new(1).over((0..self.0.len()).step_by(LET_GO_AT_ONCE)) {
            let length = LET_GO_AT_ONCE.min(self.0.len() - offset);
            // SAFETY: of a shared file mapping only the way to the pages goes; what was stored is in the page cache, and nobody reads it here any more.
            if unsafe { self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, length) }.is_err() {
                // All of it goes with the mapping.
                return;
            }
        }
    }

    /// All bytes of the segment.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// All bytes of the segment, to be written.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Has the processor fetch the memory of so many bytes, which will be written soon: a store into memory that it does not have holds up all stores behind it.
    #[inline]
    pub fn fetch(&self, offset: usize, bytes: usize) {
        let soon = self.0.get(offset..).unwrap_or_default();
        soon.iter().take(bytes).step_by(CACHE_LINE).for_each(|byte| _ = black_box(*byte));
    }

    /// Stores `value` (little endian) at `offset` after everything that was written before: who finds it, finds all of it.
    ///
    /// # Panics
    /// If `offset` is not a multiple of 4 inside the segment.
    #[inline]
    pub fn publish_u32(&mut self, offset: usize, value: u32) {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.0.len(), "offset {offset} lies outside the segment");
        let place = self.0[offset..].as_mut_ptr().cast::<u32>();
        // SAFETY: the place is inside the map, aligned (maps start at a page, the offset is a multiple of 4), and `&mut self` makes us its only user.
        let cell = unsafe { AtomicU32::from_ptr(place) };
        cell.store(value.to_le(), Ordering::Release);
    }
}

/// Words of 8 bytes in a head page.
pub(crate) const HEAD_WORDS: usize = 512;

/// A head page: one page of little endian words that the writer and the keeper both store into.
#[derive(Debug)]
pub(crate) struct HeadMap(MmapRaw);

impl HeadMap {
    /// Maps the head file, which must be one page long.
    pub fn new(file: &File) -> io::Result<Self> {
        Ok(Self(MmapOptions::new().len(HEAD_WORDS * 8).map_raw(file)?))
    }

    /// The value of a word.
    pub fn load(&self, word: usize) -> u64 {
        u64::from_le(self.word(word).load(Ordering::Acquire))
    }

    /// Sets a word; who sees it, sees what was stored before.
    #[inline]
    pub fn store(&self, word: usize, value: u64) {
        self.word(word).store(value.to_le(), Ordering::Release);
    }

    #[inline]
    fn word(&self, word: usize) -> &AtomicU64 {
        assert!(word < HEAD_WORDS, "the head page has {HEAD_WORDS} words");
        // SAFETY: the word is inside the map and aligned, all access goes through atomics, and the reference lives no longer than the map.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().cast::<u64>().add(word)) }
    }
}
