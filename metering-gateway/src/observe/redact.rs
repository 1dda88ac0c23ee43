//! No credential leaves by the log or by a span (SEMANTICS A3).
//!
//! Headers that carry credentials are never looked at. A path, a query or a user agent may hold one all the same, so what looks like one of ours is taken
//! out wherever it stands, and in a query the values of all names that commonly carry one.

use std::borrow::Cow;

use gateway_control::credential::CREDENTIAL_LEN;
use url::form_urlencoded;

/// What stands in place of what was taken out.
pub const REDACTED: &str = "REDACTED";
/// What every credential of ours starts with.
const OURS: &str = "tk_";
/// Words of names whose values are credentials, or grants that are as good as one. Names that are written in one piece, such as `apikey`, are words too.
const SECRET_WORDS: [&str; 45] = [
    "accesskey",
    "apikey",
    "assertion",
    "auth",
    "authkey",
    "authorization",
    "bearer",
    "cred",
    "credential",
    "credentials",
    "creds",
    "csrf",
    "hmac",
    "jwt",
    "key",
    "keys",
    "oauth",
    "otp",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "pin",
    "privatekey",
    "pwd",
    "samlart",
    "samlresponse",
    "secret",
    "secretkey",
    "secrets",
    "sess",
    "sessid",
    "session",
    "sessionid",
    "sid",
    "sig",
    "signature",
    "token",
    "tokens",
    "totp",
    "userpass",
    "verifier",
    "wresult",
    "xsrf",
];
/// What words end in that are two in one piece, such as `clientsecret` and `jsessionid`; no other words do.
const SECRET_ENDS: [&str; 10] =
    ["apikey", "assertion", "credential", "credentials", "passwd", "password", "secret", "sessid", "sessionid", "token"];
/// Whole names of that kind which mean something else inside others, such as in `country_code`.
const SECRET_NAMES: [&str; 2] = ["code", "pass"];

/// A text without credentials of ours. What follows their beginning is taken out for the length of a credential, so that a mistyped one goes too.
pub fn text(text: &str) -> Cow<'_, str> {
    if !holds_ours(text) {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = find_ours(rest) {
        out.push_str(&rest[..at]);
        out.push_str(REDACTED);
        let secret = &rest[at..];
        let end =
            secret.char_indices().take(CREDENTIAL_LEN + 8).find(|(_, c)| !(c.is_ascii_alphanumeric() || *c == '_')).map(|(end, _)| end);
        rest = &secret[end.unwrap_or_else(|| secret.char_indices().nth(CREDENTIAL_LEN + 8).map_or(secret.len(), |(end, _)| end))..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The same of what may have escapes. What hides a credential in them is taken out whole.
pub fn escaped(given: &str) -> Cow<'_, str> {
    if given.contains('%') && holds_ours(&decoded(given)) { Cow::Borrowed(REDACTED) } else { text(given) }
}

/// Whether a text holds a credential of ours, plain or in escapes.
pub fn holds_credential(text: &str) -> bool {
    holds_ours(text) || text.contains('%') && holds_ours(&decoded(text))
}

/// A path without credentials, and without the values of parameters of its segments whose names carry credentials, such as `;jsessionid=…`.
pub fn path(path: &str) -> Cow<'_, str> {
    if !path.contains(';') {
        return escaped(path);
    }
    let mut parts = path.split(';');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (parameter, rest) = part.split_at(part.find('/').unwrap_or(part.len()));
        let secret = parameter.split_once('=').filter(|(name, value)| !value.is_empty() && is_secret(&decoded(name)));
        let kept = secret.map_or_else(|| parameter.to_owned(), |(name, _)| format!("{name}={REDACTED}"));
        out.extend([";", &kept, rest]);
    }
    Cow::Owned(escaped(&out).into_owned())
}

/// A query without the values of names that carry credentials, also where they stand in a query inside a value.
pub fn query(query: &str) -> String {
    let parts = query.split('&').map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let plain = decoded(value);
        if is_secret(&decoded(name)) && !value.is_empty() || holds_ours(&plain) || has_secret(&plain) {
            format!("{}={REDACTED}", text(name))
        } else if holds_ours(&decoded(name)) {
            REDACTED.to_owned()
        } else {
            part.to_owned()
        }
    });
    parts.collect::<Vec<_>>().join("&")
}

/// Whether a value has a query of its own, or a part of a URL that looks like one, with a name that carries credentials.
fn has_secret(value: &str) -> bool {
    let mut pairs = value.split(['?', '#', '&', ';']).filter_map(|pair| pair.split_once('='));
    pairs.any(|(name, value)| !value.is_empty() && is_secret(name))
}

fn is_secret(name: &str) -> bool {
    SECRET_NAMES.iter().any(|secret| name.eq_ignore_ascii_case(secret)) || words(name).any(is_secret_word)
}

/// The words of a name: they end at what is no letter and no digit, and where a capital letter follows a small one.
fn words(name: &str) -> impl Iterator<Item = &str> {
    let pieces = name.split(|c: char| !c.is_ascii_alphanumeric());
    pieces.flat_map(|piece| {
        let bytes = piece.as_bytes();
        let ends = (1..bytes.len()).filter(|at| bytes[at - 1].is_ascii_lowercase() && bytes[*at].is_ascii_uppercase());
        let mut from = 0;
        ends.chain([bytes.len()]).map(move |end| &piece[std::mem::replace(&mut from, end)..end])
    })
}

fn is_secret_word(word: &str) -> bool {
    let word = word.trim_end_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase();
    SECRET_WORDS.binary_search(&word.as_str()).is_ok() || SECRET_ENDS.iter().any(|end| word.ends_with(end))
}

fn find_ours(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    // Few texts have the last letter of it at all.
    let ends = (OURS.len()..=bytes.len()).filter(|end| bytes[end - 1] == b'_');
    ends.map(|end| end - OURS.len()).find(|at| bytes[*at..at + OURS.len()].eq_ignore_ascii_case(OURS.as_bytes()))
}

fn holds_ours(text: &str) -> bool {
    find_ours(text).is_some()
}

/// Escapes resolved. Twice, because what stands behind the gateway may do it again.
fn decoded(text: &str) -> String {
    let once = |text: &str| {
        let one_name = text.replace('&', "%26").replace('=', "%3D");
        form_urlencoded::parse(one_name.as_bytes()).map(|(name, _)| name.into_owned()).collect::<String>()
    };
    if text.contains(['%', '+']) { once(&once(text)) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use gateway_control::credential::{Credential, CredentialKind};

    use super::*;

    fn key() -> String {
        Credential::generate(CredentialKind::Live, getrandom::fill).expect("randomness").reveal().to_owned()
    }

    #[test]
    fn what_holds_no_credential_stays() {
        assert_eq!(path("/weather/v1/echo/oslo%20s"), "/weather/v1/echo/oslo%20s");
        assert_eq!(query("city=oslo&days=3&x=%41&empty="), "city=oslo&days=3&x=%41&empty=");
        assert_eq!(text("curl/8.1"), "curl/8.1");
    }

    #[test]
    fn no_credential_of_ours_stays_anywhere() {
        let key = key();
        let secret = &key[8..];
        let escaped: String = key.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let twice = escaped.replace('%', "%25");
        for held in [key.clone(), escaped, twice, key.replace("tk_", "tk%5F"), key.replace("tk_", "TK_")] {
            for out in [
                query(&format!("city={held}&days=3")),
                query(&held),
                query(&format!("a=1&{held}=2")),
                path(&format!("/a/{held}/b")).into_owned(),
            ] {
                let plain = decoded(&out);
                assert!(!plain.contains(secret) && !out.contains("%74%6b") && out.contains(REDACTED), "{held} left {out}");
            }
        }
        assert_eq!(text(&format!("bot ({key}; x)")), "bot (REDACTED; x)");
        assert_eq!(path(&format!("/a/{key}/b")), "/a/REDACTED/b");
    }

    #[test]
    fn values_of_names_that_carry_credentials_are_taken_out() {
        let given = "api_key=1&ApiKey=2&X-Amz-Signature=3&access_token=4&client_secret=5&password=6&code=7&api%5Fkey=8&city=oslo&sig=9";
        let out = query(given);
        assert_eq!(out.matches(REDACTED).count(), 9, "{out}");
        assert!((1..=9).all(|value| !out.contains(&format!("={value}"))) && out.contains("city=oslo"), "{out}");
    }

    #[test]
    fn names_are_told_by_their_words() {
        let secret = [
            "passphrase",
            "bearer",
            "creds",
            "otp",
            "pin",
            "hmac",
            "code_verifier",
            "codeVerifier",
            "SAMLResponse",
            "API-KEY",
            "APIKey",
            "apikey",
            "x.access.token",
            "accesstoken",
            "clientSecret",
            "clientsecret",
            "JSESSIONID",
            "PHPSESSID",
            "key2",
            "oauth_token",
            "user[password]",
            "sig",
            "code",
            "pass",
            "csrfmiddlewaretoken",
        ];
        let plain = [
            "author",
            "keyword",
            "keywords",
            "monkey",
            "hockey",
            "city",
            "country_code",
            "zipCode",
            "compass",
            "shipping",
            "design",
            "opinion",
            "authority",
            "turkey",
            "tokenizer",
            "secretary",
            "q",
            "",
        ];
        for name in secret {
            assert_eq!(query(&format!("{name}=1")), format!("{name}={REDACTED}"));
        }
        for name in plain {
            assert_eq!(query(&format!("{name}=1")), format!("{name}=1"));
        }
        assert!(SECRET_WORDS.is_sorted(), "words are searched for by halves");
    }

    #[test]
    fn credentials_in_parameters_of_a_path_are_taken_out() {
        assert_eq!(path("/a;jsessionid=1;v=2/b;token=3/c"), "/a;jsessionid=REDACTED;v=2/b;token=REDACTED/c");
        assert_eq!(path("/a;v=1;x/b%20c;/d"), "/a;v=1;x/b%20c;/d");
        assert_eq!(path(&format!("/a;v={}/b", key())), "/a;v=REDACTED/b");
    }

    #[test]
    fn credentials_in_a_query_inside_a_value_are_taken_out() {
        for value in [
            "https%3A%2F%2Fx%3Ftoken%3Dabc",
            "https%3A%2F%2Fx%3Fa%3D1%26token%3Dabc",
            "https://x?token=abc",
            "%2Fcb%23access_token%3Dabc",
            "https%253A%252F%252Fx%253Ftoken%253Dabc",
        ] {
            assert_eq!(query(&format!("redirect={value}&city=oslo")), "redirect=REDACTED&city=oslo", "{value}");
        }
        let plain = "redirect=https%3A%2F%2Fx%3Fcity%3Doslo%26author%3Dme";
        assert_eq!(query(plain), plain);
    }
}
