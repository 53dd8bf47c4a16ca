//! Florin's own frames (wire.md).

use std::sync::Arc;

use florin_schema::frame::{self, ReplyHeader, RequestHeader};
use florin_schema::layout::{
    AssetRow, AssetStatisticsRow, BalanceEntryRow, BalanceRoot, SCHEMA_FINGERPRINT, StatisticsRoot,
    VectorPointer, WindowTotals,
};
use florin_schema::{Encoding, Opcode, Status, UserId, WindowMask};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Fate, Protocol, Question, Said, Step, Wrong, flat::Table, malformed};
use crate::{
    generator::pending::{Ordering, Pending, SlotIndex},
    limits,
    truth::{Claims, Digest, Truth},
    work::Kind,
};

const HEADER_BYTES: usize = size_of::<ReplyHeader>();

/// Frames with bodies of one encoding.
#[derive(Debug)]
pub struct Native {
    encoding: Encoding,
    claims: Option<Claims>,
}

impl Native {
    /// Asks for this encoding; checks values against `truth` where there is one.
    pub fn new(encoding: Encoding, truth: Option<Arc<Truth>>) -> Native {
        Native { encoding, claims: truth.map(Claims::new) }
    }

    fn header(&self, opcode: Opcode, id: u64, user: UserId, body_bytes: usize) -> RequestHeader {
        RequestHeader {
            length: ((size_of::<RequestHeader>() + body_bytes) as u32).into(),
            version: frame::VERSION,
            opcode: opcode as u8,
            encoding: self.encoding as u8,
            flags: 0,
            request_id: id.into(),
            user_id: user.get().into(),
        }
    }
}

impl Protocol for Native {
    const ORDERING: Ordering = Ordering::ById;

    fn speaks(_: Kind) -> bool {
        true
    }

    fn request_bytes_max(kind: Kind) -> usize {
        match kind {
            Kind::Balance | Kind::Statistics => size_of::<RequestHeader>(),
            Kind::Batch(users) => size_of::<RequestHeader>() + 8 * usize::from(users),
        }
    }

    #[inline]
    fn request(&mut self, out: &mut Vec<u8>, id: u64, slot: SlotIndex, pending: &mut Pending) {
        let asked = pending.asked(slot);
        match asked.kind {
            Kind::Balance => {
                out.extend_from_slice(self.header(Opcode::GetBalance, id, asked.user, 0).as_bytes());
            }
            Kind::Statistics => {
                out.extend_from_slice(self.header(Opcode::GetStatistics, id, asked.user, 0).as_bytes());
            }
            Kind::Batch(_) => {
                let users = pending.batch(slot);
                let header = self.header(Opcode::GetBalances, id, UserId::default(), 8 * users.len());
                out.extend_from_slice(header.as_bytes());
                users.iter().for_each(|user| out.extend_from_slice(&user.get().to_le_bytes()));
            }
        }
    }

    #[inline]
    fn reply(&mut self, bytes: &[u8], pending: &mut Pending) -> Result<Step, Wrong> {
        let Ok((header, _)) = ReplyHeader::ref_from_prefix(bytes) else { return Ok(Step::Partial) };
        let length = header.length.get() as usize;
        if !(HEADER_BYTES..=limits::REPLY_BYTES_MAX).contains(&length) || header.version != frame::VERSION {
            return Err(malformed("a reply header of version 1 with a length", bytes));
        }
        let Some(body) = bytes.get(HEADER_BYTES..length) else { return Ok(Step::Partial) };
        let id = header.request_id.get();
        let slot = pending.find(id).ok_or(Wrong::Id { found: id })?;
        let question = Question::of(pending, slot, self.claims());
        let fate = self.check(header, body, &question)?;
        let since_ns = pending.asked(slot).since_ns;
        pending.release(slot);
        Ok(Step::Answered { consumed: length, since_ns, fate })
    }

    #[inline]
    fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()
    }
}

impl Native {
    #[inline]
    fn check(&self, header: &ReplyHeader, body: &[u8], question: &Question<'_>) -> Result<Fate, Wrong> {
        if header.status != Status::Ok as u8 {
            let status = Status::try_from(header.status)
                .map_err(|_| malformed("a known status", header.as_bytes()))?;
            return question.refused(status, body);
        }
        let opcode = match question.kind {
            Kind::Balance => Opcode::GetBalance,
            Kind::Statistics => Opcode::GetStatistics,
            Kind::Batch(_) => Opcode::GetBalances,
        };
        if header.opcode != opcode as u8 || header.encoding != self.encoding as u8 {
            return Err(question.implausible("it has another opcode or encoding than asked"));
        }
        if header.schema.get() != SCHEMA_FINGERPRINT as u32 {
            return Err(question.implausible("its schema is not this bench's"));
        }
        if header.as_of_us.get() == 0 {
            return Err(question.implausible("it has no as_of"));
        }
        match (self.encoding, question.kind) {
            (Encoding::Rkyv, Kind::Balance) => rkyv_balance(body, question),
            (Encoding::Rkyv, Kind::Statistics) => rkyv_statistics(body, question),
            (Encoding::Rkyv, Kind::Batch(_)) => rkyv_batch(body, question),
            (Encoding::FlatBuffers, Kind::Balance) => {
                flat_balance(Table::root(body), question.user, question)
            }
            (Encoding::FlatBuffers, Kind::Statistics) => flat_statistics(body, question),
            (Encoding::FlatBuffers, Kind::Batch(_)) => flat_batch(body, question),
        }?;
        Ok(Fate::Served)
    }
}

/// A balance, with its rows, for [`Question::check`].
#[inline]
fn balance(user: u64, version: u64, rows: &[AssetRow]) -> Said {
    let mut digest = Digest::at(version);
    for row in rows {
        digest.add(row.asset.get(), [row.available.get() as u64, row.held.get() as u64]);
    }
    Said { user, version, assets: rows.len(), digest }
}

/// An asset's lifetime, which is the last of all windows.
#[inline]
fn add_lifetime(digest: &mut Digest, asset: u64, windows: &[WindowTotals]) -> Option<()> {
    let last = windows.get(WindowMask::ALL.count() - 1)?;
    let sums = [last.credit_sum, last.debit_sum, last.largest_debit].map(|sum| sum.get() as u64);
    digest.add(asset, [last.credit_count.get(), sums[0], last.debit_count.get(), sums[1], sums[2]]);
    Some(())
}

/// What a pointer within an archive points to: so many bytes from where it lies itself.
#[inline]
fn pointed<'a, T: FromBytes + KnownLayout + Immutable + Unaligned>(
    body: &'a [u8],
    pointer: &'a VectorPointer,
) -> Option<&'a [T]> {
    let at = (std::ptr::from_ref(pointer) as usize).checked_sub(body.as_ptr() as usize)?;
    let from = at.checked_add_signed(pointer.offset.get() as isize)?;
    let bytes = (pointer.length.get() as usize).checked_mul(size_of::<T>())?;
    <[T]>::ref_from_bytes(body.get(from..from.checked_add(bytes)?)?).ok()
}

#[inline]
fn rkyv_balance(body: &[u8], question: &Question<'_>) -> Result<(), Wrong> {
    let Ok((rows, root)) = BalanceRoot::ref_from_suffix(body) else {
        return Err(question.implausible("the body is shorter than a balance"));
    };
    let rows = <[AssetRow]>::ref_from_bytes(rows).ok();
    let Some(rows) = rows.filter(|rows| rows.len() == root.balances.length.get() as usize) else {
        return Err(question.implausible("the body is not as long as its rows"));
    };
    question.check(question.user, &balance(root.user_id.get(), root.version.get(), rows))
}

#[inline]
fn rkyv_statistics(body: &[u8], question: &Question<'_>) -> Result<(), Wrong> {
    let Ok((rows, root)) = StatisticsRoot::ref_from_suffix(body) else {
        return Err(question.implausible("the body is shorter than statistics"));
    };
    let count = root.statistics.length.get() as usize;
    let windows = WindowMask::ALL;
    if root.windows != windows.bits()
        || rows.len()
            != count * (size_of::<WindowTotals>() * windows.count() + size_of::<AssetStatisticsRow>())
    {
        return Err(question.implausible("not all windows of each asset"));
    }
    let read = || {
        let mut digest = Digest::at(root.version.get());
        for row in pointed::<AssetStatisticsRow>(body, &root.statistics)? {
            add_lifetime(&mut digest, row.asset.get(), pointed(body, &row.windows)?)?;
        }
        Some(digest)
    };
    let digest = read().ok_or_else(|| question.implausible("the statistics point outside their body"))?;
    let said = Said { user: root.user_id.get(), version: root.version.get(), assets: count, digest };
    question.check(question.user, &said)
}

fn rkyv_batch(body: &[u8], question: &Question<'_>) -> Result<(), Wrong> {
    let cut = || question.implausible("the batch points outside its body");
    let (_, pointer) = VectorPointer::ref_from_suffix(body).map_err(|_| cut())?;
    let entries = pointed::<BalanceEntryRow>(body, pointer).ok_or_else(cut)?;
    check_entries(entries.len(), question)?;
    for (entry, &user) in entries.iter().zip(question.batch) {
        if entry.user_id.get() != user.get() {
            return Err(question.other_user(user, entry.user_id.get()));
        }
        if entry.status != Status::Ok as u8 || entry.present != 1 {
            return Err(question.implausible("an entry of the batch without a balance"));
        }
        let root = &entry.balance;
        let rows = pointed::<AssetRow>(body, &root.balances).ok_or_else(cut)?;
        question.check(user, &balance(root.user_id.get(), root.version.get(), rows))?;
    }
    Ok(())
}

fn check_entries(count: usize, question: &Question<'_>) -> Result<(), Wrong> {
    if count == question.batch.len() {
        return Ok(());
    }
    Err(question.implausible("not one entry for each user asked"))
}

// The numbers of fields are those of florin.fbs.

#[inline]
fn flat_balance(table: Option<Table<'_>>, user: UserId, question: &Question<'_>) -> Result<(), Wrong> {
    let read = |table: Table<'_>| Some(balance(table.u64(0)?, table.u64(1)?, table.rows::<AssetRow>(3)?));
    let said = table.and_then(read).ok_or_else(|| question.implausible("not a FlatBuffers balance"))?;
    question.check(user, &said)
}

fn flat_statistics(body: &[u8], question: &Question<'_>) -> Result<(), Wrong> {
    let read = |table: Table<'_>| {
        let (user, version) = (table.u64(0)?, table.u64(1)?);
        let (mut digest, mut are_all) = (Digest::at(version), table.u8(2)? == WindowMask::ALL.bits());
        let statistics = table.vector(3, 4)?;
        for index in 0..statistics.length {
            let asset = table.element(statistics, index)?;
            let windows = asset.rows::<WindowTotals>(1)?;
            are_all &= windows.len() == WindowMask::ALL.count();
            are_all &= add_lifetime(&mut digest, asset.u64(0)?, windows).is_some();
        }
        Some((are_all, Said { user, version, assets: statistics.length, digest }))
    };
    let (are_all, said) = Table::root(body)
        .and_then(read)
        .ok_or_else(|| question.implausible("not FlatBuffers statistics of at least one asset"))?;
    if !are_all {
        return Err(question.implausible("not all windows of each asset"));
    }
    question.check(question.user, &said)
}

fn flat_batch(body: &[u8], question: &Question<'_>) -> Result<(), Wrong> {
    let cut = || question.implausible("not a FlatBuffers batch");
    let root = Table::root(body).ok_or_else(cut)?;
    let entries = root.vector(0, 4).ok_or_else(cut)?;
    check_entries(entries.length, question)?;
    for (index, &user) in question.batch.iter().enumerate() {
        let entry = root.element(entries, index).ok_or_else(cut)?;
        let found = entry.u64(0).ok_or_else(cut)?;
        if found != user.get() {
            return Err(question.other_user(user, found));
        }
        if entry.u8(1) != Some(Status::Ok as u8) {
            return Err(question.implausible("an entry of the batch without a balance"));
        }
        flat_balance(entry.table(2), user, question)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
