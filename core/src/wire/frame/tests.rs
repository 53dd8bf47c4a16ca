use florin_schema::frame::{FLAG_FRESHNESS, Status};
use proptest::prelude::*;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

use super::*;

/// A frame with whatever header; its length is true.
#[derive(Clone, Debug)]
struct Frame {
    opcode: u8,
    encoding: u8,
    flags: u8,
    user_id: u64,
    rest: Vec<u8>,
}

impl Frame {
    fn new(opcode: Opcode, user_id: u64, rest: &[u8]) -> Frame {
        Frame { opcode: opcode as u8, encoding: 0, flags: 0, user_id, rest: rest.to_vec() }
    }

    fn bytes(&self) -> Vec<u8> {
        let header = RequestHeader {
            length: U32::new((HEADER_BYTES + self.rest.len()) as u32),
            version: VERSION,
            opcode: self.opcode,
            encoding: self.encoding,
            flags: self.flags,
            request_id: U64::new(REQUEST_ID),
            user_id: U64::new(self.user_id),
        };
        [header.as_bytes(), &self.rest].concat()
    }
}

const REQUEST_ID: u64 = 0xFEDC_BA98_7654_3210;

fn ids(ids: impl IntoIterator<Item = u64>) -> Vec<u8> {
    ids.into_iter().flat_map(u64::to_le_bytes).collect()
}

fn hello_body(client: &str, token: &str) -> Vec<u8> {
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let (client, token) = (builder.create_string(client), builder.create_string(token));
    let arguments = generated::HelloArgs { client: Some(client), token: Some(token) };
    let root = generated::Hello::create(&mut builder, &arguments);
    builder.finish_minimal(root);
    builder.finished_data().to_vec()
}

fn user(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

fn good() -> Vec<(Frame, Query<'static>)> {
    use Opcode::*;
    let some = WindowMask::new(5).unwrap();
    vec![
        (Frame::new(GetBalance, 42, b""), Query::Balance(user(42))),
        (Frame::new(GetBalance, i64::MAX as u64, b""), Query::Balance(UserId::MAX)),
        (Frame::new(GetStatistics, 0, b""), Query::Statistics(user(0), WindowMask::ALL)),
        (Frame::new(GetStatistics, 7, &[5]), Query::Statistics(user(7), some)),
        (Frame::new(GetBalances, 0, &ids([9])), Query::Balances),
        (Frame::new(GetBalances, 0, &ids(0..1_024)), Query::Balances),
        (Frame::new(Ping, 0, b""), Query::Ping(b"")),
        (Frame::new(Ping, 0, &[b'p'; 1_024]), Query::Ping(&[b'p'; 1_024])),
        (
            Frame::new(Hello, 0, &hello_body("wire/1", "secret")),
            Query::Hello { client: "wire/1", token: "secret" },
        ),
        (Frame::new(Hello, 0, &hello_body("", "")), Query::Hello { client: "", token: "" }),
    ]
}

#[test]
fn each_request_is_read() {
    for (frame, query) in good() {
        for (encoding, format) in [(0, Format::FlatBuffers), (1, Format::Rkyv), (2, Format::FlatBuffers)] {
            let bytes = Frame { encoding, ..frame.clone() }.bytes();
            let reply_to =
                ReplyTo { opcode: frame.opcode.try_into().unwrap(), request_id: REQUEST_ID, format };
            let request = Request { reply_to, freshness: Freshness::default(), query, authorization: None };
            // What lies behind the frame is another's.
            let followed = [&bytes, &b"\xff\xff\xff\xff"[..]].concat();
            assert_eq!(parse(&followed, &mut Vec::new()), Parsed::Request(request, bytes.len()));
        }
    }
}

#[test]
fn a_batch_fills_the_users_and_leaves_none_of_before() {
    let mut users = vec![user(77); 5];
    let frame = Frame::new(Opcode::GetBalances, 0, &ids([3, 1, 3, i64::MAX as u64])).bytes();
    assert!(matches!(parse(&frame, &mut users), Parsed::Request(..)));
    assert_eq!(users, [user(3), user(1), user(3), UserId::MAX]);
}

#[test]
fn freshness_is_read_and_its_wait_clamped() {
    for (frame, query) in good() {
        for (wait_ms, clamped) in [(0, 0), (1_000, 1_000), (1_001, 1_000), (u32::MAX, 1_000)] {
            let mut rest = u64::MAX.to_le_bytes().to_vec();
            rest.extend(250u32.to_le_bytes());
            rest.extend(wait_ms.to_le_bytes());
            rest.extend(&frame.rest);
            let bytes = Frame { flags: FLAG_FRESHNESS, rest, ..frame.clone() }.bytes();
            let Parsed::Request(request, _) = parse(&bytes, &mut Vec::new()) else { panic!("{query:?}") };
            let expected = Freshness { min_version: Version(u64::MAX), max_age_ms: 250, wait_ms: clamped };
            assert_eq!((request.freshness, request.query), (expected, query));
        }
    }
}

#[test]
fn a_cut_frame_is_awaited() {
    for (frame, query) in good() {
        let bytes = frame.bytes();
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut], &mut Vec::new()), Parsed::Incomplete, "{query:?} cut at {cut}");
        }
    }
}

/// A frame and what its refusal says.
type Bad = (Frame, &'static str);

/// What the header alone shows.
fn bad_headers() -> Vec<Bad> {
    use Opcode::*;
    let too_large = 1 << 63;
    let balance = Frame::new(GetBalance, 42, b"");
    vec![
        (Frame { opcode: 5, ..balance.clone() }, "opcode: expected 0 to 4, got 5"),
        (Frame { opcode: 255, ..balance.clone() }, "opcode: expected 0 to 4, got 255"),
        (
            Frame { encoding: 3, ..balance.clone() },
            "encoding: expected 0 (FlatBuffers), 1 (rkyv) or 2 (FlatBuffers), got 3",
        ),
        (Frame { flags: 2, ..balance.clone() }, "flags: expected 0 or 1 (FRESHNESS), got 2"),
        (Frame { flags: 0x81, ..balance.clone() }, "flags: expected 0 or 1 (FRESHNESS), got 129"),
        (
            Frame::new(GetBalance, too_large, b""),
            "user_id: expected 0 to 9223372036854775807, got 9223372036854775808",
        ),
        (
            Frame::new(GetStatistics, u64::MAX, b""),
            "user_id: expected 0 to 9223372036854775807, got 18446744073709551615",
        ),
        (Frame::new(GetBalances, 8, &ids([1])), "user_id: expected 0 in the header of GetBalances, got 8"),
        (Frame::new(Ping, 8, b""), "user_id: expected 0 in the header of Ping, got 8"),
        (Frame::new(GetBalance, 42, &[0; 8]), "body: expected none for GetBalance, got 8 bytes"),
        (
            Frame::new(GetStatistics, 7, &[1, 2]),
            "body: expected none or one byte for GetStatistics, got 2 bytes",
        ),
        (
            Frame::new(GetBalances, 0, b""),
            "body: expected 1 to 1024 user ids of 8 bytes each for GetBalances, got 0 bytes",
        ),
        (
            Frame::new(GetBalances, 0, &ids(0..1_025)),
            "body: expected 1 to 1024 user ids of 8 bytes each for GetBalances, got 8200 bytes",
        ),
        (
            Frame::new(GetBalances, 0, &[0; 12]),
            "body: expected 1 to 1024 user ids of 8 bytes each for GetBalances, got 12 bytes",
        ),
        (Frame::new(Ping, 0, &[0; 1_025]), "body: expected at most 1024 bytes for Ping, got 1025 bytes"),
        (
            Frame::new(Hello, 0, &[0; 4_097]),
            "body: expected a FlatBuffers Hello of at most 4096 bytes for Hello, got 4097 bytes",
        ),
    ]
}

/// What shows only in the body.
fn bad_bodies() -> Vec<Bad> {
    use Opcode::*;
    let mut astray = hello_body("wire/1", "secret");
    astray[0] = 0xfc;
    vec![
        (
            Frame::new(GetStatistics, 7, &[0]),
            "windows: expected a mask of 1 to 15 (1 = 24h, 2 = 7d, 4 = 30d, 8 = lifetime), got 0",
        ),
        (
            Frame::new(GetStatistics, 7, &[16]),
            "windows: expected a mask of 1 to 15 (1 = 24h, 2 = 7d, 4 = 30d, 8 = lifetime), got 16",
        ),
        (
            Frame::new(GetBalances, 0, &ids([1, 1 << 63])),
            "user_ids[1]: expected 0 to 9223372036854775807, got 9223372036854775808",
        ),
        (
            Frame::new(Hello, 0, &astray),
            "body: expected a FlatBuffers Hello: Range [252, 256) is out of bounds.",
        ),
        (Frame::new(Hello, 0, b""), "body: expected a FlatBuffers Hello: Range [0, 4) is out of bounds."),
        (Frame::new(Hello, 0, &hello_body(&"c".repeat(65), "")), "client: expected at most 64 bytes, got 65"),
        (
            Frame::new(Hello, 0, &hello_body("", &"t".repeat(1_025))),
            "token: expected at most 1024 bytes, got 1025",
        ),
    ]
}

fn rejection_of(bytes: &[u8]) -> Rejection {
    match parse(bytes, &mut Vec::new()) {
        Parsed::Rejected(rejection) => rejection,
        other => panic!("{other:?} of {bytes:?}"),
    }
}

#[test]
fn a_bad_field_is_refused_by_name_and_the_connection_goes_on() {
    let headers = bad_headers().into_iter().map(|bad| (bad, HEADER_BYTES));
    let bodies = bad_bodies().into_iter().map(|bad| (bad.clone(), bad.0.bytes().len()));
    for ((frame, message), shown_by) in headers.chain(bodies) {
        let bytes = frame.bytes();
        let rejection = rejection_of(&bytes);
        assert_eq!(rejection.message, message);
        assert_eq!(rejection.status, Status::InvalidRequest, "{message}");
        assert_eq!(rejection.consumed, Some(bytes.len()), "{message}");
        assert_eq!(rejection.reply_to.request_id, REQUEST_ID, "{message}");
        assert_eq!(rejection.opcode, frame.opcode, "{message}");
        for cut in 0..shown_by {
            assert_eq!(parse(&bytes[..cut], &mut Vec::new()), Parsed::Incomplete, "{message} cut at {cut}");
        }
        for cut in shown_by..bytes.len() {
            assert_eq!(rejection_of(&bytes[..cut]), rejection, "cut at {cut}");
        }
    }
}

#[test]
fn a_framing_error_closes_the_connection() {
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = Frame::new(Opcode::GetBalance, 42, b"").bytes();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    for (bytes, message) in [
        (with(4, &[0]), "version: expected 1, got 0"),
        (with(4, &[2]), "version: expected 1, got 2"),
        (
            with(7, &[FLAG_FRESHNESS]),
            "length: expected at least 40 bytes where the FRESHNESS flag is set, got 24",
        ),
        (with(0, &23u32.to_le_bytes()), "length: expected 24 to 65536 bytes, got 23"),
        (with(0, &65_537u32.to_le_bytes()), "length: expected 24 to 65536 bytes, got 65537"),
        (with(0, &u32::MAX.to_le_bytes()), "length: expected 24 to 65536 bytes, got 4294967295"),
    ] {
        let rejection = rejection_of(&bytes);
        assert_eq!((rejection.message.as_str(), rejection.consumed), (message, None));
        assert_eq!((rejection.reply_to.request_id, rejection.opcode), (REQUEST_ID, Opcode::GetBalance as u8));
        let length_is_legal = !message.contains("24 to 65536");
        for cut in 0..bytes.len() {
            match parse(&bytes[..cut], &mut Vec::new()) {
                Parsed::Incomplete => assert!(cut < 4 || length_is_legal, "{message} cut at {cut}"),
                Parsed::Rejected(early) => {
                    assert!(cut >= 4 && !length_is_legal, "{message} cut at {cut}");
                    assert_eq!((early.message.as_str(), early.consumed), (message, None));
                    assert_eq!(early.reply_to.request_id, 0, "the header is not all there");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn the_longest_frame_is_refused_for_its_body_and_can_be_skipped() {
    let bytes = Frame::new(Opcode::GetBalance, 42, &vec![0; REQUEST_BYTES_MAX - HEADER_BYTES]).bytes();
    let rejection = rejection_of(&bytes[..24]);
    assert_eq!(rejection.consumed, Some(REQUEST_BYTES_MAX), "more than has arrived");
}

/// Frames that are nearly right: what uniform garbage almost never is.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let fields = (0u8..6, 0u8..4, 0u8..3, prop_oneof![Just(0), 0u64..3, any::<u64>()]);
    (fields, prop::collection::vec(any::<u8>(), 0..64), 0usize..96).prop_map(|(fields, rest, cut)| {
        let (opcode, encoding, flags, user_id) = fields;
        let mut bytes = Frame { opcode, encoding, flags, user_id, rest }.bytes();
        bytes.truncate(cut);
        bytes
    })
}

proptest! {
    #[test]
    fn garbage_is_answered_within_its_bounds(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..80), nearly()]
    ) {
        let mut users = Vec::new();
        match parse(&bytes, &mut users) {
            Parsed::Incomplete => prop_assert!(bytes.len() < REQUEST_BYTES_MAX),
            Parsed::Request(_, length) => {
                prop_assert!((HEADER_BYTES..=bytes.len()).contains(&length));
                prop_assert!(users.len() <= BATCH_USERS_MAX);
            }
            Parsed::Rejected(rejection) => {
                let skipped = rejection.consumed.unwrap_or(HEADER_BYTES);
                prop_assert!((HEADER_BYTES..=REQUEST_BYTES_MAX).contains(&skipped));
                prop_assert!(rejection.message.contains("expected"));
            }
            Parsed::Continue => prop_assert!(false, "frames know no interim reply"),
        }
    }

    #[test]
    fn a_flipped_hello_never_panics(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let mut body = hello_body("wire/1", "secret");
        for (at, byte) in flips {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let bytes = Frame::new(Opcode::Hello, 0, &body).bytes();
        if let Parsed::Request(request, _) = parse(&bytes, &mut Vec::new()) {
            let Query::Hello { client, token } = request.query else { panic!("{request:?}") };
            prop_assert!(client.len() <= HELLO_CLIENT_BYTES_MAX && token.len() <= HELLO_TOKEN_BYTES_MAX);
        }
    }

    #[test]
    fn a_batch_comes_back(asked in prop::collection::vec(0..=i64::MAX as u64, 1..=1_024)) {
        let frame = Frame::new(Opcode::GetBalances, 0, &ids(asked.iter().copied())).bytes();
        let mut users = Vec::new();
        let read_it = matches!(parse(&frame, &mut users), Parsed::Request(_, length) if length == frame.len());
        prop_assert!(read_it);
        prop_assert_eq!(users.iter().map(|user| user.get()).collect::<Vec<_>>(), asked);
    }
}
