//! Answers as wire.md has them, to the letter.

use super::*;

/// The balance of wire.md's example.
fn example() -> AlignedVec {
    archived(&records::Balance {
        user_id: 42,
        version: 7,
        updated_at_us: 1_795_320_306_000_007,
        balances: vec![records::AssetBalance { asset: asset("COIN").to_wire(), available: 1_200, held: 0 }],
    })
}

#[test]
fn a_response_is_wire_mds_to_the_letter() {
    let bytes = example();
    let body = r#"{"user_id":"42","version":"7","updated_at":"2026-11-22T04:05:06.000007Z","balances":[{"asset":"COIN","available":"1200","held":"0"}]}"#;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 133\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
        Florin-As-Of: 2026-11-22T04:05:06.000007Z\r\nFlorin-Version: 7\r\nFlorin-Shard: 3\r\n";
    let marks = "Florin-Forwarded: true\r\nFlorin-Quarantined: true\r\nFlorin-Lasting: true\r\n";
    let marked = Origin { flags: REPLY_FORWARDED | REPLY_QUARANTINED | REPLY_LASTING, ..ORIGIN };
    for (reply, origin, expected) in [
        (HttpReply::KEEP_ALIVE, ORIGIN, format!("{head}Connection: keep-alive\r\n\r\n{body}")),
        (HttpReply::CLOSE, ORIGIN, format!("{head}Connection: close\r\n\r\n{body}")),
        (HttpReply::HEAD_KEEP_ALIVE, ORIGIN, format!("{head}Connection: keep-alive\r\n\r\n")),
        (HttpReply::HEAD_CLOSE, marked, format!("{head}{marks}Connection: close\r\n\r\n")),
    ] {
        let reply = to(Opcode::GetBalance, Format::Http(reply));
        let view = BalanceView::new(&bytes).unwrap();
        let response = written(|encoder, out| encoder.balance(out, reply, origin, view));
        assert_eq!(String::from_utf8(response).unwrap(), expected);
    }
}

/// A caller over HTTP cannot say Hello, and so never learned which port would save it a hop.
#[test]
fn a_forwarded_response_names_the_port_that_needs_no_hop() {
    let bytes = example();
    let forwarded = Origin { flags: REPLY_FORWARDED, ..ORIGIN };
    let told_by = |way, plain, origin, opcode| {
        let to = to(opcode, Format::Http(HttpReply::KEEP_ALIVE)).by(way);
        let response = written(|encoder, out| {
            encoder.set_ports(OwnPorts { plain, tls: Some(7_503) });
            match opcode {
                Opcode::GetBalance => encoder.balance(out, to, origin, BalanceView::new(&bytes).unwrap()),
                Opcode::GetBalances => encoder.balances(out, to, origin, &[]),
                _ => encoder.error(out, to, origin, Status::NotFound, "no"),
            }
        });
        let response = String::from_utf8(response).unwrap();
        let (_, told) = response.split_once("\r\nFlorin-Forwarded: true\r\nFlorin-Shard-Port: ")?;
        Some(told[..4].to_owned())
    };
    let told = |plain, origin, opcode| told_by(Way::Plain, plain, origin, opcode).is_some();
    assert!(told(Some(7_403), forwarded, Opcode::GetBalance));
    assert!(told(Some(7_403), forwarded, Opcode::GetStatistics), "also with a status that is not OK");
    assert!(!told(Some(7_403), ORIGIN, Opcode::GetBalance), "there was no hop");
    assert!(!told(None, forwarded, Opcode::GetBalance), "there is no such port");
    assert!(!told(Some(7_403), forwarded, Opcode::GetBalances), "a batch has many owners");
    // It once named the plain port to callers by TLS: whoever took the advice sent its token in plain.
    for (way, port) in [(Way::Plain, Some("7403")), (Way::Tls, Some("7503")), (Way::Unix, None)] {
        assert_eq!(told_by(way, Some(7_403), forwarded, Opcode::GetBalance).as_deref(), port, "{way:?}");
    }
}

#[test]
fn json_keys_come_in_wire_mds_order() {
    let totals = WindowTotals {
        credit_count: 1.into(),
        credit_sum: 500.into(),
        debit_count: 2.into(),
        debit_sum: 300.into(),
        largest_debit: 200.into(),
    };
    let answer = StatisticsAnswer {
        user_id: UserId::new(42).unwrap(),
        version: Version(7),
        windows: WindowMask::new(0b1001).unwrap(),
        first_transaction_at_us: 0,
        last_transaction_at_us: 1,
        assets: &[AssetTotals { asset: asset("COIN"), windows: [totals; 4] }],
    };
    let reply = |opcode| to(opcode, Format::Http(HttpReply::KEEP_ALIVE));
    let response =
        written(|encoder, out| encoder.statistics(out, reply(Opcode::GetStatistics), ORIGIN, &answer));
    let window = r#"{"credit_count":"1","credit_sum":"500","debit_count":"2","debit_sum":"300","largest_debit":"200"}"#;
    let expected = format!(
        r#"{{"user_id":"42","version":"7","statistics":[{{"asset":"COIN","windows":{{"24h":{window},"lifetime":{window}}},"first_transaction_at":"1970-01-01T00:00:00.000000Z","last_transaction_at":"1970-01-01T00:00:00.000001Z"}}]}}"#
    );
    assert_eq!(core::str::from_utf8(split(&response).1).unwrap(), expected);

    let bytes = example();
    let entry = |id, status, quarantined, balance| BatchEntry {
        user_id: UserId::new(id).unwrap(),
        status,
        quarantined,
        balance,
    };
    let whole =
        [entry(42, Status::Ok, false, BalanceView::new(&bytes)), entry(9, Status::NotFound, false, None)];
    let response = written(|encoder, out| encoder.balances(out, reply(Opcode::GetBalances), ORIGIN, &whole));
    let expected = r#"{"balances":[{"user_id":"42","status":"OK","balance":{"user_id":"42","version":"7","updated_at":"2026-11-22T04:05:06.000007Z","balances":[{"asset":"COIN","available":"1200","held":"0"}]}},{"user_id":"9","status":"NOT_FOUND"}]}"#;
    let (head, body) = split(&response);
    assert_eq!(core::str::from_utf8(body).unwrap(), expected);
    assert!(!head.contains("Florin-Version"), "a batch has no version of its own");

    let incomplete =
        [entry(42, Status::Ok, true, BalanceView::new(&bytes)), entry(9, Status::Unavailable, true, None)];
    let response =
        written(|encoder, out| encoder.balances(out, reply(Opcode::GetBalances), ORIGIN, &incomplete));
    let expected = r#"{"balances":[{"user_id":"42","status":"OK","quarantined":true,"balance":{"user_id":"42","version":"7","updated_at":"2026-11-22T04:05:06.000007Z","balances":[{"asset":"COIN","available":"1200","held":"0"}]}},{"user_id":"9","status":"UNAVAILABLE","quarantined":true}]}"#;
    assert_eq!(core::str::from_utf8(split(&response).1).unwrap(), expected);
}

#[test]
fn each_status_has_its_error_in_both_protocols() {
    for (&status, code) in Status::ALL.iter().zip([200, 404, 400, 412, 503, 429, 401, 403, 500]).skip(1) {
        let frame = written(|encoder, out| {
            encoder.error(out, to(Opcode::GetStatistics, Format::Rkyv), ORIGIN, status, "why");
        });
        let (header, body) = opened(&frame);
        assert_eq!((header.opcode, header.encoding, header.status), (2, 0, status as u8));
        assert_eq!(body, b"why");

        let reply = to(Opcode::GetStatistics, Format::Http(HttpReply::KEEP_ALIVE));
        let response = written(|encoder, out| encoder.error(out, reply, ORIGIN, status, "why"));
        let (head, body) = split(&response);
        assert!(head.starts_with(&format!("HTTP/1.1 {code} ")), "{head}");
        assert!(head.contains("\r\nContent-Type: application/problem+json\r\n"), "{head}");
        assert_eq!(head.contains("\r\nRetry-After: 1\r\n"), [429, 503].contains(&code), "{head}");
        let title = response::reason(code);
        let expected =
            format!(r#"{{"type":"about:blank","title":"{title}","status":{code},"detail":"why"}}"#);
        assert_eq!(core::str::from_utf8(body).unwrap(), expected);
    }
}

#[test]
fn a_rejection_echoes_what_came() {
    let rejection = Rejection {
        reply_to: to(Opcode::Ping, Format::FlatBuffers),
        opcode: 77,
        status: Status::InvalidRequest,
        http_status: None,
        message: "opcode: expected 0 to 4, got 77".into(),
        allow: None,
        consumed: None,
    };
    let frame = written(|encoder, out| encoder.rejection(out, ORIGIN, &rejection));
    let (header, body) = opened(&frame);
    assert_eq!((header.opcode, header.encoding, header.status), (77, 0, 2));
    assert_eq!(body, rejection.message.as_bytes());

    let rejection = Rejection {
        reply_to: to(Opcode::GetBalances, Format::Http(HttpReply::CLOSE)),
        http_status: Some(405),
        allow: Some("POST"),
        ..rejection
    };
    let response = written(|encoder, out| encoder.rejection(out, ORIGIN, &rejection));
    let (head, _) = split(&response);
    assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{head}");
    assert!(head.contains("\r\nAllow: POST\r\n") && head.contains("\r\nConnection: close\r\n"), "{head}");
}

#[test]
fn every_refusal_of_http_has_a_phrase() {
    for code in [400, 404, 405, 411, 413, 414, 415, 417, 431, 501, 505] {
        assert!(!response::reason(code).is_empty());
    }
}

#[test]
fn hello_tells_the_map_and_ping_echoes() {
    let identity = NodeIdentity { node: NodeId(7), ledger: LedgerId(8) };
    let answer = HelloAnswer {
        server: "florin/0.1.0",
        shards: 2,
        ports: &[7401, 7402],
        identity,
        connection: 0,
        nodes: None,
    };
    let frame = written(|encoder, out| encoder.hello(out, to(Opcode::Hello, Format::Rkyv), ORIGIN, &answer));
    let (header, body) = opened(&frame);
    assert_eq!((header.opcode, header.encoding, header.status), (0, 2, 0));
    let read = flatbuffers::root::<fb::HelloReply<'_>>(body).unwrap();
    assert_eq!((read.server(), read.shards()), (Some("florin/0.1.0"), 2));
    assert_eq!(read.ports().unwrap().iter().collect::<Vec<_>>(), [7401, 7402]);
    assert_eq!((read.mix(), read.rkyv_schema()), (Some("splitmix64"), SCHEMA_FINGERPRINT));
    assert_eq!((read.node_id(), read.ledger_id()), (7, 8));

    let frame = written(|encoder, out| encoder.ping(out, to(Opcode::Ping, Format::Rkyv), ORIGIN, b"echo"));
    let (header, body) = opened(&frame);
    assert_eq!((header.opcode, header.encoding, header.status), (4, 0, 0));
    assert_eq!(body, b"echo");
}

#[test]
fn one_encoder_answers_again_and_again_the_same() {
    let bytes = example();
    let view = BalanceView::new(&bytes).unwrap();
    let entry = BatchEntry {
        user_id: UserId::new(42).unwrap(),
        status: Status::Ok,
        quarantined: false,
        balance: Some(view),
    };
    let totals = AssetTotals { asset: asset("USD"), windows: [WindowTotals::default(); 4] };
    let answer = StatisticsAnswer {
        user_id: UserId::new(1).unwrap(),
        version: Version(1),
        windows: WindowMask::ALL,
        first_transaction_at_us: 1,
        last_transaction_at_us: 2,
        assets: &[totals],
    };
    let mut encoder = Encoder::new();
    let mut round = || {
        let mut out = Vec::new();
        for format in [Format::Rkyv, Format::FlatBuffers, Format::Http(HttpReply::KEEP_ALIVE)] {
            encoder.balance(&mut out, to(Opcode::GetBalance, format), ORIGIN, view);
            encoder.statistics(&mut out, to(Opcode::GetStatistics, format), ORIGIN, &answer);
            encoder.balances(&mut out, to(Opcode::GetBalances, format), ORIGIN, &[entry; 3]);
            encoder.error(&mut out, to(Opcode::GetBalance, format), ORIGIN, Status::Stale, "stale");
        }
        out
    };
    let first = round();
    assert_eq!(round(), first);
}
