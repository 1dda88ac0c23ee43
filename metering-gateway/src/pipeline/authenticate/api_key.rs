//! API keys (SEMANTICS P5): garbage is refused by its checksum before anything is looked up, and only the digest says whose a key is.

use calendar::Timestamp;
use gateway_control::credential::{self, CredentialKind, KeyDigest};
use http::{HeaderMap, header};

use crate::{
    metrics::CoreMetrics,
    pipeline::{headers::KeyPlace, respond::Failure},
    policy::{entries::CompiledKey, index::Index},
};

/// What a caller shows that could be a key. It is a secret.
pub struct Shown<'a> {
    text: &'a [u8],
    /// Where it stood.
    pub place: KeyPlace,
}

impl Shown<'_> {
    /// By what it is looked up, and an open exchange checked again.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of(self.text)
    }

    /// What differs between any two keys that were given out, and proves nothing: that takes the digest. It tells 64 of the 190 random bits of a key, so it may
    /// be kept where no key may.
    pub fn distinction(&self) -> u64 {
        let random = self.text.get(CredentialKind::PREFIX_LEN..).unwrap_or_default();
        random.as_chunks().0.iter().fold(0, |mixed: u64, piece| mixed.rotate_left(16) ^ u64::from_le_bytes(*piece))
    }
}

/// Takes the caller's key.
///
/// # Errors
/// When there is none, or it is garbage.
pub fn shown(headers: &HeaderMap) -> Result<Shown<'_>, Failure> {
    let (text, place) = presented(headers)?;
    match credential::kind_of(text) {
        Some(CredentialKind::Live | CredentialKind::Test) => (),
        _ => return Err(Failure::KeyInvalid),
    }
    Ok(Shown { text, place })
}

/// Finds a key that is good now.
///
/// # Errors
/// When it is unknown or expired.
pub fn find<'a>(index: &'a Index, digest: &KeyDigest, now: Timestamp, metrics: &CoreMetrics) -> Result<&'a CompiledKey, Failure> {
    let key = index.keys.get(digest).ok_or_else(|| {
        metrics.unknown_key();
        Failure::KeyInvalid
    })?;
    if key.expired(now) {
        return Err(Failure::KeyInvalid);
    }
    Ok(key)
}

/// The one credential that a caller sent: `x-api-key`, else `authorization: Bearer`. Two of a kind are refused, because what stands behind the gateway
/// may read the other one.
fn presented(headers: &HeaderMap) -> Result<(&[u8], KeyPlace), Failure> {
    let only = |name: header::HeaderName| {
        let mut values = headers.get_all(name).iter();
        let first = values.next().map(|value| value.as_bytes());
        if values.next().is_some() { Err(Failure::KeyInvalid) } else { Ok(first) }
    };
    if let Some(key) = only(header::HeaderName::from_static(gateway_control::headers::API_KEY))? {
        return Ok((key.trim_ascii(), KeyPlace::ApiKey));
    }
    let authorization = only(header::AUTHORIZATION)?.ok_or(Failure::KeyMissing)?;
    let (scheme, token) = authorization.split_at_checked(7).ok_or(Failure::KeyMissing)?;
    if scheme.eq_ignore_ascii_case(b"bearer ") { Ok((token.trim_ascii(), KeyPlace::Authorization)) } else { Err(Failure::KeyMissing) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        fields.iter().for_each(|(name, value)| _ = map.append(*name, HeaderValue::from_static(value)));
        map
    }

    #[test]
    fn finds_the_one_credential() {
        let found = |fields: &[(&'static str, &'static str)]| {
            presented(&headers(fields)).map(|(text, place)| (text.to_vec(), place)).map_err(|failure| failure.slug())
        };
        assert_eq!(found(&[("x-api-key", "k")]), Ok((b"k".to_vec(), KeyPlace::ApiKey)));
        assert_eq!(found(&[("authorization", "bearer  k ")]), Ok((b"k".to_vec(), KeyPlace::Authorization)));
        assert_eq!(found(&[("authorization", "Bearer other"), ("x-api-key", "k")]), Ok((b"k".to_vec(), KeyPlace::ApiKey)));
        assert_eq!(found(&[("authorization", "Basic a2s6")]), Err("key-missing"));
        assert_eq!(found(&[]), Err("key-missing"));
        assert_eq!(found(&[("x-api-key", "a"), ("x-api-key", "b")]), Err("key-invalid"));
    }
}
