//! Frame headers, and the small enumerations and limits that stand in them (wire.md).

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The protocol's version, in every header.
pub const VERSION: u8 = 1;
/// The longest request frame; also what keeps a frame length from looking like an HTTP method.
pub const REQUEST_BYTES_MAX: usize = 65_536;
/// The most users one GetBalances may name.
pub const BATCH_USERS_MAX: usize = 1_024;
/// The most bytes that a Ping may ask to be echoed.
pub const PING_BYTES_MAX: usize = 1_024;
/// The most bytes of a Hello's client name.
pub const HELLO_CLIENT_BYTES_MAX: usize = 64;
/// The most bytes of a Hello's token.
pub const HELLO_TOKEN_BYTES_MAX: usize = 1_024;
/// What a larger `wait_ms` is clamped to.
pub const WAIT_MS_MAX: u32 = 1_000;
/// The most assets of one account (schemas/domain.md).
pub const ASSETS_MAX: usize = 16;

/// A request's header, as it lies on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RequestHeader {
    /// Of the whole frame, this field included.
    pub length: U32,
    /// [`VERSION`].
    pub version: u8,
    /// An [`Opcode`].
    pub opcode: u8,
    /// Of the reply's body: an [`Encoding`], or 0 for FlatBuffers.
    pub encoding: u8,
    /// [`FLAG_FRESHNESS`] or 0.
    pub flags: u8,
    /// Echoed.
    pub request_id: U64,
    /// The routing key; 0 where the opcode has none.
    pub user_id: U64,
}

/// Request flag: a [`FreshnessOptions`] follows the header.
pub const FLAG_FRESHNESS: u8 = 1;

/// The option bytes after a request header with [`FLAG_FRESHNESS`].
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct FreshnessOptions {
    /// 0 = none.
    pub min_version: U64,
    /// 0 = none.
    pub max_age_ms: U32,
    /// How long the server may hold the request until both hold; clamped to [`WAIT_MS_MAX`].
    pub wait_ms: U32,
}

/// A reply's header, as it lies on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReplyHeader {
    /// Of the whole frame.
    pub length: U32,
    /// [`VERSION`].
    pub version: u8,
    /// The request's.
    pub opcode: u8,
    /// Of the body; 0 where it has none (errors, Ping).
    pub encoding: u8,
    /// A [`Status`].
    pub status: u8,
    /// The request's.
    pub request_id: U64,
    /// The owning shard's watermark, µs since 1970 UTC.
    pub as_of_us: I64,
    /// That answered.
    pub shard: U16,
    /// [`REPLY_FORWARDED`], [`REPLY_QUARANTINED`], [`REPLY_DRAINING`], [`REPLY_LASTING`].
    pub flags: U16,
    /// [`crate::layout::SCHEMA_FINGERPRINT`]'s low 32 bits.
    pub schema: U32,
}

/// Reply flag: another shard than the one asked has answered.
pub const REPLY_FORWARDED: u16 = 1;
/// Reply flag: the account's history is known to be incomplete.
pub const REPLY_QUARANTINED: u16 = 2;
/// Reply flag: the node is ending, and will close this connection; ask the next question elsewhere.
pub const REPLY_DRAINING: u16 = 4;
/// Reply flag, beside [`REPLY_QUARANTINED`]: the ledger has been read again for this account in vain, or it cannot be applied. It
/// stays so until its rows are there: to ask again in a moment is of no use.
pub const REPLY_LASTING: u16 = 8;

const _: () = {
    assert!(size_of::<RequestHeader>() == 24 && size_of::<FreshnessOptions>() == 16);
    // A body must lie 16-byte aligned wherever its frame does.
    assert!(size_of::<ReplyHeader>() == 32 && size_of::<ReplyHeader>().is_multiple_of(16));
    assert!(
        size_of::<RequestHeader>() + size_of::<FreshnessOptions>() + 8 * BATCH_USERS_MAX <= REQUEST_BYTES_MAX
    );
    assert!(REQUEST_BYTES_MAX < u32::from_le_bytes(*b"GET ") as usize);
};

/// A field of a header that no version-1 peer sends: the number that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unknown(pub u8);

macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $value:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum $name { $($(#[$doc])* $variant = $value),* }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &[$name] = &[$($name::$variant),*];
        }

        impl TryFrom<u8> for $name {
            type Error = Unknown;
            #[inline]
            fn try_from(value: u8) -> Result<$name, Unknown> {
                match value { $($value => Ok($name::$variant),)* other => Err(Unknown(other)) }
            }
        }
    };
}

wire_enum! {
    /// What a request asks.
    Opcode {
        /// The shard map, for the caller's name and token.
        Hello = 0,
        /// One user's balances.
        GetBalance = 1,
        /// One user's statistics.
        GetStatistics = 2,
        /// Several users' balances.
        GetBalances = 3,
        /// An echo.
        Ping = 4,
    }
}

wire_enum! {
    /// How a body is encoded.
    Encoding {
        /// rkyv 0.8 archive.
        Rkyv = 1,
        /// `florin.fbs`.
        FlatBuffers = 2,
    }
}

wire_enum! {
    /// How a request ended.
    Status {
        /// Answered.
        Ok = 0,
        /// The ledger has never named this user.
        NotFound = 1,
        /// The message says which field and what was expected.
        InvalidRequest = 2,
        /// Freshness did not hold in time.
        Stale = 3,
        /// Warming up, draining, or the feed is down for too long.
        Unavailable = 4,
        /// Shed; safe to retry elsewhere or later.
        Overloaded = 5,
        /// No Hello yet, or one with a wrong token.
        Unauthenticated = 6,
        /// Not for this caller.
        PermissionDenied = 7,
        /// A defect of the server's.
        Internal = 8,
        /// Another node has this user; the header's `as_of_us` is the epoch of the map by which that is so.
        NotOwner = 9,
    }
}

impl Status {
    /// The name in JSON answers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Ok => "OK",
            Status::NotFound => "NOT_FOUND",
            Status::InvalidRequest => "INVALID_REQUEST",
            Status::Stale => "STALE",
            Status::Unavailable => "UNAVAILABLE",
            Status::Overloaded => "OVERLOADED",
            Status::Unauthenticated => "UNAUTHENTICATED",
            Status::PermissionDenied => "PERMISSION_DENIED",
            Status::Internal => "INTERNAL",
            Status::NotOwner => "NOT_OWNER",
        }
    }

    /// The code of an HTTP answer that says the same (wire.md, "HTTP").
    pub const fn http_code(self) -> u16 {
        match self {
            Status::Ok => 200,
            Status::NotFound => 404,
            Status::InvalidRequest => 400,
            Status::Stale => 412,
            Status::Unavailable => 503,
            Status::Overloaded => 429,
            Status::Unauthenticated => 401,
            Status::PermissionDenied => 403,
            Status::Internal => 500,
            Status::NotOwner => 307,
        }
    }
}

/// A span of time over which statistics are summed (schemas/domain.md).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Window {
    /// This hour and the 23 before it.
    Hours24 = 0,
    /// Today and the 6 days before it.
    Days7 = 1,
    /// Today and the 29 days before it.
    Days30 = 2,
    /// Everything.
    Lifetime = 3,
}

impl Window {
    /// All four, in the order in which answers list them.
    pub const ALL: [Window; 4] = [Window::Hours24, Window::Days7, Window::Days30, Window::Lifetime];

    /// The name in queries and JSON answers.
    pub const fn name(self) -> &'static str {
        match self {
            Window::Hours24 => "24h",
            Window::Days7 => "7d",
            Window::Days30 => "30d",
            Window::Lifetime => "lifetime",
        }
    }
}

/// A set of windows: the mask of a GetStatistics. Never empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WindowMask(u8);

impl WindowMask {
    /// All four.
    pub const ALL: WindowMask = WindowMask(0b1111);

    /// `None` where the mask is 0 or has unknown bits.
    pub const fn new(bits: u8) -> Option<WindowMask> {
        if bits == 0 || bits > 0b1111 { None } else { Some(WindowMask(bits)) }
    }

    /// One bit a window, lowest first.
    #[inline]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether `window` is asked for.
    #[inline]
    pub const fn contains(self, window: Window) -> bool {
        self.0 & (1 << window as u8) != 0
    }

    /// How many windows are asked for: 1 to 4.
    #[inline]
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Those asked for, in the order in which answers list them.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = Window> {
        Window::ALL.into_iter().filter(move |&window| self.contains(window))
    }
}
