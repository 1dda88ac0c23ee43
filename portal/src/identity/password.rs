//! Passwords: which are taken, how they are hashed (argon2id with OWASP's parameters), and how many are hashed at once.

use std::{sync::LazyLock, time::Duration};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::Semaphore;

use crate::error::{Error, Kind, Result};

/// The fewest characters of a password (NIST SP 800-63B asks for eight or more).
pub const MIN_CHARS: usize = 10;
/// The most bytes of a password, so that hashing is bounded.
pub const MAX_BYTES: usize = 512;

/// Passwords of ten characters and more that every list of leaked passwords starts with, in lower case.
const COMMON: [&str; 60] = [
    "1234567890",
    "12345678910",
    "123456789a",
    "0123456789",
    "0987654321",
    "9876543210",
    "1234512345",
    "1q2w3e4r5t",
    "1q2w3e4r5t6y",
    "q1w2e3r4t5",
    "q1w2e3r4t5y6",
    "1qaz2wsx3edc",
    "qwertyuiop",
    "qwerty12345",
    "qwerty123456",
    "qwerty1234",
    "qwertyuiop123",
    "asdfghjkl1",
    "asdfghjkl123",
    "zaq12wsxcde3",
    "password12",
    "password123",
    "password1234",
    "password12345",
    "passw0rd123",
    "p@ssw0rd123",
    "p@ssword123",
    "passwordpassword",
    "password!1",
    "mypassword",
    "mypassword1",
    "iloveyou12",
    "iloveyou123",
    "iloveyou1234",
    "welcome123",
    "welcome1234",
    "welcome12345",
    "letmein123",
    "letmein1234",
    "changeme123",
    "changeme1234",
    "admin12345",
    "admin123456",
    "administrator",
    "administrator1",
    "football123",
    "baseball123",
    "basketball",
    "superman123",
    "batman12345",
    "sunshine123",
    "princess123",
    "dragon12345",
    "monkey12345",
    "trustno1234",
    "whatever123",
    "starwars123",
    "abcdefghij",
    "abc1234567",
    "tollkeeper",
];

/// How many passwords are hashed at once: each takes 19 MiB and a core.
static HASHING: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, 16)));
/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// Refuses a password that is too short, too long, or among the first that anybody tries. `email` is its owner's.
pub fn check(field: &'static str, password: &str, email: &str) -> Result<()> {
    if password.chars().count() < MIN_CHARS {
        return Err(Error::invalid(field, format!("Use at least {MIN_CHARS} characters.")));
    }
    if password.len() > MAX_BYTES {
        return Err(Error::invalid(field, format!("Use at most {MAX_BYTES} bytes.")));
    }
    let lower = password.to_lowercase();
    let first = password.chars().next();
    let repeated = password.chars().all(|c| Some(c) == first);
    let email = email.to_lowercase();
    let of_email = lower == email || email.split('@').next().is_some_and(|local| lower == local);
    if repeated || of_email || COMMON.contains(&lower.as_str()) {
        return Err(Error::invalid(field, "This password is among the first that others try. Choose another, such as a few random words."));
    }
    Ok(())
}

/// The hash to be stored, in the PHC string format.
pub(super) async fn hash(password: &str) -> Result<String> {
    let password = password.to_owned();
    blocking(move || {
        let hash =
            hasher()?.hash_password(password.as_bytes()).map_err(|error| Error::internal(anyhow::anyhow!("hashing failed: {error}")))?;
        Ok(hash.to_string())
    })
    .await
}

/// Whether the password is the one that was hashed. Without a hash, as much work is done and the answer is no, so that the time taken does not tell
/// whether an account exists.
pub(super) async fn verify(password: &str, hash: Option<String>) -> Result<bool> {
    if password.len() > MAX_BYTES {
        return Ok(false);
    }
    let password = password.to_owned();
    blocking(move || {
        let hasher = hasher()?;
        match hash.as_deref().map(PasswordHash::new) {
            Some(Ok(hash)) => Ok(hasher.verify_password(password.as_bytes(), &hash).is_ok()),
            // Accounts that were made without a password have no readable hash.
            Some(Err(_)) | None => {
                let mut out = [0; Params::DEFAULT_OUTPUT_LEN];
                let done = hasher.hash_password_into(password.as_bytes(), b"no such account", &mut out);
                done.map_err(|error| Error::internal(anyhow::anyhow!("hashing failed: {error}")))?;
                Ok(false)
            }
        }
    })
    .await
}

/// OWASP's first recommendation for argon2id: 19 MiB, two passes, one lane.
fn hasher() -> Result<Argon2<'static>> {
    let params = Params::new(19 * 1024, 2, 1, None).map_err(|error| Error::internal(anyhow::anyhow!("argon2 parameters: {error}")))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let busy = || Error::new(Kind::Unavailable, "Many people are signing in right now. Please try again in a moment.");
    let _turn = tokio::time::timeout(PATIENCE, HASHING.acquire()).await.map_err(|_| busy())?.map_err(|_| busy())?;
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_guessed_first() {
        for bad in ["short", "123456789", "PassWord123", "aaaaaaaaaaaaaa", "ada.lovelace@example.com", "Ada.Lovelace", &"x".repeat(600)] {
            assert!(check("password", bad, "ada.lovelace@example.com").is_err(), "{bad}");
        }
        assert!(check("password", "correct horse battery", "ada@example.com").is_ok());
    }

    #[tokio::test]
    async fn a_hash_is_argon2id_and_verifies_its_password_only() {
        let stored = hash("correct horse battery").await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(verify("correct horse battery", Some(stored.clone())).await.unwrap());
        assert!(!verify("correct horse batterz", Some(stored)).await.unwrap());
        assert!(!verify("correct horse battery", None).await.unwrap());
    }
}
