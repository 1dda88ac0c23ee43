//! `/catalog/{slug}/reference`: the document, rendered in the browser, with a console that calls through the gateway.

use askama::Template;
use axum::{
    extract::Path,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};

use crate::{
    catalog::{ApiProduct, api_product, spec},
    error::{Error, Result},
    web::{call::Visit, failure::Failure, shell::Shell},
};

#[derive(Template)]
#[template(path = "pages/catalog/api_reference.html")]
struct ReferencePage {
    shell: Shell,
    product: ApiProduct,
    document_url: String,
    credential: String,
    expires_at: String,
}

pub(super) async fn show(mut visit: Visit, Path(slug): Path<String>) -> Result<Response, Failure> {
    let product = api_product::visible_product(&mut visit.tx, &visit.actor, &slug).await?;
    page(visit, product, String::new(), String::new()).await
}

async fn page(mut visit: Visit, product: ApiProduct, credential: String, expires_at: String) -> Result<Response, Failure> {
    let policy = content_security_policy(&visit.app.config.gateway_url)?;
    let shell = visit.shell(format!("{} reference", product.name), "catalog").await?;
    let document_url = format!("/catalog/{}/openapi.json", product.slug);
    let html = ReferencePage { shell, product, document_url, credential, expires_at }.render()?;
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
    let tag = format!("W/\"{}-{}\"", hex::encode(reference.digest.get(..12).unwrap_or_default()), short_digest(&base_url));
    let about: [(HeaderName, String); 2] = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "no-cache".to_owned())];
    let held = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if held.map(str::trim).any(|held| held == tag || held == "*") {
        return Ok((StatusCode::NOT_MODIFIED, about).into_response());
    }
    let text = spec::with_servers(&reference.document, &base_url);
    Ok((about, [(header::CONTENT_TYPE, "application/json")], text).into_response())
}

fn short_digest(text: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(text.as_bytes()).get(..4).unwrap_or_default())
}
