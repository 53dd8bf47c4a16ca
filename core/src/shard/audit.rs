//! What a shard does for the audit: it copies what it serves for some accounts, and says which rows it has applied. Comparing is
//! done elsewhere.
//!
//! A pass goes over the users of the ledger in the order of their ids. A shard remembers how far it has come: rows that are shown
//! later of a user behind that place are left out of the sums that the pass is compared with. A user who is new between the moment at
//! which the ledger was read and that at which the accounts are compared is in the sums and not in what was read. So the shard notes
//! new users in between, and names them instead of going on.

use alloc::vec::Vec;
use core::fmt;

use florin_schema::{Opcode, UserId, Version, WindowMask};

use super::orders::{OrderLink, OrderPort, order_link};
use super::table::{Trust, Walk};
use super::{FeedRequest, Reason, Shard};
use crate::audit::{BUCKETS, Fingerprint, bucket_of};
use crate::limits::{
    AUDIT_ACCOUNTS_LISTED_PER_TURN, AUDIT_ACCOUNTS_PER_ORDER, AUDIT_NEW_USERS_MAX, AUDIT_ORDERS,
};
use crate::wire::{Format, Origin, ReplyTo, StatisticsAnswer};

/// From the audit's thread. At most [`AUDIT_ORDERS`] are unanswered.
#[derive(Debug)]
pub enum AuditOrder {
    /// A pass begins. Has no answer.
    Begin,
    /// The ledger is about to be read: note who is new from now on, and say so: nobody must come between that and the reading unnoted.
    Watch,
    /// Copy what is served to these users: at most [`AUDIT_ACCOUNTS_PER_ORDER`].
    Copy {
        /// This shard's.
        users: Vec<UserId>,
        /// The pass has then come to this user, whom it has not met; `None` = it stays where it is.
        below: Option<Below>,
        /// To be filled.
        copies: Copies,
    },
    /// Say which rows the accounts had when the pass met them, bucket by bucket.
    Sums(Vec<Sum>),
    /// Add these rows to a bucket's: it is known now what its accounts hold. Has no answer.
    Adopt {
        /// Which.
        bucket: usize,
        /// What is missing; a difference.
        rows: Fingerprint,
    },
    /// What this account is answered with is wrong: say so in its answers, and have its history read again.
    Quarantine(UserId),
    /// List users of the accounts of these buckets: as many as a turn meets.
    List {
        /// By bucket.
        wanted: Vec<bool>,
        /// Begins with the first account.
        from_start: bool,
        /// To be filled.
        users: Vec<UserId>,
    },
    /// Do something wrong to an account, for the audit to find. Has no answer.
    #[cfg(debug_assertions)]
    Damage(UserId, super::Damage),
}

/// How far a pass has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Below {
    /// It has met every user whose id is lower.
    User(UserId),
    /// It has met all.
    End,
}

impl Below {
    /// It has met none.
    pub const NOBODY: Below = Below::User(UserId::new(0).expect("an id"));

    #[inline]
    fn holds(self, user: UserId) -> bool {
        match self {
            Below::User(below) => user < below,
            Below::End => true,
        }
    }
}

/// What became of an order.
#[derive(Debug)]
pub enum AuditAnswer {
    /// Of [`AuditOrder::Watch`]: who is new is noted from now on.
    Watching,
    /// Of [`AuditOrder::Quarantine`]: its answers say so, and so does every copy that is made of it.
    Quarantined,
    /// Of [`AuditOrder::Copy`].
    Copied {
        /// Those of the order.
        users: Vec<UserId>,
        /// Of each of them.
        copies: Copies,
    },
    /// Of [`AuditOrder::Copy`]: these users came since [`AuditOrder::Watch`], and are among those that the pass would go by. Nothing was
    /// copied.
    NewUsers {
        /// Those of the order.
        users: Vec<UserId>,
        /// Its memory.
        copies: Copies,
        /// Some; `None` = more than were noted: the ledger has to be read again.
        new: Option<Vec<UserId>>,
    },
    /// Of [`AuditOrder::Sums`].
    Sums(Vec<Sum>),
    /// Of [`AuditOrder::List`].
    Listed {
        /// The order's.
        wanted: Vec<bool>,
        /// Some of them.
        users: Vec<UserId>,
        /// There are no more.
        is_last: bool,
    },
}

/// The rows of a bucket's accounts, as a pass met them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sum {
    /// All of them.
    pub rows: Fingerprint,
    /// A checkpoint named some accounts and did not hold them, so this is not all.
    pub is_unknown: bool,
}

/// What is served for some users at one moment.
#[derive(Default, Debug)]
pub struct Copies {
    /// What decides which buckets a window holds, µs since 1970 UTC.
    pub wall_us: i64,
    /// One a user, in the order asked.
    pub accounts: Vec<Copied>,
    /// The frames that callers would get, one behind the other: each balance and then its statistics, both in rkyv.
    pub bytes: Vec<u8>,
}

/// What is served for one user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copied {
    /// Whether it is to be compared.
    pub standing: Standing,
    /// Transactions that it holds.
    pub version: Version,
    /// Bytes of its balance; 0 where it is not whole.
    pub balance_bytes: usize,
    /// Bytes of its statistics; 0 where they are not to be compared.
    pub statistics_bytes: usize,
}

/// How an account stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// There is none.
    Absent,
    /// It is answered with.
    Whole,
    /// It is answered with, and its windows with a flag: they are not held for this time. It has been asked for again.
    WindowsUnknown,
    /// It is known to be wrong or incomplete, and says so.
    Quarantined,
}

/// The shard's side.
pub type AuditLink = OrderLink<AuditOrder, AuditAnswer>;

/// The other side.
pub type AuditPort = OrderPort<AuditOrder, AuditAnswer>;

/// Both sides of a link.
pub fn audit_link() -> (AuditPort, AuditLink) {
    order_link(AUDIT_ORDERS)
}

/// See the module.
pub(super) struct Audits {
    link: Option<AuditLink>,
    /// How far the pass has come; `None` = it has not begun, and rows are not told apart.
    below: Option<Below>,
    /// Noted while the ledger is read.
    new_users: Option<Vec<UserId>>,
    missed_new_users: bool,
    walk: Walk,
    /// Accounts whose next row is to go wrong.
    #[cfg(debug_assertions)]
    pub damages: Vec<(UserId, super::Damage)>,
}

impl Audits {
    /// Of a shard that nobody audits.
    pub fn none() -> Audits {
        Audits {
            link: None,
            below: None,
            new_users: None,
            missed_new_users: false,
            walk: Walk::new(),
            #[cfg(debug_assertions)]
            damages: Vec::new(),
        }
    }

    /// Whether there is something to be done at once.
    #[inline]
    pub fn has_work(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.orders.is_empty())
    }

    /// Whether the pass has met a user.
    #[inline]
    pub fn has_met(&self, user: UserId) -> bool {
        self.below.is_some_and(|below| below.holds(user))
    }

    /// A user's first row is shown.
    pub fn note_new(&mut self, user: UserId) {
        if self.has_met(user) {
            return;
        }
        match &mut self.new_users {
            Some(users) if users.len() < AUDIT_NEW_USERS_MAX => users.push(user),
            Some(_) => self.missed_new_users = true,
            None => {}
        }
    }

    /// Those of the new users whom the pass would go by without having met them.
    fn new_below(&mut self, users: &[UserId], below: Below) -> Option<Vec<UserId>> {
        if core::mem::take(&mut self.missed_new_users) {
            return None;
        }
        let noted = self.new_users.as_deref().unwrap_or_default();
        // Some may have been met since they were noted, with an earlier order of the same piece: those were counted.
        let is_unmet = |user: &&UserId| !self.has_met(**user) && below.holds(**user) && !users.contains(user);
        Some(noted.iter().filter(is_unmet).copied().collect())
    }

    fn answer(&mut self, answer: AuditAnswer) {
        self.link.as_mut().expect("an order came by it").answer(answer);
    }
}

const RKYV: ReplyTo = ReplyTo { opcode: Opcode::GetBalance, request_id: 0, format: Format::Rkyv };

impl Shard {
    /// One that is audited.
    #[must_use]
    pub fn with_audit(mut self, link: AuditLink) -> Shard {
        self.audits.link = Some(link);
        self
    }

    /// Carries out orders, up to the first that takes some time.
    pub(super) fn serve_audit(&mut self) {
        while let Some(order) = self.audits.link.as_mut().and_then(|link| link.orders.pop()) {
            match order {
                AuditOrder::Begin => {
                    self.audits.below = Some(Below::NOBODY);
                    self.fingerprints.begin_audit();
                }
                AuditOrder::Watch => {
                    self.audits.new_users.get_or_insert_default().clear();
                    self.audits.missed_new_users = false;
                    self.audits.answer(AuditAnswer::Watching);
                }
                AuditOrder::Adopt { bucket, rows } => self.fingerprints.adopt(bucket, rows),
                AuditOrder::Quarantine(user) => {
                    self.quarantine(user);
                    self.audits.answer(AuditAnswer::Quarantined);
                }
                #[cfg(debug_assertions)]
                AuditOrder::Damage(user, damage) => self.damage(user, damage),
                AuditOrder::Copy { users, below, copies } => {
                    return self.copy_for_audit(users, below, copies);
                }
                AuditOrder::Sums(mut sums) => {
                    sums.clear();
                    sums.extend((0..BUCKETS).map(|bucket| self.fingerprints.audited(bucket)));
                    return self.audits.answer(AuditAnswer::Sums(sums));
                }
                AuditOrder::List { wanted, from_start, users } => {
                    return self.list(wanted, from_start, users);
                }
            }
        }
    }

    fn copy_for_audit(&mut self, users: Vec<UserId>, below: Option<Below>, mut copies: Copies) {
        debug_assert!(users.len() <= AUDIT_ACCOUNTS_PER_ORDER);
        if let Some(below) = below {
            let new = self.audits.new_below(&users, below);
            if new.as_ref().is_none_or(|new| !new.is_empty()) {
                return self.audits.answer(AuditAnswer::NewUsers { users, copies, new });
            }
            self.audits.below = Some(below);
        }
        copies.wall_us = self.now.wall_us;
        copies.accounts.clear();
        copies.bytes.clear();
        for &user in &users {
            let copied = self.copy_account(user, &mut copies.bytes);
            copies.accounts.push(copied);
        }
        self.audits.answer(AuditAnswer::Copied { users, copies });
    }

    /// Appends the frames that a caller would get, but for what their headers say.
    fn copy_account(&mut self, user: UserId, bytes: &mut Vec<u8>) -> Copied {
        let absent =
            Copied { standing: Standing::Absent, version: Version(0), balance_bytes: 0, statistics_bytes: 0 };
        let responder = &mut self.responder;
        let Some(found) = responder.table.find(user.hashed()) else { return absent };
        let version = Version(found.balance.root.version.get());
        if found.trust == Trust::Quarantined {
            return Copied { standing: Standing::Quarantined, version, ..absent };
        }
        let from = bytes.len();
        let origin = Origin { as_of_us: 0, shard: 0, flags: 0 };
        responder.encoder.balance(bytes, RKYV, origin, found.balance);
        let balance_bytes = bytes.len() - from;
        let exact = responder.table.exact(found);
        let copied = Copied { standing: Standing::Whole, version, balance_bytes, statistics_bytes: 0 };
        if !responder.horizon.is_within(exact) {
            responder.ask_again(user.hashed());
            return Copied { standing: Standing::WindowsUnknown, ..copied };
        }
        let (first, last) = responder.table.statistics(found, &responder.horizon, &mut responder.totals);
        let answer = StatisticsAnswer {
            user_id: user,
            version,
            windows: WindowMask::ALL,
            first_transaction_at_us: first,
            last_transaction_at_us: last,
            assets: &responder.totals,
        };
        let from = bytes.len();
        responder.encoder.statistics(bytes, RKYV, origin, &answer);
        Copied { statistics_bytes: bytes.len() - from, ..copied }
    }

    fn quarantine(&mut self, user_id: UserId) {
        if self.responder.table.quarantine(user_id) {
            self.follow.requests.push_back(FeedRequest::Reread { user_id, reason: Reason::Audit });
        }
        self.publish_table();
    }

    fn list(&mut self, wanted: Vec<bool>, from_start: bool, mut users: Vec<UserId>) {
        if from_start {
            self.audits.walk = Walk::new();
        }
        users.clear();
        let see = |user: UserId| {
            if wanted[bucket_of(user.hashed())] {
                users.push(user);
            }
        };
        self.responder.table.walk_users(&mut self.audits.walk, AUDIT_ACCOUNTS_LISTED_PER_TURN, see);
        let is_last = self.audits.walk.is_over();
        self.audits.answer(AuditAnswer::Listed { wanted, users, is_last });
    }
}

impl fmt::Debug for Audits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audits").field("below", &self.below).finish_non_exhaustive()
    }
}
