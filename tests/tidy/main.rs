//! The house rules, asserted from the files and from `cargo metadata`.

mod charts;
mod imports;
mod queries;
mod style;
