//! Usage records: what one call used, as a journal keeps it. Their bytes are in `encoding.rs`.

/// The version of the record format that is written.
pub const RECORD_VERSION: u8 = 1;
/// The most meter items one record holds.
pub const MAX_METERS: usize = 8;
/// The most bytes of dimensions one record holds.
pub const MAX_DIMENSIONS_BYTES: usize = 512;
/// One unit of a meter, in the micro-units that records hold.
pub const MICRO_UNITS: i64 = 1_000_000;

/// Whether a record ends its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RecordKind {
    /// The last record of the call, appended before the last byte of its answer.
    #[default]
    Final,
    /// An additive record of a long exchange: it holds what was used since the one before.
    Interim,
}

/// Who gave the head of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AnsweredBy {
    /// The gateway itself (an error of its own, a redirect).
    #[default]
    Gateway,
    /// The upstream. Only these are billable.
    Upstream,
}

/// What kind of key made the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeyMode {
    /// `tk_live_`: billed.
    #[default]
    Live,
    /// `tk_test_`: never billed.
    Test,
}

/// How the exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Outcome {
    /// The whole answer was handed to the client. Interim records also say this: nothing has gone wrong so far.
    #[default]
    Complete,
    /// The client went away.
    Aborted,
    /// The upstream or the gateway failed in the middle.
    Broken,
}

/// What one meter counted in this record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MeterItem {
    /// The meter.
    pub meter: [u8; 16],
    /// How much, in micro-units: one unit is [`MICRO_UNITS`].
    pub micro_units: i64,
    /// Keyed hash of what is counted once (UNIQUE_COUNT); 0 = none.
    pub unique_hash: u64,
}

/// Up to [`MAX_METERS`] meter items, held inline so that a record is built without allocation.
#[derive(Clone, Copy)]
pub struct Meters {
    len: u8,
    items: [MeterItem; MAX_METERS],
}

impl Meters {
    /// No items.
    pub const fn new() -> Self {
        Self { len: 0, items: [MeterItem { meter: [0; 16], micro_units: 0, unique_hash: 0 }; MAX_METERS] }
    }

    /// Adds an item.
    ///
    /// # Errors
    /// When there are [`MAX_METERS`] already.
    pub fn push(&mut self, item: MeterItem) -> Result<(), RecordError> {
        let slot = self.items.get_mut(usize::from(self.len)).ok_or(RecordError::TooManyMeters)?;
        *slot = item;
        self.len += 1;
        Ok(())
    }

    /// Takes all items out.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The items.
    pub fn as_slice(&self) -> &[MeterItem] {
        &self.items[..usize::from(self.len)]
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Meters {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Meters {}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_slice().fmt(f)
    }
}

impl TryFrom<&[MeterItem]> for Meters {
    type Error = RecordError;

    fn try_from(items: &[MeterItem]) -> Result<Self, RecordError> {
        let mut meters = Self::new();
        items.iter().try_for_each(|item| meters.push(*item))?;
        Ok(meters)
    }
}

/// The declared dimensions of a record's meters: bytes that the gateway writes and folds, opaque here. Empty costs nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dimensions(Vec<u8>);

impl Dimensions {
    /// No dimensions.
    pub const EMPTY: Self = Self(Vec::new());

    /// Takes at most [`MAX_DIMENSIONS_BYTES`].
    ///
    /// # Errors
    /// When `bytes` is longer.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, RecordError> {
        let bytes = bytes.into();
        if bytes.len() > MAX_DIMENSIONS_BYTES { Err(RecordError::DimensionsTooLong(bytes.len())) } else { Ok(Self(bytes)) }
    }

    /// Puts others in the place of these.
    pub(crate) fn set(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        if bytes.len() > MAX_DIMENSIONS_BYTES {
            return Err(RecordError::DimensionsTooLong(bytes.len()));
        }
        self.0.clear();
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a call used: all of a record but the receipt's part of it. An id of all zeros stands for "not known".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// When the call was admitted, microseconds UTC: the event time of a unary call.
    pub admitted_at: i64,
    /// From admission to this record, microseconds. What a later part of a long exchange used, was used at `admitted_at + duration`.
    pub duration_micros: u64,
    /// The tenant's isolation scope.
    pub namespace: [u8; 16],
    /// The subscription it is billed to.
    pub subscription: [u8; 16],
    /// The plan version it was admitted under.
    pub plan_version: [u8; 16],
    /// The start of the quota period, microseconds UTC: with the subscription, the period's id.
    pub period_start: i64,
    /// The client program.
    pub application: [u8; 16],
    /// Its key.
    pub api_key: [u8; 16],
    /// The route.
    pub route: [u8; 16],
    /// The exact status of the answer; 0 where the protocol has none.
    pub status: u16,
    /// Who answered.
    pub answered_by: AnsweredBy,
    /// Live or test.
    pub key_mode: KeyMode,
    /// How it ended.
    pub outcome: Outcome,
    /// What was counted.
    pub meters: Meters,
    /// Declared dimensions of the meters.
    pub dimensions: Dimensions,
}

/// A record as it stands in a segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageRecord {
    /// Final or interim.
    pub kind: RecordKind,
    /// The number the call took from its stream at admission.
    pub receipt: u64,
    /// How many interim records of this receipt came before; 0 for a unary call.
    pub part: u32,
    /// What was used.
    pub usage: Usage,
}

/// A record cannot be built or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// More meter items than fit.
    #[error("a record holds at most {MAX_METERS} meter items")]
    TooManyMeters,
    /// More dimensions than fit.
    #[error("a record holds at most {MAX_DIMENSIONS_BYTES} bytes of dimensions, not {0}")]
    DimensionsTooLong(usize),
    /// A version that this software does not know.
    #[error("record format version {0} is not known (this software reads version {RECORD_VERSION})")]
    UnknownVersion(u8),
    /// A kind that version 1 does not have.
    #[error("record kind {0} is not known")]
    UnknownKind(u8),
    /// Flag bits that version 1 does not have.
    #[error("record flags {0:#06x} are not known")]
    UnknownFlags(u16),
    /// A field that version 1 keeps at zero.
    #[error("reserved bytes of a record are not zero")]
    ReservedNotZero,
    /// The length is not what the fields say.
    #[error("a record of {actual} bytes says that it has {expected}")]
    Length {
        /// Bytes there are.
        actual: usize,
        /// Bytes there should be.
        expected: usize,
    },
}
