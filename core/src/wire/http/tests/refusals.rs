//! What is refused, where that is said to lie, and whether the connection goes on.

use super::*;

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
        assert_eq!(refused(line.as_bytes()).reply_to.format, Format::Http(HttpReply::HEAD_CLOSE));
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
