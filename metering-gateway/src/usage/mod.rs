//! Usage on its way from a call to the portal: record -> journal -> sealed segment -> [`fold`] -> batch -> ack.

pub mod fold;
mod lanes;
pub mod recorder;
pub mod shipper;
pub mod told;
