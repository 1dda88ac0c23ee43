//! Randomness from the operating system, for secrets.

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Fills a buffer.
pub fn fill(buffer: &mut [u8]) -> Result<()> {
    getrandom::fill(buffer).map_err(|error| Error::internal(anyhow::anyhow!("the operating system gave no random bytes: {error}")))
}

/// A secret of 256 bits for a cookie or a link, and the digest under which it is stored.
pub fn token() -> Result<(String, Vec<u8>)> {
    let mut bytes = [0; 32];
    fill(&mut bytes)?;
    let text = hex::encode(bytes);
    let digest = token_digest(&text);
    Ok((text, digest))
}

/// The digest of a token that came back.
pub fn token_digest(text: &str) -> Vec<u8> {
    Sha256::digest(text.as_bytes()).to_vec()
}
