//! A REST request: who calls, on which tenant, in which transaction.

use axum::{
    extract::FromRequestParts,
    http::{Method, header, request::Parts},
};
use axum_extra::extract::CookieJar;
use calendar::Timestamp;
use ids::TenantId;

use super::problem::Problem;
use crate::{
    app::App,
    db::Tx,
    error::{Error, Kind, Result},
    identity::{Actor, api_token, session},
    web::{call::client_ip, session_cookie},
};

/// Names the tenant of a request whose token does not.
pub const TENANT_HEADER: &str = "tollkeeper-tenant";

/// A request of a token (`Authorization: Bearer tk_rest_…`), or, to read only, of a browser's session. The transaction is open from the start;
/// [`ApiCall::commit`] ends it, dropping rolls it back.
#[derive(Debug)]
pub struct ApiCall {
    /// What every part shares.
    pub app: App,
    /// The one transaction of this request.
    pub tx: Tx,
    /// Who performs the operation. It is never anonymous.
    pub actor: Actor,
    /// The instant of this request.
    pub now: Timestamp,
    /// The one tenant that the token may see; `None` if it may see all of its person's.
    pub token_tenant: Option<TenantId>,
    named_tenant: Option<TenantId>,
}

impl ApiCall {
    /// The tenant that the request is about: the token's, else the one that the header `Tollkeeper-Tenant` names, else the session's or the only
    /// one of which the person is a member. Whether the actor may see it is for the operation to ask.
    pub fn tenant(&self) -> Result<TenantId> {
        if let Some(tenant) = self.token_tenant {
            return match self.named_tenant {
                Some(named) if named != tenant => Err(Error::not_found("This organization")),
                _ => Ok(tenant),
            };
        }
        if let Some(tenant) = self.named_tenant {
            return Ok(tenant);
        }
        match self.actor.memberships.as_slice() {
            [(tenant, _)] => Ok(*tenant),
            _ => Err(Error::invalid(
                "Tollkeeper-Tenant",
                "Name the organization in the header Tollkeeper-Tenant, like ten_01jd3v9z2mf8r9n2xw7q4c5t6h.",
            )),
        }
    }

    /// Does what takes a while, with no transaction open here.
    pub async fn aside<T>(self, work: impl Future<Output = T>) -> Result<(Self, T)> {
        self.tx.rollback().await?;
        let done = work.await;
        Ok((Self { tx: self.app.begin().await?, ..self }, done))
    }

    /// Ends the transaction.
    pub async fn commit(self) -> Result<()> {
        self.app.commit(self.tx).await
    }
}

impl FromRequestParts<App> for ApiCall {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let now = app.now();
        let ip = client_ip(parts, app.config.trusted_proxy_hops);
        let mut tx = app.begin().await?;
        let mut call = match parts.headers.get(header::AUTHORIZATION) {
            Some(value) => {
                let text = value.to_str().ok().and_then(bearer).ok_or_else(unauthenticated)?;
                let found = api_token::authenticate(&mut tx, text, ip, now).await?.ok_or_else(unauthenticated)?;
                if found.stale {
                    // Its own transaction: a request that fails must not undo that the token was used.
                    let mut touch = app.begin().await?;
                    api_token::touch(&mut touch, found.id, now).await?;
                    touch.commit().await?;
                }
                Self { app: app.clone(), tx, actor: found.actor, now, token_tenant: found.tenant, named_tenant: None }
            }
            None => {
                let jar = CookieJar::from_headers(&parts.headers);
                let cookie =
                    jar.get(session_cookie(&app.config)).map(axum_extra::extract::cookie::Cookie::value).filter(|value| value.len() <= 128);
                // Cookies travel with every request that a browser makes, so they are good for reading only.
                let reads = matches!(parts.method, Method::GET | Method::HEAD);
                let cookie = cookie.filter(|_| reads).ok_or_else(unauthenticated)?;
                let session = session::load(&mut tx, cookie, now).await?.ok_or_else(unauthenticated)?;
                let named_tenant = session.tenant().map(|tenant| tenant.id);
                Self { app: app.clone(), tx, actor: session.actor(ip), now, token_tenant: None, named_tenant }
            }
        };
        if let Some(value) = parts.headers.get(TENANT_HEADER) {
            let named = value.to_str().ok().and_then(|text| text.parse().ok());
            call.named_tenant = Some(named.ok_or_else(|| {
                Error::invalid("Tollkeeper-Tenant", "Name an organization by its id, like ten_01jd3v9z2mf8r9n2xw7q4c5t6h.")
            })?);
        }
        Ok(call)
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthenticated() -> Error {
    Error::new(
        Kind::Unauthenticated,
        "Send a live token in the header Authorization: Bearer tk_rest_…; tokens are made on the page Settings, REST tokens.",
    )
}
