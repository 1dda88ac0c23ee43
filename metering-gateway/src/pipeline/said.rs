//! What the gateway says on every answer, whoever gave it: the call's id, and how the caller's limits stand.

use std::rc::Rc;

use calendar::Timestamp;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{grant::Grant, headers::X_REQUEST_ID};
use crate::{core::Core, http1::write::put_field};

/// `RateLimit-Policy`.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static(gateway_control::headers::RATE_LIMIT_POLICY);
const RATE_LIMIT: HeaderName = HeaderName::from_static(gateway_control::headers::RATE_LIMIT);

/// What the gateway says on an answer.
#[derive(Debug)]
pub struct Said {
    /// The call's id.
    pub request_id: HeaderValue,
    /// The limits of a caller whose plan is known.
    pub limits: Option<Limits>,
}

/// What `RateLimit-Policy` and `RateLimit` say (draft-ietf-httpapi-ratelimit-headers).
#[derive(Debug)]
pub struct Limits {
    /// The core that answers.
    pub core: Rc<Core>,
    /// What the caller may do.
    pub grant: Rc<Grant>,
    /// When it called.
    pub now: Timestamp,
}

impl Said {
    /// Whether a field is the gateway's to say. What an upstream says in it does not pass.
    pub fn covers(&self, name: &HeaderName) -> bool {
        match name.as_str().as_bytes().first() {
            Some(b'r') => self.limits.is_some() && (*name == RATE_LIMIT || *name == RATE_LIMIT_POLICY),
            Some(b'x') => *name == X_REQUEST_ID,
            _ => false,
        }
    }

    /// Writes it into a head of HTTP/1.1.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_field(out, &X_REQUEST_ID, &self.request_id);
        let Some(Limits { core, grant, now }) = &self.limits else { return };
        out.extend_from_slice(grant.limits_policy.lines());
        let limit = grant.limit_fields(core, *now);
        if !limit.is_empty() {
            out.extend_from_slice(RATE_LIMIT.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(limit.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Puts it into a head that is a map.
    pub fn put(&self, headers: &mut HeaderMap) {
        headers.insert(X_REQUEST_ID, self.request_id.clone());
        let Some(Limits { core, grant, now }) = &self.limits else { return };
        headers.remove(RATE_LIMIT_POLICY);
        headers.remove(RATE_LIMIT);
        grant.limits_policy.append_to(headers);
        let limit = grant.limit_fields(core, *now);
        if let Some(limit) = Some(limit).filter(|limit| !limit.is_empty()).and_then(|limit| HeaderValue::from_bytes(limit.as_bytes()).ok())
        {
            headers.insert(RATE_LIMIT, limit);
        }
    }
}
