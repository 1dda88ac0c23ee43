//! Crockford's base32 in lower case for exactly 128 bits, as the TypeID specification has it: 26 characters, the first one at most `7`.

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The value of each character, or 255.
const VALUES: [u8; 256] = {
    let mut values = [255; 256];
    let mut i = 0;
    while i < 32 {
        values[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    values
};

/// The longest prefix that is written before the characters, with its underscore.
const MAX_PREFIX_BYTES: usize = 14;
/// Room for any id.
pub(crate) const MAX_BYTES: usize = MAX_PREFIX_BYTES + 26;

/// Writes a prefix of at most [`MAX_PREFIX_BYTES`] and the characters.
pub(crate) fn encode<'a>(prefix: &str, bits: u128, out: &'a mut [u8; MAX_BYTES]) -> &'a str {
    let (before, rest) = out.split_at_mut(prefix.len());
    before.copy_from_slice(prefix.as_bytes());
    // In two halves of 13 characters: shifting the whole number for each character costs several times as much.
    let (mut high, mut low) = ((bits >> 65) as u64, bits & ((1 << 65) - 1));
    for slot in rest[13..26].iter_mut().rev() {
        (*slot, low) = (ALPHABET[low as usize & 31], low >> 5);
    }
    for slot in rest[..13].iter_mut().rev() {
        (*slot, high) = (ALPHABET[high as usize & 31], high >> 5);
    }
    let end = prefix.len() + 26;
    std::str::from_utf8(&out[..end]).unwrap_or_default()
}

pub(crate) fn decode(text: &str) -> Option<u128> {
    let text = text.as_bytes();
    if text.len() != 26 || text[0] > b'7' {
        return None;
    }
    text.iter().try_fold(0_u128, |bits, &character| {
        let value = VALUES[usize::from(character)];
        (value < 32).then_some(bits << 5 | u128::from(value))
    })
}
