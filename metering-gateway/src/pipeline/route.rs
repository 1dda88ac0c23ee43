//! From a request to its route in the current policy.

use std::sync::Arc;

use super::respond::Failure;
use crate::policy::{
    entries::CompiledRoute,
    index::Index,
    router::{Asked, NoRoute},
};

/// The route of a request.
///
/// # Errors
/// When no route matches.
pub fn find<'a>(index: &'a Index, asked: Asked<'_>) -> Result<&'a Arc<CompiledRoute>, Failure> {
    index.router.find(asked).map_err(|none| match none {
        NoRoute::Path => Failure::NoRoute,
        NoRoute::Method(allowed) => Failure::MethodNotAllowed(allowed),
    })
}
