//! Typed, prefixed identifiers.
//!
//! Every entity's id is a UUIDv7 in memory, in Postgres (`uuid`) and in the journal (16 bytes). People, URLs and JSON see it as a
//! [TypeID](https://github.com/jetify-com/typeid/tree/main/spec): a three-letter-ish prefix, `_`, and the 128 bits as 26 characters of
//! Crockford's base32 in lower case, for example `key_01jd3v9z2mf8r9n2xw7q4c5t6h`. The prefix makes an id of the wrong kind an error where it
//! enters, and makes a line of a log readable.

mod base32;

use std::{fmt, str::FromStr};

pub use uuid::Uuid;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// The text does not start with the prefix of this kind of id.
    #[error("expected an id that starts with `{expected}_`")]
    Prefix {
        /// The prefix that this kind of id has.
        expected: &'static str,
    },
    /// What follows the prefix is not 26 characters of base32 that hold 128 bits.
    #[error("`{prefix}_` must be followed by 26 characters of lower-case base32")]
    Suffix {
        /// The prefix that this kind of id has.
        prefix: &'static str,
    },
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix of this kind of id, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// Takes a UUID as an id of this kind.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// A new id, ordered by the time of its making (UUIDv7).
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The UUID inside.
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// The 16 bytes that the journal stores.
            pub const fn bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }

            /// Reads what [`Self::bytes`] wrote.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(base32::encode(concat!($prefix, "_"), self.0.as_u128(), &mut [0; base32::MAX_BYTES]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let suffix = text
                    .strip_prefix(concat!($prefix, "_"))
                    .ok_or(ParseIdError::Prefix { expected: $prefix })?;
                base32::decode(suffix)
                    .map(|bits| Self(Uuid::from_u128(bits)))
                    .ok_or(ParseIdError::Suffix { prefix: $prefix })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                // In one piece: `collect_str` hands on what `Display` writes bit by bit, each through the serializer's escaping.
                serializer.serialize_str(base32::encode(concat!($prefix, "_"), self.0.as_u128(), &mut [0; base32::MAX_BYTES]))
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // A visitor reads the text where it stands; batches of usage hold hundreds of thousands of ids.
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "an id that starts with `{}_`", $prefix)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        #[cfg(feature = "utoipa")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some(concat!("^", $prefix, "_[0-7][0-9a-hjkmnp-tv-z]{25}$")))
                    .examples([concat!($prefix, "_01jd3v9z2mf8r9n2xw7q4c5t6h")])
                    .into()
            }
        }

        #[cfg(feature = "utoipa")]
        impl utoipa::ToSchema for $name {}
    };
}

id!(/** A person who signs in. */ UserId, "usr");
id!(/** The organization that signs up, pays and owns a namespace. */ TenantId, "ten");
id!(/** A tenant's isolation scope. */ NamespaceId, "ns");
id!(/** A registered client program of a tenant. */ ApplicationId, "app");
id!(/** An API key. */ ApiKeyId, "key");
id!(/** A tenant's application on a plan version. */ SubscriptionId, "sub");
id!(/** What is listed and sold as one documented API. */ ApiProductId, "prd");
id!(/** One imported edition of an OpenAPI document. */ SpecId, "spec");
id!(/** A backend. */ ServiceId, "svc");
id!(/** A match rule of the gateway. */ RouteId, "rte");
id!(/** What is counted, and how. */ MeterId, "mtr");
id!(/** An offer. */ PlanId, "pln");
id!(/** An immutable edition of a plan. */ PlanVersionId, "plv");
id!(/** A meter or a fixed fee with its price. */ RateCardId, "rcd");
id!(/** An invoice. */ InvoiceId, "inv");
id!(/** An invitation to an organization. */ InvitationId, "invite");
id!(/** A metering gateway. */ GatewayId, "gw");
id!(/** A slice of a hard quota in a gateway's hands. */ LeaseId, "lse");
id!(/** The journal of one gateway folder. */ JournalId, "jrn");
id!(/** A mail that the portal sends. */ MailId, "mail");
id!(/** A job of the worker. */ JobId, "job");
id!(/** A token for the REST API. */ ApiTokenId, "tok");
id!(/** An entry of the audit log. */ AuditId, "aud");
id!(/** A difference that reconciliation found. */ DifferenceId, "dif");
id!(/** A correction of usage. */ CorrectionId, "cor");

impl NamespaceId {
    /// The namespace of a tenant. Every tenant owns exactly one namespace, and both carry the same UUID, so that rows keyed by tenant and rows
    /// keyed by namespace can be distributed over database nodes by one value.
    pub const fn of(tenant: TenantId) -> Self {
        Self::from_uuid(tenant.uuid())
    }

    /// The tenant that owns this namespace.
    pub const fn tenant(self) -> TenantId {
        TenantId::from_uuid(self.uuid())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matches_the_examples_of_the_typeid_specification() {
        let cases = [
            ("00000000000000000000000000", "00000000-0000-0000-0000-000000000000"),
            ("00000000000000000000000001", "00000000-0000-0000-0000-000000000001"),
            ("0000000000000000000000000g", "00000000-0000-0000-0000-000000000010"),
            ("7zzzzzzzzzzzzzzzzzzzzzzzzz", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
            ("0123456789abcdefghjkmnpqrs", "0110c853-1d09-52d8-d73e-1194e95b5f19"),
            ("01h455vb4pex5vsknk084sn02q", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ];
        for (suffix, uuid) in cases {
            let id: ApiKeyId = format!("key_{suffix}").parse().expect(suffix);
            assert_eq!(id.uuid().to_string(), uuid);
            assert_eq!(id.to_string(), format!("key_{suffix}"));
        }
    }

    #[test]
    fn refuses_other_kinds_and_malformed_suffixes() {
        assert_eq!("ten_01h455vb4pex5vsknk084sn02q".parse::<ApiKeyId>(), Err(ParseIdError::Prefix { expected: "key" }));
        for suffix in
            ["", "01h455vb4pex5vsknk084sn02", "81h455vb4pex5vsknk084sn02q", "01H455VB4PEX5VSKNK084SN02Q", "01h455vb4pex5vsknk084sn02u"]
        {
            assert_eq!(format!("key_{suffix}").parse::<ApiKeyId>(), Err(ParseIdError::Suffix { prefix: "key" }), "{suffix}");
        }
    }

    proptest! {
        #[test]
        fn text_and_json_round_trip(bits: u128) {
            let id = SubscriptionId::from_uuid(Uuid::from_u128(bits));
            prop_assert_eq!(id.to_string().parse::<SubscriptionId>(), Ok(id));
            let json = serde_json::to_string(&id).expect("an id is a JSON string");
            prop_assert_eq!(serde_json::from_str::<SubscriptionId>(&json).expect("the JSON just written"), id);
            prop_assert_eq!(SubscriptionId::from_bytes(id.bytes()), id);
        }
    }
}
