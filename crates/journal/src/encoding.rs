//! The bytes of a usage record (format version 1).
//!
//! Payload, little endian, offsets in bytes. It stands in a frame of `length u32, checksum u32` (`segment.rs`).
//!
//! | at | field |
//! |---|---|
//! | 0 | `u8` version = 1 |
//! | 1 | `u8` kind: 1 final, 2 interim |
//! | 2 | `u16` status |
//! | 4 | `u16` flags: bit 0 answered by the upstream; bit 1 test key; bits 2-3 outcome (0 complete, 1 aborted, 2 broken); the rest are 0 |
//! | 6 | `u8` number of meter items |
//! | 7 | `u8` 0 |
//! | 8 | `u32` part: how many interim records of this receipt came before |
//! | 12 | `u16` length of the dimensions in bytes |
//! | 14 | `u16` 0 |
//! | 16 | `u64` receipt number |
//! | 24 | `i64` admitted at, microseconds UTC |
//! | 32 | `u64` duration from admission to this record, microseconds |
//! | 40 | `i64` start of the quota period, microseconds UTC |
//! | 48 | 16 bytes each: namespace, subscription, plan version, application, API key, route |
//! | 144 | 32 bytes each meter item: id 16, `i64` micro-units, `u64` unique hash |
//! | .. | dimensions |

use crate::record::{
    AnsweredBy, KeyMode, MAX_DIMENSIONS_BYTES, MAX_METERS, MeterItem, Outcome, RECORD_VERSION, RecordError, RecordKind, Usage, UsageRecord,
};

const FIXED_BYTES: usize = 144;
const METER_BYTES: usize = 32;
/// The most bytes of an encoded record, without its frame.
pub(crate) const MAX_PAYLOAD_BYTES: usize = FIXED_BYTES + MAX_METERS * METER_BYTES + MAX_DIMENSIONS_BYTES;

const FLAG_UPSTREAM: u16 = 1;
const FLAG_TEST: u16 = 1 << 1;
const OUTCOME_SHIFT: u16 = 2;
const KNOWN_FLAGS: u16 = 0b1111;

/// How many payload bytes the record takes.
#[inline]
pub(crate) fn encoded_len(usage: &Usage) -> usize {
    FIXED_BYTES + usage.meters.as_slice().len() * METER_BYTES + usage.dimensions.as_bytes().len()
}

/// Writes a record into `out`, which is `encoded_len` long. Allocates nothing.
#[inline]
pub(crate) fn encode(out: &mut [u8], kind: RecordKind, receipt: u64, part: u32, usage: &Usage) {
    let (fixed, rest) = out.split_at_mut(FIXED_BYTES);
    fixed[0] = RECORD_VERSION;
    fixed[1] = match kind {
        RecordKind::Final => 1,
        RecordKind::Interim => 2,
    };
    fixed[2..4].copy_from_slice(&usage.status.to_le_bytes());
    fixed[4..6].copy_from_slice(&flags(usage).to_le_bytes());
    fixed[6] = usage.meters.as_slice().len() as u8;
    fixed[7] = 0;
    fixed[8..12].copy_from_slice(&part.to_le_bytes());
    let dimensions = usage.dimensions.as_bytes();
    fixed[12..14].copy_from_slice(&(dimensions.len() as u16).to_le_bytes());
    fixed[14..16].copy_from_slice(&[0; 2]);
    fixed[16..24].copy_from_slice(&receipt.to_le_bytes());
    fixed[24..32].copy_from_slice(&usage.admitted_at.to_le_bytes());
    fixed[32..40].copy_from_slice(&usage.duration_micros.to_le_bytes());
    fixed[40..48].copy_from_slice(&usage.period_start.to_le_bytes());
    fixed[48..64].copy_from_slice(&usage.namespace);
    fixed[64..80].copy_from_slice(&usage.subscription);
    fixed[80..96].copy_from_slice(&usage.plan_version);
    fixed[96..112].copy_from_slice(&usage.application);
    fixed[112..128].copy_from_slice(&usage.api_key);
    fixed[128..144].copy_from_slice(&usage.route);
    let (items, tail) = rest.split_at_mut(usage.meters.as_slice().len() * METER_BYTES);
    for (place, item) in items.chunks_exact_mut(METER_BYTES).zip(usage.meters.as_slice()) {
        place[..16].copy_from_slice(&item.meter);
        place[16..24].copy_from_slice(&item.micro_units.to_le_bytes());
        place[24..32].copy_from_slice(&item.unique_hash.to_le_bytes());
    }
    tail.copy_from_slice(dimensions);
}

fn flags(usage: &Usage) -> u16 {
    let answered = if usage.answered_by == AnsweredBy::Upstream { FLAG_UPSTREAM } else { 0 };
    let mode = if usage.key_mode == KeyMode::Test { FLAG_TEST } else { 0 };
    let outcome = match usage.outcome {
        Outcome::Complete => 0,
        Outcome::Aborted => 1,
        Outcome::Broken => 2,
    };
    answered | mode | outcome << OUTCOME_SHIFT
}

/// The receipt number of an encoded record, of this version.
pub(crate) fn receipt_of(payload: &[u8]) -> Option<u64> {
    if payload.first() != Some(&RECORD_VERSION) { None } else { Some(u64::from_le_bytes(array(payload, 16)?)) }
}

/// Reads a record into the place of another one, because records are long and segments hold many: what is read of each is written once. Any bytes are
/// answered with a record or an error, never a panic; after an error `record` is none.
pub(crate) fn decode_into(record: &mut UsageRecord, payload: &[u8]) -> Result<(), RecordError> {
    let version = payload.first().copied().unwrap_or(0);
    if version != RECORD_VERSION {
        return Err(RecordError::UnknownVersion(version));
    }
    let short = RecordError::Length { actual: payload.len(), expected: FIXED_BYTES };
    let fixed: &[u8; FIXED_BYTES] = payload.first_chunk().ok_or(short)?;
    let kind = match fixed[1] {
        1 => RecordKind::Final,
        2 => RecordKind::Interim,
        other => return Err(RecordError::UnknownKind(other)),
    };
    let flags = u16::from_le_bytes(at(fixed, 4));
    let outcome = match flags >> OUTCOME_SHIFT & 0b11 {
        0 => Outcome::Complete,
        1 => Outcome::Aborted,
        2 => Outcome::Broken,
        _ => return Err(RecordError::UnknownFlags(flags)),
    };
    if flags & !KNOWN_FLAGS != 0 {
        return Err(RecordError::UnknownFlags(flags));
    }
    if fixed[7] != 0 || fixed[14..16] != [0; 2] {
        return Err(RecordError::ReservedNotZero);
    }
    let count = usize::from(fixed[6]);
    if count > MAX_METERS {
        return Err(RecordError::TooManyMeters);
    }
    let dimensions_len = usize::from(u16::from_le_bytes(at(fixed, 12)));
    let items_end = FIXED_BYTES + count * METER_BYTES;
    let expected = items_end + dimensions_len;
    if payload.len() != expected {
        return Err(RecordError::Length { actual: payload.len(), expected });
    }
    let UsageRecord { usage, .. } = record;
    usage.meters.clear();
    for place in payload[FIXED_BYTES..items_end].as_chunks::<METER_BYTES>().0 {
        let micro_units = i64::from_le_bytes(at(place, 16));
        usage.meters.push(MeterItem { meter: at(place, 0), micro_units, unique_hash: u64::from_le_bytes(at(place, 24)) })?;
    }
    usage.dimensions.set(&payload[items_end..])?;
    usage.admitted_at = i64::from_le_bytes(at(fixed, 24));
    usage.duration_micros = u64::from_le_bytes(at(fixed, 32));
    usage.namespace = at(fixed, 48);
    usage.subscription = at(fixed, 64);
    usage.plan_version = at(fixed, 80);
    usage.period_start = i64::from_le_bytes(at(fixed, 40));
    usage.application = at(fixed, 96);
    usage.api_key = at(fixed, 112);
    usage.route = at(fixed, 128);
    usage.status = u16::from_le_bytes(at(fixed, 2));
    usage.answered_by = if flags & FLAG_UPSTREAM == 0 { AnsweredBy::Gateway } else { AnsweredBy::Upstream };
    usage.key_mode = if flags & FLAG_TEST == 0 { KeyMode::Live } else { KeyMode::Test };
    usage.outcome = outcome;
    record.kind = kind;
    record.receipt = u64::from_le_bytes(at(fixed, 16));
    record.part = u32::from_le_bytes(at(fixed, 8));
    Ok(())
}

/// `N` bytes of a fixed block.
fn at<const N: usize, const M: usize>(block: &[u8; M], offset: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&block[offset..offset + N]);
    out
}

/// `N` bytes of a slice, if it is long enough.
fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset + N)?.try_into().ok()
}
