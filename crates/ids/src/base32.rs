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

pub(crate) fn encode(bits: u128, out: &mut [u8; 26]) -> &str {
    for (i, slot) in out.iter_mut().enumerate() {
        *slot = ALPHABET[(bits >> (5 * (25 - i))) as usize & 31];
    }
    std::str::from_utf8(out).unwrap_or_default()
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
