//! Path and query → what is asked.

use alloc::borrow::Cow;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use florin_schema::frame::WAIT_MS_MAX;
use florin_schema::{Opcode, UserId, Version, WindowMask, decimal};

use super::HttpError;
use super::head::{Head, Method};
use crate::wire::{self, Freshness, WINDOW_LIST, window_list};

/// What a path names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Resource {
    Balance(UserId),
    Statistics(UserId),
    Batch,
    Nodes,
}

impl Resource {
    pub(super) const fn opcode(self) -> Opcode {
        match self {
            Resource::Balance(_) => Opcode::GetBalance,
            Resource::Statistics(_) => Opcode::GetStatistics,
            Resource::Batch => Opcode::GetBalances,
            // Frames have none for it. It is open to whoever may ask anything, as this one is.
            Resource::Nodes => Opcode::Ping,
        }
    }

    const fn allow(self) -> &'static str {
        match self {
            Resource::Balance(_) | Resource::Statistics(_) | Resource::Nodes => "GET, HEAD",
            Resource::Batch => "POST",
        }
    }

    const fn allows(self, method: Method) -> bool {
        match self {
            Resource::Balance(_) | Resource::Statistics(_) | Resource::Nodes => {
                matches!(method, Method::Get | Method::Head)
            }
            Resource::Batch => matches!(method, Method::Post),
        }
    }

    const fn parameters(self) -> &'static str {
        match self {
            Resource::Statistics(_) => "window, min_version, max_age_ms or wait_ms",
            Resource::Balance(_) | Resource::Batch => "min_version, max_age_ms or wait_ms",
            Resource::Nodes => "since",
        }
    }
}

/// Methods that are known, and that no resource here allows.
const KNOWN_METHODS: [&str; 5] = ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"];

/// A request without its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Route {
    pub(super) resource: Resource,
    pub(super) freshness: Freshness,
    pub(super) windows: WindowMask,
    pub(super) since: Option<u64>,
}

/// What `head` asks.
pub(super) fn find(head: &mut Head<'_>) -> Result<Route, HttpError> {
    // CONNECT is no method of an origin server, and methods are case-sensitive (RFC 9110, section 9.1).
    if head.method == Method::Other && !KNOWN_METHODS.contains(&head.method_name) {
        return Err(HttpError::NotImplemented(head.method_name.to_owned()));
    }
    let (path, query) = split(head.target);
    let resource = resource(path)?;
    if !resource.allows(head.method) {
        return Err(HttpError::Method { allow: resource.allow(), got: head.method_name.to_owned() });
    }
    match head.fault.take() {
        Some(fault) => Err(fault),
        None => parameters(resource, query),
    }
}

/// Path and query of a target in origin form or in absolute form (RFC 9112, section 3.2).
fn split(target: &str) -> (&str, &str) {
    if target.starts_with('/') {
        return halves(target);
    }
    let scheme = ["http://", "https://"].into_iter().find(|&scheme| {
        target.get(..scheme.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(scheme))
    });
    let target = match scheme {
        Some(scheme) => {
            let authority = &target[scheme.len()..];
            authority.find(['/', '?']).map_or("", |end| &authority[end..])
        }
        None => target,
    };
    halves(target)
}

fn halves(target: &str) -> (&str, &str) {
    match memchr::memchr(b'?', target.as_bytes()) {
        Some(end) => (&target[..end], &target[end + 1..]),
        None => (target, ""),
    }
}

fn resource(path: &str) -> Result<Resource, HttpError> {
    match plain(path) {
        Some(resource) => Ok(resource),
        None => decoded(path),
    }
}

/// One user's balance or statistics, where nothing of it is encoded: what nearly everybody asks for. `None` = look closely.
fn plain(path: &str) -> Option<Resource> {
    let rest = path.as_bytes().strip_prefix(b"/v1/users/")?;
    let (id, leaf) = rest.split_at(rest.iter().position(|byte| *byte == b'/')?);
    let user = || decimal(id).and_then(UserId::new);
    match leaf {
        b"/balance" => user().map(Resource::Balance),
        b"/statistics" => user().map(Resource::Statistics),
        _ => None,
    }
}

fn decoded(path: &str) -> Result<Resource, HttpError> {
    let unknown = || HttpError::Path(path.to_owned());
    // Split first, decode then: an encoded slash belongs to its segment.
    let mut segments = path.strip_prefix('/').ok_or_else(unknown)?.split('/');
    let mut next = || segments.next().map(|segment| decode("path", segment)).transpose();
    if next()?.as_deref() != Some("v1") {
        return Err(unknown());
    }
    let (collection, user, leaf, beyond) = (next()?, next()?, next()?, next()?);
    match (collection.as_deref(), user.as_deref(), leaf.as_deref(), beyond) {
        (Some("users"), Some(id), Some("balance"), None) => Ok(Resource::Balance(user_id(id)?)),
        (Some("users"), Some(id), Some("statistics"), None) => Ok(Resource::Statistics(user_id(id)?)),
        (Some("balances:batchGet"), None, None, None) => Ok(Resource::Batch),
        (Some("nodes"), None, None, None) => Ok(Resource::Nodes),
        _ => Err(unknown()),
    }
}

fn user_id(text: &str) -> Result<UserId, HttpError> {
    decimal(text).and_then(UserId::new).ok_or_else(|| HttpError::Value {
        field: "user_id",
        expected: "0 to 9223372036854775807",
        got: text.to_owned(),
    })
}

fn parameters(resource: Resource, query: &str) -> Result<Route, HttpError> {
    let (mut min_version, mut max_age_ms, mut wait_ms, mut mask, mut since) = (None, None, None, None, None);
    for pair in query.split('&').filter(|_| !query.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode("query", name)?, decode("query", value)?);
        match &*name {
            "since" if resource == Resource::Nodes => {
                once(&mut since, "since", number(&value, "since", u64::MAX)?)?;
            }
            _ if resource == Resource::Nodes => {
                return Err(HttpError::UnknownParameter {
                    known: resource.parameters(),
                    got: name.into_owned(),
                });
            }
            "min_version" => once(&mut min_version, "min_version", number(&value, "min_version", u64::MAX)?)?,
            "max_age_ms" => once(&mut max_age_ms, "max_age_ms", milliseconds(&value, "max_age_ms")?)?,
            "wait_ms" => once(&mut wait_ms, "wait_ms", milliseconds(&value, "wait_ms")?)?,
            "window" if matches!(resource, Resource::Statistics(_)) => {
                once(&mut mask, "window", windows(&value)?)?;
            }
            _ => {
                return Err(HttpError::UnknownParameter {
                    known: resource.parameters(),
                    got: name.into_owned(),
                });
            }
        }
    }
    Ok(Route {
        resource,
        freshness: Freshness {
            min_version: Version(min_version.unwrap_or(0)),
            max_age_ms: max_age_ms.unwrap_or(0),
            wait_ms: wait_ms.unwrap_or(0).min(WAIT_MS_MAX),
        },
        windows: mask.unwrap_or(WindowMask::ALL),
        since,
    })
}

fn once<T>(slot: &mut Option<T>, field: &'static str, value: T) -> Result<(), HttpError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(HttpError::DuplicateParameter(field)),
    }
}

fn milliseconds(text: &str, field: &'static str) -> Result<u32, HttpError> {
    number(text, field, u64::from(u32::MAX)).map(|ms| ms as u32)
}

fn number(text: &str, field: &'static str, max: u64) -> Result<u64, HttpError> {
    wire::number(text.as_bytes(), max).map_err(|expected| HttpError::Value {
        field,
        expected,
        got: text.to_owned(),
    })
}

fn windows(text: &str) -> Result<WindowMask, HttpError> {
    window_list(text).ok_or_else(|| HttpError::Value {
        field: "window",
        expected: WINDOW_LIST,
        got: text.to_owned(),
    })
}

/// Undoes percent-encoding (RFC 3986, section 2.1); borrowed where there is none.
fn decode<'a>(field: &'static str, text: &'a str) -> Result<Cow<'a, str>, HttpError> {
    if memchr::memchr(b'%', text.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    let hexadecimal = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (high, low) = (hexadecimal(bytes.next()), hexadecimal(bytes.next()));
        let (Some(high), Some(low)) = (high, low) else { return Err(HttpError::PercentEncoding(field)) };
        decoded.push((16 * high + low) as u8);
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| HttpError::PercentEncoding(field))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The short way and the long one never differ.
        #[test]
        fn a_plain_path_is_read_as_one_that_is_decoded(
            path in "(/v1/users|/v1/user|/V1/users)?/(0?[1-9][0-9]{0,18}|[0-9%x]{0,4})/(balance|statistics|nodes|balance/|Balance|)"
        ) {
            if let Some(resource) = plain(&path) {
                prop_assert_eq!(decoded(&path).ok(), Some(resource));
            }
        }
    }

    #[test]
    fn what_nearly_everybody_asks_for_is_plain() {
        let user = UserId::new(42).unwrap();
        assert_eq!(plain("/v1/users/42/balance"), Some(Resource::Balance(user)));
        assert_eq!(plain("/v1/users/42/statistics"), Some(Resource::Statistics(user)));
        for other in
            ["/v1/users/42", "/v1/users/42/", "/v1/users//balance", "/v1/users/%34/balance", "/v1/nodes"]
        {
            assert_eq!(plain(other), None, "{other}");
        }
    }
}
