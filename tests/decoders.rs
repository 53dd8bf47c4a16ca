//! The fuzz targets of `fuzz/`, tried on some inputs: golden frames, RESP commands and HTTP requests, whole, joined and damaged.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use florin::checkpoint::{bucket_of, record};
use florin::ledger::{Horizon, Kind, Transaction};
use florin::shard::table::{Table, Walk};
use florin_schema::{Asset, UserId, Version};
use proptest::prelude::*;

#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

/// Every golden request, well-formed or not.
static GOLDEN: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas/golden");
    let files = fs::read_dir(folder).expect("the golden frames").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = files
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.ends_with(".bin") && !name.starts_with("reply") && !name.starts_with("refused-reply")
        })
        .collect();
    files.sort();
    assert!(files.len() > 30, "{files:?}");
    files.iter().map(|path| fs::read(path).expect("a golden frame")).collect()
});

/// Every golden RESP command, or several that come together.
static RESP: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let told = include_str!("../schemas/golden-resp.json");
    let told: serde_json::Value = serde_json::from_str(told).expect("JSON");
    let exchanges = told["exchanges"].as_array().expect("a list");
    exchanges.iter().map(|told| told["ask"].as_str().expect("a text").as_bytes().to_vec()).collect()
});

const HTTP: [&str; 12] = [
    "GET /v1/users/42/balance HTTP/1.1\r\nHost: h\r\n\r\n",
    "HEAD /v1/users/1/statistics?window=24h,7d HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /v1/users/1/balance?min_version=9&wait_ms=50 HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /v1/users/7/balance?max_age_ms=1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "POST /v1/balances:batchGet HTTP/1.1\r\nHost: h\r\nContent-Length: 22\r\n\r\n{\"user_ids\":[\"1\", 42]}",
    "POST /v1/balances:batchGet HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 16\r\n\r\n{\"user_ids\":[9]}",
    "GET /v1/users/x/balance HTTP/1.1\r\nHost: h\r\n\r\n",
    "PUT /v1/users/1/balance HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
    "GET /v1/users/%31/balance HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "POST /v1/balances:batchGet HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET / HTTP/2.0\r\n\r\n",
    "\r\n\r\n",
];

/// Some requests one after the other.
fn stream(requests: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(requests), 1..12).prop_map(|requests| requests.concat())
}

/// What may happen to a stream.
#[derive(Clone, Debug)]
enum Damage {
    Change(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Cut(prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (index(), any::<u8>()).prop_map(|(at, byte)| Damage::Change(at, byte)),
        1 => (index(), prop::collection::vec(any::<u8>(), 1..30)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => index().prop_map(Damage::Cut),
    ]
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    let http = HTTP.map(|text| text.as_bytes().to_vec()).to_vec();
    let stream = prop_oneof![
        stream(GOLDEN.clone()),
        stream(http),
        stream(RESP.clone()),
        prop::collection::vec(any::<u8>(), 1..200)
    ];
    (stream, prop::collection::vec(damage(), 0..4)).prop_map(|(mut stream, damages)| {
        for damage in damages {
            match damage {
                Damage::Change(at, byte) => {
                    let at = at.index(stream.len());
                    stream[at] = byte;
                }
                Damage::Insert(at, bytes) => {
                    let at = at.index(stream.len());
                    stream.splice(at..at, bytes);
                }
                Damage::Cut(at) => stream.truncate(1 + at.index(stream.len())),
            }
        }
        stream
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn parsers_get_on_and_never_take_a_part_for_the_whole(input in input()) {
        targets::frame(&input);
        targets::http(&input);
        targets::resp(&input);
    }

    #[test]
    fn a_connection_answers_the_same_in_any_pieces(input in input()) {
        targets::session(&input);
    }
}

/// Each request that there is, cut in two at each byte. Of those that are long, at each byte of either end and some between;
/// `FLORIN_CUTS=all` tries these as well.
#[test]
fn every_request_cut_at_any_byte_is_answered_as_if_it_had_come_whole() {
    const EITHER_END: usize = 64;
    let all = std::env::var("FLORIN_CUTS").is_ok_and(|which| which == "all");
    for input in GOLDEN.iter().chain(RESP.iter()).map(Vec::as_slice).chain(HTTP.map(str::as_bytes)) {
        let is_tried =
            |&at: &usize| all || at < EITHER_END || at + EITHER_END > input.len() || at.is_multiple_of(97);
        targets::cuts(input, (1..input.len()).filter(is_tried));
    }
}

/// The blocks of a table of some accounts, each with its bucket before it.
static BLOCKS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let (mut table, now_us) = (Table::new(), 1_795_320_306_000_000);
    for version in 1..30 {
        for user in 0..6 {
            let row = Transaction {
                user_id: UserId::new(user).expect("a user"),
                version: Version(version),
                asset: Asset::parse([&b"USD"[..], b"COIN"][version as usize % 2]).expect("a code"),
                kind: Kind::ALL[(version + user) as usize % Kind::ALL.len()],
                amount: 1 + (version * user) as i64,
                occurred_at_us: now_us - (version * user) as i64 * 3_600_000_000,
            };
            table.apply(&row, &Horizon::at(now_us));
        }
    }
    let mut records = Vec::new();
    table.walk(&mut Walk::new(), 100, &mut records);
    let (mut blocks, mut rest) = (Vec::new(), &records[..]);
    while !rest.is_empty() {
        let record::Peeked { user, bytes: length, .. } = record::peek(rest);
        blocks.push([&[bucket_of(user.hashed())], &rest[..length]].concat());
        rest = &rest[length..];
    }
    blocks
});

/// Bytes of numbers at their ends as well as any: what an account's sums are made of.
fn number() -> impl Strategy<Value = [u8; 8]> {
    prop_oneof![any::<i64>(), prop::sample::select(vec![0, 1, -1, i64::MAX, i64::MIN])]
        .prop_map(i64::to_le_bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_000) })]

    #[test]
    fn a_changed_account_is_refused_or_can_be_served(
        mut block in prop::sample::select(BLOCKS.clone()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), number(), 1_usize..9), 0..4),
    ) {
        for (at, number, bytes) in changes {
            let at = at.index(block.len());
            let bytes = bytes.min(block.len() - at);
            block[at..at + bytes].copy_from_slice(&number[..bytes]);
        }
        targets::checkpoint(&block);
    }
}

/// A fuzz target's name, and what it tries.
type Target = (&'static str, fn(&[u8]));

/// All of them.
const TARGETS: &[Target] = &[
    ("admin", targets::admin),
    ("checkpoint", targets::checkpoint),
    ("client", targets::client),
    ("config", targets::config),
    ("csv", targets::csv),
    ("frame", targets::frame),
    #[cfg(feature = "kafka")]
    ("group", targets::group),
    ("handshake", targets::handshake),
    ("http", targets::http),
    #[cfg(feature = "kafka")]
    ("kafka", targets::kafka),
    ("nodes", targets::nodes),
    #[cfg(feature = "postgres")]
    ("pgoutput", targets::pgoutput),
    ("position", targets::position),
    ("recording", targets::recording),
    ("resp", targets::resp),
    ("sealed", targets::sealed),
    ("session", targets::session),
    ("shadow", targets::shadow),
];

/// What fuzzers have found worth keeping passes for good: each target has a corpus, and each corpus a target.
#[test]
fn every_corpus_passes_its_target() {
    let corpora = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for folder in fs::read_dir(&corpora).expect("the corpora") {
        let name = folder.expect("a folder").file_name().into_string().expect("a target's name");
        let built = cfg!(all(feature = "kafka", feature = "postgres"));
        assert!(!built || TARGETS.iter().any(|(target, _)| *target == name), "{name}: no target");
    }
    for (name, target) in TARGETS {
        let inputs: Vec<_> =
            fs::read_dir(corpora.join(name)).expect(name).map(|entry| entry.expect(name).path()).collect();
        assert!(!inputs.is_empty(), "{name}: an empty corpus");
        for path in inputs {
            println!("{}", path.display());
            target(&fs::read(path).expect(name));
        }
    }
}

#[test]
fn every_golden_request_passes_every_target() {
    for input in GOLDEN.iter().chain(RESP.iter()).map(Vec::as_slice).chain(HTTP.map(str::as_bytes)) {
        targets::frame(input);
        targets::http(input);
        targets::resp(input);
        targets::session(input);
    }
}

/// What a real PostgreSQL said, message by message.
#[cfg(feature = "postgres")]
static PGOUTPUT: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let corpora = [
        include_str!("../sources/postgres/corpus/stream-15-binary.hex"),
        include_str!("../sources/postgres/corpus/stream-15-text.hex"),
        include_str!("../sources/postgres/corpus/copy-15.hex"),
    ];
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex");
    let message = |line: &str| line.as_bytes().chunks(2).map(byte).collect();
    corpora.iter().flat_map(|corpus| corpus.lines()).map(message).collect()
});

#[cfg(feature = "postgres")]
proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_000) })]

    #[test]
    fn what_a_postgresql_says_is_read_or_refused(
        mut message in prop::sample::select(PGOUTPUT.clone()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        targets::pgoutput(&message);
    }
}
