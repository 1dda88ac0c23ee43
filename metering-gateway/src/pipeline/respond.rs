//! The only place where a failure becomes an answer: problem documents (RFC 9457) of the types that SEMANTICS Q7 names.

use bytes::Bytes;
use calendar::Timestamp;
use http::{HeaderValue, Method, Response, StatusCode, header};
use quota::seconds_up;
use serde::Serialize;

use super::{body::AnswerBody, grpc, meter::Stop, path::PathError, wellformed::Malformed};
use crate::upstream::UpstreamError;

/// What every problem's type starts with.
pub const PROBLEM_PREFIX: &str = "urn:tollkeeper:problem:";

/// Why a call gets an answer of the gateway's own.
#[derive(Debug)]
pub enum Failure {
    /// The host or the framing could be read in two ways.
    Malformed(Malformed),
    /// It is not HTTP, or could be cut in two ways.
    NotHttp(&'static str),
    /// The head is larger than is read.
    HeadTooLarge,
    /// The path could be read in two ways.
    AmbiguousPath(PathError),
    /// No route matches.
    NoRoute,
    /// Routes match, of other methods.
    MethodNotAllowed(Vec<Method>),
    /// No credential came with the call.
    KeyMissing,
    /// The credential is garbage, unknown, expired or revoked.
    KeyInvalid,
    /// No subscription of the application covers the product.
    NotInPlan,
    /// The subscription is paused.
    Paused {
        /// Its plan.
        plan: String,
    },
    /// The subscription's payment is overdue.
    PaymentOverdue {
        /// Its plan.
        plan: String,
    },
    /// A test key on a product without a sandbox.
    NoSandbox,
    /// A rate limit denied.
    TooFast(Denied),
    /// A hard quota is used up, by the ledger's word.
    QuotaUsedUp(Denied),
    /// Whether a hard quota is used up is not known now.
    QuotaUnknown(Denied),
    /// There is no policy that may be used.
    NoPolicy,
    /// There is no room for the call's record.
    JournalFull,
    /// The request's body is too large.
    BodyTooLarge,
    /// The request's body did not arrive.
    BodyIncomplete,
    /// The request's body came too slowly.
    BodyTooSlow,
    /// The gateway, or the caller's namespace, has too many open calls.
    Overloaded,
    /// The upstream gave no answer.
    Upstream(UpstreamError),
    /// The upstream did not open the WebSocket that the caller asked for.
    NotSwitched,
    /// The caller's deadline was over before an answer began.
    DeadlineExceeded,
    /// The gateway ended the call before an answer began.
    Stopped(Stop),
    /// A defect, or a race with a change of policy.
    Internal(String),
}

/// The figures of a limit that denied.
#[derive(Debug)]
pub struct Denied {
    /// The limit's name in the `RateLimit` fields.
    pub limit_name: String,
    /// How many the window or period allows.
    pub limit: i64,
    /// How many are used.
    pub used: i64,
    /// When there will be some again.
    pub resets_at: Timestamp,
    /// How long to wait at least, in nanoseconds.
    pub retry_after_ns: u64,
    /// The plan.
    pub plan: String,
}

/// What a failure's answer needs of the call.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The call's id.
    pub request_id: &'a str,
    /// Where a caller is sent to upgrade its plan.
    pub upgrade_url: &'a str,
    /// Whether it is a gRPC call, which is answered in that form.
    pub is_grpc: bool,
}

/// RFC 9457.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upgrade_url: Option<&'a str>,
}

impl Failure {
    /// A defect, or a race with a change of policy.
    pub fn internal(what: impl Into<String>) -> Self {
        Self::Internal(what.into())
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(Malformed::Coding) => StatusCode::NOT_IMPLEMENTED,
            Self::Malformed(_) | Self::NotHttp(_) | Self::AmbiguousPath(_) | Self::BodyIncomplete => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::KeyMissing | Self::KeyInvalid => StatusCode::UNAUTHORIZED,
            Self::PaymentOverdue { .. } => StatusCode::PAYMENT_REQUIRED,
            Self::NotInPlan | Self::Paused { .. } | Self::NoSandbox => StatusCode::FORBIDDEN,
            Self::TooFast(_) | Self::QuotaUsedUp(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::QuotaUnknown(_) | Self::NoPolicy | Self::JournalFull | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Upstream(UpstreamError::ConnectTimeout(_) | UpstreamError::FirstByteTimeout(_)) => StatusCode::GATEWAY_TIMEOUT,
            Self::Upstream(UpstreamError::Overloaded) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Upstream(_) => StatusCode::BAD_GATEWAY,
            Self::NotSwitched => StatusCode::BAD_GATEWAY,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::Stopped(Stop::Revoked) => StatusCode::UNAUTHORIZED,
            Self::Stopped(Stop::QuotaUsedUp) => StatusCode::TOO_MANY_REQUESTS,
            Self::Stopped(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The last part of the problem's type; also the name under which it is counted.
    pub fn slug(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::NotHttp(_) => "malformed-request",
            Self::HeadTooLarge => "head-too-large",
            Self::AmbiguousPath(_) => "ambiguous-path",
            Self::NoRoute => "no-route",
            Self::MethodNotAllowed(_) => "method-not-allowed",
            Self::KeyMissing => "key-missing",
            Self::KeyInvalid => "key-invalid",
            Self::NotInPlan => "not-in-plan",
            Self::Paused { .. } => "subscription-paused",
            Self::PaymentOverdue { .. } => "payment-overdue",
            Self::NoSandbox => "no-sandbox",
            Self::TooFast(_) => "too-fast",
            Self::QuotaUsedUp(_) => "quota-used-up",
            Self::QuotaUnknown(_) => "quota-unknown",
            Self::NoPolicy => "policy-unknown",
            Self::JournalFull => "usage-log-full",
            Self::BodyTooLarge => "body-too-large",
            Self::BodyIncomplete => "body-incomplete",
            Self::BodyTooSlow => "body-too-slow",
            Self::Overloaded => "overloaded",
            Self::Upstream(UpstreamError::ConnectTimeout(_) | UpstreamError::FirstByteTimeout(_)) => "upstream-timeout",
            Self::Upstream(UpstreamError::Overloaded) => "upstream-overloaded",
            Self::Upstream(UpstreamError::Connect(_) | UpstreamError::Unresolved(_)) => "upstream-unreachable",
            Self::Upstream(UpstreamError::Failed(_) | UpstreamError::FailedHttp2(_) | UpstreamError::Body(_)) => "upstream-failed",
            Self::NotSwitched => "upstream-failed",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::Stopped(Stop::Revoked) => "key-invalid",
            Self::Stopped(Stop::QuotaUsedUp) => "quota-used-up",
            Self::Stopped(_) => "stopping",
            Self::Internal(_) => "internal",
        }
    }

    /// What it is called.
    pub fn title(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "The request is ambiguous",
            Self::NotHttp(_) => "The request is not HTTP",
            Self::HeadTooLarge => "The request's head is too large",
            Self::AmbiguousPath(_) => "The path is ambiguous",
            Self::NoRoute => "No API here",
            Self::MethodNotAllowed(_) => "The method is not offered here",
            Self::KeyMissing => "An API key is needed",
            Self::KeyInvalid => "The API key is unknown, expired or revoked",
            Self::NotInPlan => "Not in your plan",
            Self::Paused { .. } => "The subscription is paused",
            Self::PaymentOverdue { .. } => "A payment is overdue",
            Self::NoSandbox => "There is no sandbox",
            Self::TooFast(_) => "Too fast",
            Self::QuotaUsedUp(_) => "The quota is used up",
            Self::QuotaUnknown(_) => "The quota is not known now",
            Self::NoPolicy => "The gateway is not ready",
            Self::JournalFull => "The gateway cannot record usage now",
            Self::BodyTooLarge => "The body is too large",
            Self::BodyIncomplete => "The body did not arrive",
            Self::BodyTooSlow => "The body came too slowly",
            Self::Overloaded => "Too many open calls",
            Self::Upstream(UpstreamError::ConnectTimeout(_) | UpstreamError::FirstByteTimeout(_)) => "The API did not answer in time",
            Self::Upstream(UpstreamError::Overloaded) => "The API is overloaded",
            Self::Upstream(_) => "The API did not answer",
            Self::NotSwitched => "The API opened no WebSocket",
            Self::DeadlineExceeded => "The deadline is over",
            Self::Stopped(Stop::Revoked) => "The API key is unknown, expired or revoked",
            Self::Stopped(Stop::QuotaUsedUp) => "The quota is used up",
            Self::Stopped(_) => "The gateway is stopping",
            Self::Internal(_) => "The gateway failed",
        }
    }

    /// What happened and what to do, for the caller. Nothing that only operators should know.
    pub fn detail(&self) -> String {
        match self {
            Self::Malformed(error) => format!("{error}; send it in its plain form"),
            Self::NotHttp(what) => format!("{what}; send a request as RFC 9112 has it"),
            Self::HeadTooLarge => "the head of a request may have 64 KiB and 128 fields; send fewer and shorter fields".into(),
            Self::AmbiguousPath(error) => format!("{error}; send the path in its plain form"),
            Self::NoRoute => "no route matches this path; the API reference lists them".into(),
            Self::MethodNotAllowed(allowed) => {
                let allowed: Vec<_> = allowed.iter().map(Method::as_str).collect();
                format!("this path takes {}", allowed.join(", "))
            }
            Self::KeyMissing => "send your API key in the header `x-api-key`, or as `authorization: Bearer`".into(),
            Self::KeyInvalid => "check the key, or make a new one in the portal".into(),
            Self::NotInPlan => "no subscription of this application covers this API; subscribe to a plan that does".into(),
            Self::Paused { .. } => "the subscription is paused; resume it in the portal".into(),
            Self::PaymentOverdue { .. } => "an invoice is overdue; pay it in the portal".into(),
            Self::NoSandbox => "this API has no sandbox for test keys; use a live key".into(),
            Self::TooFast(denied) => {
                format!("the limit `{}` allows {} in its window; wait for `Retry-After` seconds", denied.limit_name, denied.limit)
            }
            Self::QuotaUsedUp(denied) => format!(
                "{} of {} units of this period are used or reserved, and this call may need more than are left; wait for the next period or upgrade",
                denied.used, denied.limit
            ),
            Self::QuotaUnknown(_) => "what is left of the quota cannot be told at this moment; try again".into(),
            Self::NoPolicy => "the gateway has no recent word from the portal; try again later".into(),
            Self::JournalFull => "the gateway has no room to record usage; try again later".into(),
            Self::BodyTooLarge => "the request's body is larger than the gateway allows".into(),
            Self::BodyIncomplete => "the request's body ended early".into(),
            Self::BodyTooSlow => "the request's body stopped or came too slowly; send it again".into(),
            Self::Overloaded => "too many calls are open at this moment; wait for `Retry-After` seconds and have fewer open at once".into(),
            Self::Upstream(UpstreamError::Overloaded) => {
                "all connections to the API behind the gateway are in use; this call is not billed; try again later".into()
            }
            Self::Upstream(_) => "the API behind the gateway gave no valid answer; this call is not billed".into(),
            Self::NotSwitched => "the API does not speak WebSocket here; ask for it in the plain way".into(),
            Self::DeadlineExceeded => "the API did not answer within the time that the call allows".into(),
            Self::Stopped(Stop::Revoked) => "the key, its subscription or this API ended while the call was open".into(),
            Self::Stopped(Stop::QuotaUsedUp) => "the quota was used up while the call was open; wait for the next period or upgrade".into(),
            Self::Stopped(_) => "the gateway ended the call because it is stopping; send it again".into(),
            Self::Internal(_) => "this call is not billed; tell the provider the request_id".into(),
        }
    }

    fn denied(&self) -> Option<&Denied> {
        match self {
            Self::TooFast(denied) | Self::QuotaUsedUp(denied) | Self::QuotaUnknown(denied) => Some(denied),
            _ => None,
        }
    }

    fn plan(&self) -> Option<&str> {
        match self {
            Self::Paused { plan } | Self::PaymentOverdue { plan } => Some(plan),
            _ => self.denied().map(|denied| denied.plan.as_str()),
        }
    }

    /// The answer.
    pub fn into_response(self, about: About<'_>) -> Response<AnswerBody> {
        match &self {
            Self::Internal(what) => tracing::error!(request_id = about.request_id, what, "a call failed in the gateway"),
            Self::Upstream(error) => tracing::warn!(request_id = about.request_id, %error, "an upstream gave no answer"),
            _ => tracing::debug!(request_id = about.request_id, problem = self.slug(), "a call was answered by the gateway"),
        }
        if about.is_grpc {
            return grpc::denial(&self);
        }
        let status = self.status();
        let denied = self.denied();
        let offers =
            matches!(self, Self::TooFast(_) | Self::QuotaUsedUp(_) | Self::NotInPlan | Self::Paused { .. } | Self::PaymentOverdue { .. });
        let problem = Problem {
            r#type: format!("{PROBLEM_PREFIX}{}", self.slug()),
            title: self.title(),
            status: status.as_u16(),
            detail: self.detail(),
            request_id: about.request_id,
            limit_name: denied.map(|denied| denied.limit_name.as_str()),
            limit: denied.map(|denied| denied.limit),
            used: denied.map(|denied| denied.used),
            resets_at: denied.map(|denied| denied.resets_at),
            plan: self.plan(),
            upgrade_url: Some(about.upgrade_url).filter(|url| offers && !url.is_empty()),
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut answer = Response::new(AnswerBody::full(Bytes::from(body)));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        match &self {
            Self::KeyMissing | Self::KeyInvalid => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tollkeeper\""));
            }
            Self::MethodNotAllowed(allowed) => {
                let allowed: Vec<_> = allowed.iter().map(Method::as_str).collect();
                if let Ok(value) = HeaderValue::try_from(allowed.join(", ")) {
                    headers.insert(header::ALLOW, value);
                }
            }
            _ => (),
        }
        answer
    }

    /// How long to wait at least before the same is asked again.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::NoPolicy | Self::JournalFull => Some(5),
            Self::Overloaded | Self::Upstream(UpstreamError::Overloaded) => Some(1),
            _ => self.denied().map(|denied| seconds_up(denied.retry_after_ns).max(1)),
        }
    }
}
