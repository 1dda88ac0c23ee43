//! The items of a frame: a tag, then what it says. Keys, of which there are many, have a fixed form of [`KEY_BYTES`]; the rest is JSON after its length.

use std::io;

use calendar::Timestamp;
use gateway_control::{
    credential::KeyDigest,
    policy::{EntryId, PolicyEntry, Subscription},
    usage::Mode,
};
use ids::{ApiKeyId, ApplicationId, NamespaceId};
use serde::Serialize;

use super::damaged;
use crate::policy::{
    entries::{CompiledKey, CompiledSubscription},
    store::Change,
};

const TAG_FEW: u8 = 1;
const TAG_SUBSCRIPTION: u8 = 2;
const TAG_KEY: u8 = 3;
const TAG_GONE: u8 = 4;

/// Digest, id, namespace, application, mode, end (microseconds; `i64::MIN` for none).
const KEY_BYTES: usize = 32 + 3 * 16 + 1 + 8;

/// Appends an item.
pub fn write(out: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Few(entry) => write_json(out, TAG_FEW, entry),
        Change::Subscription(subscription) => write_json(out, TAG_SUBSCRIPTION, &subscription.source()),
        Change::Gone(id) => write_json(out, TAG_GONE, id),
        Change::Key(key) => write_key(out, key),
    }
}

/// Appends a key.
pub fn write_key(out: &mut Vec<u8>, key: &CompiledKey) {
    out.push(TAG_KEY);
    out.extend(key.digest.0);
    for id in [key.id.bytes(), key.namespace.bytes(), key.application.bytes()] {
        out.extend(id);
    }
    out.push(match key.mode {
        Mode::Live => 0,
        Mode::Test => 1,
    });
    out.extend(key.expires_at.map_or(i64::MIN, Timestamp::micros).to_le_bytes());
}

/// Appends what JSON says best.
pub fn write_json(out: &mut Vec<u8>, tag: u8, value: &impl Serialize) {
    let json = serde_json::to_vec(value).expect("entries have string keys and no failing parts");
    let length = u32::try_from(json.len()).expect("an entry came in a line of at most 16 MiB");
    out.push(tag);
    out.extend(length.to_le_bytes());
    out.extend(json);
}

/// Appends an entry of the few kinds.
pub fn write_few(out: &mut Vec<u8>, entry: &PolicyEntry) {
    write_json(out, TAG_FEW, entry);
}

/// Appends a subscription.
pub fn write_subscription(out: &mut Vec<u8>, subscription: &CompiledSubscription) {
    write_json(out, TAG_SUBSCRIPTION, &subscription.source());
}

/// The items of a frame. The outer error is damage; the inner one an item that this software cannot read.
pub fn read(items: &[u8]) -> impl Iterator<Item = io::Result<Result<Change, String>>> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let (tag, behind) = rest.split_first()?;
        let read = read_one(*tag, behind);
        rest = read.as_ref().map_or(&[], |(_, behind)| behind);
        Some(read.map(|(change, _)| change))
    })
}

type Read<'a> = (Result<Change, String>, &'a [u8]);

fn read_one(tag: u8, behind: &[u8]) -> io::Result<Read<'_>> {
    if tag == TAG_KEY {
        let (key, behind) = behind.split_first_chunk().ok_or_else(|| damaged(&"a key is cut off"))?;
        return Ok((read_key(key).map(Change::Key), behind));
    }
    let (length, behind) = behind.split_first_chunk().ok_or_else(|| damaged(&"an item is cut off"))?;
    let (json, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(|| damaged(&"an item is cut off"))?;
    let change = match tag {
        TAG_FEW => serde_json::from_slice::<PolicyEntry>(json).map(Change::Few).map_err(|error| error.to_string()),
        TAG_SUBSCRIPTION => serde_json::from_slice::<Subscription>(json)
            .map_err(|error| error.to_string())
            .and_then(|subscription| CompiledSubscription::compile(&subscription).map(Change::Subscription)),
        TAG_GONE => serde_json::from_slice::<EntryId>(json).map(Change::Gone).map_err(|error| error.to_string()),
        other => Err(format!("its kind {other} is not known")),
    };
    Ok((change, behind))
}

fn read_key(bytes: &[u8; KEY_BYTES]) -> Result<CompiledKey, String> {
    let (digest, ids) = bytes.split_first_chunk::<32>().expect("a key has more bytes");
    let (ids, rest) = ids.split_first_chunk::<48>().expect("a key has more bytes");
    let id = |at: usize| -> [u8; 16] { std::array::from_fn(|byte| ids[at * 16 + byte]) };
    let mode = match rest[0] {
        0 => Mode::Live,
        1 => Mode::Test,
        other => return Err(format!("a key's mode {other} is not known")),
    };
    let end = i64::from_le_bytes(std::array::from_fn(|byte| rest[1 + byte]));
    Ok(CompiledKey {
        digest: KeyDigest(*digest),
        id: ApiKeyId::from_bytes(id(0)),
        namespace: NamespaceId::from_bytes(id(1)),
        application: ApplicationId::from_bytes(id(2)),
        mode,
        expires_at: (end != i64::MIN).then(|| Timestamp::from_micros(end)),
    })
}
