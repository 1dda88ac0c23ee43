//! How many connections one address may have open at once, over all cores. Off unless it is set: behind a load balancer all callers have its address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// The open connections of each address.
#[derive(Debug, Default)]
pub struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// One connection of an address, while it is open.
#[derive(Debug)]
pub struct Seat {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    /// Counts one more connection of an address; `None` when it has `most` already.
    pub fn take(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Seat> {
        let address = address.to_canonical();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        // Every address in the map has a connection, so the map is never larger than the number of connections.
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Seat { addresses: self.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_seats_and_no_more() {
        let addresses = Arc::<Addresses>::default();
        let (one, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let seats: Vec<_> = (0..3).map(|_| addresses.take(one, 3).expect("a seat")).collect();
        assert!(addresses.take(one, 3).is_none());
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().expect("an address");
        assert!(addresses.take(mapped, 3).is_none(), "the same address in another form");
        let _other = addresses.take(other, 3).expect("another address has seats of its own");
        drop(seats);
        assert!(addresses.take(one, 3).is_some());
        assert_eq!(addresses.0.lock().expect("not poisoned").len(), 1, "addresses without connections are forgotten");
    }
}
