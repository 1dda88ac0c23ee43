//! A page request: who calls, with which session, on which tenant, in which transaction.

use axum::{
    extract::{ConnectInfo, FromRequestParts, OptionalFromRequestParts},
    http::{HeaderMap, Method, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use axum_extra::extract::CookieJar;
use calendar::Timestamp;
use ids::TenantId;

use super::{failure::Failure, session_cookie, shell::Shell};
use crate::{
    app::App,
    db::Tx,
    error::{Error, Kind, Result},
    identity::{
        Actor,
        session::{self, Flash, Session},
    },
};

/// A request of a visitor or of somebody signed in. The transaction is open from the start; [`Call::commit`] ends it, dropping rolls it back.
#[derive(Debug)]
pub struct Visit {
    /// What every part shares.
    pub app: App,
    /// The one transaction of this request.
    pub tx: Tx,
    /// Who performs the operation.
    pub actor: Actor,
    /// The session, if somebody is signed in.
    pub session: Option<Session>,
    /// The instant of this request.
    pub now: Timestamp,
    /// Where the request comes from.
    pub ip: Option<String>,
    /// The browser.
    pub user_agent: Option<String>,
}

/// A request of somebody who is signed in and looks at a tenant. Anonymous requests are sent to the sign-in page and come back; people without a
/// tenant are sent to create one; those who have not verified their address are sent to do so.
#[derive(Debug)]
pub struct Call {
    /// What every part shares.
    pub app: App,
    /// The one transaction of this request.
    pub tx: Tx,
    /// Who performs the operation.
    pub actor: Actor,
    /// The session.
    pub session: Session,
    /// The tenant whose pages are shown.
    pub tenant: TenantId,
    /// The instant of this request.
    pub now: Timestamp,
}

/// A request of somebody who is signed in, with or without a tenant: account pages, creating a tenant, admin pages.
#[derive(Debug)]
pub struct UserCall {
    /// What every part shares.
    pub app: App,
    /// The one transaction of this request.
    pub tx: Tx,
    /// Who performs the operation.
    pub actor: Actor,
    /// The session.
    pub session: Session,
    /// The instant of this request.
    pub now: Timestamp,
}

impl FromRequestParts<App> for Visit {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let now = app.now();
        let ip = client_ip(parts, app.config.trusted_proxy_hops);
        let user_agent = parts.headers.get("user-agent").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut tx = app.begin().await?;
        let jar = CookieJar::from_headers(&parts.headers);
        let session = match jar.get(session_cookie(&app.config)) {
            Some(cookie) if cookie.value().len() <= 128 => session::load(&mut tx, cookie.value(), now).await?,
            _ => None,
        };
        if let Some(session) = session.as_ref().filter(|session| session.is_stale(now)) {
            // Its own transaction: a page that fails must not undo that the session was in use.
            let mut touch = app.begin().await?;
            session::touch(&mut touch, session, app.config.session_end(session.created_at, now), now).await?;
            touch.commit().await.map_err(Error::from)?;
        }
        let actor = session.as_ref().map_or_else(|| Actor::anonymous(ip.clone()), |session| session.actor(ip.clone()));
        Ok(Self { app: app.clone(), tx, actor, session, now, ip, user_agent })
    }
}

impl OptionalFromRequestParts<App> for Visit {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Option<Self>, Failure> {
        <Self as FromRequestParts<App>>::from_request_parts(parts, app).await.map(Some)
    }
}

impl FromRequestParts<App> for UserCall {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let visit = <Visit as FromRequestParts<App>>::from_request_parts(parts, app).await.map_err(IntoResponse::into_response)?;
        let Some(session) = visit.session else {
            return Err(Redirect::to(&sign_in_url(parts)).into_response());
        };
        if !session.verified {
            return Err(Redirect::to("/verify").into_response());
        }
        Ok(Self { app: visit.app, tx: visit.tx, actor: visit.actor, session, now: visit.now })
    }
}

impl FromRequestParts<App> for Call {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let call = UserCall::from_request_parts(parts, app).await?;
        let Some(tenant) = call.session.tenant().map(|tenant| tenant.id) else {
            return Err(Redirect::to("/tenants/new").into_response());
        };
        Ok(Self { app: call.app, tx: call.tx, actor: call.actor, session: call.session, tenant, now: call.now })
    }
}

/// Where an anonymous request is sent, with the way back for requests that only read.
fn sign_in_url(parts: &Parts) -> String {
    let back = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    if parts.method == Method::GET && back != "/" {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("next", back).finish();
        format!("/sign-in?{query}")
    } else {
        "/sign-in".to_owned()
    }
}

/// The address of the caller: the peer, or what the outermost trusted proxy saw.
pub(crate) fn client_ip(parts: &Parts, trusted_hops: usize) -> Option<String> {
    let peer = parts.extensions.get::<ConnectInfo<std::net::SocketAddr>>().map(|info| info.0.ip().to_string());
    forwarded_ip(&parts.headers, trusted_hops).or(peer)
}

fn forwarded_ip(headers: &HeaderMap, trusted_hops: usize) -> Option<String> {
    let hop = trusted_hops.checked_sub(1)?;
    let listed: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).collect();
    listed.iter().rev().nth(hop)?.trim().parse::<std::net::IpAddr>().ok().map(|ip| ip.to_string())
}

impl Visit {
    /// Does what opens transactions of its own, with none open here: a request that holds a connection while it waits for another keeps both from others.
    pub async fn aside<T>(self, work: impl Future<Output = T>) -> Result<(Self, T)> {
        self.tx.rollback().await?;
        let done = work.await;
        Ok((Self { tx: self.app.begin().await?, ..self }, done))
    }

    /// The frame of a page; takes the message of the page before.
    pub async fn shell(&mut self, title: impl Into<String>, active: &'static str) -> Result<Shell> {
        shell(&self.app, self.session.as_ref(), title.into(), active).await
    }

    /// Ends the transaction.
    pub async fn commit(self) -> Result<()> {
        self.app.commit(self.tx).await
    }
}

macro_rules! signed_in {
    ($call:ty) => {
        impl $call {
            /// The frame of a page; takes the message of the page before.
            pub async fn shell(&mut self, title: impl Into<String>, active: &'static str) -> Result<Shell> {
                shell(&self.app, Some(&self.session), title.into(), active).await
            }

            /// Refuses a form that did not come from a page of this session.
            pub fn check_csrf(&self, token: &str) -> Result<()> {
                check_csrf(&self.session, token)
            }

            /// Ends the transaction.
            pub async fn commit(self) -> Result<()> {
                self.app.commit(self.tx).await
            }

            /// Does what takes a while, with no transaction open here.
            pub async fn aside<T>(self, work: impl Future<Output = T>) -> Result<(Self, T)> {
                self.tx.rollback().await?;
                let done = work.await;
                Ok((Self { tx: self.app.begin().await?, ..self }, done))
            }

            /// Ends the transaction, and goes on in another, for answers that show what was done.
            pub async fn commit_and_go_on(self) -> Result<Self> {
                let app = self.app.clone();
                self.app.commit(self.tx).await?;
                Ok(Self { tx: app.begin().await?, ..self })
            }

            /// Undoes what was done, and goes on in another transaction, for answers that show a form again.
            pub async fn start_over(self) -> Result<Self> {
                self.tx.rollback().await?;
                Ok(Self { tx: self.app.begin().await?, ..self })
            }

            /// Ends the transaction, and goes to a page that shows a message: `success`, `info`, `warning` or `error`.
            pub async fn commit_and_go(self, to: &str, kind: &str, text: impl Into<String>) -> Result<Redirect> {
                self.commit_and_tell(to, Flash { kind: kind.to_owned(), text: text.into(), link: None }).await
            }

            /// The same, with a message that may link to what was made.
            pub async fn commit_and_tell(mut self, to: &str, flash: Flash) -> Result<Redirect> {
                session::set_flash(&mut self.tx, &self.session, &flash).await?;
                self.app.commit(self.tx).await?;
                Ok(Redirect::to(to))
            }
        }
    };
}
signed_in!(Call);
signed_in!(UserCall);

/// Flash messages are taken in a transaction of their own, so that pages which only read need not commit.
async fn shell(app: &App, session: Option<&Session>, title: String, active: &'static str) -> Result<Shell> {
    let mut flash = None;
    if let Some(session) = session.filter(|session| session.has_flash) {
        let mut tx = app.begin().await?;
        flash = session::take_flash(&mut tx, session).await?;
        tx.commit().await?;
    }
    Ok(Shell::new(title, active, session, flash, app.config.mail.dev_mailbox))
}

pub(super) fn check_csrf(session: &Session, token: &str) -> Result<()> {
    if session.accepts_csrf(token) {
        return Ok(());
    }
    Err(Error::new(Kind::Forbidden, "This form has expired. Please go back, reload the page and try again."))
}
