//! GetBalances: one part for each shard that owns some of the users, joined in the order asked.
//!
//! A part is its users' entries in the batch's order, each an [`EntryHeader`] and, where the status is OK, the
//! archived balance.

use alloc::vec::Vec;

use florin_schema::layout::BalanceView;
use florin_schema::{Status, UserId};
use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::shard::table::Trust;
use crate::wire::{BatchEntry, ReplyTo};

/// What stands before an entry's balance.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct EntryHeader {
    status: u8,
    quarantined: u8,
    /// Of the balance that follows.
    bytes: U16,
}

/// A batch whose parts are still coming.
pub(in crate::shard) struct Gather {
    pub reply_to: ReplyTo,
    pub users: Vec<UserId>,
    /// By shard; empty where a shard owns none of the users.
    pub parts: Vec<Vec<u8>>,
    pub missing: usize,
    /// The oldest watermark among the parts.
    pub as_of_us: i64,
}

/// Appends an OK entry to a part.
pub(in crate::shard) fn push_balance(part: &mut Vec<u8>, balance: BalanceView<'_>, trust: Trust) {
    let bytes = u16::try_from(balance.bytes.len()).expect("sixteen assets are less than 64 KiB");
    let quarantined = u8::from(trust == Trust::Quarantined);
    part.extend_from_slice(
        EntryHeader { status: Status::Ok as u8, quarantined, bytes: U16::new(bytes) }.as_bytes(),
    );
    part.extend_from_slice(balance.bytes);
}

/// Appends an entry without a balance to a part.
pub(in crate::shard) fn push_status(part: &mut Vec<u8>, status: Status) {
    part.extend_from_slice(
        EntryHeader { status: status as u8, quarantined: 0, bytes: U16::new(0) }.as_bytes(),
    );
}

/// Appends an entry of a quarantined account that has nothing to show.
pub(in crate::shard) fn push_without_beginning(part: &mut Vec<u8>) {
    let header = EntryHeader { status: Status::Unavailable as u8, quarantined: 1, bytes: U16::new(0) };
    part.extend_from_slice(header.as_bytes());
}

impl Gather {
    /// The entries in the order asked; and whether any of them is quarantined.
    pub fn join(&self, shards: u16) -> (Vec<BatchEntry<'_>>, Trust) {
        let mut rests: Vec<&[u8]> = self.parts.iter().map(Vec::as_slice).collect();
        let mut trust = Trust::Whole;
        let entries = self.users.iter().map(|&user_id| {
            let rest = &mut rests[usize::from(user_id.shard(shards).0)];
            let (header, after) =
                EntryHeader::ref_from_prefix(rest).expect("an entry for each user of a part");
            let (balance, after) = after.split_at(usize::from(header.bytes.get()));
            *rest = after;
            let quarantined = header.quarantined != 0;
            if quarantined {
                trust = Trust::Quarantined;
            }
            let status = Status::try_from(header.status).expect("a part holds statuses");
            let balance =
                (status == Status::Ok).then(|| BalanceView::new(balance).expect("a balance's bytes"));
            BatchEntry { user_id, status, quarantined, balance }
        });
        (entries.collect(), trust)
    }
}
