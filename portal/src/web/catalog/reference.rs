//! `/catalog/{slug}/reference`: the document, rendered in the browser, with a console that calls through the gateway.

use askama::Template;
use axum::{
    extract::Path,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use ids::{ApplicationId, TenantId};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    app::App,
    applications::api_key::{self, Mode, Of},
    catalog::{ApiProduct, api_product, plan, spec},
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
    subscriptions::{self, State},
    web::{
        call::{Call, Visit},
        failure::Failure,
        form::Posted,
        shell::Shell,
    },
};

/// The most subscriptions among which applications for the console are looked for.
const MAX_SUBSCRIPTIONS: usize = 500;

#[derive(Template)]
#[template(path = "pages/catalog/api_reference.html")]
struct ReferencePage {
    shell: Shell,
    product: ApiProduct,
    document_url: String,
    /// Applications that may call the product: id and name.
    applications: Vec<(String, String)>,
    credential: String,
    expires_at: String,
}

pub(super) async fn show(mut visit: Visit, Path(slug): Path<String>) -> Result<Response, Failure> {
    let product = api_product::visible_product(&mut visit.tx, &visit.actor, &slug).await?;
    let product = api_product::with_reference(&mut visit.tx, product).await?;
    let tenant = visit.session.as_ref().and_then(|session| session.tenant()).map(|tenant| tenant.id);
    let applications = match tenant {
        Some(tenant) => applications_for(&mut visit.tx, &visit.actor, tenant, &product).await?,
        None => Vec::new(),
    };
    let shell = visit.shell(format!("{} reference", product.name), "catalog").await?;
    page(&visit.app, shell, product, applications, None)
}

#[derive(Debug, Deserialize)]
pub(super) struct TryIt {
    application: ApplicationId,
}

/// Mints a credential for the console and shows the reference with it. It is in this one answer only, which nothing stores.
pub(super) async fn try_it(Path(slug): Path<String>, Posted(mut call, input): Posted<Call, TryIt>) -> Result<Response, Failure> {
    let product = api_product::visible_product(&mut call.tx, &call.actor, &slug).await?;
    let product = api_product::with_reference(&mut call.tx, product).await?;
    let applications = applications_for(&mut call.tx, &call.actor, call.tenant, &product).await?;
    let of = Of { tenant: call.tenant, application: input.application };
    let (key, secret) = api_key::mint_try_it(&mut call.tx, &call.actor, of, Mode::Live, call.now).await?;
    let expires_at = key.expires_at.map(|at| at.to_string()).unwrap_or_default();
    let shell = call.shell(format!("{} reference", product.name), "catalog").await?;
    let app = call.app.clone();
    call.commit().await?;
    page(&app, shell, product, applications, Some((secret.reveal().to_owned(), expires_at)))
}

/// The tenant's applications whose subscription covers the product, if the actor may mint credentials for them.
async fn applications_for(tx: &mut Tx, actor: &Actor, tenant: TenantId, product: &ApiProduct) -> Result<Vec<(String, String)>> {
    if actor.role_in(tenant).is_none() || actor.require(Permission::Develop(tenant)).is_err() {
        return Ok(Vec::new());
    }
    let live = subscriptions::list(tx, actor, tenant, subscriptions::Filter::default(), MAX_SUBSCRIPTIONS).await?;
    let ids: Vec<_> = live.iter().map(|subscription| subscription.plan_version).collect();
    let covering: Vec<_> =
        plan::plan_versions(tx, &ids).await?.into_iter().filter(|version| version.covers(product.id)).map(|version| version.id).collect();
    let usable =
        live.into_iter().filter(|subscription| subscription.state == State::Active && covering.contains(&subscription.plan_version));
    Ok(usable.map(|subscription| (subscription.application.to_string(), subscription.application_name)).collect())
}

fn page(
    app: &App,
    shell: Shell,
    product: ApiProduct,
    applications: Vec<(String, String)>,
    minted: Option<(String, String)>,
) -> Result<Response, Failure> {
    let policy = content_security_policy(&app.config.gateway_url)?;
    let document_url = format!("/catalog/{}/openapi.json", product.slug);
    let (credential, expires_at) = minted.unwrap_or_default();
    let html = ReferencePage { shell, product, document_url, applications, credential, expires_at }.render()?;
    Ok(([(header::CONTENT_SECURITY_POLICY, policy)], Html(html)).into_response())
}

/// The renderer writes styles inline, and its console calls the gateway; nothing else differs from other pages.
fn content_security_policy(gateway: &url::Url) -> Result<HeaderValue> {
    let policy = format!(
        "default-src 'self'; connect-src 'self' {}; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'; object-src 'none'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        gateway.origin().ascii_serialization()
    );
    HeaderValue::from_str(&policy).map_err(Error::internal)
}

pub(super) async fn document(mut visit: Visit, Path(slug): Path<String>, headers: HeaderMap) -> Result<Response, Failure> {
    let product = api_product::visible_product(&mut visit.tx, &visit.actor, &slug).await?;
    let reference = api_product::reference(&mut visit.tx, &product).await?;
    let base_url = product.base_url(&visit.app.config.gateway_url);
    // The tag is weak, because the answer may be compressed on its way; it holds what the answer is made of.
    let tag = format!("W/\"{}-{}\"", short(&reference.digest, 12), short(&Sha256::digest(base_url.as_bytes()), 4));
    let about: [(HeaderName, String); 2] = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "no-cache".to_owned())];
    let held = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if held.map(str::trim).any(|held| held == tag || held == "*") {
        return Ok((StatusCode::NOT_MODIFIED, about).into_response());
    }
    let text = spec::with_servers(&reference.document, &base_url);
    Ok((about, [(header::CONTENT_TYPE, "application/json")], text).into_response())
}

fn short(digest: &[u8], bytes: usize) -> String {
    hex::encode(digest.get(..bytes).unwrap_or(digest))
}
