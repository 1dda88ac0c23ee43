//! How often something may be tried. Counters of fixed windows, counted in a transaction of their own, so that a failed attempt stays counted.

use std::time::Duration;

use calendar::Timestamp;
use ids::TenantId;

use super::store;
use crate::{
    app::App,
    db::Tx,
    error::{Error, Kind, Result},
};

/// What is counted, up to how many in a window.
#[derive(Debug, Clone)]
pub struct Throttle {
    key: String,
    limit: i32,
    window: Duration,
}

const QUARTER_HOUR: Duration = Duration::from_secs(900);
const HOUR: Duration = Duration::from_secs(3600);

impl Throttle {
    /// Failed sign-ins to an account.
    pub fn sign_in_of_account(email: &str) -> Self {
        Self { key: format!("sign-in:account:{}", email.trim().to_lowercase()), limit: 10, window: QUARTER_HOUR }
    }

    /// Failed sign-ins from an address.
    pub fn sign_in_from(ip: Option<&str>) -> Self {
        Self { key: format!("sign-in:ip:{}", network(ip)), limit: 50, window: QUARTER_HOUR }
    }

    /// Sign-ups from an address.
    pub fn sign_up_from(ip: Option<&str>) -> Self {
        Self { key: format!("sign-up:ip:{}", network(ip)), limit: 20, window: HOUR }
    }

    /// Mails that a visitor asks to be sent to an account.
    pub fn mails_to(email: &str) -> Self {
        Self { key: format!("mail:account:{}", email.trim().to_lowercase()), limit: 5, window: HOUR }
    }

    /// Mails that visitors at an address ask for.
    pub fn mails_from(ip: Option<&str>) -> Self {
        Self { key: format!("mail:ip:{}", network(ip)), limit: 30, window: HOUR }
    }

    /// Invitations that an organization sends.
    pub fn invitations_of(tenant: TenantId) -> Self {
        Self { key: format!("invitation:tenant:{tenant}"), limit: 50, window: HOUR }
    }

    fn window_at(&self, now: Timestamp) -> Timestamp {
        let seconds = i64::try_from(self.window.as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_seconds(now.seconds().div_euclid(seconds) * seconds)
    }
}

/// The part of an address that one person holds: an IPv4 address, or the first 64 bits of an IPv6 address.
fn network(ip: Option<&str>) -> String {
    match ip.and_then(|ip| ip.parse::<std::net::IpAddr>().ok()) {
        Some(std::net::IpAddr::V6(v6)) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.to_string(),
            None => {
                let [a, b, c, d, ..] = v6.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        },
        Some(v4) => v4.to_string(),
        None => "unknown".to_owned(),
    }
}

/// Counts one attempt, or refuses it.
pub async fn take(app: &App, throttle: &Throttle, now: Timestamp) -> Result<()> {
    let mut tx = app.begin().await?;
    let taken = take_in(&mut tx, throttle, now).await;
    tx.commit().await?;
    taken
}

/// As [`take`], for what is counted only if it is done: a refusal or a failure of the transaction leaves no trace.
pub async fn take_in(tx: &mut Tx, throttle: &Throttle, now: Timestamp) -> Result<()> {
    let window_at = throttle.window_at(now);
    // Keys may hold what a visitor typed, so their length is bounded.
    let key: String = throttle.key.chars().take(300).collect();
    let hits = store::hit_throttle(tx, &key, window_at).await?;
    if hits <= throttle.limit {
        return Ok(());
    }
    let retry_after = window_at.plus(throttle.window).since(now).as_secs().max(1);
    Err(Error::new(
        Kind::TooManyAttempts { retry_after },
        format!("Too many attempts. Please try again in {} minutes.", retry_after.div_ceil(60)),
    ))
}

/// Takes back an attempt that turned out not to count, such as a sign-in with the right password.
pub async fn give_back(app: &App, throttle: &Throttle, now: Timestamp) -> Result<()> {
    let mut tx = app.begin().await?;
    let key: String = throttle.key.chars().take(300).collect();
    store::give_back_throttle(&mut tx, &key, throttle.window_at(now)).await?;
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_what_one_person_holds() {
        for (ip, key) in [
            (Some("192.0.2.1"), "192.0.2.1"),
            (Some("::ffff:192.0.2.1"), "192.0.2.1"),
            (Some("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64"),
            (Some("garbage"), "unknown"),
            (None, "unknown"),
        ] {
            assert_eq!(network(ip), key);
        }
    }
}
