//! Florin's own frames (wire.md).

use florin_schema::frame::{self, ReplyHeader, RequestHeader};
use florin_schema::layout::{
    AssetRow, BalanceEntryRow, BalanceRoot, SCHEMA_FINGERPRINT, StatisticsRoot, VectorPointer, WindowTotals,
};
use florin_schema::{Encoding, Opcode, Status, UserId, WindowMask};
use zerocopy::{FromBytes, IntoBytes};

use super::{Fate, Protocol, Question, Step, Wrong, flat::Table, malformed};
use crate::{
    generator::pending::{Ordering, Pending, SlotIndex},
    limits,
    work::Kind,
};

const HEADER_BYTES: usize = size_of::<ReplyHeader>();

/// Frames with bodies of one encoding.
#[derive(Clone, Copy, Debug)]
pub struct Native {
    encoding: Encoding,
}

impl Native {
    /// Asks for this encoding.
    pub fn new(encoding: Encoding) -> Native {
        Native { encoding }
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
        let question = Question::of(pending, slot);
        let fate = self.check(header, body, &question)?;
        let since_ns = pending.asked(slot).since_ns;
        pending.release(slot);
        Ok(Step::Answered { consumed: length, since_ns, fate })
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

/// Who it is about, at which version, with how many rows: what every answer about a user has.
#[inline]
fn check_user(user: UserId, found: (u64, u64, usize), question: &Question<'_>) -> Result<(), Wrong> {
    let (user_id, version, rows) = found;
    if user_id != user.get() {
        return Err(question.other_user(user, user_id));
    }
    if version == 0 {
        return Err(question.implausible("version 0 of a user who has transactions"));
    }
    if !(1..=frame::ASSETS_MAX).contains(&rows) {
        return Err(question.implausible("not 1 to 16 assets"));
    }
    Ok(())
}

#[inline]
fn rkyv_balance(body: &[u8], question: &Question<'_>) -> Result<(), Wrong> {
    let Ok((rows, root)) = BalanceRoot::ref_from_suffix(body) else {
        return Err(question.implausible("the body is shorter than a balance"));
    };
    let count = root.balances.length.get() as usize;
    if rows.len() != count * size_of::<AssetRow>() {
        return Err(question.implausible("the body is not as long as its rows"));
    }
    check_user(question.user, (root.user_id.get(), root.version.get(), count), question)
}

#[inline]
fn rkyv_statistics(body: &[u8], question: &Question<'_>) -> Result<(), Wrong> {
    let Ok((rows, root)) = StatisticsRoot::ref_from_suffix(body) else {
        return Err(question.implausible("the body is shorter than statistics"));
    };
    let count = root.statistics.length.get() as usize;
    let windows = WindowMask::ALL;
    if root.windows != windows.bits()
        || rows.len() != count * (size_of::<WindowTotals>() * windows.count() + 16)
    {
        return Err(question.implausible("not all windows of each asset"));
    }
    check_user(question.user, (root.user_id.get(), root.version.get(), count), question)
}

fn rkyv_batch(body: &[u8], question: &Question<'_>) -> Result<(), Wrong> {
    let cut = || question.implausible("the batch points outside its body");
    let (rest, pointer) = VectorPointer::ref_from_suffix(body).map_err(|_| cut())?;
    let count = pointer.length.get() as usize;
    let from = rest.len().checked_add_signed(pointer.offset.get() as isize).ok_or_else(cut)?;
    let entries = rest.get(from..).and_then(|bytes| <[BalanceEntryRow]>::ref_from_bytes(bytes).ok());
    let entries = entries.filter(|entries| entries.len() == count).ok_or_else(cut)?;
    check_entries(entries.len(), question)?;
    for (entry, &user) in entries.iter().zip(question.batch) {
        if entry.user_id.get() != user.get() {
            return Err(question.other_user(user, entry.user_id.get()));
        }
        if entry.status != Status::Ok as u8 || entry.present != 1 {
            return Err(question.implausible("an entry of the batch without a balance"));
        }
        let root = &entry.balance;
        let rows = root.balances.length.get() as usize;
        check_user(user, (root.user_id.get(), root.version.get(), rows), question)?;
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
    let read = |table: Table<'_>| {
        Some((table.u64(0)?, table.u64(1)?, table.vector(3, size_of::<AssetRow>())?.length))
    };
    let found = table.and_then(read).ok_or_else(|| question.implausible("not a FlatBuffers balance"))?;
    check_user(user, found, question)
}

fn flat_statistics(body: &[u8], question: &Question<'_>) -> Result<(), Wrong> {
    let read = |table: Table<'_>| {
        let statistics = table.vector(3, 4)?;
        let windows = table.element(statistics, 0)?.vector(1, size_of::<WindowTotals>())?;
        Some((table.u8(2)?, windows.length, (table.u64(0)?, table.u64(1)?, statistics.length)))
    };
    let (mask, windows, found) = Table::root(body)
        .and_then(read)
        .ok_or_else(|| question.implausible("not FlatBuffers statistics of at least one asset"))?;
    if mask != WindowMask::ALL.bits() || windows != WindowMask::ALL.count() {
        return Err(question.implausible("not all windows of each asset"));
    }
    check_user(question.user, found, question)
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
