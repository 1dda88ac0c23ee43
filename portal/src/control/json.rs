//! Bodies of gateways: JSON, bounded, in a format that this version speaks.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{
    api::problem::Problem,
    app::App,
    error::{Error, Kind, Result},
};

/// How long a body may take: while it comes, it may hold a place among the few that are received at once.
const PATIENCE: Duration = Duration::from_secs(300);

/// The whole body, within the route's bound.
#[derive(Debug)]
pub struct Body(pub Bytes);

impl FromRequest<App> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let received = timeout(PATIENCE, Bytes::from_request(request, app)).await;
        let received =
            received.map_err(|_| Error::new(Kind::Unavailable, "The body did not arrive within five minutes. Send it again."))?;
        match received {
            Ok(bytes) => Ok(Self(bytes)),
            Err(rejection) if rejection.status() == 413 => {
                Err(Error::new(Kind::TooLarge, "The body is larger than this call reads.").into())
            }
            Err(rejection) => {
                let mut error = Error::new(Kind::Invalid, "The body could not be read to its end.");
                error.internal = Some(anyhow::anyhow!("{rejection}"));
                Err(error.into())
            }
        }
    }
}

impl Body {
    /// The body as a value. The error names the place.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.0).map_err(|error| Error::invalid("body", format!("This is not the expected JSON: {error}.")))
    }
}

/// Refuses a format that this version does not speak. There is one so far; the next version will speak this one too.
pub(super) fn check_format(format: u16) -> Result<()> {
    if format == gateway_control::FORMAT {
        return Ok(());
    }
    Err(Error::invalid("format", format!("This portal speaks format {}. Upgrade the older side.", gateway_control::FORMAT)))
}
