//! From a request to its route in the current policy.

use std::sync::Arc;

use http::Method;

use super::respond::Failure;
use crate::policy::{entries::CompiledRoute, index::Index, router::NoRoute};

/// The route of a request; `path` has been normalized.
///
/// # Errors
/// When no route matches.
pub fn find<'a>(index: &'a Index, method: &Method, path: &str) -> Result<&'a Arc<CompiledRoute>, Failure> {
    index.router.find(method, path).map_err(|none| match none {
        NoRoute::Path => Failure::NoRoute,
        NoRoute::Method(allowed) => Failure::MethodNotAllowed(allowed),
    })
}
