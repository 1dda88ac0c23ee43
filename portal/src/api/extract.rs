//! Extractors whose rejections are problems. Put them after [`super::call::ApiCall`], so that anonymous callers learn nothing of a path's shape.

use axum::{
    extract::{FromRequest, FromRequestParts, Request, rejection::JsonRejection},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::error::{Error, Kind};

/// The parameters of a path. An id of the wrong shape names nothing: the answer is 404.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let axum::extract::Path(inner) =
            axum::extract::Path::from_request_parts(parts, state).await.map_err(|_| Error::not_found("What this path names"))?;
        Ok(Self(inner))
    }
}

/// The query of a URL.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let axum::extract::Query(inner) = axum::extract::Query::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Error::new(Kind::Invalid, format!("The query could not be read: {}.", rejection.body_text())))?;
        Ok(Self(inner))
    }
}

/// A JSON body.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match axum::Json::from_request(request, state).await {
            Ok(axum::Json(inner)) => Ok(Self(inner)),
            Err(rejection) if rejection.status() == 413 => Err(Error::new(Kind::TooLarge, "The body is larger than what is read.").into()),
            Err(JsonRejection::MissingJsonContentType(_)) => {
                Err(Error::new(Kind::Invalid, "Send a JSON body with the header Content-Type: application/json.").into())
            }
            Err(rejection) => Err(Error::new(Kind::Invalid, format!("The body could not be read: {}.", rejection.body_text())).into()),
        }
    }
}
