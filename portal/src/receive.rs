//! Bodies of requests are received before a handler opens its transaction: a caller that sends slowly, or not at all, then costs a socket and never a
//! connection to Postgres, of which there are few.

use std::time::Duration;

use axum::{
    body::Body,
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::BytesMut;
use futures_util::{StreamExt, stream};
use tokio::time::timeout;

/// How much is received first: more than any form or REST body has. Of what is larger the rest is left to the handler, which has asked by then who sends it.
const RECEIVED_FIRST: usize = crate::app::MAX_BODY_BYTES;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Receives the body, up to a bound, and goes on; 408 if it does not come.
pub(crate) async fn receive_first(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match timeout(PATIENCE, received(body)).await {
        Ok(body) => next.run(Request::from_parts(parts, body)).await,
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time. Please send the request again.\n").into_response(),
    }
}

async fn received(body: Body) -> Body {
    let mut rest = body.into_data_stream();
    let mut first = BytesMut::new();
    while first.len() <= RECEIVED_FIRST {
        match rest.next().await {
            Some(Ok(piece)) => first.extend_from_slice(&piece),
            // The handler meets the error where it reads, and says what it means there.
            Some(Err(error)) => return Body::from_stream(stream::iter([Ok(first.freeze()), Err(error)])),
            None => return Body::from(first.freeze()),
        }
    }
    Body::from_stream(stream::once(async move { Ok(first.freeze()) }).chain(rest))
}
