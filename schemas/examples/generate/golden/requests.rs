//! The requests: each opcode with and without freshness options.

use florin_schema::frame::{
    BATCH_USERS_MAX, FLAG_FRESHNESS, FreshnessOptions, PING_BYTES_MAX, RequestHeader, VERSION,
};
use florin_schema::{Encoding, Opcode};
use zerocopy::IntoBytes;

use super::manifest::{FreshnessFields, RequestBody, RequestFrame, RequestHeaderFields};
use super::{Golden, flat, hex};

const FRESHNESS: FreshnessOptions = FreshnessOptions {
    min_version: zerocopy::little_endian::U64::new(7),
    max_age_ms: zerocopy::little_endian::U32::new(250),
    wait_ms: zerocopy::little_endian::U32::new(1_000),
};

/// A frame's bytes: `header` with its length set, then the rest.
pub fn frame(mut header: RequestHeader, rest: &[u8]) -> Vec<u8> {
    header.length = ((size_of::<RequestHeader>() + rest.len()) as u32).into();
    [header.as_bytes(), rest].concat()
}

/// A header without its length.
pub fn header(opcode: Opcode, request_id: u64, user_id: u64) -> RequestHeader {
    RequestHeader {
        length: 0.into(),
        version: VERSION,
        opcode: opcode as u8,
        encoding: 0,
        flags: 0,
        request_id: request_id.into(),
        user_id: user_id.into(),
    }
}

pub fn ids(ids: &[u64]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

struct Case {
    name: String,
    header: RequestHeader,
    body: Vec<u8>,
    meaning: Option<RequestBody>,
}

/// Adds them all.
pub fn add(golden: &mut Golden) {
    for case in cases() {
        let plain = frame(case.header, &case.body);
        keep(golden, &case, &case.name, plain, None);
        let mut header = case.header;
        header.flags = FLAG_FRESHNESS;
        let fresh = frame(header, &[FRESHNESS.as_bytes(), &case.body].concat());
        keep(golden, &case, &format!("{}-fresh", case.name), fresh, Some(FRESHNESS));
    }
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case {
            name: "request-hello".to_owned(),
            header: header(Opcode::Hello, 1, 0),
            body: flat::hello("florin-golden/1", "secret"),
            meaning: Some(RequestBody::Hello {
                client: "florin-golden/1".to_owned(),
                token: "secret".to_owned(),
            }),
        },
        Case {
            name: "request-ping".to_owned(),
            header: header(Opcode::Ping, 2, 0),
            body: b"ping".to_vec(),
            meaning: Some(RequestBody::PayloadHex(hex(b"ping"))),
        },
        Case {
            name: "request-ping-empty".to_owned(),
            header: header(Opcode::Ping, 3, 0),
            body: Vec::new(),
            meaning: None,
        },
        Case {
            name: "request-ping-longest".to_owned(),
            header: header(Opcode::Ping, u64::MAX, 0),
            body: vec![0xA5; PING_BYTES_MAX],
            meaning: Some(RequestBody::PayloadHex(hex(&[0xA5; PING_BYTES_MAX]))),
        },
    ];
    let encodings =
        [("default", 0), ("rkyv", Encoding::Rkyv as u8), ("flatbuffers", Encoding::FlatBuffers as u8)];
    for (name, encoding) in encodings {
        let mut add = |what: &str, mut header: RequestHeader, body: Vec<u8>, meaning| {
            header.encoding = encoding;
            cases.push(Case { name: format!("request-{what}-{name}"), header, body, meaning });
        };
        add("get-balance", header(Opcode::GetBalance, 4, 42), vec![], None);
        add("get-balance-largest-user", header(Opcode::GetBalance, 5, i64::MAX as u64), vec![], None);
        add("get-statistics", header(Opcode::GetStatistics, 6, 42), vec![], None);
        let windows = |mask| Some(RequestBody::Windows(mask));
        add("get-statistics-24h-30d", header(Opcode::GetStatistics, 7, 42), vec![5], windows(5));
        let users = |users: &[u64]| Some(RequestBody::UserIds(users.iter().map(u64::to_string).collect()));
        let few = [42, 9, i64::MAX as u64, 43, 42];
        add("get-balances", header(Opcode::GetBalances, 8, 0), ids(&few), users(&few));
    }
    let many: Vec<u64> = (1..=BATCH_USERS_MAX as u64).collect();
    cases.push(Case {
        name: "request-get-balances-longest".to_owned(),
        header: header(Opcode::GetBalances, 9, 0),
        body: ids(&many),
        meaning: Some(RequestBody::UserIds(many.iter().map(u64::to_string).collect())),
    });
    cases
}

fn keep(golden: &mut Golden, case: &Case, name: &str, frame: Vec<u8>, freshness: Option<FreshnessOptions>) {
    let header = RequestHeaderFields {
        length: frame.len() as u32,
        version: case.header.version,
        opcode: case.header.opcode,
        encoding: case.header.encoding,
        flags: if freshness.is_some() { FLAG_FRESHNESS } else { 0 },
        request_id: case.header.request_id.to_string(),
        user_id: case.header.user_id.to_string(),
    };
    let freshness = freshness.map(|options| FreshnessFields {
        min_version: options.min_version.to_string(),
        max_age_ms: options.max_age_ms.get(),
        wait_ms: options.wait_ms.get(),
    });
    let body = case.meaning.clone();
    let file = golden.keep(name, frame);
    golden.manifest.requests.push(RequestFrame { file, header, freshness, body });
}
