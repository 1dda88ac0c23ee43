//! The credential of the stack's own gateway: made once, kept in the data folder.
