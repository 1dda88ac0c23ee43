//! Settings, read from the environment once at start. Each field's doc names its variable.

use std::{str::FromStr, time::Duration};

use calendar::Timestamp;
use url::{Host, Url};

/// All settings of the portal.
#[derive(Debug, Clone)]
pub struct Config {
    /// `DATABASE_URL`: where Postgres is.
    pub database_url: String,
    /// `PORTAL_DATABASE_CONNECTIONS`: the most connections that this process opens; default 20.
    pub database_connections: u32,
    /// `PORTAL_LISTEN`: the address to listen on; default `127.0.0.1:8080`.
    pub listen: std::net::SocketAddr,
    /// `PORTAL_MAX_CONNECTIONS`: how many connections are open at once; default 4096. Give the process some more file descriptors than that.
    pub max_connections: usize,
    /// `PORTAL_HEAD_TIMEOUT_SECONDS`: how long the head of a request may take, and a connection on which nothing is asked stays open; default 10.
    pub head_timeout: Duration,
    /// `PORTAL_USAGE_ROWS_MONTHS`: for how many whole months accepted rows of usage are kept beside the sums, which stay; without it, for ever. Rows of
    /// periods that are not closed are kept in any case.
    pub usage_rows_months: Option<std::num::NonZero<u32>>,
    /// `PORTAL_METRICS_LISTEN`: the address on which Prometheus reads `/metrics`; without it there is no such listener. Keep it off the public network.
    pub metrics_listen: Option<std::net::SocketAddr>,
    /// `PORTAL_PUBLIC_URL`: how browsers reach the portal; default `http://` and the listening address. Cookies are `Secure` where it is https.
    pub public_url: Url,
    /// `PORTAL_GATEWAY_URL`: how callers reach the gateway; default `http://127.0.0.1:8081`.
    pub gateway_url: Url,
    /// Mail.
    pub mail: MailConfig,
    /// `PORTAL_TRUSTED_PROXY_HOPS`: how many proxies in front append to `X-Forwarded-For`; default 0, which ignores the header.
    pub trusted_proxy_hops: usize,
    /// `PORTAL_IMPORT_ALLOW_PRIVATE`: `true` lets operators import documents from private addresses and use private upstreams by URL import; default false.
    pub import_allow_private: bool,
    /// `PORTAL_SESSION_DAYS`: how long a session lasts without use; default 14.
    pub session_lifetime: Duration,
    /// `PORTAL_SESSION_MAX_DAYS`: how long a session lasts however much it is used; default 30.
    pub session_longest: Duration,
}

/// How mail leaves.
#[derive(Debug, Clone)]
pub struct MailConfig {
    /// `SMTP_URL`: such as `smtps://user:password@mail.example.com`. Without it no mail leaves.
    pub smtp_url: Option<String>,
    /// `MAIL_FROM`: the sender; default `Tollkeeper <no-reply@localhost>`.
    pub from: String,
    /// `PORTAL_DEV_MAILBOX`: `true` shows every mail on the page `/dev/mailbox` to anybody, and sends none. Refused unless
    /// `PORTAL_PUBLIC_URL` names this very machine: whoever reads the mailbox can take over every account.
    pub dev_mailbox: bool,
}

/// A variable that cannot be used, with the fix.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct ConfigError {
    /// The variable.
    pub name: &'static str,
    /// What is wrong and what to write instead.
    pub reason: String,
}

impl Config {
    /// Reads the process's environment.
    pub fn from_env() -> Result<Self, ConfigError> {
        #[allow(clippy::disallowed_methods, reason = "settings are read here and nowhere else")]
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads settings from any source of variables.
    pub fn from_lookup(get: impl Fn(&'static str) -> Option<String>) -> Result<Self, ConfigError> {
        let listen = parse(&get, "PORTAL_LISTEN", "an address and port like 127.0.0.1:8080", "127.0.0.1:8080")?;
        let days = |name, default| -> Result<Duration, ConfigError> {
            Ok(Duration::from_secs(parse::<u32>(&get, name, "a number of days", default)? as u64 * 86_400))
        };
        let public_url: Url = parse(&get, "PORTAL_PUBLIC_URL", "a URL like https://portal.example.com", &format!("http://{listen}"))?;
        let dev_mailbox = parse(&get, "PORTAL_DEV_MAILBOX", "true or false", "false")?;
        if dev_mailbox && !is_loopback(&public_url) {
            let reason = format!(
                "shows every mail to anybody, so it is refused where PORTAL_PUBLIC_URL is {public_url}, which others may reach; \
                 set it to false and SMTP_URL to a mail server, or use a public URL at localhost or 127.0.0.1"
            );
            return Err(ConfigError { name: "PORTAL_DEV_MAILBOX", reason });
        }
        Ok(Self {
            database_url: get("DATABASE_URL").filter(|url| !url.is_empty()).ok_or(ConfigError {
                name: "DATABASE_URL",
                reason: "is not set; set it to postgres://user:password@host/database".into(),
            })?,
            database_connections: parse(&get, "PORTAL_DATABASE_CONNECTIONS", "a number", "20")?,
            listen,
            max_connections: parse::<std::num::NonZero<u32>>(&get, "PORTAL_MAX_CONNECTIONS", "a number of connections", "4096")?.get()
                as usize,
            head_timeout: Duration::from_secs(
                parse::<std::num::NonZero<u32>>(&get, "PORTAL_HEAD_TIMEOUT_SECONDS", "a number of seconds", "10")?.get().into(),
            ),
            usage_rows_months: get("PORTAL_USAGE_ROWS_MONTHS")
                .filter(|text| !text.is_empty())
                .map(|text| parse_text("PORTAL_USAGE_ROWS_MONTHS", "a number of months of at least 1", &text))
                .transpose()?,
            metrics_listen: get("PORTAL_METRICS_LISTEN")
                .filter(|text| !text.is_empty())
                .map(|text| parse_text("PORTAL_METRICS_LISTEN", "an address and port like 127.0.0.1:9090", &text))
                .transpose()?,
            public_url,
            gateway_url: parse(&get, "PORTAL_GATEWAY_URL", "a URL like https://api.example.com", "http://127.0.0.1:8081")?,
            mail: MailConfig {
                smtp_url: get("SMTP_URL").filter(|url| !url.is_empty()),
                from: get("MAIL_FROM").unwrap_or_else(|| "Tollkeeper <no-reply@localhost>".into()),
                dev_mailbox,
            },
            trusted_proxy_hops: parse(&get, "PORTAL_TRUSTED_PROXY_HOPS", "a number", "0")?,
            import_allow_private: parse(&get, "PORTAL_IMPORT_ALLOW_PRIVATE", "true or false", "false")?,
            session_lifetime: days("PORTAL_SESSION_DAYS", "14")?,
            session_longest: days("PORTAL_SESSION_MAX_DAYS", "30")?,
        })
    }

    /// When a session that was opened at `created_at` and is used now ends, if it is not used again.
    pub fn session_end(&self, created_at: Timestamp, now: Timestamp) -> Timestamp {
        now.plus(self.session_lifetime).min(created_at.plus(self.session_longest))
    }

    /// Whether cookies may only travel over https.
    pub fn secure_cookies(&self) -> bool {
        self.public_url.scheme() == "https"
    }

    /// The portal's origin as browsers send it.
    pub fn public_origin(&self) -> String {
        self.public_url.origin().ascii_serialization()
    }
}

/// Whether only this machine can follow the URL.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn parse<T: FromStr>(
    get: &impl Fn(&'static str) -> Option<String>,
    name: &'static str,
    expected: &str,
    default: &str,
) -> Result<T, ConfigError> {
    let text = get(name).filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_owned());
    parse_text(name, expected, &text)
}

fn parse_text<T: FromStr>(name: &'static str, expected: &str, text: &str) -> Result<T, ConfigError> {
    text.parse().map_err(|_| ConfigError { name, reason: format!("`{text}` is not {expected}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_mailbox(settings: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let always = [("DATABASE_URL", "postgres://unused"), ("PORTAL_DEV_MAILBOX", "true")];
        Config::from_lookup(|name| settings.iter().chain(&always).find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_development_mailbox_stays_on_this_machine() {
        for url in ["http://localhost:8080", "http://127.0.0.1:8080", "http://127.1.2.3", "https://[::1]:8443"] {
            assert!(with_mailbox(&[("PORTAL_PUBLIC_URL", url)]).is_ok_and(|config| config.mail.dev_mailbox), "{url}");
        }
        assert!(with_mailbox(&[]).is_ok(), "the default address is this machine's");
        for url in
            ["https://portal.example.com", "http://localhost.example.com", "http://192.0.2.1", "http://[2001:db8::1]", "http://0.0.0.0"]
        {
            let refused = with_mailbox(&[("PORTAL_PUBLIC_URL", url)]).expect_err(url).to_string();
            assert!(refused.starts_with("PORTAL_DEV_MAILBOX: ") && refused.contains("PORTAL_PUBLIC_URL"), "{refused}");
            assert!(with_mailbox(&[("PORTAL_PUBLIC_URL", url), ("PORTAL_DEV_MAILBOX", "false")]).is_ok(), "{url}");
        }
    }
}
