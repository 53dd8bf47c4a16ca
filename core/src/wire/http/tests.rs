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
        assert_eq!(request.reply_to.format, Format::Http(HttpReply::KeepAlive));
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
    use HttpReply::{Close, HeadClose, HeadKeepAlive, KeepAlive};
    for (method, version, headers, reply) in [
        ("GET", "1.1", "", KeepAlive),
        ("GET", "1.1", "Connection: Close\r\n", Close),
        ("GET", "1.1", "Connection: keep-alive\r\nconnection: foo , close\r\n", Close),
        ("GET", "1.0", "", Close),
        ("GET", "1.0", "Connection: Keep-Alive\r\n", KeepAlive),
        ("GET", "1.0", "Connection: keep-alive, close\r\n", Close),
        ("HEAD", "1.1", "", HeadKeepAlive),
        ("HEAD", "1.0", "", HeadClose),
    ] {
        let line = format!("{method} /v1/users/1/balance HTTP/{version}");
        let bytes = message(&line, headers, "");
        assert_eq!(read(&bytes).0.reply_to.format, Format::Http(reply), "{line} {headers}");
    }
    let bytes = message("HEAD /nowhere HTTP/1.1", "Connection: close\r\n", "");
    assert_eq!(refused(&bytes).reply_to.format, Format::Http(HeadClose));
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

#[test]
fn bad_paths_and_parameters_are_named() {
    let user_id = |got: &str| format!("user_id: expected 0 to 9223372036854775807, got {got:?}");
    for id in ["", "abc", "007", "00", "-1", "+1", "1.0", "9223372036854775808", "99999999999999999999", "1 "]
    {
        let target = format!("/v1/users/{}/balance", id.replace(' ', "%20"));
        let why = florin_schema::misspelling(id);
        assert_goes_on(&get(&target), 400, &format!("{}{why}", user_id(id)));
    }
    assert_goes_on(&get("/v1/users/%3/balance"), 400, "path: expected percent-encoded UTF-8");
    assert_goes_on(&get("/v1/users/%ff/balance"), 400, "path: expected percent-encoded UTF-8");
    assert_goes_on(&get("/v1/users/1/balance?wait_ms=%zz"), 400, "query: expected percent-encoded UTF-8");
    for (query, message) in [
        ("age=1", "query: expected window, min_version, max_age_ms or wait_ms, got \"age\""),
        ("wait_ms=1&", "query: expected window, min_version, max_age_ms or wait_ms, got \"\""),
        ("wait_ms=1&wait_ms=1", "wait_ms: expected once"),
        ("window=24h&window=7d", "window: expected once"),
        ("wait_ms=05", "wait_ms: expected 0 to 4294967295, got \"05\": leading zeros are not allowed"),
        ("wait_ms", "wait_ms: expected 0 to 4294967295, got \"\""),
        ("wait_ms=4294967296", "wait_ms: expected 0 to 4294967295, got \"4294967296\""),
        ("max_age_ms=-1", "max_age_ms: expected 0 to 4294967295, got \"-1\""),
        (
            "min_version=18446744073709551616",
            "min_version: expected 0 to 18446744073709551615, got \"18446744073709551616\"",
        ),
        ("window=", "window: expected 24h, 7d, 30d and lifetime, separated by commas, got \"\""),
        ("window=24h,1y", "window: expected 24h, 7d, 30d and lifetime, separated by commas, got \"24h,1y\""),
    ] {
        assert_goes_on(&get(&format!("/v1/users/1/statistics?{query}")), 400, message);
    }
    assert_goes_on(
        &get("/v1/users/1/balance?window=24h"),
        400,
        "query: expected min_version, max_age_ms or wait_ms, got \"window\"",
    );
}

#[test]
fn bad_json_is_placed() {
    let expected = "each of user_ids to be 0 to 9223372036854775807, as a string or a number";
    for (body, message) in [
        ("", "EOF while parsing a value at line 1 column 0".to_owned()),
        ("{}", "missing field `user_ids` at line 1 column 2".to_owned()),
        (r#"{"user_ids":["1"]"#, "EOF while parsing an object at line 1 column 17".to_owned()),
        (r#"{"user_ids":["1"]} x"#, "trailing characters at line 1 column 20".to_owned()),
        (r#"{"ids":[1]}"#, "unknown field `ids`, expected `user_ids` at line 1 column 6".to_owned()),
        (r#"{"user_ids":[1],"user_ids":[2]}"#, "duplicate field `user_ids` at line 1 column 26".to_owned()),
        (
            r#"{"user_ids":[-1]}"#,
            format!("invalid type: integer `-1`, expected {expected} at line 1 column 15"),
        ),
        (
            r#"{"user_ids":[1.5]}"#,
            format!("invalid type: floating point `1.5`, expected {expected} at line 1 column 16"),
        ),
        (
            r#"{"user_ids":["+1"]}"#,
            "invalid value: string \"+1\": a sign is not allowed at line 1 column 17".to_owned(),
        ),
        (r#"[["1"]]"#, "invalid type: sequence, expected an object".to_owned()),
        (
            r#"{"user_ids":["01"]}"#,
            "invalid value: string \"01\": leading zeros are not allowed at line 1 column 17".to_owned(),
        ),
        (r#"{"user_ids":[null]}"#, format!("invalid type: null, expected {expected} at line 1 column 17")),
        (
            r#"{"user_ids":[9223372036854775808]}"#,
            format!("invalid value: integer `9223372036854775808`, expected {expected} at line 1 column 32"),
        ),
    ] {
        let message = format!("body: expected {{\"user_ids\":[\"1\",\"2\"]}}: {message}");
        assert_goes_on(&post(body), 400, &message);
    }
    assert_goes_on(&post(r#"{"user_ids":[]}"#), 400, "user_ids: expected 1 to 1024 ids, got 0");
    let deep = "[".repeat(10_000);
    assert_eq!(refused(&post(&deep)).http_status, Some(400));
}

#[test]
fn bad_headers_are_named() {
    let line = "GET /v1/users/1/balance HTTP/1.1";
    let bare = format!("{line}\r\n\r\n").into_bytes();
    assert_goes_on(&bare, 400, "host: expected one Host header, got 0");
    assert_goes_on(&message(line, "host: b\r\n", ""), 400, "host: expected one Host header, got 2");
    assert_goes_on(
        &message(line, "Expect: cake\r\n", ""),
        417,
        "expect: expected 100-continue, got \"cake\"",
    );
    assert_goes_on(
        &message(line, "Content-Length: 2\r\n", "{}"),
        400,
        "body: expected none with GET and HEAD, got 2 bytes",
    );
    for (headers, status, message) in [
        ("Content-Type: text/plain\r\n", 415, "content-type: expected application/json, got \"text/plain\""),
        // Once read as UTF-8, which its sender had not meant.
        (
            "Content-Type: application/json; charset=utf-16\r\n",
            415,
            "content-type: expected no charset but utf-8, in which JSON travels, got \"application/json; charset=utf-16\"",
        ),
        // The last one once won, so that a proxy which heeds the first let a page's request pass.
        (
            "Content-Type: text/plain\r\nContent-Type: application/json\r\n",
            400,
            "content-type: expected once, got it twice",
        ),
        (
            "Content-Encoding: gzip\r\nContent-Encoding: identity\r\n",
            400,
            "content-encoding: expected once, got it twice",
        ),
        ("Expect: 100-continue\r\nExpect: 100-continue\r\n", 400, "expect: expected once, got it twice"),
        ("Content-Encoding: gzip\r\n", 415, "content-encoding: expected none, got \"gzip\""),
    ] {
        assert_goes_on(&request_batch(&format!("Content-Length: 18\r\n{headers}")), status, message);
    }
}

#[test]
fn json_in_utf_8_has_several_spellings() {
    for value in [
        "application/json",
        "Application/JSON ; Charset=UTF-8",
        "application/json;charset=\"utf-8\"",
        "application/json; version=1",
    ] {
        read(&request_batch(&format!("Content-Length: 18\r\nContent-Type: {value}\r\n")));
    }
}

/// A head that can only be refused waited for its body, up to the time-out, and was then told 408. Its refusal comes at once now,
/// and the body is skipped as it comes, so that the connection stays as the contract says.
#[test]
fn what_the_head_shows_is_refused_without_its_body() {
    let batch = "POST /v1/balances:batchGet HTTP/1.1";
    for (line, headers, status) in [
        ("POST /nowhere HTTP/1.1", "", 404),
        ("POST /v1/users/1/balance HTTP/1.1", "", 405),
        ("PUT /v1/balances:batchGet HTTP/1.1", "", 405),
        (batch, "Content-Type: text/plain\r\n", 415),
        (batch, "Content-Encoding: gzip\r\n", 415),
        (batch, "Host: two\r\n", 400),
        ("POST /v1/balances:batchGet?age=1 HTTP/1.1", "", 400),
        ("GET /v1/users/1/balance HTTP/1.1", "", 400),
    ] {
        let whole = message(line, &format!("{headers}Content-Length: 18\r\n"), ID_FIVE);
        let head = whole.len() - ID_FIVE.len();
        let rejection = refused(&whole[..head]);
        assert_eq!((rejection.http_status, rejection.consumed), (Some(status), Some(whole.len())), "{line}");
        assert_eq!(rejection, refused(&whole), "{line}: with its body");
        // Where the caller closes anyway, so does the server.
        let last = message(line, &format!("{headers}Connection: close\r\nContent-Length: 18\r\n"), "");
        assert_eq!((refused(&last).http_status, refused(&last).consumed), (Some(status), None), "{line}");
    }
}

#[test]
fn a_length_in_doubt_closes() {
    for (headers, status, message) in [
        ("", 411, "content-length: expected one with POST"),
        (
            "Transfer-Encoding: chunked\r\n",
            411,
            "content-length: expected one in place of Transfer-Encoding: chunked",
        ),
        (
            "Transfer-Encoding: gzip, chunked\r\n",
            501,
            "transfer-encoding: expected none, got \"gzip, chunked\"",
        ),
        (
            "Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            501,
            "transfer-encoding: expected none, got \"more than one\"",
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 18\r\n",
            400,
            "transfer-encoding: expected none beside Content-Length or in HTTP/1.0",
        ),
        (
            "Content-Length: 18\r\nContent-Length: 18\r\n",
            400,
            "content-length: expected one decimal number, got \"more than one\"",
        ),
        ("Content-Length: 18, 18\r\n", 400, "content-length: expected one decimal number, got \"18, 18\""),
        ("Content-Length: +18\r\n", 400, "content-length: expected one decimal number, got \"+18\""),
        ("Content-Length: \r\n", 400, "content-length: expected one decimal number, got \"\""),
        ("Content-Length: 49153\r\n", 413, "body: expected at most 49152 bytes, got 49153"),
        (
            "Content-Length: 99999999999999999999999\r\n",
            413,
            "body: expected at most 49152 bytes, got 18446744073709551615",
        ),
    ] {
        assert_closes(&request_batch(headers), status, message);
    }
    let old = message("POST /v1/balances:batchGet HTTP/1.0", "Transfer-Encoding: chunked\r\n", "");
    assert_closes(&old, 400, "transfer-encoding: expected none beside Content-Length or in HTTP/1.0");
}

#[test]
fn what_is_no_http_closes() {
    for (bytes, message) in [
        (&b"GET  / HTTP/1.1\r\n\r\n"[..], "request: expected HTTP/1.1: invalid token"),
        (b"GET /\r\n\r\n", "request: expected HTTP/1.1: invalid token"),
        (b"GET / FTP/1.1\r\n\r\n", "request: expected HTTP/1.1: invalid HTTP version"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "request: expected HTTP/1.1: invalid header name"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "request: expected HTTP/1.1: invalid header name"),
        (b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", "request: expected HTTP/1.1: invalid header value"),
    ] {
        assert_closes(bytes, 400, message);
    }
    for version in ["HTTP/2.0", "HTTP/3.1", "HTTP/0.9"] {
        let line = format!("HEAD / {version}\r\n");
        for cut in 0..line.len() {
            assert_eq!(
                parse(&line.as_bytes()[..cut], &mut Vec::new()),
                Parsed::Incomplete,
                "{version} at {cut}"
            );
        }
        assert_closes(line.as_bytes(), 505, "version: expected HTTP/1.1 or HTTP/1.0");
        assert_eq!(refused(line.as_bytes()).reply_to.format, Format::Http(HttpReply::HeadClose));
    }
}

#[test]
fn giant_heads_are_refused_before_they_end() {
    let line = format!("GET /{}", "a".repeat(HTTP_LINE_BYTES_MAX));
    assert_eq!(parse(&line.as_bytes()[..HTTP_LINE_BYTES_MAX], &mut Vec::new()), Parsed::Incomplete);
    assert_closes(line.as_bytes(), 414, "request line: expected at most 2048 bytes");

    let giant = message("GET / HTTP/1.1", &format!("X: {}", "a".repeat(HTTP_HEAD_BYTES_MAX)), "");
    assert_eq!(parse(&giant[..HTTP_HEAD_BYTES_MAX - 1], &mut Vec::new()), Parsed::Incomplete);
    assert_closes(
        &giant[..HTTP_HEAD_BYTES_MAX],
        431,
        "headers: expected at most 8192 bytes with the request line",
    );
    let blank = b"\r\n".repeat(HTTP_HEAD_BYTES_MAX / 2);
    assert_eq!(refused(&blank).http_status, Some(431));

    // With Host it is one too many.
    let many = message("GET /v1/users/1/balance HTTP/1.1", &"A: b\r\n".repeat(HTTP_HEADERS_MAX), "");
    assert_closes(&many, 431, "headers: expected at most 64");
    let most = message("GET /v1/users/1/balance HTTP/1.1", &"A: b\r\n".repeat(HTTP_HEADERS_MAX - 1), "");
    read(&most);
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
