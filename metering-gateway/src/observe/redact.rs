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
/// Parts of names, without `-` and `_`, whose values are credentials, or grants that are as good as one.
const SECRET_NAMES: [&str; 12] =
    ["key", "token", "secret", "password", "passwd", "pwd", "auth", "credential", "signature", "session", "jwt", "assertion"];
/// Whole names of that kind which are too short to be looked for inside others.
const SECRET_SHORT_NAMES: [&str; 4] = ["sig", "code", "pass", "sid"];

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

/// A path without credentials. One that hides a credential in escapes is taken out whole.
pub fn path(path: &str) -> Cow<'_, str> {
    if path.contains('%') && holds_ours(&decoded(path)) { Cow::Borrowed(REDACTED) } else { text(path) }
}

/// A query without the values of names that carry credentials.
pub fn query(query: &str) -> String {
    let parts = query.split('&').map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if is_secret(&decoded(name)) && !value.is_empty() || holds_ours(&decoded(value)) {
            format!("{}={REDACTED}", text(name))
        } else if holds_ours(&decoded(name)) {
            REDACTED.to_owned()
        } else {
            part.to_owned()
        }
    });
    parts.collect::<Vec<_>>().join("&")
}

fn is_secret(name: &str) -> bool {
    let plain: String = name.chars().filter(|c| !matches!(c, '-' | '_' | '.')).map(|c| c.to_ascii_lowercase()).collect();
    SECRET_NAMES.iter().any(|secret| plain.contains(secret)) || SECRET_SHORT_NAMES.contains(&plain.as_str())
}

fn find_ours(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    bytes.windows(OURS.len()).position(|window| window.eq_ignore_ascii_case(OURS.as_bytes()))
}

fn holds_ours(text: &str) -> bool {
    find_ours(text).is_some()
}

/// Escapes resolved. Twice, because what stands behind the gateway may do it again.
fn decoded(text: &str) -> String {
    let once = |text: &str| {
        form_urlencoded::parse(text.replace(['&', '='], "%20").as_bytes()).map(|(name, _)| name.into_owned()).collect::<String>()
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
}
