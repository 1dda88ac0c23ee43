//! API keys and gateway credentials: their shape, their checksum, their digest.
//!
//! A credential is a prefix, 32 random base62 characters, and 6 base62 characters of the CRC-32 (IEEE) of all that stands before them. The
//! checksum lets the gateway and secret scanners reject garbage without a look-up. Only the SHA-256 of the whole text is ever stored.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM_LEN: usize = 32;
const CHECKSUM_LEN: usize = 6;

/// What a credential opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// `tk_live_`: an API key that reaches the real upstreams and is billed.
    Live,
    /// `tk_test_`: an API key that reaches sandbox upstreams only and is never billed.
    Test,
    /// `tk_gway_`: a gateway's own credential for the portal.
    Gateway,
    /// `tk_rest_`: a token for the portal's REST API.
    Rest,
}

impl CredentialKind {
    const ALL: [Self; 4] = [Self::Live, Self::Test, Self::Gateway, Self::Rest];
    /// How many characters a prefix has.
    pub const PREFIX_LEN: usize = 8;

    /// What the text of such a credential starts with; always eight characters.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Live => "tk_live_",
            Self::Test => "tk_test_",
            Self::Gateway => "tk_gway_",
            Self::Rest => "tk_rest_",
        }
    }
}

/// The length of every credential's text.
pub const CREDENTIAL_LEN: usize = CredentialKind::PREFIX_LEN + RANDOM_LEN + CHECKSUM_LEN;

/// A well-formed credential. It is a secret: `Debug` shows the prefix only, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    kind: CredentialKind,
    text: String,
}

impl Credential {
    /// Makes a credential from random bytes. Each byte below 248 gives one unbiased base62 character; `random` is called again until there are
    /// enough of them.
    pub fn generate<E>(kind: CredentialKind, mut random: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut text = String::with_capacity(CREDENTIAL_LEN);
        text.push_str(kind.prefix());
        let mut bytes = [0; 64];
        while text.len() < CredentialKind::PREFIX_LEN + RANDOM_LEN {
            random(&mut bytes)?;
            let room = CredentialKind::PREFIX_LEN + RANDOM_LEN - text.len();
            text.extend(bytes.iter().filter(|byte| **byte < 248).take(room).map(|byte| char::from(BASE62[usize::from(byte % 62)])));
        }
        let checksum = checksum(text.as_bytes());
        text.extend(checksum.map(char::from));
        Ok(Self { kind, text })
    }

    /// Reads a credential; `None` if the shape or the checksum is wrong.
    pub fn parse(text: &str) -> Option<Self> {
        kind_of(text.as_bytes()).map(|kind| Self { kind, text: text.to_owned() })
    }

    /// What it opens.
    pub fn kind(&self) -> CredentialKind {
        self.kind
    }

    /// The secret text, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// What is stored and looked up.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of(self.text.as_bytes())
    }

    /// The last four characters, by which a person recognizes the credential in a list. They belong to the checksum's end, so they give away
    /// less of the random part than any other four.
    pub fn hint(&self) -> &str {
        &self.text[CREDENTIAL_LEN - 4..]
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}…)", self.kind.prefix())
    }
}

/// The kind of a credential whose shape and checksum are right; `None` for garbage. Allocates nothing.
pub fn kind_of(text: &[u8]) -> Option<CredentialKind> {
    if text.len() != CREDENTIAL_LEN {
        return None;
    }
    let kind = CredentialKind::ALL.into_iter().find(|kind| text.starts_with(kind.prefix().as_bytes()))?;
    let (head, tail) = text.split_at(CREDENTIAL_LEN - CHECKSUM_LEN);
    let well_formed = head[CredentialKind::PREFIX_LEN..].iter().all(u8::is_ascii_alphanumeric) && checksum(head) == tail;
    well_formed.then_some(kind)
}

fn checksum(head: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut crc = crc32fast::hash(head);
    let mut out = [b'0'; CHECKSUM_LEN];
    for slot in out.iter_mut().rev() {
        *slot = BASE62[(crc % 62) as usize];
        crc /= 62;
    }
    out
}

/// The SHA-256 of a credential's text. JSON has it in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyDigest(pub [u8; 32]);

impl KeyDigest {
    /// The digest of a credential's text.
    pub fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for KeyDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for KeyDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let mut digest = [0; 32];
        hex::decode_to_slice(text.as_bytes(), &mut digest).map_err(|_| serde::de::Error::custom("expected 64 hexadecimal characters"))?;
        Ok(Self(digest))
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for KeyDigest {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("A SHA-256 digest in lower-case hexadecimal."))
            .pattern(Some("^[0-9a-f]{64}$"))
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for KeyDigest {
    fn name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting() -> impl FnMut(&mut [u8]) -> Result<(), std::convert::Infallible> {
        let mut next = 0_u8;
        move |bytes| {
            for byte in bytes {
                *byte = next;
                next = next.wrapping_add(7);
            }
            Ok(())
        }
    }

    /// The golden key of format version 1 (P5): it must parse for ever.
    #[test]
    fn the_format_is_frozen() {
        let Ok(key) = Credential::generate(CredentialKind::Live, counting());
        assert_eq!(key.reveal(), "tk_live_07ELSZgnu18FMTahov29GNUbipw3AHOV0NjM5q");
        assert_eq!(Credential::parse(key.reveal()), Some(key.clone()));
        assert_eq!(key.hint(), "jM5q");
        assert_eq!(format!("{key:?}"), "Credential(tk_live_…)");
    }

    #[test]
    fn every_single_changed_character_is_rejected() {
        let Ok(key) = Credential::generate(CredentialKind::Test, counting());
        for at in 0..CREDENTIAL_LEN {
            let mut text = key.reveal().as_bytes().to_vec();
            text[at] = if text[at] == b'a' { b'b' } else { b'a' };
            assert_eq!(kind_of(&text), None, "position {at}");
        }
        assert_eq!(kind_of(b""), None);
        assert_eq!(Credential::parse(&key.reveal()[1..]), None);
    }
}
