//! The house rules, asserted from the files and from `cargo metadata`.

mod charts;
mod imports;
mod protocols;
mod queries;
mod style;
