//! All SQL of this domain.

mod api_token;
mod session;
mod user;

pub(super) use api_token::*;
pub(super) use session::*;
pub(super) use user::*;
