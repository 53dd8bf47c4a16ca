//! What is known of one connection's caller: what it has proved, and how much of its quotas the connection holds.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::Directory;
use crate::shard::principal::Principal;
use crate::shard::quota::{Quota, Usage};

/// What is known of a connection's caller, beside who it is at the moment.
#[derive(Default)]
pub(super) struct Caller {
    pub from: Option<IpAddr>,
    /// What the connection itself has proved.
    pub own: Proven,
    /// The Authorization header that the last request had which was not its own; empty where there was none.
    pub header: Vec<u8>,
    /// What that has proved.
    pub by_header: Proven,
    /// Whose requests are in flight on it, where that is bounded.
    pub flight: Flight,
}

impl Caller {
    /// What has become of all that it has proved; when the first of it ends.
    pub fn look_again(&mut self, directory: &dyn Directory, wall_us: i64) -> i64 {
        let end_us = self.own.look_again(directory, wall_us);
        end_us.min(self.by_header.look_again(directory, wall_us))
    }

    pub fn end(&mut self) {
        self.own.leave();
        self.by_header.leave();
        self.flight.end();
        self.header.clear();
        self.from = None;
    }
}

/// Requests of one connection that wait for their answers, as they are counted for whoever has made them.
#[derive(Default)]
pub(super) struct Flight {
    of: Option<Arc<Usage>>,
    counted: u32,
}

impl Flight {
    /// There are so many now.
    pub fn settle(&mut self, owed: u32) {
        if let Some(usage) = &self.of {
            usage.settle(self.counted, owed);
            self.counted = owed;
        }
    }

    /// One more, beside `owed`, which are all this one's from now on. `false` where it has too many.
    pub fn begin(&mut self, quota: &Quota, owed: u32) -> bool {
        if !self.of.as_ref().is_some_and(|usage| Arc::ptr_eq(usage, quota.usage())) {
            self.end();
            self.of = Some(Arc::clone(quota.usage()));
        }
        self.settle(owed);
        let begins = quota.begin();
        self.counted += u32::from(begins);
        begins
    }

    fn end(&mut self) {
        self.settle(0);
        self.of = None;
    }
}

/// Who something belongs to, and where the connection is counted for it.
#[derive(Default)]
pub(super) struct Proven {
    pub principal: Option<Principal>,
    counted: Option<Arc<Usage>>,
}

impl Proven {
    /// From now on this. `false`, and as before, where it has too many connections.
    pub fn set(&mut self, principal: Principal, quota: Option<&Quota>) -> bool {
        let is_same = self.principal.is_some_and(|before| before.number() == principal.number());
        if !is_same {
            if quota.is_some_and(|quota| !quota.enter()) {
                return false;
            }
            self.leave();
            self.counted = quota.map(|quota| Arc::clone(quota.usage()));
        }
        self.principal = Some(principal);
        true
    }

    /// What has become of it; when its proof ends.
    fn look_again(&mut self, directory: &dyn Directory, wall_us: i64) -> i64 {
        let Some(before) = self.principal else { return i64::MAX };
        let principal = directory.again(before, wall_us);
        if principal.number() != before.number() {
            self.leave();
            return i64::MAX;
        }
        self.principal = Some(principal);
        principal.until_us()
    }

    fn leave(&mut self) {
        if let Some(usage) = self.counted.take() {
            usage.leave();
        }
        self.principal = None;
    }
}
