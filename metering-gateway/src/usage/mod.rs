//! Usage on its way from a call to the portal: record -> journal -> sealed segment -> [`fold`] -> batch -> ack.

pub mod fold;
pub mod recorder;
pub mod shipper;
