//! Who may write through the admin port before anybody is known by name: no web page. A browser on this host reaches
//! loopback ports too, and any page can make it send a request.
//!
//! | header | expected | because |
//! | --- | --- | --- |
//! | Content-Type | `application/json` | a page may send `text/plain` and forms to any host without being asked |
//! | Origin, Sec-Fetch-Site | none | browsers send them with each POST, and no page is served here |
//! | Host | an address, `localhost`, or this host's name | a name of somebody else's that leads here is DNS rebinding |

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};

use super::problem::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what a web page may have sent.
pub(super) fn check_writer(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: &HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let content_type = text(&header::CONTENT_TYPE).unwrap_or_default();
    if !content_type
        .split(';')
        .next()
        .is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
    {
        let detail = format!("content-type: expected application/json, found {content_type:?}");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    for name in [header::ORIGIN, SEC_FETCH_SITE] {
        if let Some(found) = text(&name) {
            let detail =
                format!("{name}: expected none, found {found:?}: web pages may not write to the ledger");
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
    }
    let host = text(&header::HOST).unwrap_or_default();
    let is_one = headers.get_all(header::HOST).iter().count() == 1;
    if is_one && is_ours(&host, rustix::system::uname().nodename().to_str().unwrap_or_default()) {
        return Ok(());
    }
    let detail = format!(
        "host: expected an IP address, localhost or this host's own name, found {host:?}: another name may be a web page's; \
         call by address, or set the Host header"
    );
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail))
}

/// Whether `authority` (`host` or `host:port`) names this host in a way that nobody else can make lead here.
fn is_ours(authority: &str, nodename: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.contains(':') => (address, port),
        Some(_) => return false,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    is_port
        && (host.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || (!nodename.is_empty() && host.eq_ignore_ascii_case(nodename)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_can_point_here_are_ours() {
        for host in
            ["127.0.0.1", "127.0.0.1:7300", "[::1]:7300", "[::1]", "LocalHost:1", "Node-1", "node-1:7300"]
        {
            assert!(is_ours(host, "node-1"), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "node-1.evil.example:7300",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[::1",
            "::1",
            "[evil]",
            "127.0.0.1:",
            "127.0.0.1:x",
            "a b",
            "127.0.0.1@evil.example",
        ] {
            assert!(!is_ours(host, "node-1"), "{host}");
        }
        assert!(!is_ours("", ""));
    }
}
