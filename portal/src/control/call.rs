//! A call of a gateway: who it is, in which transaction.

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use calendar::Timestamp;

use crate::{
    api::problem::Problem,
    app::App,
    db::Tx,
    error::{Error, Kind},
    gateways::{self, Authenticated},
};

/// A gateway that has proven who it is. It is extracted before the body is read.
#[derive(Debug)]
pub struct GatewayCall {
    /// What every part shares.
    pub app: App,
    /// Who calls.
    pub gateway: Authenticated,
    /// The instant of this call.
    pub now: Timestamp,
}

impl GatewayCall {
    /// Opens the one transaction of this call.
    pub async fn begin(&self) -> crate::error::Result<Tx> {
        self.app.begin().await
    }
}

impl FromRequestParts<App> for GatewayCall {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let bearer = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, credential)| credential.trim())
            .ok_or_else(|| Error::new(Kind::Unauthenticated, "Send the gateway's credential as `Authorization: Bearer tk_gway_...`."))?;
        let now = app.now();
        let mut tx = app.begin().await?;
        let gateway = gateways::authenticate(&mut tx, bearer, now).await?;
        tx.commit().await?;
        Ok(Self { app: app.clone(), gateway, now })
    }
}
