//! What one reply has to be by itself: its envelope, and what its body says.

use super::*;

/// What every reply owes its request, whatever it answers.
pub(super) fn envelope(request: &Request, reply: &Reply, is_draining: bool) -> Verdict {
    ensure(is_draining || !reply.announces_end, || "an end that nobody ordered is announced".to_owned())?;
    if let Outcome::Frame(_) = reply.status {
        ensure(reply.id == Some(request.id), || "another request's id".to_owned())?;
        ensure(reply.opcode == Some(request.opcode()), || "another opcode".to_owned())?;
        let expected = match (&request.ask, request.format) {
            (Ask::Ping(_) | Ask::Invalid(_), _) => 0,
            _ if !is_ok(reply) => 0,
            (Ask::Hello, _) => 2,
            (_, Format::Rkyv) => 1,
            _ => 2,
        };
        ensure(reply.encoding == Some(expected), || format!("encoding {expected} was asked for"))?;
    } else {
        let closes = request.ends_connection() || is_draining && reply.closes;
        ensure(reply.closes == closes, || "Connection: close is wrong".to_owned())?;
    }
    if let Ask::Invalid(invalid) = &request.ask {
        let refused = [Outcome::Frame(Status::InvalidRequest), Outcome::Http(invalid.http_code)];
        ensure(refused.contains(&reply.status), || "not refused as invalid".to_owned())?;
    }
    if let (Body::Text(text), false) = (&reply.body, is_ok(reply)) {
        let is_told =
            request.format == Format::Head || std::str::from_utf8(text).is_ok_and(|text| !text.is_empty());
        ensure(is_told, || "a refusal without a message".to_owned())?;
    }
    Ok(())
}

pub(super) fn hello(case: &Case<'_>, reply: &Reply, node: &Node) -> Verdict {
    let ports = if case.on_unix { Vec::new() } else { node.ports.clone() };
    here(case, reply, node, Body::Hello { server: SERVER.to_owned(), shards: node.shards(), ports })
}

/// How what is asked is refused, where its caller may not ask it. What is no request is refused as that.
pub(super) fn refusal(principal: Principal, ask: &Ask) -> Option<Status> {
    principal.refusal(match ask {
        Ask::Hello => Opcode::Hello,
        Ask::Balance(_) => Opcode::GetBalance,
        Ask::Statistics(..) => Opcode::GetStatistics,
        Ask::Balances(_) => Opcode::GetBalances,
        Ask::Ping(_) => Opcode::Ping,
        Ask::Invalid(_) => return None,
    })
}

/// An answer that every shard gives by itself.
pub(super) fn here(case: &Case<'_>, reply: &Reply, node: &Node, body: Body) -> Verdict {
    ensure(is_ok(reply) && reply.body == body, || format!("{body:?} was due"))?;
    ensure(usize::from(reply.shard) == case.home && !reply.is_forwarded, || "from another shard".to_owned())?;
    let mut moments = node.seats[case.home].mirror.moments(case.first, case.last);
    let is_true = moments.any(|moment| moment.turn.as_of_us == reply.as_of_us);
    ensure(is_true, || "an as_of that the shard never had".to_owned())
}

pub(super) fn is_batch(case: &Case<'_>) -> bool {
    matches!(case.request.ask, Ask::Balances(_))
}

pub(super) fn is_statistics(case: &Case<'_>) -> bool {
    matches!(case.request.ask, Ask::Statistics(..))
}

/// Whether what `reply` says of its version, if anything, is `version`.
pub(super) fn has_version(reply: &Reply, version: u64) -> bool {
    let told = match &reply.body {
        Body::Statistics(statistics) => Some(statistics.version),
        _ => reply.version,
    };
    told.is_none_or(|told| told == version)
}

pub(super) fn is_ok(reply: &Reply) -> bool {
    has_status(reply, Status::Ok)
}

pub(super) fn has_status(reply: &Reply, status: Status) -> bool {
    reply.status == Outcome::Frame(status) || reply.status == Outcome::Http(http_code(status))
}

/// Whether `reply` holds what the first `version` rows make at `wall_us`.
pub(super) fn has_content(
    request: &Request,
    reply: &Reply,
    history: Option<&History>,
    user: UserId,
    version: u64,
    wall_us: i64,
) -> bool {
    if reply.version.is_some_and(|told| told != version) {
        return false;
    }
    match (&reply.body, &request.ask) {
        (Body::Balance(balance), Ask::Balance(_)) => {
            balance.version == version && *balance == expected_balance(history, user, version)
        }
        (Body::Statistics(statistics), Ask::Statistics(_, mask)) => {
            let none = History::default();
            statistics.version == version
                && *statistics == history.unwrap_or(&none).statistics(user, version, *mask, wall_us)
        }
        (Body::Text(_), _) => request.format == Format::Head,
        _ => false,
    }
}

pub(super) fn expected_balance(history: Option<&History>, user: UserId, version: u64) -> Balance {
    history.unwrap_or(&History::default()).balance(user, version)
}

pub(super) fn ensure(condition: bool, why: impl FnOnce() -> String) -> Verdict {
    if condition { Ok(()) } else { Err(why()) }
}
