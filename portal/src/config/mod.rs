//! Settings, read from the environment once at start. Each field's doc names its variable.

use std::{str::FromStr, time::Duration};

use url::Url;

/// All settings of the portal.
#[derive(Debug, Clone)]
pub struct Config {
    /// `DATABASE_URL`: where Postgres is.
    pub database_url: String,
    /// `PORTAL_DATABASE_CONNECTIONS`: the most connections that this process opens; default 20.
    pub database_connections: u32,
    /// `PORTAL_LISTEN`: the address to listen on; default `127.0.0.1:8080`.
    pub listen: std::net::SocketAddr,
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
}

/// How mail leaves.
#[derive(Debug, Clone)]
pub struct MailConfig {
    /// `SMTP_URL`: such as `smtps://user:password@mail.example.com`. Without it no mail leaves.
    pub smtp_url: Option<String>,
    /// `MAIL_FROM`: the sender; default `Tollkeeper <no-reply@localhost>`.
    pub from: String,
    /// `PORTAL_DEV_MAILBOX`: `true` shows every mail on the page `/dev/mailbox` to anybody, and sends none. Never in production.
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
        let days: u64 = parse(&get, "PORTAL_SESSION_DAYS", "a number of days", "14")?;
        Ok(Self {
            database_url: get("DATABASE_URL").filter(|url| !url.is_empty()).ok_or(ConfigError {
                name: "DATABASE_URL",
                reason: "is not set; set it to postgres://user:password@host/database".into(),
            })?,
            database_connections: parse(&get, "PORTAL_DATABASE_CONNECTIONS", "a number", "20")?,
            listen,
            metrics_listen: get("PORTAL_METRICS_LISTEN")
                .filter(|text| !text.is_empty())
                .map(|text| parse_text("PORTAL_METRICS_LISTEN", "an address and port like 127.0.0.1:9090", &text))
                .transpose()?,
            public_url: parse(&get, "PORTAL_PUBLIC_URL", "a URL like https://portal.example.com", &format!("http://{listen}"))?,
            gateway_url: parse(&get, "PORTAL_GATEWAY_URL", "a URL like https://api.example.com", "http://127.0.0.1:8081")?,
            mail: MailConfig {
                smtp_url: get("SMTP_URL").filter(|url| !url.is_empty()),
                from: get("MAIL_FROM").unwrap_or_else(|| "Tollkeeper <no-reply@localhost>".into()),
                dev_mailbox: parse(&get, "PORTAL_DEV_MAILBOX", "true or false", "false")?,
            },
            trusted_proxy_hops: parse(&get, "PORTAL_TRUSTED_PROXY_HOPS", "a number", "0")?,
            import_allow_private: parse(&get, "PORTAL_IMPORT_ALLOW_PRIVATE", "true or false", "false")?,
            session_lifetime: Duration::from_secs(days.saturating_mul(86_400)),
        })
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
