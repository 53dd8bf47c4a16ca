//! Credit for requests that a shard has taken from its node's quotas, and not used yet.

use alloc::vec::Vec;

use crate::shard::quota::Quota;

/// What there is at hand, by principal's number.
#[derive(Default)]
pub(super) struct Leases {
    leases: Vec<Lease>,
}

/// Credit of one principal's.
#[derive(Clone, Copy, Default)]
struct Lease {
    left: u32,
    /// Before this there is no more.
    again_us: u64,
}

impl Leases {
    /// Takes credit for `needed` requests of `number`'s, more of it from `quota` where what is at hand does not do.
    ///
    /// # Errors
    /// When there may be enough, monotonic µs.
    pub fn draw(&mut self, number: u16, quota: Option<&Quota>, needed: u32, now_us: u64) -> Result<(), u64> {
        let index = usize::from(number);
        if index >= self.leases.len() {
            self.leases.resize(index + 1, Lease::default());
        }
        let Some(quota) = quota.filter(|quota| quota.bounds().meters_requests()) else { return Ok(()) };
        let lease = &mut self.leases[index];
        if lease.left < needed {
            if now_us < lease.again_us {
                return Err(lease.again_us);
            }
            match quota.lease(needed, lease.left, now_us) {
                Ok(more) => lease.left += more,
                Err(again_us) => {
                    // Less may be enough for the next; one that asks for one is who is to be kept from asking all the time.
                    lease.again_us = if needed == 1 { again_us } else { 0 };
                    return Err(again_us);
                }
            }
        }
        lease.left -= needed;
        Ok(())
    }

    /// Takes credit for some of at most `wanted` requests, as much as there is at hand once there is some for one.
    pub fn draw_some(&mut self, number: u16, quota: Option<&Quota>, wanted: u32, now_us: u64) -> u32 {
        if wanted == 0 || self.draw(number, quota, 1, now_us).is_err() {
            return 0;
        }
        let Some(lease) = self.leases.get_mut(usize::from(number)) else { return 1 };
        let more = lease.left.min(wanted - 1);
        lease.left -= more;
        1 + more
    }

    /// What was drawn was not used.
    pub fn give_back(&mut self, number: u16, unused: u32) {
        if let Some(lease) = self.leases.get_mut(usize::from(number)) {
            lease.left += unused;
        }
    }

    /// What was granted under other bounds is taken anew.
    pub fn clear(&mut self) {
        self.leases.clear();
    }
}
