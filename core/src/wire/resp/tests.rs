use florin_schema::WindowMask;
use proptest::prelude::*;

use super::*;
use crate::limits::{BATCH_USERS_MAX, RESP_COMMAND_BYTES_MAX, RESP_WORD_BYTES_MAX, RESP_WORDS_MAX};
use crate::wire::{Freshness, Query, Request};

fn user(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// A command of the words between spaces.
fn said(text: &str) -> Vec<u8> {
    command(&text.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

#[track_caller]
fn read<'a>(bytes: &'a [u8], users: &mut Vec<UserId>) -> Request<'a> {
    match parse(bytes, RespVersion::Two, users) {
        Parsed::Request(request, length) => {
            assert_eq!(length, bytes.len());
            request
        }
        other => panic!("{other:?} of {}", String::from_utf8_lossy(bytes)),
    }
}

#[track_caller]
fn refused(bytes: &[u8]) -> Rejection {
    match parse(bytes, RespVersion::Two, &mut Vec::new()) {
        Parsed::Rejected(rejection) => rejection,
        other => panic!("{other:?} of {}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn each_command_asks_what_it_says() {
    let mut users = Vec::new();
    let all = WindowMask::ALL;
    let some = WindowMask::new(0b0011).unwrap();
    let plain: [(&str, Query<'_>, RespShape); 12] = [
        ("GET balance:42", Query::Balance(user(42)), RespShape::Value),
        ("get statistics:0", Query::Statistics(user(0), all), RespShape::Value),
        ("FLORIN.BALANCE 42", Query::Balance(user(42)), RespShape::Told),
        ("florin.statistics 42 window 24h,7d", Query::Statistics(user(42), some), RespShape::Told),
        ("PING", Query::Ping(b""), RespShape::Pong),
        ("PING a", Query::Ping(b"a"), RespShape::Value),
        ("ECHO a", Query::Ping(b"a"), RespShape::Value),
        ("AUTH t", Query::Hello { client: "", token: "t" }, RespShape::Ok),
        ("AUTH u t", Query::Hello { client: "", token: "t" }, RespShape::Ok),
        ("HELLO", Query::Hello { client: "", token: "" }, RespShape::Greeting),
        ("HELLO 3 AUTH u t SETNAME n", Query::Hello { client: "n", token: "t" }, RespShape::Greeting),
        ("INFO server", Query::Chat(Chat::Info("server")), RespShape::Ok),
    ];
    for (text, query, shape) in plain {
        let bytes = said(text);
        let request = read(&bytes, &mut users);
        assert_eq!((request.query, request.freshness), (query, Freshness::default()), "{text}");
        let version = if text.starts_with("HELLO 3") { RespVersion::Three } else { RespVersion::Two };
        assert_eq!(request.reply_to.format, Format::Resp(RespReply { version, shape }), "{text}");
    }
    for (text, chat) in [
        ("SELECT 0", Chat::Heard),
        ("CLIENT SETNAME a-name", Chat::Heard),
        ("client setinfo LIB-NAME redis-py", Chat::Heard),
        ("CLIENT ID", Chat::Id),
        ("COMMAND", Chat::Commands),
        ("COMMAND COUNT", Chat::CommandCount),
        ("COMMAND DOCS get", Chat::CommandDocs),
        ("INFO", Chat::Info("")),
        ("QUIT", Chat::Quit),
    ] {
        assert_eq!(read(&said(text), &mut users).query, Query::Chat(chat), "{text}");
    }
    let told = said("FLORIN.BALANCE 42 MINVERSION 18446744073709551615 MAXAGE 50 WAIT 5000");
    let freshness =
        Freshness { min_version: florin_schema::Version(u64::MAX), max_age_ms: 50, wait_ms: 1_000 };
    assert_eq!(read(&told, &mut users).freshness, freshness);
    assert_eq!(read(&said("MGET balance:3 balance:1 balance:3"), &mut users).query, Query::Balances);
    assert_eq!(users, [user(3), user(1), user(3)]);
}

#[test]
fn what_is_no_command_here_is_told_what_is_and_the_connection_goes_on() {
    let many = vec!["balance:1"; BATCH_USERS_MAX + 1].join(" ");
    for (text, message) in [
        ("SET balance:1 2", "ERR unknown command \"SET\": expected GET, MGET,"),
        ("GET 42", "ERR key: expected balance:ID or statistics:ID"),
        ("GET balance:042", "ERR key: expected balance:ID or statistics:ID"),
        ("GET balance:-1", "ERR key: "),
        ("GET balance:9223372036854775808", "ERR key: "),
        ("GET balance:18446744073709551617", "ERR key: "),
        ("GET balance:", "ERR key: "),
        ("GET", "ERR arguments: expected GET balance:ID"),
        ("GET balance:1 balance:2", "ERR arguments: expected GET balance:ID"),
        ("MGET statistics:1", "ERR key: expected balance:ID"),
        ("MGET", "ERR arguments: expected MGET"),
        (&format!("MGET {many}"), "ERR keys: expected at most 1024, got 1025"),
        ("FLORIN.BALANCE", "ERR arguments: expected FLORIN.BALANCE ID"),
        ("FLORIN.BALANCE 1 MINVERSION", "ERR arguments: expected FLORIN.BALANCE ID"),
        ("FLORIN.BALANCE 1 WINDOW 24h", "ERR arguments: expected FLORIN.BALANCE ID"),
        ("FLORIN.BALANCE 1 WAIT 1 WAIT 1", "ERR arguments: expected FLORIN.BALANCE ID"),
        ("FLORIN.BALANCE 1 WAIT 4294967296", "ERR WAIT: expected 0 to 4294967295, got \"4294967296\""),
        ("FLORIN.STATISTICS 1 WINDOW 1h", "ERR WINDOW: expected 24h, 7d, 30d and lifetime"),
        ("SELECT 1", "ERR DB index: expected 0, got \"1\""),
        ("HELLO 4", "NOPROTO protocol version: expected 2 or 3, got \"4\""),
        ("HELLO 2 AUTH x", "ERR arguments: expected HELLO"),
        ("AUTH", "ERR arguments: expected AUTH"),
        ("CLIENT KILL x", "ERR arguments: expected CLIENT ID"),
    ] {
        let bytes = said(text);
        let rejection = refused(&bytes);
        assert!(rejection.message.starts_with(message), "{text}: {}", rejection.message);
        assert_eq!(rejection.consumed, Some(bytes.len()), "{text}");
        assert!(!rejection.message.contains(['\r', '\n']), "{text}");
    }
    let secret = refused(&command(&[b"AUTH", b"secret\xff"]));
    assert!(!secret.message.contains("secret"), "no refusal repeats a token: {}", secret.message);
}

#[test]
fn what_leaves_the_length_in_doubt_closes() {
    let words_over = format!("*{}\r\n", RESP_WORDS_MAX + 1);
    let word_over = format!("*2\r\n$4\r\nECHO\r\n${}\r\n", RESP_WORD_BYTES_MAX + 1);
    let over = command(&vec![&[b'x'; 1_000][..]; 1 + RESP_COMMAND_BYTES_MAX / 1_000]);
    let over = String::from_utf8(over).unwrap();
    for (text, message) in [
        ("*0\r\n", "expected 1 to 4096 words, got 0"),
        ("*-1\r\n", "expected a decimal number behind '*'"),
        ("*01\r\n", "expected a decimal number behind '*'"),
        ("*1x\r\n", "expected a decimal number behind '*'"),
        ("*1\n$4\r\nPING\r\n", "expected a decimal number behind '*'"),
        ("*9999999999\r\n", "expected a decimal number behind '*'"),
        ("*1\r\n:1\r\n", "expected an array of bulk strings: '$', got ':'"),
        ("*1\r\n$-1\r\n", "expected a decimal number behind '$'"),
        ("*1\r\n$4\r\nPINGxx", "expected the end of a line behind 4 bytes"),
        (&words_over, "expected 1 to 4096 words, got 4097"),
        (&word_over, "expected words of at most 1024 bytes, got 1025"),
        (&over, "expected commands of at most 49152 bytes"),
    ] {
        let rejection = refused(text.as_bytes());
        assert!(rejection.message.contains(message), "{}: {}", text.escape_debug(), rejection.message);
        assert_eq!(rejection.consumed, None);
    }
}

/// Clients spell GET in upper or lower case. Whatever the fast way takes, the other reads alike.
#[test]
fn a_plain_get_is_read_alike_both_ways() {
    let ids = (1..=19).map(|digits| &"9223372036854775807"[..digits]).chain(["0", "10", "10000000"]);
    for text in ids.flat_map(|id| ["GET", "get", "gEt"].map(|get| format!("{get} balance:{id}"))) {
        let text = text.as_str();
        let mut bytes = said(text);
        let length = bytes.len();
        let slow = read(&bytes, &mut Vec::new());
        let Query::Balance(id) = slow.query else { panic!("{text}") };
        assert_eq!(slow.reply_to, get(RespVersion::Two));
        for cut in 0..length {
            assert_eq!(plain_balance(&bytes[..cut]), None, "{text} cut at {cut}");
            assert_eq!(parse(&bytes[..cut], RespVersion::Two, &mut Vec::new()), Parsed::Incomplete);
        }
        bytes.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
        let plain = plain_balance(&bytes);
        // In mixed case it may be left to the other.
        assert!(
            plain == Some((id, length)) || (plain.is_none() && text.starts_with("gEt")),
            "{text}: {plain:?}"
        );
        for at in 0..length {
            for byte in [b'0', b'9', b':', b'/', b'\r', b' ', b'B', 0, 255] {
                let was = std::mem::replace(&mut bytes[at], byte);
                if let Some((id, length)) = plain_balance(&bytes) {
                    let Parsed::Request(request, bytes) = parse(&bytes, RespVersion::Two, &mut Vec::new())
                    else {
                        panic!("{text} with {byte} at {at}")
                    };
                    assert_eq!(
                        (request.query, bytes),
                        (Query::Balance(id), length),
                        "{text} with {byte} at {at}"
                    );
                }
                bytes[at] = was;
            }
        }
    }
}

proptest! {
    /// What is short by some bytes is told by how many it is at least, and never more than it is.
    #[test]
    fn a_command_is_never_longer_than_it_is_said_to_be_at_least(
        words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = command(&words.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let cut = cut.index(bytes.len());
        let least = least_bytes(&bytes[..cut]);
        prop_assert!(least > cut && least <= bytes.len(), "{least} of {} cut at {cut}", bytes.len());
        prop_assert_eq!(parse(&bytes[..cut], RespVersion::Two, &mut Vec::new()), Parsed::Incomplete);
    }

    /// Words are read as they were written.
    #[test]
    fn words_come_back(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20)) {
        let bytes = command(&words.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let (read, length) = Words::read(&bytes).unwrap();
        prop_assert_eq!(length, bytes.len());
        prop_assert_eq!(read.len(), words.len());
        prop_assert_eq!(read.collect::<Vec<_>>(), words);
    }

    /// Digits that are looked at all at once spell what they spell one by one.
    #[test]
    fn few_digits_are_the_number(
        bytes in prop::array::uniform8(prop_oneof![9 => b'0'..=b'9', 1 => any::<u8>()]),
        digits in 1..=8_usize,
    ) {
        prop_assert_eq!(few_digits(&bytes, digits), florin_schema::decimal(&bytes[8 - digits..]));
    }

    /// Whatever comes, it is read, awaited or refused, and the fast way takes nothing that the other does not.
    #[test]
    fn nothing_that_comes_is_a_surprise(bytes in prop::collection::vec(
        prop_oneof![4 => prop::sample::select(b"*$12\r\nGETgetbalance:09".to_vec()), 1 => any::<u8>()], 0..60,
    )) {
        let parsed = parse(&bytes, RespVersion::Three, &mut Vec::new());
        if let Some((id, length)) = plain_balance(&bytes) {
            let request = Request {
                reply_to: get(RespVersion::Three), freshness: Freshness::default(), query: Query::Balance(id), authorization: None,
            };
            prop_assert_eq!(parsed, Parsed::Request(request, length));
        }
    }
}
