//! What keeps callers from hurting a core: each connection is watched for callers that do not read, that ask nothing, or that ask only to cancel.
//!
//! - [`stream`]: a socket whose writes give up on a caller that reads nothing.
//! - [`conduct`]: what happened on a connection so far, and when it is to be closed.
//! - [`lifeline`]: lets the core's timer end an HTTP/2 stream that its caller does not let drain.
//! - [`addresses`]: how many connections one address may have.
//!
//! None of it reads a clock or takes a lock while calls flow: timers are armed only when something stands still.

pub mod addresses;
pub mod conduct;
pub mod lifeline;
pub mod stream;
