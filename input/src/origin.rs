//! Who may give a command over HTTP where nobody is known by name: no web page. A browser on this host reaches loopback ports
//! too, and any page can make it send a request.
//!
//! | header | expected | because |
//! | --- | --- | --- |
//! | Content-Type | `application/json`, once | a page may send `text/plain` and forms to any host without being asked |
//! | Origin, Sec-Fetch-Site | none | browsers send them with each POST, and no page that is served here gives commands |
//! | Host | an address, `localhost`, or this host's name, once | a name of somebody else's that leads here is DNS rebinding |

use std::net::IpAddr;

/// Why a command is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// It may be a form's.
    #[error("content-type: expected application/json, found {0:?}")]
    MediaType(String),
    /// A browser has sent it.
    #[error("{header}: expected none, found {found:?}: web pages may give no commands")]
    WebPage {
        /// Which header says so.
        header: &'static str,
        /// What it says.
        found: String,
    },
    /// It came by a name that may be anybody's.
    #[error(
        "host: expected an IP address, localhost or this host's own name, found {0:?}: another name may be a web page's; \
         call by address, or set the Host header"
    )]
    Host(String),
}

impl Refusal {
    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Refusal::MediaType(_) => 415,
            Refusal::WebPage { .. } => 403,
            Refusal::Host(_) => 421,
        }
    }
}

/// Refuses what a web page may have sent. `values` are a header's, by its name.
///
/// # Errors
/// Where a header is not as the table above has it.
pub fn check_command<'a, I: Iterator<Item = &'a [u8]>>(
    values: impl Fn(&'static str) -> I,
) -> Result<(), Refusal> {
    let joined = |name| {
        let texts: Vec<_> = values(name).map(String::from_utf8_lossy).collect();
        (texts.len(), texts.join(", "))
    };
    let (count, content_type) = joined("content-type");
    let media = content_type.split(';').next().unwrap_or_default();
    if count != 1 || !media.trim().eq_ignore_ascii_case("application/json") {
        return Err(Refusal::MediaType(content_type));
    }
    for header in ["origin", "sec-fetch-site"] {
        let (count, found) = joined(header);
        if count > 0 {
            return Err(Refusal::WebPage { header, found });
        }
    }
    let (count, host) = joined("host");
    let system = rustix::system::uname();
    let nodename = system.nodename().to_str().unwrap_or_default();
    if count == 1 && is_ours(&host, nodename) { Ok(()) } else { Err(Refusal::Host(host)) }
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

    fn checked(headers: &[(&str, &str)]) -> Result<(), u16> {
        let values = |name: &'static str| {
            headers.iter().filter(move |(given, _)| *given == name).map(|(_, value)| value.as_bytes())
        };
        check_command(values).map_err(|refusal| refusal.status())
    }

    #[test]
    fn what_a_web_page_may_have_sent_is_no_command() {
        let (json, host) = (("content-type", "application/json; charset=utf-8"), ("host", "127.0.0.1:7300"));
        assert_eq!(checked(&[json, host]), Ok(()));
        for (headers, status) in [
            (vec![host], 415),
            (vec![("content-type", "text/plain"), host], 415),
            (vec![json, ("content-type", "text/plain"), host], 415),
            (vec![json, host, ("origin", "http://127.0.0.1:7300")], 403),
            (vec![json, host, ("origin", "null")], 403),
            (vec![json, host, ("sec-fetch-site", "same-origin")], 403),
            (vec![json], 421),
            (vec![json, host, host], 421),
            (vec![json, ("host", "evil.example:7300")], 421),
        ] {
            assert_eq!(checked(&headers), Err(status), "{headers:?}");
        }
    }

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
