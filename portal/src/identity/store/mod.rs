//! All SQL of this domain.

mod api_token;
mod session;

pub(super) use api_token::*;
pub(super) use session::*;
