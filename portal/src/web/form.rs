//! Forms of signed-in people: the body, after its token was found to be the session's.

use axum::{
    Form,
    extract::{FromRequest, FromRequestParts, Request, rejection::FormRejection},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    call::{self, Call, UserCall},
    failure::Failure,
};
use crate::{
    app::App,
    error::{Error, Kind},
};

/// A call together with its form: `async fn create(Posted(mut call, input): Posted<Call, NewKey>)`. A form has a hidden field `csrf`.
#[derive(Debug)]
pub struct Posted<C, T>(pub C, pub T);

#[derive(Deserialize)]
struct WithToken<T> {
    #[serde(default)]
    csrf: String,
    #[serde(flatten)]
    input: T,
}

macro_rules! posted {
    ($call:ty) => {
        impl<T: DeserializeOwned + Send> FromRequest<App> for Posted<$call, T> {
            type Rejection = Response;

            async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
                let (mut parts, body) = request.into_parts();
                let call = <$call>::from_request_parts(&mut parts, app).await?;
                let request = Request::from_parts(parts, body);
                let Form(form) = Form::<WithToken<T>>::from_request(request, app).await.map_err(|rejection| unreadable(&rejection))?;
                call::check_csrf(&call.session, &form.csrf).map_err(|error| Failure::from(error).into_response())?;
                Ok(Self(call, form.input))
            }
        }
    };
}
posted!(Call);
posted!(UserCall);

fn unreadable(rejection: &FormRejection) -> Response {
    let kind = if rejection.status() == 413 { Kind::TooLarge } else { Kind::Invalid };
    let mut error = Error::new(kind, "The form could not be read. Please go back and try again.");
    error.internal = Some(anyhow::anyhow!("{rejection}"));
    Failure::from(error).into_response()
}
