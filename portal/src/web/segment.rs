//! Ids in the paths of pages.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use super::failure::Failure;
use crate::error::Error;

/// The parameters of a page's path. An id of the wrong shape names nothing: the answer is 404.
#[derive(Debug)]
pub struct Segment<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segment<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(inner) = Path::from_request_parts(parts, state).await.map_err(|_| Error::not_found("This page"))?;
        Ok(Self(inner))
    }
}
