//! The golden frames are answers that must pass; each field that is changed in them must not.

use std::{fs, path::PathBuf};

use florin_schema::frame::ReplyHeader;
use florin_schema::records;
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::{generator::pending::Asked, truth::tests::of_one};

fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/golden").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn header(frame: &mut [u8]) -> &mut ReplyHeader {
    ReplyHeader::mut_from_prefix(frame).unwrap().0
}

/// The user that the frame's body is about, read with the generated code or rkyv, not with what is tested.
fn user_of(frame: &[u8], encoding: Encoding) -> UserId {
    let body = &frame[HEADER_BYTES..];
    let id = match (encoding, frame[5]) {
        (Encoding::FlatBuffers, 1) => {
            flatbuffers::root::<florin_schema::generated::Balance>(body).unwrap().user_id()
        }
        (Encoding::FlatBuffers, _) => {
            flatbuffers::root::<florin_schema::generated::Statistics>(body).unwrap().user_id()
        }
        (Encoding::Rkyv, 1) => archived::<records::ArchivedBalance>(body, |b| b.user_id.to_native()),
        (Encoding::Rkyv, _) => archived::<records::ArchivedStatistics>(body, |s| s.user_id.to_native()),
    };
    UserId::new(id).unwrap()
}

fn archived<T>(body: &[u8], read: impl Fn(&T) -> u64) -> u64
where
    T: rkyv::Portable
        + for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, rkyv::rancor::Error>>,
{
    let mut aligned = rkyv::util::AlignedVec::<16>::new();
    aligned.extend_from_slice(body);
    read(rkyv::access::<T, rkyv::rancor::Error>(&aligned).unwrap())
}

/// Asks as the frame answers, and lets the protocol read it.
fn read(frame: &mut [u8], kind: Kind, user: UserId, encoding: Encoding) -> Result<Step, Wrong> {
    let mut pending = Pending::new(8, Ordering::ById);
    let (_, id) = pending.ask(Asked { kind, user, since_ns: 3 }).unwrap();
    header(frame).request_id = id.into();
    Native::new(encoding, None).reply(frame, &mut pending)
}

const ENCODINGS: [(Encoding, &str); 2] = [(Encoding::Rkyv, "rkyv"), (Encoding::FlatBuffers, "flatbuffers")];

#[test]
fn golden_answers_pass() {
    for (encoding, name) in ENCODINGS {
        for (file, kind) in [
            (format!("reply-balance-{name}.bin"), Kind::Balance),
            (format!("reply-balance-forwarded-{name}.bin"), Kind::Balance),
            (format!("reply-statistics-mask-15-{name}.bin"), Kind::Statistics),
        ] {
            let mut frame = golden(&file);
            let user = user_of(&frame, encoding);
            let step = read(&mut frame, kind, user, encoding);
            let expected = Step::Answered { consumed: frame.len(), since_ns: 3, fate: Fate::Served };
            assert_eq!(step, Ok(expected), "{file}");
        }
    }
}

#[test]
fn every_cut_of_an_answer_waits_for_the_rest() {
    let whole = golden("reply-balance-rkyv.bin");
    let user = user_of(&whole, Encoding::Rkyv);
    for cut in HEADER_BYTES..whole.len() {
        assert_eq!(read(&mut whole[..cut].to_vec(), Kind::Balance, user, Encoding::Rkyv), Ok(Step::Partial));
    }
    for cut in 0..HEADER_BYTES {
        let mut pending = Pending::new(1, Ordering::ById);
        assert_eq!(Native::new(Encoding::Rkyv, None).reply(&whole[..cut], &mut pending), Ok(Step::Partial));
    }
}

#[test]
fn a_changed_field_is_caught() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 7] = [
        ("version", |frame| header(frame).version = 2),
        ("length", |frame| header(frame).length = 31.into()),
        ("opcode", |frame| header(frame).opcode = 4),
        ("encoding", |frame| header(frame).encoding = 0),
        ("status", |frame| header(frame).status = 99),
        ("schema", |frame| header(frame).schema = 1.into()),
        ("as_of", |frame| header(frame).as_of_us = 0.into()),
    ];
    for (encoding, name) in ENCODINGS {
        let whole = golden(&format!("reply-balance-{name}.bin"));
        let user = user_of(&whole, encoding);
        for (field, change) in changes {
            let mut frame = whole.clone();
            change(&mut frame);
            assert!(read(&mut frame, Kind::Balance, user, encoding).is_err(), "{field} of {name}");
        }
        let other = UserId::new(user.get() + 1).unwrap();
        let outcome = read(&mut whole.clone(), Kind::Balance, other, encoding);
        assert!(matches!(outcome, Err(Wrong::User { .. })), "{outcome:?}");
        let outcome = read(&mut whole.clone(), Kind::Statistics, user, encoding);
        assert!(matches!(outcome, Err(Wrong::Implausible { .. })), "{outcome:?}");
        let mut short = whole.clone();
        short.truncate(whole.len() - 24);
        header(&mut short).length = (whole.len() as u32 - 24).into();
        assert!(read(&mut short, Kind::Balance, user, encoding).is_err(), "a body cut by a row ({name})");
    }
}

#[test]
fn every_bit_of_an_answer_that_the_ledger_knows_is_checked() {
    let truth = Arc::new(of_one(9, 3, "A", [1, 0], [0; 5]));
    for (encoding, whole) in batches(&[(9, Status::Ok)]) {
        let read = |frame: &mut [u8]| {
            let mut pending = Pending::new(1, Ordering::ById);
            let user = UserId::new(9).unwrap();
            let (slot, id) = pending.ask(Asked { kind: Kind::Batch(1), user, since_ns: 0 }).unwrap();
            pending.batch_mut(slot).push(user);
            header(frame).request_id = id.into();
            let mut native = Native::new(encoding, Some(Arc::clone(&truth)));
            let step = native.reply(frame, &mut pending)?;
            native.settle().map(|()| step)
        };
        assert!(matches!(read(&mut whole.clone()), Ok(Step::Answered { fate: Fate::Served, .. })));
        let is_served = |at: usize| {
            let mut frame = whole.clone();
            frame[at] ^= 1;
            read(&mut frame).is_ok()
        };
        // What is left is the time of the last change (8 bytes), padding, and what FlatBuffers may lay out in several ways.
        let unseen = (HEADER_BYTES..whole.len()).filter(|&at| is_served(at)).count();
        assert!(
            unseen <= 40,
            "{encoding:?}: {unseen} of {} bytes are not looked at",
            whole.len() - HEADER_BYTES
        );
    }
}

#[test]
fn an_answer_to_nothing_is_wrong() {
    let frame = golden("reply-balance-rkyv.bin");
    let outcome = Native::new(Encoding::Rkyv, None).reply(&frame, &mut Pending::new(1, Ordering::ById));
    assert!(matches!(outcome, Err(Wrong::Id { .. })), "{outcome:?}");
}

#[test]
fn refusals_are_shed_or_wrong() {
    let user = UserId::new(1).unwrap();
    for (file, shed) in [
        ("overloaded", true),
        ("unavailable", true),
        ("stale", true),
        ("not-found", false),
        ("invalid-request", false),
        ("internal", false),
    ] {
        let outcome =
            read(&mut golden(&format!("reply-error-{file}.bin")), Kind::Balance, user, Encoding::Rkyv);
        match outcome {
            Ok(Step::Answered { fate: Fate::Shed(_), .. }) => assert!(shed, "{file}"),
            Err(Wrong::Status { .. }) => assert!(!shed, "{file}"),
            other => panic!("{file}: {other:?}"),
        }
    }
}

/// A batch of two, serialised by rkyv and by the FlatBuffers crate.
fn batches(entries: &[(u64, Status)]) -> [(Encoding, Vec<u8>); 2] {
    let balance = |user_id| records::Balance {
        user_id,
        version: 3,
        updated_at_us: 1,
        balances: vec![records::AssetBalance { asset: 65, available: 1, held: 0 }],
    };
    let entries: Vec<_> = entries
        .iter()
        .map(|&(user_id, status)| records::BalanceEntry {
            user_id,
            status: status as u8,
            quarantined: false,
            balance: (status == Status::Ok).then(|| balance(user_id)),
        })
        .collect();
    let flat = flat_balances(&entries);
    let archive = rkyv::to_bytes::<rkyv::rancor::Error>(&records::Balances { entries }).unwrap().to_vec();
    [
        (Encoding::Rkyv, framed(Encoding::Rkyv, &archive)),
        (Encoding::FlatBuffers, framed(Encoding::FlatBuffers, &flat)),
    ]
}

fn flat_balances(entries: &[records::BalanceEntry]) -> Vec<u8> {
    use florin_schema::generated as fb;
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let mut offsets = Vec::new();
    for entry in entries {
        let balance = entry.balance.as_ref().map(|balance| {
            let rows: Vec<_> = balance
                .balances
                .iter()
                .map(|r| fb::AssetBalance::new(r.asset, r.available, r.held))
                .collect();
            let balances = Some(builder.create_vector(&rows));
            let args = fb::BalanceArgs {
                user_id: balance.user_id,
                version: balance.version,
                updated_at_us: 1,
                balances,
            };
            fb::Balance::create(&mut builder, &args)
        });
        let args = fb::BalanceEntryArgs {
            user_id: entry.user_id,
            status: entry.status,
            balance,
            quarantined: entry.quarantined,
        };
        offsets.push(fb::BalanceEntry::create(&mut builder, &args));
    }
    let entries = Some(builder.create_vector(&offsets));
    let root = fb::Balances::create(&mut builder, &fb::BalancesArgs { entries });
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

fn framed(encoding: Encoding, body: &[u8]) -> Vec<u8> {
    let header = ReplyHeader {
        length: ((HEADER_BYTES + body.len()) as u32).into(),
        version: 1,
        opcode: Opcode::GetBalances as u8,
        encoding: encoding as u8,
        status: 0,
        request_id: 0.into(),
        as_of_us: 1.into(),
        shard: 0.into(),
        flags: 0.into(),
        schema: (SCHEMA_FINGERPRINT as u32).into(),
    };
    [header.as_bytes(), body].concat()
}

#[test]
fn a_batch_must_answer_each_user_in_order() {
    let check = |asked: [u64; 2], answered: &[(u64, Status)]| {
        batches(answered).map(|(encoding, mut frame)| {
            let mut pending = Pending::new(1, Ordering::ById);
            let asked = asked.map(|id| UserId::new(id).unwrap());
            let (slot, id) =
                pending.ask(Asked { kind: Kind::Batch(2), user: asked[0], since_ns: 0 }).unwrap();
            pending.batch_mut(slot).extend(asked);
            header(&mut frame).request_id = id.into();
            Native::new(encoding, None).reply(&frame, &mut pending)
        })
    };
    let ok = Status::Ok;
    for step in check([5, 6], &[(5, ok), (6, ok)]) {
        assert!(matches!(step, Ok(Step::Answered { fate: Fate::Served, .. })), "{step:?}");
    }
    for step in check([5, 6], &[(6, ok), (5, ok)]) {
        assert!(matches!(step, Err(Wrong::User { .. })), "{step:?}");
    }
    for answered in [&[(5, ok)][..], &[(5, ok), (6, ok), (7, ok)], &[(5, ok), (6, Status::NotFound)]] {
        for step in check([5, 6], answered) {
            assert!(matches!(step, Err(Wrong::Implausible { .. })), "{answered:?}: {step:?}");
        }
    }
}

#[test]
fn questions_look_as_the_golden_ones_do() {
    for (kind, file) in [
        (Kind::Balance, "request-get-balance-rkyv.bin"),
        (Kind::Balance, "request-get-balance-flatbuffers.bin"),
    ] {
        let golden = golden(file);
        let expected = RequestHeader::ref_from_bytes(&golden).unwrap();
        let encoding = Encoding::try_from(expected.encoding).unwrap();
        let mut pending = Pending::new(1, Ordering::ById);
        let user = UserId::new(expected.user_id.get()).unwrap();
        let (slot, _) = pending.ask(Asked { kind, user, since_ns: 0 }).unwrap();
        let mut out = Vec::new();
        Native::new(encoding, None).request(&mut out, expected.request_id.get(), slot, &mut pending);
        assert_eq!(out, golden, "{file}");
    }
}
