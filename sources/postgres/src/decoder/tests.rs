//! What real servers said (`corpus/`: how it was made says its README), what was made of it, and what damage does to it.

use proptest::prelude::*;

use super::copy::Copied;
use super::value::{self, Type};
use super::*;

const BINARY: &str = include_str!("../../corpus/stream-15-binary.hex");
const TEXT: &str = include_str!("../../corpus/stream-15-text.hex");
const COPY: &str = include_str!("../../corpus/copy-15.hex");

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn messages(corpus: &str) -> Vec<Vec<u8>> {
    corpus.lines().map(bytes).collect()
}

/// A row's cells as this program reads them: whole numbers, else texts.
fn read(relation: &Relation, tuple: Tuple<'_>) -> Vec<String> {
    let columns = relation.columns.iter().zip(tuple.cells());
    columns
        .map(|(column, cell)| match (Type::of_oid(column.type_oid), cell) {
            (_, Cell::Null) => "NULL".to_owned(),
            (_, Cell::Unchanged) => "unchanged".to_owned(),
            (Some(Type::Text), cell) => value::text(Type::Text, cell).unwrap().chars().take(6).collect(),
            (Some(of @ (Type::Int2 | Type::Int4 | Type::Int8)), cell) => {
                value::integer(of, cell).unwrap().to_string()
            }
            _ => "other".to_owned(),
        })
        .collect()
}

#[test]
fn a_real_stream_says_what_was_done() {
    for corpus in [BINARY, TEXT] {
        let (mut relations, mut story) = (Vec::<Relation>::new(), Vec::new());
        for message in messages(corpus) {
            let of = |oid: &u32| relations.iter().rev().find(|relation| relation.oid == *oid).unwrap();
            match parse(&message).unwrap() {
                Message::Begin { at_us, .. } => assert!(at_us > 1_700_000_000_000_000),
                Message::Commit { commit, end } => assert!(end > commit),
                Message::Relation(relation) => relations.push(relation),
                Message::Insert { relation, new } => {
                    story.push(format!("+ {}", read(of(&relation), new).join(" ")))
                }
                Message::Update { relation, old, new } => {
                    let old = old.map_or(String::new(), |old| read(of(&relation), old).join(" "));
                    story.push(format!("{old} -> {}", read(of(&relation), new).join(" ")));
                }
                Message::Delete { relation, old } => {
                    story.push(format!("- {}", read(of(&relation), old).join(" ")))
                }
                Message::Truncate(tables) => story.push(format!("truncated {}", tables.len())),
                Message::Other => {}
            }
        }
        let expected = [
            "+ 1 a 1 1 COIN 1 5 0",
            "+ 2 b 2 1 COIN 1 6 1",
            "+ 3 c 1 2 USD 5 7 0",
            "+ 5 d 2 2 USD 2 7 0",
            "+ 6 e 3 1 USD 2 7 0",
            "+ 1 other other other florin other",
            "+ 2 NULL other other  NULL",
            "+ 3 other other other é NULL",
            "+ 4 NULL other NULL NULL NULL",
            "+ 5 NULL other NULL NULL NULL",
            " -> 1 other other other unchanged other",
            "2 NULL NULL NULL NULL NULL -> 9 NULL other other  NULL",
            "- 3 NULL NULL NULL NULL NULL",
            "1 a 1 1 COIN 1 5 0 -> 1 a 1 1 COIN 1 8 0",
            "- 5 d 2 2 USD 2 7 0",
            "+ 7 f 7 1 COIN 1 5 0 n",
            "truncated 2",
        ];
        assert_eq!(story, expected);
        let key = |relation: &Relation| relation.columns.iter().filter(|column| column.is_key).count();
        assert_eq!(relations.iter().map(key).max(), Some(9), "the ledger's replica identity is full");
    }
}

#[test]
fn a_real_copy_is_read_in_whatever_pieces_rows_come() {
    let whole = bytes(COPY.trim());
    let (header, rows) = whole.split_at(19);
    for pieces in [vec![&whole[..]], vec![header, rows]] {
        let (mut copied, mut numbers, mut times) = (Copied::default(), Vec::new(), Vec::new());
        for piece in pieces {
            let take = |[id, _, amount, at]: [Cell<'_>; 4]| {
                numbers
                    .push((value::integer(Type::Int4, id).unwrap(), value::integer(Type::Numeric, amount)));
                times.push(value::time_us(Type::TimestampTz, at));
            };
            copied.read(piece, take).unwrap();
        }
        assert!(copied.has_ended());
        let largest = Some(i64::MAX);
        assert_eq!(
            numbers,
            [(1, Some(7)), (4, None), (5, largest), (9, Some(100_000_000))],
            "0.0001 is no whole number"
        );
        assert_eq!(times, [Some(1_709_200_800_000_000), None, None, None], "infinity is no time");
    }
    let mut copied = Copied::default();
    let columns = copied.read(&whole, |_: [Cell<'_>; 3]| {});
    assert_eq!(columns, Err(DecodeError::Columns { expected: 3, found: 4 }));
}

#[test]
fn every_cut_of_every_message_is_refused() {
    for message in messages(BINARY).into_iter().chain(messages(TEXT)) {
        for cut in (0..message.len()).filter(|cut| message.len() < 500 || cut % 97 == 0) {
            assert!(parse(&message[..cut]).is_err(), "cut at {cut}: {message:?}");
        }
        let longer = [&message[..], &[0]].concat();
        assert!(matches!(parse(&longer), Err(DecodeError::Trailing { bytes: 1, .. })), "{message:?}");
    }
}

#[test]
fn what_version_1_does_not_have_is_refused() {
    for tag in (0..=255u8).filter(|tag| !b"BCRIUDTOYM".contains(tag)) {
        assert_eq!(parse(&[tag, 0, 0, 0, 0]), Err(DecodeError::Unknown(tag.into())));
    }
    assert!(matches!(parse(b"I\0\0\0\x01K\0\0"), Err(DecodeError::Illegal { .. })));
    assert!(matches!(parse(b"I\0\0\0\x01N\xff\xff"), Err(DecodeError::Illegal { .. })), "65,535 columns");
    assert!(matches!(parse(b"I\0\0\0\x01N\0\x01t\xff\xff\xff\xff"), Err(DecodeError::Illegal { .. })));
    assert!(
        matches!(parse(b"T\xff\xff\xff\xff\0"), Err(DecodeError::Short { .. })),
        "bounded by what is there"
    );
}

#[test]
fn numerics_are_whole_numbers_or_nothing() {
    let numeric = |weight: i16, sign: u16, digits: &[u16]| {
        let head = [digits.len() as u16, weight.cast_unsigned(), sign, 0];
        let bytes: Vec<u8> = head.iter().chain(digits).flat_map(|word| word.to_be_bytes()).collect();
        value::integer(Type::Numeric, Cell::Binary(&bytes))
    };
    assert_eq!(numeric(0, 0, &[]), Some(0));
    assert_eq!(numeric(1, 0, &[1]), Some(10_000));
    assert_eq!(numeric(1, 0x4000, &[1, 2]), Some(-10_002));
    assert_eq!(numeric(4, 0, &[922, 3_372, 368, 5_477, 5_807]), Some(i64::MAX));
    assert_eq!(numeric(4, 0x4000, &[922, 3_372, 368, 5_477, 5_808]), Some(i64::MIN));
    assert_eq!(numeric(4, 0, &[922, 3_372, 368, 5_477, 5_808]), None);
    assert_eq!(numeric(5, 0, &[1]), None);
    assert_eq!(numeric(0, 0, &[1, 5_000]), None, "one and a half");
    assert_eq!(numeric(0, 0, &[1, 0]), Some(1), "1.0000");
    assert_eq!(numeric(0, 0xC000, &[]), None, "NaN");
    assert_eq!(numeric(0, 0, &[10_000]), None);
}

proptest! {
    #[test]
    fn whatever_comes_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Message::Insert { new, .. }) = parse(&bytes) {
            prop_assert_eq!(new.cells().count(), new.len());
        }
        let _ = Copied::default().read(&bytes, |_: [Cell<'_>; 6]| {});
        for of in [Type::Int2, Type::Int4, Type::Int8, Type::Numeric, Type::Text, Type::Timestamp] {
            for cell in [Cell::Binary(&bytes), Cell::Text(&bytes)] {
                let _ = (value::integer(of, cell), value::text(of, cell), value::time_us(of, cell), value::shown(of, cell));
            }
        }
    }

    #[test]
    fn damage_to_a_real_message_never_panics(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let all = messages(BINARY);
        let mut message = which.get(&all).clone();
        let at = at.index(message.len());
        message[at] = byte;
        if let Ok(Message::Insert { new: tuple, .. } | Message::Delete { old: tuple, .. }) = parse(&message) {
            prop_assert_eq!(tuple.cells().count(), tuple.len());
        }
    }
}
