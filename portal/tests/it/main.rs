//! The portal's router against a real Postgres: each test has a database of its own.

mod jobs;
mod sign_up;
mod support;
mod tokens;
