//! The client that spans are sent with: it keeps what the exporter does not pass on, which is why a collector could not be reached, and which spans it
//! rejected in an answer that says that it took the others.

use std::{
    error::Error,
    fmt::Write as _,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;

/// How much of a collector's words is kept.
const MAX_SAID_CHARS: usize = 500;

/// What came of the last export, besides what the exporter says.
#[derive(Debug, Default)]
pub struct Heard {
    /// Why there was no answer, with all causes.
    pub error: Option<String>,
    /// Spans that the collector rejected.
    pub rejected: u64,
    /// What it says about them.
    pub reason: String,
}

/// The client.
#[derive(Debug, Clone)]
pub struct CollectorClient {
    http: reqwest::Client,
    heard: Arc<Mutex<Heard>>,
}

impl CollectorClient {
    /// Sets it up. A collector may take as long as `timeout`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(timeout: Duration) -> reqwest::Result<Self> {
        // A collector inside the cluster is reached as it is named.
        let http = reqwest::Client::builder().no_proxy().timeout(timeout).build()?;
        Ok(Self { http, heard: Arc::default() })
    }

    /// What was heard since this was last asked.
    pub fn take(&self) -> Heard {
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn hear(&self, sent: &Result<Response<Bytes>, HttpError>) {
        let heard = match sent {
            Err(error) => Heard { error: Some(with_causes(&**error)), ..Heard::default() },
            Ok(answer) => rejected(answer),
        };
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = heard;
    }
}

impl HttpClient for CollectorClient {
    fn send_bytes<'s, 'f>(
        &'s self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let sent = self.http.send_bytes(request).await;
            self.hear(&sent);
            sent
        })
    }
}

/// An answer that cannot be read rejects nothing: collectors of older protocols answer with no body.
fn rejected(answer: &Response<Bytes>) -> Heard {
    let partial = ExportTraceServiceResponse::decode(&answer.body()[..]).ok().and_then(|response| response.partial_success);
    let Some(partial) = partial.filter(|_| answer.status().is_success()) else { return Heard::default() };
    let reason = partial.error_message.chars().take(MAX_SAID_CHARS).collect();
    Heard { rejected: u64::try_from(partial.rejected_spans).unwrap_or(0), reason, ..Heard::default() }
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing into a string cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
