//! Answers: validated once, then read where they lie.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use bytes::Bytes;
use florin_schema::frame::{REPLY_FORWARDED, REPLY_LASTING, REPLY_QUARANTINED};
use florin_schema::layout::SCHEMA_FINGERPRINT;
use florin_schema::records::{AssetBalance, Balance, Statistics, WindowStatistics};
use florin_schema::{Asset, Opcode, ShardIndex, Status, Version, Window, WindowMask, printable};
use rkyv::api::high::HighValidator;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Archived};
use yoke::Yoke;

use crate::connection::read::RawReply;
use crate::limits::MESSAGE_CHARS_MAX;
use crate::request::Request;
use crate::{Address, Error, ProtocolError, Refusal};

/// Where an answer comes from, and as of when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The shard's watermark: the answer holds every transaction that the ledger had committed by then, µs since 1970 UTC.
    pub as_of_us: i64,
    /// Which shard answered.
    pub shard: ShardIndex,
    flags: u16,
}

impl Origin {
    pub(crate) fn of(reply: &RawReply) -> Origin {
        Origin {
            as_of_us: reply.header.as_of_us.get(),
            shard: ShardIndex(reply.header.shard.get()),
            flags: reply.header.flags.get(),
        }
    }

    /// Whether another shard than the one asked has answered: the call paid a hop.
    pub const fn is_forwarded(&self) -> bool {
        self.flags & REPLY_FORWARDED != 0
    }

    /// Whether the account's history is known to be incomplete: show the numbers with care.
    pub const fn is_quarantined(&self) -> bool {
        self.flags & REPLY_QUARANTINED != 0
    }

    /// Whether it stays incomplete until its rows are in the ledger, as far as the server knows.
    pub const fn is_lasting(&self) -> bool {
        self.flags & REPLY_LASTING != 0
    }
}

/// An answer: a [`Balance`] or [`Statistics`] in its archived form, read in place. The bytes were validated when they came;
/// reading a field costs what reading memory costs.
///
/// Fields are little-endian integers with `to_native()`, and [`Reply::of`] looks one asset up. Replies that came in one
/// burst share their memory: to keep one for long without the others, copy it with `to_record`.
pub struct Reply<T: Archive>
where
    T::Archived: 'static,
{
    root: Yoke<&'static T::Archived, Arc<AlignedVec<16>>>,
    body: Range<usize>,
    origin: Origin,
}

impl<T: Archive> Reply<T>
where
    T::Archived: 'static,
{
    /// Where it comes from, and as of when.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The archived bytes, 16-byte aligned: to keep or pass on without copying.
    pub fn into_bytes(self) -> Bytes {
        let body = self.body.clone();
        let burst = Burst(self.root.into_backing_cart());
        Bytes::from_owner(burst).slice(body)
    }
}

/// What [`Bytes`] keeps alive.
struct Burst(Arc<AlignedVec<16>>);

impl AsRef<[u8]> for Burst {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<T: Archive> Deref for Reply<T>
where
    T::Archived: 'static,
{
    type Target = T::Archived;

    fn deref(&self) -> &T::Archived {
        self.root.get()
    }
}

impl<T: Archive> fmt::Debug for Reply<T>
where
    T::Archived: fmt::Debug + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("origin", &self.origin).field("root", self.root.get()).finish()
    }
}

impl Reply<Balance> {
    /// How many of the user's transactions the balances hold.
    pub fn version(&self) -> Version {
        Version(self.version.to_native())
    }

    /// What the user has of one asset; `None` where no transaction of the user's has named it.
    pub fn of(&self, asset: Asset) -> Option<AssetBalance> {
        amounts(self, asset)
    }

    /// An unarchived copy.
    pub fn to_record(&self) -> Balance {
        copied(rkyv::deserialize::<Balance, rancor::Error>(&**self))
    }
}

impl Reply<Statistics> {
    /// How many of the user's transactions the statistics hold.
    pub fn version(&self) -> Version {
        Version(self.version.to_native())
    }

    /// The totals of one asset in one window; `None` where the user has none of it, or the window was not asked for.
    pub fn of(&self, asset: Asset, window: Window) -> Option<WindowStatistics> {
        let place = WindowMask::new(self.windows)?.iter().position(|listed| listed == window)?;
        let found = self.statistics.iter().find(|row| row.asset.to_native() == asset.to_wire())?;
        let totals = found.windows.get(place)?;
        Some(WindowStatistics {
            credit_count: totals.credit_count.to_native(),
            credit_sum: totals.credit_sum.to_native(),
            debit_count: totals.debit_count.to_native(),
            debit_sum: totals.debit_sum.to_native(),
            largest_debit: totals.largest_debit.to_native(),
        })
    }

    /// An unarchived copy.
    pub fn to_record(&self) -> Statistics {
        copied(rkyv::deserialize::<Statistics, rancor::Error>(&**self))
    }
}

/// One asset's row of an archived balance.
pub(crate) fn amounts(balance: &Archived<Balance>, asset: Asset) -> Option<AssetBalance> {
    let row = balance.balances.iter().find(|row| row.asset.to_native() == asset.to_wire())?;
    Some(AssetBalance {
        asset: row.asset.to_native(),
        available: row.available.to_native(),
        held: row.held.to_native(),
    })
}

fn copied<T>(record: Result<T, rancor::Error>) -> T {
    record.expect("integers and vectors of them are copied without fail")
}

/// Refuses a reply whose header does not answer `asked` with OK.
pub(crate) fn check_header(address: &Address, asked: Opcode, reply: &RawReply) -> Result<(), Error> {
    let garbage = |error| Error::Protocol { address: address.clone(), error };
    let header = &reply.header;
    let status =
        Status::try_from(header.status).map_err(|unknown| garbage(ProtocolError::Status(unknown.0)))?;
    if status != Status::Ok {
        let refusal = refusal(address, reply)?;
        return Error::of_status(status, || refusal).map_or(Ok(()), Err);
    }
    if header.opcode != asked as u8 {
        return Err(garbage(ProtocolError::Opcode { expected: asked, got: header.opcode }));
    }
    let expected = Request::encoding_of(asked);
    if header.encoding != expected {
        return Err(garbage(ProtocolError::Encoding { expected, got: header.encoding }));
    }
    Ok(())
}

/// What a reply that is not OK says.
pub(crate) fn refusal(address: &Address, reply: &RawReply) -> Result<Refusal, Error> {
    let message = std::str::from_utf8(reply.body()).map_err(|error| Error::Protocol {
        address: address.clone(),
        error: ProtocolError::Body(format!("expected a message in UTF-8: {error}")),
    })?;
    let origin = Origin::of(reply);
    Ok(Refusal {
        message: message.chars().take(MESSAGE_CHARS_MAX).map(printable).collect(),
        shard: origin.shard,
        as_of_us: origin.as_of_us,
        is_quarantined: origin.is_quarantined(),
        is_lasting: origin.is_lasting(),
    })
}

/// The error of a layout that is not ours.
pub(crate) fn schema_mismatch(address: &Address, server: u32) -> Error {
    Error::SchemaMismatch { address: address.clone(), server, client: SCHEMA_FINGERPRINT as u32 }
}

/// Reads an rkyv answer: the fingerprint first, then every byte that the archive refers to.
pub(crate) fn read<T>(address: &Address, asked: Opcode, reply: RawReply) -> Result<Reply<T>, Error>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>> + 'static,
{
    check_header(address, asked, &reply)?;
    let server = reply.header.schema.get();
    if server != SCHEMA_FINGERPRINT as u32 {
        return Err(schema_mismatch(address, server));
    }
    let origin = Origin::of(&reply);
    let body = reply.body.clone();
    let root = Yoke::try_attach_to_cart(reply.burst, |burst: &AlignedVec<16>| {
        rkyv::access::<T::Archived, rancor::Error>(&burst[body.clone()])
    });
    let root = root.map_err(|error| Error::Protocol {
        address: address.clone(),
        error: ProtocolError::Body(error.to_string()),
    })?;
    Ok(Reply { root, body, origin })
}
