//! What a PostgreSQL and a Kafka send, and how far they were read.

/// What a PostgreSQL's stream and its COPY may hold: never a panic, and a row that is read has all of its cells.
#[cfg(feature = "postgres")]
pub fn pgoutput(input: &[u8]) {
    use florin_postgres::decoder::{self, Message, copy::Copied};
    if let Ok(
        Message::Insert { new: tuple, .. }
        | Message::Update { new: tuple, .. }
        | Message::Delete { old: tuple, .. },
    ) = decoder::parse(input)
    {
        assert_eq!(tuple.cells().count(), tuple.len(), "a row is whole");
        assert!(decoder::parse(&input[..input.len() - 1]).is_err(), "and ends where it ends");
    }
    let mut cells = 0;
    let read = Copied::default().read(input, |row: [decoder::Cell<'_>; 6]| cells += row.len());
    assert!(read.is_err() || cells.is_multiple_of(6));
}

/// What a Kafka topic may hold: a record is a row, or what became of one, or is refused by name.
#[cfg(feature = "kafka")]
pub fn kafka(input: &[u8]) {
    use florin_kafka::decoder::{self, Layout, Record, Said};
    use florin_schema::Partitioner;
    // The key, its length before it; then the value.
    let Some((&bytes, rest)) = input.split_first() else { return };
    let (key, value) = rest.split_at(usize::from(bytes).min(rest.len()));
    let value = (!value.is_empty()).then_some(value);
    let layout = Layout { partitions: 1, partitioner: Partitioner::Murmur2 };
    let record = Record { partition: 0, offset: 3, time_ms: 0, key: Some(key), value };
    match decoder::read(&record, layout) {
        Said::Row(row) => {
            assert_eq!(row.user_id.to_string().as_bytes(), key, "a row is its key's account's");
            assert!(row.amount >= 0 && row.version.0 > 0, "{row:?}");
        }
        Said::Refused(refused) => assert!(!refused.why.found.is_empty()),
        _ => {}
    }
}

/// Where a checkpoint says that its ledger was read to: refused, or the same once it is written again.
pub fn position(input: &[u8]) {
    if let Some(written) = position_again::<florin_sqlite::Place>(input) {
        assert_eq!(written, input, "what is read is what was written");
    }
    #[cfg(feature = "kafka")]
    if let Some(written) = position_again::<florin_kafka::KafkaPosition>(input) {
        assert_eq!(written, input, "what is read is what was written");
    }
    // Where no row was read last, what is left of its place says nothing.
    #[cfg(feature = "postgres")]
    position_again::<florin_postgres::PgPosition>(input);
}

/// What is read of `input`, written again.
fn position_again<P: florin::follower::Position + PartialEq + std::fmt::Debug>(
    input: &[u8],
) -> Option<Vec<u8>> {
    let position = P::decode(input)?;
    let written = position.encode();
    assert_eq!(P::decode(&written), Some(position));
    Some(written)
}

/// How brokers describe a group's member: it is a node that is named as nodes name themselves, and its partitions are those that are
/// assigned to it; or it is refused.
#[cfg(feature = "kafka")]
pub fn group(input: &[u8]) {
    use florin_kafka::group::Member;
    const TOPIC: &str = "ledger";
    // The client id, its length before it; then the assignment.
    let Some((&bytes, rest)) = input.split_first() else { return };
    let (id, assignment) = rest.split_at(usize::from(bytes).min(rest.len()));
    let Ok(id) = std::str::from_utf8(id) else { return };
    match Member::read(id, assignment, TOPIC) {
        Ok(member) => {
            let place = &member.place;
            assert_eq!(format!("florin/{}/{}/{}", place.port, place.tls_port, place.host), id);
            let is_there = |&partition: &u32| (partition as usize) < florin::limits::PARTITIONS_MAX;
            assert!(member.assigned.iter().all(is_there), "{:?}", member.assigned);
            let mut written = [&[0, 1, 0, 0, 0, 1][..], &(TOPIC.len() as u16).to_be_bytes()].concat();
            written.extend(TOPIC.as_bytes());
            written.extend((member.assigned.len() as u32).to_be_bytes());
            written.extend(member.assigned.iter().flat_map(|partition| partition.to_be_bytes()));
            assert_eq!(Member::read(id, &written, TOPIC), Ok(member));
        }
        Err(strange) => assert!(!strange.to_string().is_empty()),
    }
}
