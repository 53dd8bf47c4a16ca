//! The JSON endpoints' own answers. Where nodes divide the users, each is asked for its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use florin_client::{Address, UserId, Window};
use florin_schema::{MapNode, NodeMap};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{CommonArgs, GetCommand, GetError, mask};
use crate::cli::caller::Asked;
use crate::cli::http::{Answer, NoAnswer, request_within, whole_within};
use crate::limits::{GET_SHARE_MIN, REDIRECTS_MAX};
use crate::nodes::text;

/// What is printed.
pub(super) fn answer(command: &GetCommand, common: &CommonArgs, node: &Asked) -> Result<String, GetError> {
    let until = Instant::now() + common.deadline();
    let query = common.query();
    let after_path = if query.is_empty() { String::new() } else { format!("?{}", &query[1..]) };
    match command {
        GetCommand::Balance { user, .. } => {
            sent_on(node, until, *user, &format!("/v1/users/{user}/balance{after_path}"))
        }
        GetCommand::Statistics { user, window, .. } => {
            let windows: Vec<&str> = mask(window).iter().map(Window::name).collect();
            let path = format!("/v1/users/{user}/statistics?window={}{query}", windows.join(","));
            sent_on(node, until, *user, &path)
        }
        GetCommand::Balances { users, .. } => balances(node, until, users, &after_path),
    }
}

/// How long one of `count` may take who may have to be asked until then, one after the other.
fn share(until: Instant, count: usize) -> Duration {
    let left = until.saturating_duration_since(Instant::now());
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    Duration::from_millis((left / count).as_millis().try_into().unwrap_or(u64::MAX)).max(GET_SHARE_MIN)
}

/// What is answered by whoever has the user: one of several nodes that divide them may send on to another. Where that one has just died,
/// and the group does not know it yet, by those that stand by for it: where these cannot either, the owner is to blame.
fn sent_on(node: &Asked, until: Instant, user: UserId, path: &str) -> Result<String, GetError> {
    let ask = |node: &Asked, limit| whole_within(limit, node, "GET", path, "");
    // Whoever answered last.
    let mut teller = node.another(node.address.clone());
    let (mut headers, mut answer) = ask(&teller, share(until, 1))?;
    for _ in 0..REDIRECTS_MAX {
        let owner =
            headers.get("location").filter(|_| answer.status == 307).and_then(|place| place.to_str().ok());
        // Nothing that was to be said by TLS is said in plain, a token above all.
        let address = owner.and_then(authority).filter(|address| is_same_way(address, &node.address));
        let Some(address) = address else { break };
        let owner = node.another(address);
        (teller, (headers, answer)) = match ask(&owner, share(until, 2)) {
            Ok(answered) => (owner, answered),
            Err(gone) => {
                let others = standbys(&teller, until, user, &owner).unwrap_or_default();
                first(node, until, &others, ask).ok().flatten().ok_or(gone)?
            }
        };
    }
    Ok(answer.succeeded()?.body)
}

/// Who holds a user besides the owner, as a node knows it.
fn standbys(teller: &Asked, until: Instant, user: UserId, owner: &Asked) -> Result<Vec<Address>, GetError> {
    let parts = divided(&map(teller, share(until, 2))?, &teller.address, &[user], &[0]);
    let holders = parts.into_iter().flat_map(|(holders, _)| holders);
    Ok(holders.filter(|holder| *holder != owner.address).collect())
}

/// Whether both are asked by TLS, or both in plain.
fn is_same_way(one: &Address, other: &Address) -> bool {
    matches!(one, Address::Tls { .. }) == matches!(other, Address::Tls { .. })
}

/// The node that a whole address names.
fn authority(location: &str) -> Option<Address> {
    let (scheme, rest) = location.split_once("://")?;
    let authority = rest.split('/').next()?;
    let scheme = match scheme {
        "http" => "florin",
        "https" => "florins",
        _ => return None,
    };
    format!("{scheme}://{authority}").parse().ok()
}

/// What is answered about each user, in their order; about those of other nodes by these.
fn balances(node: &Asked, until: Instant, users: &[UserId], after_path: &str) -> Result<String, GetError> {
    let ask = |node: &Asked, limit, users: &[UserId]| -> Result<Answer, NoAnswer> {
        let ids: Vec<String> = users.iter().map(|user| format!("\"{user}\"")).collect();
        let body = format!("{{\"user_ids\":[{}]}}", ids.join(","));
        request_within(limit, node, "POST", &format!("/v1/balances:batchGet{after_path}"), &body)
    };
    let whole = ask(node, share(until, 1), users)?.succeeded()?.body;
    let mut entries = read(node, &whole, users)?;
    if elsewhere(&entries).is_empty() {
        return Ok(whole);
    }
    // Whom the map was last asked of: whoever said that others have some of the users.
    let mut teller = node.another(node.address.clone());
    for _ in 0..REDIRECTS_MAX {
        let places = elsewhere(&entries);
        if places.is_empty() || matches!(teller.address, Address::Unix(_)) {
            break;
        }
        let parts = divided(&map(&teller, share(until, 2))?, &teller.address, users, &places);
        let count = parts.len();
        for (done, (holders, places)) in parts.into_iter().enumerate() {
            let users: Vec<UserId> = places.iter().map(|&place| users[place]).collect();
            let until = Instant::now() + share(until, count - done);
            let answered = first(node, until, &holders, |holder, limit| ask(holder, limit, &users))?;
            let Some((holder, answer)) = answered else { continue };
            let answered = read(&holder, &answer.succeeded()?.body, &users)?;
            if !elsewhere(&answered).is_empty() {
                teller = holder;
            }
            places.into_iter().zip(answered).for_each(|(place, entry)| entries[place] = entry);
        }
    }
    let entries: Vec<&str> = entries.iter().map(|entry| entry.get()).collect();
    Ok(format!("{{\"balances\":[{}]}}", entries.join(",")))
}

/// The first who can be reached, and its answer; nobody where there is none to ask.
fn first<T>(
    node: &Asked,
    until: Instant,
    holders: &[Address],
    ask: impl Fn(&Asked, Duration) -> Result<T, NoAnswer>,
) -> Result<Option<(Asked, T)>, NoAnswer> {
    let mut failure = None;
    for (done, holder) in holders.iter().enumerate() {
        let holder = node.another(holder.clone());
        match ask(&holder, share(until, holders.len() - done)) {
            Ok(answer) => return Ok(Some((holder, answer))),
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(None), Err)
}

/// The entries of a batch, as they came.
fn read(node: &Asked, body: &str, users: &[UserId]) -> Result<Vec<Box<RawValue>>, GetError> {
    #[derive(Deserialize)]
    struct Batch {
        balances: Vec<Box<RawValue>>,
    }
    let foreign = |why| GetError::Foreign { address: node.address.clone(), why };
    let batch: Batch = florin_input::json(body.as_bytes()).map_err(|error| foreign(error.to_string()))?;
    let count = batch.balances.len();
    if count != users.len() {
        return Err(foreign(format!("expected an entry for each of {} users, got {count}", users.len())));
    }
    Ok(batch.balances)
}

/// The places of those whom another node has.
fn elsewhere(entries: &[Box<RawValue>]) -> Vec<usize> {
    #[derive(Deserialize)]
    struct Entry {
        status: String,
    }
    let is_elsewhere = |entry: &RawValue| {
        florin_input::json::<Entry>(entry.get().as_bytes()).is_ok_and(|entry| entry.status == "NOT_OWNER")
    };
    (0..entries.len()).filter(|&place| is_elsewhere(&entries[place])).collect()
}

/// Who has what, as a node knows it.
fn map(node: &Asked, limit: Duration) -> Result<NodeMap, GetError> {
    let told = request_within(limit, node, "GET", "/v1/nodes", "")?.succeeded()?.body;
    let foreign = |why| GetError::Foreign { address: node.address.clone(), why };
    let map = text::read_map(told.as_bytes()).map_err(|error| foreign(error.to_string()))?;
    map.ok_or_else(|| foreign("it has said that others have some users, and has no map".to_owned()))
}

/// The addresses of nodes that hold the same users, the owner's first, and the places of these.
type Part = (Vec<Address>, Vec<usize>);

/// The users at these places, by who holds them.
fn divided(map: &NodeMap, way: &Address, users: &[UserId], places: &[usize]) -> Vec<Part> {
    let mut parts: BTreeMap<Vec<u16>, Vec<usize>> = BTreeMap::new();
    for &place in places {
        let holders = map.holders(map.partition_of(users[place])).collect();
        parts.entry(holders).or_default().push(place);
    }
    let address = |holder: u16| reached(&map.nodes()[usize::from(holder)], way);
    let part = |(holders, places): (Vec<u16>, _)| (holders.into_iter().filter_map(address).collect(), places);
    parts.into_iter().map(part).collect()
}

/// Where a node of the map is asked in the same way as another.
fn reached(MapNode { host, port, tls_port, .. }: &MapNode, way: &Address) -> Option<Address> {
    let host = host.clone();
    match way {
        Address::Tcp { .. } if *port != 0 => Some(Address::Tcp { host, port: *port }),
        Address::Tls { .. } if *tls_port != 0 => Some(Address::Tls { host, port: *tls_port }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use florin_schema::{NodeId, Partitioner};

    use super::*;
    use crate::limits::GET_DEADLINE;

    #[test]
    fn users_are_asked_of_their_holders_the_owner_first_and_in_the_callers_way() {
        let node =
            |id: u64, port, tls_port| MapNode { id: NodeId(id), host: "::1".to_owned(), port, tls_port };
        let nodes = vec![node(1, 7_401, 7_501), node(2, 7_402, 0)];
        let mut map = NodeMap::new(1, Partitioner::Murmur2, nodes, 2);
        map.push(Some(0), [1]);
        map.push(Some(1), [0]);
        let users: Vec<UserId> = (1..20).map(|id| UserId::new(id).unwrap()).collect();
        let places: Vec<usize> = (0..users.len()).collect();
        let at = |text: &str| text.parse::<Address>().unwrap();
        let parts = divided(&map, &at("localhost:1"), &users, &places);
        let holders: Vec<&[Address]> = parts.iter().map(|(holders, _)| holders.as_slice()).collect();
        assert_eq!(holders, [[at("[::1]:7401"), at("[::1]:7402")], [at("[::1]:7402"), at("[::1]:7401")]]);
        let mut all: Vec<usize> = parts.into_iter().flat_map(|(_, places)| places).collect();
        all.sort_unstable();
        assert_eq!(all, places);
        let by_tls = divided(&map, &at("florins://localhost:1"), &users, &places);
        assert!(by_tls.iter().all(|(holders, _)| *holders == [at("florins://[::1]:7501")]), "{by_tls:?}");
    }

    /// A frozen owner was waited for as long as for any command's answer, 30 seconds, where the text form waits for five.
    #[test]
    fn a_frozen_owner_is_waited_for_no_longer_than_the_deadline_and_named() {
        // It takes connections, as a stopped process does, and says nothing.
        let frozen = TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = Address::from(frozen.local_addr().unwrap());
        let teller = TcpListener::bind("127.0.0.1:0").unwrap();
        let node = Asked { address: teller.local_addr().unwrap().into(), token: None, tls: None };
        let sent_on_to = format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{owner}/\r\n");
        let answers = [sent_on_to, "HTTP/1.1 404 Not Found\r\n".to_owned()];
        let telling = thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = teller.accept().unwrap();
                assert!(stream.read(&mut [0; 4_096]).unwrap() > 0);
                write!(stream, "{answer}content-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            }
        });
        let whole = GET_DEADLINE;
        let error = sent_on(&node, Instant::now() + whole, UserId::new(1).unwrap(), "/").unwrap_err();
        let GetError::Http(NoAnswer::TooSlow { address, limit }) = error else { panic!("{error}") };
        assert!(address == owner && limit <= whole / 2, "{address} {limit:?}");
        telling.join().unwrap();
    }

    /// A node by TLS could send a caller, and its token, to one in plain.
    #[test]
    fn nobody_is_sent_from_tls_to_a_port_in_plain() {
        let at = |text: &str| text.parse::<Address>().unwrap();
        let may_follow = |from: &str, location| is_same_way(&authority(location).unwrap(), &at(from));
        assert!(may_follow("florins://a:1", "https://b:2/v1") && may_follow("a:1", "http://b:2/v1"));
        assert!(!may_follow("florins://a:1", "http://b:2/v1") && !may_follow("a:1", "https://b:2/v1"));
    }

    #[test]
    fn what_another_has_is_found_and_what_is_answered_stays_as_it_came() {
        let node = Asked { address: "localhost:1".parse().unwrap(), token: None, tls: None };
        let users = [UserId::new(1).unwrap(), UserId::new(2).unwrap()];
        let body = r#"{"balances":[{"user_id":"1","status":"OK","balance":{"a":  1}},{"user_id":"2","status":"NOT_OWNER"}]}"#;
        let entries = read(&node, body, &users).unwrap();
        assert_eq!(elsewhere(&entries), [1]);
        assert_eq!(entries[0].get(), r#"{"user_id":"1","status":"OK","balance":{"a":  1}}"#);
        for wrong in ["{}", "[]", r#"{"balances":[{}]}"#] {
            assert!(read(&node, wrong, &users).is_err(), "{wrong}");
        }
    }
}
