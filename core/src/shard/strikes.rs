//! Wrong tokens, counted by the address that showed them: each may show some at once, and then one now and then. What is shown above
//! that is not looked at.

use alloc::boxed::Box;
use core::net::IpAddr;

use florin_schema::ids::mix;

use crate::limits::{WRONG_TOKEN_PLACES, WRONG_TOKEN_US, WRONG_TOKENS_BURST};

/// See the module. Addresses that fall together share what they may.
#[derive(Debug)]
pub struct Strikes {
    /// When all that were shown are paid for, monotonic µs.
    paid_at_us: Box<[u64]>,
}

impl Default for Strikes {
    fn default() -> Strikes {
        Strikes { paid_at_us: alloc::vec![0; WRONG_TOKEN_PLACES].into_boxed_slice() }
    }
}

impl Strikes {
    /// Whether one that this address shows is looked at.
    pub fn looks_at(&self, from: Option<IpAddr>, now_us: u64) -> bool {
        self.paid_at_us[place_of(from)] <= now_us + (WRONG_TOKENS_BURST - 1) * WRONG_TOKEN_US
    }

    /// One that was looked at was wrong.
    pub fn count(&mut self, from: Option<IpAddr>, now_us: u64) {
        let paid_at_us = &mut self.paid_at_us[place_of(from)];
        *paid_at_us = now_us.max(*paid_at_us) + WRONG_TOKEN_US;
    }
}

/// Of IPv6 a host has a whole network.
fn place_of(address: Option<IpAddr>) -> usize {
    let key = match address.map(|address| address.to_canonical()) {
        None => 0,
        Some(IpAddr::V4(address)) => u64::from(address.to_bits()) | 1 << 32,
        Some(IpAddr::V6(address)) => (address.to_bits() >> 64) as u64,
    };
    mix(key) as usize % WRONG_TOKEN_PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_at_once_and_then_one_now_and_then() {
        let mut strikes = Strikes::default();
        let from = Some(IpAddr::from([192, 0, 2, 1]));
        let mut shown = |now_us| {
            let looks_at = strikes.looks_at(from, now_us);
            if looks_at {
                strikes.count(from, now_us);
            }
            looks_at
        };
        assert_eq!((0..100).filter(|_| shown(1_000)).count() as u64, WRONG_TOKENS_BURST);
        assert!(shown(1_000 + WRONG_TOKEN_US) && !shown(1_000 + WRONG_TOKEN_US));
        assert_eq!((0..100).filter(|_| shown(1 << 40)).count() as u64, WRONG_TOKENS_BURST);
        assert!(strikes.looks_at(Some(IpAddr::from([192, 0, 2, 2])), 1 << 40));
    }

    #[test]
    fn a_host_has_one_place_however_it_is_written() {
        let place = |text: &str| place_of(Some(text.parse().expect("an address")));
        assert_eq!(place("192.0.2.1"), place("::ffff:192.0.2.1"));
        assert_eq!(place("2001:db8::1"), place("2001:db8::2"));
    }
}
