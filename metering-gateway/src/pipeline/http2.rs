//! What HTTP/2 says in its own way, brought into the way of the stages: extended CONNECT (RFC 8441), which opens a WebSocket, becomes the request for an
//! upgrade that an upstream knows from HTTP/1.1; crumbs of cookies become one field (RFC 9113, 8.2.3).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::ext::Protocol;

use super::{caller::CallerStream, respond::Failure};

const WEBSOCKET: &str = "websocket";
const SEC_WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// Brings an HTTP/2 request into the form that the stages read.
///
/// # Errors
/// When it asks to connect to anything but a WebSocket.
pub fn adopt(request: &mut Request<CallerStream>) -> Result<(), Failure> {
    join_cookies(request.headers_mut());
    if request.method() != Method::CONNECT {
        return Ok(());
    }
    if !is_websocket(request) {
        return Err(Failure::MethodNotAllowed(vec![Method::GET]));
    }
    *request.method_mut() = Method::GET;
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| Failure::internal(format!("no randomness for a WebSocket's key: {error}")))?;
    let key = HeaderValue::try_from(STANDARD.encode(nonce)).map_err(|error| Failure::internal(error.to_string()))?;
    request.headers_mut().insert(header::SEC_WEBSOCKET_KEY, key);
    Ok(())
}

/// Whether a request opens a WebSocket by extended CONNECT.
pub fn is_websocket<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Protocol>().is_some_and(|protocol| protocol.as_str() == WEBSOCKET)
}

/// The upgrade that stands for an extended CONNECT.
pub fn upgrade() -> HeaderValue {
    HeaderValue::from_static(WEBSOCKET)
}

/// Brings the answer to an upgrade into the form of one to an extended CONNECT.
pub fn accept<B>(answer: &mut Response<B>) {
    *answer.status_mut() = StatusCode::OK;
    let headers = answer.headers_mut();
    headers.remove(header::CONNECTION);
    headers.remove(header::UPGRADE);
    headers.remove(SEC_WEBSOCKET_ACCEPT);
}

fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    if crumbs.by_ref().take(2).count() < 2 {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crumbs_become_one_cookie() {
        let mut headers = HeaderMap::new();
        join_cookies(&mut headers);
        assert!(headers.is_empty());
        for crumb in ["a=1", "b=2; c=3", "d=4"] {
            headers.append(header::COOKIE, HeaderValue::from_static(crumb));
        }
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3; d=4"]);
    }
}
