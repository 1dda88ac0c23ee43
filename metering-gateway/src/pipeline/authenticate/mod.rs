//! Who calls: a credential becomes a key of an application.

pub mod api_key;
