//! Currencies of ISO 4217.

use std::{fmt, str::FromStr};

/// A currency that is in use, with the number of decimals of its smallest unit.
///
/// The table holds every active currency of ISO 4217 list one as published on 2026-01-01, without metals, test codes and units of account
/// (XDR, CLF, USN and the like), in which nobody pays an invoice. A currency that is withdrawn stays in the table, so that old invoices can be read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: [u8; 3],
    exponent: u8,
}

/// The text is not the code of an active currency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an active ISO 4217 currency: use a code of three capital letters, like USD, EUR or JPY")]
pub struct CurrencyError(String);

impl Currency {
    /// The United States dollar.
    pub const USD: Self = entry(b"USD", 2);
    /// The euro.
    pub const EUR: Self = entry(b"EUR", 2);
    /// The pound sterling.
    pub const GBP: Self = entry(b"GBP", 2);
    /// The yen, which has no smaller unit.
    pub const JPY: Self = entry(b"JPY", 0);

    /// Every currency of the table, ordered by code.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        TABLE.iter().copied()
    }

    /// The three letters.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.code).expect("the table holds ASCII letters only")
    }

    /// How many decimals the smallest unit has: 2 for cents, 0 for yen, 3 for Kuwaiti fils.
    pub const fn exponent(&self) -> u32 {
        self.exponent as u32
    }
}

impl FromStr for Currency {
    type Err = CurrencyError;

    fn from_str(text: &str) -> Result<Self, CurrencyError> {
        TABLE
            .binary_search_by(|currency| currency.code.as_slice().cmp(text.as_bytes()))
            .map(|index| TABLE[index])
            .map_err(|_| CurrencyError(text.chars().take(16).collect()))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl serde::Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> serde::Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "utoipa")]
impl utoipa::PartialSchema for Currency {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^[A-Z]{3}$"))
            .description(Some("An active ISO 4217 currency."))
            .examples(["USD"])
            .into()
    }
}

#[cfg(feature = "utoipa")]
impl utoipa::ToSchema for Currency {}

const fn entry(code: &[u8; 3], exponent: u8) -> Currency {
    Currency { code: *code, exponent }
}

/// Ordered by code, so that a look-up is a binary search.
#[rustfmt::skip]
const TABLE: &[Currency] = &[
    entry(b"AED", 2), entry(b"AFN", 2), entry(b"ALL", 2), entry(b"AMD", 2), entry(b"AOA", 2),
    entry(b"ARS", 2), entry(b"AUD", 2), entry(b"AWG", 2), entry(b"AZN", 2), entry(b"BAM", 2),
    entry(b"BBD", 2), entry(b"BDT", 2), entry(b"BHD", 3), entry(b"BIF", 0), entry(b"BMD", 2),
    entry(b"BND", 2), entry(b"BOB", 2), entry(b"BRL", 2), entry(b"BSD", 2), entry(b"BTN", 2),
    entry(b"BWP", 2), entry(b"BYN", 2), entry(b"BZD", 2), entry(b"CAD", 2), entry(b"CDF", 2),
    entry(b"CHF", 2), entry(b"CLP", 0), entry(b"CNY", 2), entry(b"COP", 2), entry(b"CRC", 2),
    entry(b"CUP", 2), entry(b"CVE", 2), entry(b"CZK", 2), entry(b"DJF", 0), entry(b"DKK", 2),
    entry(b"DOP", 2), entry(b"DZD", 2), entry(b"EGP", 2), entry(b"ERN", 2), entry(b"ETB", 2),
    entry(b"EUR", 2), entry(b"FJD", 2), entry(b"FKP", 2), entry(b"GBP", 2), entry(b"GEL", 2),
    entry(b"GHS", 2), entry(b"GIP", 2), entry(b"GMD", 2), entry(b"GNF", 0), entry(b"GTQ", 2),
    entry(b"GYD", 2), entry(b"HKD", 2), entry(b"HNL", 2), entry(b"HTG", 2), entry(b"HUF", 2),
    entry(b"IDR", 2), entry(b"ILS", 2), entry(b"INR", 2), entry(b"IQD", 3), entry(b"IRR", 2),
    entry(b"ISK", 0), entry(b"JMD", 2), entry(b"JOD", 3), entry(b"JPY", 0), entry(b"KES", 2),
    entry(b"KGS", 2), entry(b"KHR", 2), entry(b"KMF", 0), entry(b"KPW", 2), entry(b"KRW", 0),
    entry(b"KWD", 3), entry(b"KYD", 2), entry(b"KZT", 2), entry(b"LAK", 2), entry(b"LBP", 2),
    entry(b"LKR", 2), entry(b"LRD", 2), entry(b"LSL", 2), entry(b"LYD", 3), entry(b"MAD", 2),
    entry(b"MDL", 2), entry(b"MGA", 2), entry(b"MKD", 2), entry(b"MMK", 2), entry(b"MNT", 2),
    entry(b"MOP", 2), entry(b"MRU", 2), entry(b"MUR", 2), entry(b"MVR", 2), entry(b"MWK", 2),
    entry(b"MXN", 2), entry(b"MYR", 2), entry(b"MZN", 2), entry(b"NAD", 2), entry(b"NGN", 2),
    entry(b"NIO", 2), entry(b"NOK", 2), entry(b"NPR", 2), entry(b"NZD", 2), entry(b"OMR", 3),
    entry(b"PAB", 2), entry(b"PEN", 2), entry(b"PGK", 2), entry(b"PHP", 2), entry(b"PKR", 2),
    entry(b"PLN", 2), entry(b"PYG", 0), entry(b"QAR", 2), entry(b"RON", 2), entry(b"RSD", 2),
    entry(b"RUB", 2), entry(b"RWF", 0), entry(b"SAR", 2), entry(b"SBD", 2), entry(b"SCR", 2),
    entry(b"SDG", 2), entry(b"SEK", 2), entry(b"SGD", 2), entry(b"SHP", 2), entry(b"SLE", 2),
    entry(b"SOS", 2), entry(b"SRD", 2), entry(b"SSP", 2), entry(b"STN", 2), entry(b"SVC", 2),
    entry(b"SYP", 2), entry(b"SZL", 2), entry(b"THB", 2), entry(b"TJS", 2), entry(b"TMT", 2),
    entry(b"TND", 3), entry(b"TOP", 2), entry(b"TRY", 2), entry(b"TTD", 2), entry(b"TWD", 2),
    entry(b"TZS", 2), entry(b"UAH", 2), entry(b"UGX", 0), entry(b"USD", 2), entry(b"UYU", 2),
    entry(b"UZS", 2), entry(b"VED", 2), entry(b"VES", 2), entry(b"VND", 0), entry(b"VUV", 0),
    entry(b"WST", 2), entry(b"XAF", 0), entry(b"XCD", 2), entry(b"XCG", 2), entry(b"XOF", 0),
    entry(b"XPF", 0), entry(b"YER", 2), entry(b"ZAR", 2), entry(b"ZMW", 2), entry(b"ZWG", 2),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ordered_and_every_code_parses_to_itself() {
        assert!(TABLE.is_sorted_by(|a, b| a.code < b.code));
        assert_eq!(Currency::all().len(), 155);
        for currency in Currency::all() {
            assert_eq!(currency.code().parse(), Ok(currency));
            assert!(currency.exponent() <= 3, "{currency}");
        }
    }

    #[test]
    fn exponents_are_those_of_iso_4217() {
        for (code, exponent) in [("USD", 2), ("JPY", 0), ("KRW", 0), ("ISK", 0), ("UGX", 0), ("BHD", 3), ("TND", 3), ("MRU", 2), ("XCG", 2)]
        {
            assert_eq!(code.parse::<Currency>().expect(code).exponent(), exponent, "{code}");
        }
    }

    #[test]
    fn refuses_what_is_not_an_active_currency() {
        for text in ["", "usd", "US", "USDX", "HRK", "XAU", "XXX", "CLF", "€"] {
            assert_eq!(text.parse::<Currency>(), Err(CurrencyError(text.into())), "{text}");
        }
        assert_eq!(
            serde_json::from_str::<Currency>("\"usd\"").expect_err("lower case").to_string(),
            "`usd` is not an active ISO 4217 currency: use a code of three capital letters, like USD, EUR or JPY"
        );
    }
}
