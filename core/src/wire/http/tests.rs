mod refusals;

use florin_schema::{Version, WindowMask};
use proptest::prelude::*;

use super::*;
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_LINE_BYTES_MAX};
use crate::wire::Freshness;

fn user(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

/// A request with a Host header and `headers`, each with its line's end.
fn message(line: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("{line}\r\nHost: florin\r\n{headers}\r\n{body}").into_bytes()
}

fn get(target: &str) -> Vec<u8> {
    message(&format!("GET {target} HTTP/1.1"), "", "")
}

fn post(body: &str) -> Vec<u8> {
    let headers = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    message("POST /v1/balances:batchGet HTTP/1.1", &headers, body)
}

fn read(bytes: &[u8]) -> (Request<'_>, usize, Vec<UserId>) {
    let mut users = vec![user(99)];
    match parse(bytes, &mut users) {
        Parsed::Request(request, length) => (request, length, users),
        other => panic!("{other:?} of {}", String::from_utf8_lossy(bytes)),
    }
}

fn refused(bytes: &[u8]) -> Rejection {
    match parse(bytes, &mut Vec::new()) {
        Parsed::Rejected(rejection) => {
            assert_eq!(rejection.consumed.is_none(), rejection.reply_to.closes(), "{rejection:?}");
            rejection
        }
        other => panic!("{other:?} of {}", String::from_utf8_lossy(bytes)),
    }
}

#[track_caller]
fn assert_refused(bytes: &[u8], status: u16, message: &str) -> Rejection {
    let rejection = refused(bytes);
    assert_eq!((rejection.http_status, rejection.message.as_str()), (Some(status), message));
    rejection
}

/// Refused, and the connection goes on.
#[track_caller]
fn assert_goes_on(bytes: &[u8], status: u16, message: &str) {
    assert_eq!(assert_refused(bytes, status, message).consumed, Some(bytes.len()));
}

/// Refused, and the connection closes.
#[track_caller]
fn assert_closes(bytes: &[u8], status: u16, message: &str) {
    assert_eq!(assert_refused(bytes, status, message).consumed, None);
}

#[test]
fn each_request_is_read() {
    let all = WindowMask::ALL;
    for (target, query) in [
        ("/v1/users/42/balance", Query::Balance(user(42))),
        ("/v1/users/9223372036854775807/balance?", Query::Balance(UserId::MAX)),
        ("/v1/users/%34%32/bal%61nce", Query::Balance(user(42))),
        ("http://florin:7400/v1/users/42/balance", Query::Balance(user(42))),
        ("/v1/nodes", Query::Nodes { since: None }),
        ("/v1/nodes?since=0", Query::Nodes { since: Some(0) }),
        ("/v1/nodes?since=18446744073709551615", Query::Nodes { since: Some(u64::MAX) }),
        ("/v1/users/0/statistics", Query::Statistics(user(0), all)),
        ("/v1/users/7/statistics?window=24h,7d", Query::Statistics(user(7), WindowMask::new(3).unwrap())),
        (
            "/v1/users/7/statistics?window=lifetime%2C30d",
            Query::Statistics(user(7), WindowMask::new(12).unwrap()),
        ),
        ("/v1/users/7/statistics?wind%6Fw=24h%2c7d,30d,lifetime", Query::Statistics(user(7), all)),
    ] {
        let bytes = get(target);
        let (request, length, users) = read(&bytes);
        assert_eq!((request.query, length), (query, bytes.len()), "{target}");
        assert_eq!(request.freshness, Freshness::default());
        assert_eq!(request.reply_to.format, Format::Http(HttpReply::KEEP_ALIVE));
        assert_eq!(users, [user(99)], "only a batch touches the users");
    }
}

#[test]
fn a_batch_takes_strings_and_numbers() {
    let bytes =
        post(r#" { "user_ids" : ["3", 1, "3", 9223372036854775807, "9223372036854775807", "\u0031"] } "#);
    let (request, length, users) = read(&bytes);
    assert_eq!(
        (request.query, request.reply_to.opcode, length),
        (Query::Balances, Opcode::GetBalances, bytes.len())
    );
    assert_eq!(users, [user(3), user(1), user(3), UserId::MAX, UserId::MAX, user(1)]);
    for headers in [
        "Content-Length: 18\r\n",
        "Content-Type: Application/JSON ; charset=utf-8\r\ncontent-length: 018\r\nContent-Encoding: identity\r\n",
    ] {
        let bytes = request_batch(headers);
        assert_eq!(read(&bytes).2, [user(5)]);
    }
    let encoded =
        message("POST /v1/balances%3AbatchGet?wait_ms=5 HTTP/1.1", "Content-Length: 18\r\n", ID_FIVE);
    assert_eq!(read(&encoded).0.freshness.wait_ms, 5);
}

const ID_FIVE: &str = r#"{"user_ids":["5"]}"#;

fn request_batch(headers: &str) -> Vec<u8> {
    message("POST /v1/balances:batchGet HTTP/1.1", headers, ID_FIVE)
}

#[test]
fn the_largest_batch_fits_and_one_more_id_does_not() {
    let ids = |count: usize| vec![format!("\"{}\"", i64::MAX); count].join(", ");
    let bytes = post(&format!("{{\"user_ids\":[{}]}}", ids(1_024)));
    assert_eq!(read(&bytes).2, [UserId::MAX; 1_024]);
    let bytes = post(&format!("{{\"user_ids\":[{}]}}", ids(1_025)));
    assert_goes_on(&bytes, 400, "user_ids: expected 1 to 1024 ids, got 1025");
}

#[test]
fn freshness_is_read_and_its_wait_clamped() {
    let bytes =
        get("/v1/users/1/balance?min_version=18446744073709551615&max_age_ms=4294967295&wait_ms=4294967295");
    let freshness = Freshness { min_version: Version(u64::MAX), max_age_ms: u32::MAX, wait_ms: 1_000 };
    assert_eq!(read(&bytes).0.freshness, freshness);
}

#[test]
fn the_connection_stays_or_closes_as_its_version_has_it() {
    for (method, version, headers, reply) in [
        ("GET", "1.1", "", HttpReply::KEEP_ALIVE),
        ("GET", "1.1", "Connection: Close\r\n", HttpReply::CLOSE),
        ("GET", "1.1", "Connection: keep-alive\r\nconnection: foo , close\r\n", HttpReply::CLOSE),
        ("GET", "1.0", "", HttpReply::CLOSE),
        ("GET", "1.0", "Connection: Keep-Alive\r\n", HttpReply::KEEP_ALIVE),
        ("GET", "1.0", "Connection: keep-alive, close\r\n", HttpReply::CLOSE),
        ("HEAD", "1.1", "", HttpReply::HEAD_KEEP_ALIVE),
        ("HEAD", "1.0", "", HttpReply::HEAD_CLOSE),
    ] {
        let line = format!("{method} /v1/users/1/balance HTTP/{version}");
        let bytes = message(&line, headers, "");
        assert_eq!(read(&bytes).0.reply_to.format, Format::Http(reply), "{line} {headers}");
    }
    let bytes = message("HEAD /nowhere HTTP/1.1", "Connection: close\r\n", "");
    assert_eq!(refused(&bytes).reply_to.format, Format::Http(HttpReply::HEAD_CLOSE));
    // HTTP/1.0 knows no Host.
    read(b"GET /v1/users/1/balance HTTP/1.0\r\n\r\n");
}

#[test]
fn a_cut_request_is_awaited_and_what_follows_is_left() {
    for bytes in [get("/v1/users/42/balance?wait_ms=1"), post(ID_FIVE), message("PUT /x HTTP/1.1", "", "")] {
        let whole = parse(&bytes, &mut Vec::new());
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut], &mut Vec::new()), Parsed::Incomplete, "cut at {cut}");
        }
        let pipelined = [&bytes[..], b"GET /"].concat();
        assert_eq!(parse(&pipelined, &mut Vec::new()), whole);
    }
}

#[test]
fn a_body_that_is_held_back_is_asked_for_once() {
    let bytes = request_batch("Expect: 100-Continue\r\nContent-Length: 18\r\n");
    let head = bytes.len() - ID_FIVE.len();
    let mut users = Vec::new();
    for cut in 0..bytes.len() {
        let expected = if cut == head { Parsed::Continue } else { Parsed::Incomplete };
        assert_eq!(parse(&bytes[..cut], &mut users), expected, "cut at {cut}");
    }
    assert_eq!(read(&bytes).2, [user(5)]);

    let old =
        message("POST /v1/balances:batchGet HTTP/1.0", "Expect: 100-continue\r\nContent-Length: 18\r\n", "");
    assert_eq!(parse(&old, &mut users), Parsed::Incomplete, "HTTP/1.0 knows no interim response");
    // An expectation that nobody can meet, whose body was once waited for until the time-out.
    let unmet = request_batch("Expect: x\r\nContent-Length: 18\r\n");
    assert_closes(&unmet[..unmet.len() - ID_FIVE.len()], 417, "expect: expected 100-continue, got \"x\"");
    // A refusal in place of the interim response: the body may come or not, so the connection closes.
    let lost = message("POST /nowhere HTTP/1.1", "Expect: 100-continue\r\nContent-Length: 18\r\n", "");
    assert_eq!((refused(&lost).http_status, refused(&lost).consumed), (Some(404), None));
}

#[test]
fn unknown_paths_and_methods() {
    for path in [
        "/",
        "*",
        "/v1",
        "/v1/users/1",
        "/v1/users/1/balance/",
        "/v2/users/1/balance",
        "/v1/users/1%2Fbalance",
        "/v1/balances:batchGet/x",
        "/V1/users/1/balance",
        "http://florin",
    ] {
        let bytes = get(path);
        let shown = path.strip_prefix("http://florin").unwrap_or(path);
        let message = format!(
            "path: expected /v1/users/{{user_id}}/balance, /v1/users/{{user_id}}/statistics or /v1/balances:batchGet, got {shown:?}"
        );
        assert_goes_on(&bytes, 404, &message);
    }
    for (line, allow) in [
        ("POST /v1/users/1/balance HTTP/1.1", "GET, HEAD"),
        ("DELETE /v1/users/1/statistics HTTP/1.1", "GET, HEAD"),
        ("GET /v1/balances:batchGet HTTP/1.1", "POST"),
        ("TRACE /v1/balances:batchGet HTTP/1.1", "POST"),
    ] {
        let bytes = message(line, "", "");
        let method = line.split(' ').next().unwrap();
        let rejection = assert_refused(&bytes, 405, &format!("method: expected {allow}, got {method:?}"));
        assert_eq!((rejection.allow, rejection.consumed), (Some(allow), Some(bytes.len())));
    }
}

#[test]
fn methods_that_nobody_implements_are_told_so_at_once() {
    for line in ["CONNECT florin:443 HTTP/1.1", "get /v1/users/1/balance HTTP/1.1", "BREW / HTTP/1.1"] {
        // Its body is not waited for: the connection closes.
        let bytes = message(line, "Content-Length: 5\r\n", "");
        let method = line.split(' ').next().unwrap();
        assert_closes(
            &bytes,
            501,
            &format!("method: expected GET, HEAD or POST, in upper case, got {method:?}"),
        );
    }
    assert_closes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version: expected HTTP/1.1 or HTTP/1.0");
}

/// RFC 9112, section 2.2: a server ignores an empty line before a request.
#[test]
fn blank_lines_before_a_request_are_ignored() {
    for blank in ["\r\n", "\n", "\r\n\r\n"] {
        let bytes = [blank.as_bytes(), &get("/v1/users/42/balance")].concat();
        let (request, length, _) = read(&bytes);
        assert_eq!((request.query, length), (Query::Balance(user(42)), bytes.len()));
    }
}

/// RFC 9110, section 2.5: later minor versions are read as the highest that is known. HTTP/1.2 was once refused.
#[test]
fn every_minor_version_of_http_1_is_served_as_1_1() {
    let bytes = post(ID_FIVE);
    let whole = read(&bytes);
    for version in ["HTTP/1.2", "HTTP/1.9"] {
        let later = String::from_utf8(bytes.clone()).unwrap().replace("HTTP/1.1", version).into_bytes();
        assert_eq!(read(&later), whole, "{version}");
        for cut in 0..later.len() {
            assert_eq!(parse(&later[..cut], &mut Vec::new()), Parsed::Incomplete, "{version} cut at {cut}");
        }
        let no_host = format!("GET /v1/users/1/balance {version}\r\n\r\n");
        assert_goes_on(no_host.as_bytes(), 400, "host: expected one Host header, got 0");
        let two_targets = format!("GET / / {version}\r\n\r\n");
        assert_closes(two_targets.as_bytes(), 400, "request: expected HTTP/1.1: invalid token");
        let many = message(&format!("GET / {version}"), &"A: b\r\n".repeat(HTTP_HEADERS_MAX), "");
        assert_closes(&many, 431, "headers: expected at most 64");
        let giant =
            message(&format!("GET / {version}"), &format!("X: {}", "a".repeat(HTTP_HEAD_BYTES_MAX)), "");
        assert_closes(&giant, 431, "headers: expected at most 8192 bytes with the request line");
    }
}

#[test]
fn a_host_is_a_name_or_an_address() {
    let host = |host: &str| format!("GET /v1/users/1/balance HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    for good in
        ["", "florin", "florin:7400", "a-b.c_d~e:", "127.0.0.1:1", "[::1]", "[fe80::1%25eth0]:7400", "a%20b"]
    {
        read(&host(good));
    }
    for bad in [
        "a b/c@",
        "a b",
        "user@florin",
        "florin/",
        "florin:http",
        "a:1:2",
        "::1",
        "[::1",
        "[::1]x",
        "[a/b]",
        "[zz]",
        "[1.2.3.4]",
        "[]",
        "[%25eth0]",
        "a?b",
        "\u{e4}",
    ] {
        let message = format!("host: expected a name or an address, and maybe a port, got {bad:?}");
        assert_goes_on(&host(bad), 400, &message);
    }
}

/// Pieces of requests in any order: what uniform garbage almost never is.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "GET ",
        "POST ",
        "HEAD ",
        "/v1/users/",
        "42",
        "/balance",
        "/statistics",
        "/v1/balances:batchGet",
        "?",
        "window=24h",
        "&",
        "%2C",
        "%",
        "wait_ms=1",
        " HTTP/1.1\r\n",
        " HTTP/1.0\r\n",
        "Host: a\r\n",
        "Content-Length: ",
        "18",
        "\r\n",
        "\r\n\r\n",
        "Expect: 100-continue\r\n",
        "Transfer-Encoding: chunked\r\n",
        "\n",
        "{\"user_ids\":[\"5\"]}",
        "Connection: close\r\n",
        "\u{fffd}",
        "http://",
    ]);
    prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn garbage_is_answered_within_its_bounds(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), nearly()]
    ) {
        let mut users = Vec::new();
        match parse(&bytes, &mut users) {
            Parsed::Incomplete | Parsed::Continue => {}
            Parsed::Request(_, length) => prop_assert!((1..=bytes.len()).contains(&length)),
            Parsed::Rejected(rejection) => {
                prop_assert_eq!(rejection.consumed.is_none(), rejection.reply_to.closes());
                prop_assert!(rejection.consumed.is_none_or(|length| (1..=bytes.len()).contains(&length)));
                prop_assert!(rejection.message.contains("expected"));
            }
        }
    }

    /// However a stream is cut, the same request or the same status comes of it.
    #[test]
    fn cuts_change_nothing(bytes in nearly()) {
        let status = |parsed: &Parsed<'_>| match parsed {
            Parsed::Rejected(rejection) => rejection.http_status,
            _ => None,
        };
        let whole = parse(&bytes, &mut Vec::new());
        let decided = (0..=bytes.len())
            .map(|cut| parse(&bytes[..cut], &mut Vec::new()))
            .find(|parsed| !matches!(parsed, Parsed::Incomplete | Parsed::Continue));
        match decided {
            None => prop_assert!(matches!(whole, Parsed::Incomplete | Parsed::Continue)),
            Some(Parsed::Request(..)) => prop_assert_eq!(decided.unwrap(), whole),
            // A held-back body is refused sooner, which closes; the status is the same.
            Some(first) => prop_assert_eq!(status(&first), status(&whole)),
        }
    }

    #[test]
    fn a_get_comes_back(
        id in 0..=i64::MAX as u64, mask in 1u8..16, min_version: u64, max_age_ms: u32, wait_ms in 0u32..=1_000
    ) {
        let mask = WindowMask::new(mask).unwrap();
        let names = mask.iter().map(|window| window.name()).collect::<Vec<_>>().join(",");
        let bytes = get(&format!(
            "/v1/users/{id}/statistics?window={names}&min_version={min_version}&max_age_ms={max_age_ms}&wait_ms={wait_ms}"
        ));
        let (request, length, _) = read(&bytes);
        prop_assert_eq!(request.query, Query::Statistics(user(id), mask));
        prop_assert_eq!(request.freshness, Freshness { min_version: Version(min_version), max_age_ms, wait_ms });
        prop_assert_eq!(length, bytes.len());
    }
}
