//! Styles, scripts and icons, built by `make assets` and carried inside the binary.
//!
//! A file's name holds the hash of its content (`app-AB12CD34.css`), so browsers may keep it for ever. Templates name
//! files plainly and let [`asset_url`] look up the hashed name in the manifest that the build wrote. Files above 1 KiB
//! have a `.gz` sibling, written by the build, which is sent to clients that accept it.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::app::App;

/// One year: the longest that caches honour.
const KEEP_FOR_EVER: &str = "public, max-age=31536000, immutable";

#[derive(RustEmbed)]
#[folder = "assets/dist"]
struct Dist;

/// Plain name -> hashed name, as the build wrote it; empty when the assets were never built.
static MANIFEST: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let Some(file) = Dist::get("manifest.json") else {
        tracing::error!("the portal was built without assets: run `make assets` and build again");
        return HashMap::new();
    };
    match serde_json::from_slice(&file.data) {
        Ok(manifest) => manifest,
        Err(error) => {
            tracing::error!(%error, "the manifest of the assets is not readable");
            HashMap::new()
        }
    }
});

/// The URL of an asset by its plain name (`app.css`), for templates. A name that the build does not know keeps its
/// plain form, which is answered with 404 and so shows up in the browser's console and in the browser tests.
pub fn asset_url(name: &str) -> String {
    format!("/assets/{}", MANIFEST.get(name).map_or(name, String::as_str))
}

/// `/assets/{*path}`.
pub fn routes() -> Router<App> {
    Router::new().route("/assets/{*path}", get(serve))
}

/// `GET /assets/{*path}`: the file, 304 if the client holds it, or 404.
pub async fn serve(Path(path): Path<String>, headers: HeaderMap) -> Response {
    // Compressed files are reached by negotiation only, and the manifest is nobody's business.
    if path.ends_with(".gz") || path == "manifest.json" {
        return StatusCode::NOT_FOUND.into_response();
    }
    let compressed = if accepts_gzip(&headers) { Dist::get(&format!("{path}.gz")) } else { None };
    let is_compressed = compressed.is_some();
    let Some(file) = compressed.or_else(|| Dist::get(&path)) else {
        return StatusCode::NOT_FOUND.into_response();
    };

    let etag = etag(&file);
    if is_held(&headers, &etag) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, etag), (CACHE_CONTROL, KEEP_FOR_EVER.to_owned()), (VARY, "accept-encoding".to_owned())])
            .into_response();
    }
    let mut response = (
        [
            (CONTENT_TYPE, content_type(&path)),
            (CACHE_CONTROL, KEEP_FOR_EVER.to_owned()),
            (ETAG, etag),
            (VARY, "accept-encoding".to_owned()),
            (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        ],
        file.data.into_owned(),
    )
        .into_response();
    if is_compressed {
        response.headers_mut().insert(CONTENT_ENCODING, axum::http::HeaderValue::from_static("gzip"));
    }
    response
}

/// A strong tag: the digest of the bytes as they are sent, so plain and compressed differ.
fn etag(file: &EmbeddedFile) -> String {
    format!("\"{}\"", hex::encode(&file.metadata.sha256_hash()[..16]))
}

fn is_held(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| matches!(tag.trim(), "*") || tag.trim().trim_start_matches("W/") == etag)
}

/// Whether gzip is acceptable (RFC 9110, 12.5.3): named, or covered by `*`, and not with `q=0`.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut by_name = None;
    let mut by_star = None;
    for value in headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()) {
        for item in value.split(',') {
            let mut parts = item.split(';').map(str::trim);
            let coding = parts.next().unwrap_or_default();
            let refused = parts.any(|part| {
                part.strip_prefix("q=")
                    .or_else(|| part.strip_prefix("Q="))
                    .is_some_and(|q| !q.bytes().any(|byte| (b'1'..=b'9').contains(&byte)))
            });
            if coding.eq_ignore_ascii_case("gzip") {
                by_name = Some(!refused);
            } else if coding == "*" {
                by_star = Some(!refused);
            }
        }
    }
    by_name.or(by_star).unwrap_or(false)
}

/// The media type by file extension; scripts must be `text/javascript`, or browsers refuse to run modules.
fn content_type(path: &str) -> String {
    let guess = mime_guess::from_path(path).first_or_octet_stream();
    if guess.type_() == mime_guess::mime::TEXT || guess.subtype() == "json" { format!("{guess}; charset=utf-8") } else { guess.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn with(name: axum::http::HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).expect("a header value"));
        headers
    }

    #[test]
    fn gzip_is_negotiated_as_rfc_9110_says() {
        let cases = [
            ("gzip", true),
            ("deflate, gzip;q=0.5, br", true),
            ("GZIP", true),
            ("*", true),
            ("*;q=0", false),
            ("gzip;q=0, *", false),
            ("gzip;q=0.000", false),
            ("identity", false),
            ("br", false),
            ("", false),
        ];
        for (value, expected) in cases {
            assert_eq!(accepts_gzip(&with(ACCEPT_ENCODING, value)), expected, "Accept-Encoding: {value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn content_types_are_what_browsers_insist_on() {
        assert_eq!(content_type("app-1.js"), "text/javascript; charset=utf-8");
        assert_eq!(content_type("app-1.css"), "text/css; charset=utf-8");
        assert_eq!(content_type("logo-1.svg"), "image/svg+xml");
    }

    #[tokio::test]
    async fn what_is_not_an_asset_is_not_found() {
        for path in ["manifest.json", "no-such-file.css", "../Cargo.toml", "../../Cargo.toml", "app.css.gz", "/etc/passwd"] {
            let response = serve(Path(path.to_owned()), HeaderMap::new()).await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[tokio::test]
    async fn every_built_asset_is_served_in_both_encodings_and_revalidated() {
        assert!(!MANIFEST.is_empty(), "run `make assets` before the tests");
        for plain in MANIFEST.keys() {
            let url = asset_url(plain);
            let path = url.strip_prefix("/assets/").expect("asset URLs start so").to_owned();
            assert_ne!(&path, plain, "the name carries a hash");

            let identity = serve(Path(path.clone()), HeaderMap::new()).await;
            assert_eq!(identity.status(), StatusCode::OK, "{path}");
            assert_eq!(identity.headers()[CACHE_CONTROL], KEEP_FOR_EVER);
            assert!(!identity.headers().contains_key(CONTENT_ENCODING));

            let compressed = serve(Path(path.clone()), with(ACCEPT_ENCODING, "gzip")).await;
            assert_eq!(compressed.status(), StatusCode::OK, "{path}");
            let tag = compressed.headers()[ETAG].to_str().expect("ASCII").to_owned();
            if compressed.headers().contains_key(CONTENT_ENCODING) {
                assert_ne!(compressed.headers()[ETAG], identity.headers()[ETAG], "{path}: each representation has its own tag");
            }

            let direct = serve(Path(format!("{path}.gz")), HeaderMap::new()).await;
            assert_eq!(direct.status(), StatusCode::NOT_FOUND, "{path}.gz is for negotiation only");

            let mut held = with(ACCEPT_ENCODING, "gzip");
            held.insert(IF_NONE_MATCH, HeaderValue::from_str(&tag).expect("a tag"));
            assert_eq!(serve(Path(path), held).await.status(), StatusCode::NOT_MODIFIED);
        }
    }
}
