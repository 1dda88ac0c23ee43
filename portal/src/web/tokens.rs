//! REST tokens of the person.

use askama::Template;
use axum::{
    Router,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use ids::{ApiTokenId, TenantId};
use serde::Deserialize;

use super::{
    call::UserCall,
    failure::{Failure, status_of},
    form::Posted,
    segment::Segment,
    shell::Shell,
};
use crate::{
    app::App,
    error::{Error, Result},
    identity::api_token::{self, ApiToken, NewApiToken},
};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/settings/tokens", get(list).post(create))
        .route("/settings/tokens/revoke-all", post(revoke_all))
        .route("/settings/tokens/{token}/revoke", post(revoke))
}

#[derive(Template)]
#[template(path = "pages/settings/tokens.html")]
struct TokensPage {
    shell: Shell,
    /// Live tokens, with the organization that each is bound to.
    tokens: Vec<(ApiToken, String)>,
    secret: String,
    entered: String,
    error: Error,
}

async fn list(call: UserCall) -> Result<Html<String>, Failure> {
    Ok(Html(page(call, String::new(), super::no_error()).await?.render()?))
}

async fn page(mut call: UserCall, entered: String, error: Error) -> Result<TokensPage> {
    let tokens = live(&mut call).await?;
    let shell = call.shell("REST tokens", "settings").await?;
    Ok(TokensPage { shell, tokens, secret: String::new(), entered, error })
}

/// The person's live tokens, each with the organization that it sees.
pub(super) async fn live(call: &mut UserCall) -> Result<Vec<(ApiToken, String)>> {
    let all = api_token::list(&mut call.tx, &call.actor, None).await?;
    let name_of = |tenant: Option<TenantId>| match tenant {
        None => "Everything".to_owned(),
        Some(id) => call.session.tenants.iter().find(|tenant| tenant.id == id).map_or_else(|| id.to_string(), |tenant| tenant.name.clone()),
    };
    Ok(all
        .into_iter()
        .filter(|token| token.is_live(call.now))
        .map(|token| {
            let sees = name_of(token.tenant_id);
            (token, sees)
        })
        .collect())
}

#[derive(Deserialize)]
struct TokenForm {
    name: String,
    /// An organization's id, or empty for everything.
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    days: String,
}

async fn create(Posted(mut call, input): Posted<UserCall, TokenForm>) -> Result<Response, Failure> {
    let tenant_id = match input.tenant.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| Error::not_found("This organization"))?),
    };
    let new = NewApiToken { name: input.name.clone(), tenant_id, expires_at: super::in_days(&input.days, call.now)? };
    match api_token::create(&mut call.tx, &call.actor, new, call.now).await {
        Ok((_, secret)) => {
            let call = call.commit_and_go_on().await?;
            let mut page = page(call, String::new(), super::no_error()).await?;
            secret.reveal().clone_into(&mut page.secret);
            Ok(Html(page.render()?).into_response())
        }
        Err(error) if super::belongs_on_form(&error) => {
            let page = page(call, input.name, error).await?;
            Ok((status_of(page.error.kind), Html(page.render()?)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn revoke(
    Segment(token): Segment<ApiTokenId>,
    Posted(mut call, confirmed): Posted<UserCall, super::Confirmed>,
) -> Result<Redirect, Failure> {
    confirmed.require()?;
    api_token::revoke(&mut call.tx, &call.actor, None, token, call.now).await?;
    Ok(call.commit_and_go("/settings/tokens", "success", "The token is revoked.").await?)
}

async fn revoke_all(Posted(mut call, confirmed): Posted<UserCall, super::Confirmed>) -> Result<Redirect, Failure> {
    confirmed.require()?;
    let text = match api_token::revoke_all(&mut call.tx, &call.actor, call.now).await? {
        1 => "Your one token is revoked.".to_owned(),
        revoked => format!("All {revoked} tokens are revoked."),
    };
    Ok(call.commit_and_go("/settings/tokens", "success", text).await?)
}
