//! What nodes tell each other, their clients, operators and the shadow.

/// What a server may say to a client. Of what it says of itself a client takes only what can be gone by.
pub fn client(input: &[u8]) {
    let _ = florin_client::fuzzed::replies(input);
    for hello in florin_client::fuzzed::hellos(input).unwrap_or_default() {
        assert!(
            hello.shards > 0 && (hello.ports == 0 || hello.ports == usize::from(hello.shards)),
            "{hello:?}"
        );
        let Some(map) = hello.map else { continue };
        for partition in 0..map.partitions() {
            let mut holders = map.holders(partition);
            assert!(holders.all(|place| usize::from(place) < map.nodes().len()), "{map:?}");
        }
    }
}

/// What nodes tell each other, and people: read and written again, it is read as the same.
pub fn nodes(input: &[u8]) {
    use florin::nodes::text::{self, fuzzed};
    match text::read(input) {
        Ok(news) => {
            let written = fuzzed::write_news(&news);
            let again = text::read(&written).expect("what a node writes is read");
            assert_eq!((again.teller, again.version, again.map), (news.teller, news.version, news.map));
            assert_eq!(again.words.len(), news.words.len());
            for ((again, is_gone), (report, was_gone)) in again.words.iter().zip(&news.words) {
                assert_eq!((&again.node, again.number, is_gone), (&report.node, report.number, was_gone));
                // Of one that is gone nothing is written that it had.
                assert!(*is_gone || again == report, "{again:?} was {report:?}");
            }
            assert_eq!(fuzzed::write_news(&again), written);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(Some(map)) = text::read_map(input) {
        let again = text::read_map(&fuzzed::write_map(&map)).expect("what a node writes is read");
        assert_eq!(again, Some(map));
    }
}

/// What comes to the admin port: a head ends at its first empty line, in whatever pieces it comes; a body of transactions is refused
/// with a reason, or is read as the same once it is written again.
pub fn admin(input: &[u8]) {
    use florin_input::connections::fuzzed::head_ends;
    let ends = head_ends(std::iter::once(input));
    for piece_bytes in [1, 1 + input.len() / 2] {
        assert_eq!(head_ends(input.chunks(piece_bytes)), ends);
    }
    // Carriage returns are no part of a line, and empty lines before a head are none of it.
    let lines_of = |bytes: &[u8]| {
        let bytes: Vec<u8> = bytes.iter().copied().filter(|&byte| byte != b'\r').collect();
        bytes[bytes.iter().take_while(|&&byte| byte == b'\n').count()..].to_vec()
    };
    let empty_line = |lines: &[u8]| lines.windows(2).position(|two| two == b"\n\n").map(|at| at + 2);
    let mut begin = 0;
    for end in ends {
        let lines = lines_of(&input[begin..end]);
        assert!(input[end - 1] == b'\n' && empty_line(&lines) == Some(lines.len()));
        begin = end;
    }
    assert_eq!(empty_line(&lines_of(&input[begin..])), None, "a head that is whole is one");

    match florin::admin::fuzzed::transactions(input) {
        Ok(transactions) => {
            let entry = |row: &florin_record::NewTransaction| {
                let occurred_at = florin_record::time::text(row.occurred_at_us);
                format!(
                    r#"{{"transaction_id":"{}","user_id":"{}","asset":"{}","kind":{},"amount":{},"occurred_at":"{occurred_at}"}}"#,
                    row.transaction_id,
                    row.user_id,
                    row.asset,
                    row.kind.number(),
                    row.amount
                )
            };
            let written = transactions.iter().map(entry).collect::<Vec<_>>().join(",");
            assert_eq!(
                florin::admin::fuzzed::transactions(format!("[{written}]").as_bytes()),
                Ok(transactions)
            );
        }
        Err(why) => assert!(!why.is_empty()),
    }
}

/// What two services may answer, whom the shadow compares: JSON means the same as itself, however it is written, and a difference is
/// one from either side; a frame is an answer or none.
pub fn shadow(input: &[u8]) {
    use florin_shadow::fuzzed::{answers, json, mean_the_same};
    let _ = answers(input);
    match json(input) {
        Ok(written) => {
            assert_eq!(mean_the_same(input, written.as_bytes()), Some(true), "{written}");
            assert_eq!(json(written.as_bytes()), Ok(written));
        }
        Err(why) => assert!(!why.is_empty()),
    }
    // Two bodies, a line each.
    let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
    let (one, other) = input.split_at(end);
    assert_eq!(mean_the_same(one, other), mean_the_same(other, one));
}
