//! How addresses do, for operators: each core publishes what it has seen once a second, beside the path of calls.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::Serialize;

/// How an address does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AddressSeen {
    /// What the service names: `https://name:port` for each of its addresses, parted by commas.
    pub upstream: String,
    /// The address.
    pub address: SocketAddr,
    /// Connections that are open.
    pub connections: u64,
    /// Of those, connections that carry nothing.
    pub idle_connections: u64,
    /// Calls that are under way.
    pub in_flight: u64,
    /// Calls that wait for a connection.
    pub waiting: u64,
    /// What the balancer weighs the address by; the largest of all cores. It starts from the microseconds until the heads of answers, is raised by failures,
    /// and sinks to 0 while nothing is sent there, so it is no measure of the upstream's latency.
    pub latency_micros: u64,
    /// Heads of answers that came, since the start.
    pub answers: u64,
    /// Calls that failed, or were answered 502, 503 or 504, since the start.
    pub failures: u64,
    /// On how many cores the address is left out.
    pub ejected_on_cores: u64,
    /// For how long at most it is still left out.
    pub ejected_for_ms: u64,
    /// Retries of calls to the upstream (the same for all of its addresses), since the start.
    pub upstream_retries: u64,
}

impl AddressSeen {
    fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.idle_connections += other.idle_connections;
        self.in_flight += other.in_flight;
        self.waiting += other.waiting;
        self.latency_micros = self.latency_micros.max(other.latency_micros);
        self.answers += other.answers;
        self.failures += other.failures;
        self.ejected_on_cores += other.ejected_on_cores;
        self.ejected_for_ms = self.ejected_for_ms.max(other.ejected_for_ms);
        self.upstream_retries += other.upstream_retries;
    }
}

/// The cores together. Groups of different options may share an address; they are told apart by nothing here and added up as well.
pub fn add_up(cores: &[Vec<AddressSeen>]) -> Vec<AddressSeen> {
    let mut sums: BTreeMap<(&str, SocketAddr), AddressSeen> = BTreeMap::new();
    for seen in cores.iter().flatten() {
        sums.entry((&seen.upstream, seen.address)).and_modify(|sum| sum.add(seen)).or_insert_with(|| seen.clone());
    }
    sums.into_values().collect()
}
