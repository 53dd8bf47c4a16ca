//! Who may give a command over HTTP where nobody is known by name: no web page; and who may read there: no other site's. A browser on this host reaches loopback ports
//! too, and any page can make it send a request.
//!
//! | header | expected | because |
//! | --- | --- | --- |
//! | Content-Type | `application/json` in UTF-8, once | a page may send `text/plain` and forms to any host without being asked |
//! | Origin, Sec-Fetch-Site | none | browsers send them with each POST, and no page that is served here gives commands |
//! | Host | an address, `localhost`, this host's name, or one of those that were configured, once | a name of somebody else's that leads here is DNS rebinding |

use std::net::{IpAddr, Ipv6Addr};

/// Why a command is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// It may be a form's.
    #[error("content-type: expected application/json in UTF-8, found {0:?}")]
    MediaType(String),
    /// A browser has sent it.
    #[error("{header}: expected none, found {found:?}: web pages may give no commands")]
    WebPage {
        /// Which header says so.
        header: &'static str,
        /// What it says.
        found: String,
    },
    /// Another site's page has sent it.
    #[error("{header}: expected same-origin or none, found {found:?}: other sites' pages may not read here")]
    OtherSite {
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
            Refusal::WebPage { .. } | Refusal::OtherSite { .. } => 403,
            Refusal::Host(_) => 421,
        }
    }
}

/// Refuses what a web page may have sent. `values` are a header's, by its name; `hosts` are further names that lead here.
///
/// # Errors
/// Where a header is not as the table above has it.
pub fn check_command<'a, I: Iterator<Item = &'a [u8]>>(
    values: impl Fn(&'static str) -> I,
    hosts: &[String],
) -> Result<(), Refusal> {
    let (count, content_type) = joined(&values, "content-type");
    if count != 1 || florin_schema::media::json(content_type.as_bytes()).is_err() {
        return Err(Refusal::MediaType(content_type));
    }
    for header in ["origin", "sec-fetch-site"] {
        let (count, found) = joined(&values, header);
        if count > 0 {
            return Err(Refusal::WebPage { header, found });
        }
    }
    check_host(&values, hosts)
}

/// Refuses what a web page of another host may have sent, where our own pages may ask: a read that shows what not everybody may know.
///
/// # Errors
/// Where the Host is not as the table above has it, or the browser says that another site's page asks.
pub fn check_read<'a, I: Iterator<Item = &'a [u8]>>(
    values: impl Fn(&'static str) -> I,
    hosts: &[String],
) -> Result<(), Refusal> {
    let header = "sec-fetch-site";
    let (count, found) = joined(&values, header);
    // "none": somebody has typed the address.
    if count > 0 && !["same-origin", "none"].contains(&found.as_str()) {
        return Err(Refusal::OtherSite { header, found });
    }
    check_host(&values, hosts)
}

/// How often a header is there, and all its values.
fn joined<'a, I: Iterator<Item = &'a [u8]>>(
    values: &impl Fn(&'static str) -> I,
    name: &'static str,
) -> (usize, String) {
    let texts: Vec<_> = values(name).map(String::from_utf8_lossy).collect();
    (texts.len(), texts.join(", "))
}

fn check_host<'a, I: Iterator<Item = &'a [u8]>>(
    values: &impl Fn(&'static str) -> I,
    hosts: &[String],
) -> Result<(), Refusal> {
    let (count, host) = joined(values, "host");
    let system = rustix::system::uname();
    let nodename = system.nodename().to_str().unwrap_or_default();
    let names = || std::iter::once(nodename).chain(hosts.iter().map(String::as_str));
    if count == 1 && is_ours(&host, names()) { Ok(()) } else { Err(Refusal::Host(host)) }
}

/// Whether `authority` (`host` or `host:port`) names this host in a way that nobody else can make lead here: by address, or by one
/// of `names`.
fn is_ours<'a>(authority: &str, mut names: impl Iterator<Item = &'a str>) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => (address, port),
        Some(_) => return false,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    is_port
        && (host.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || names.any(|name| !name.is_empty() && host.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(headers: &[(&str, &str)]) -> Result<(), u16> {
        let values = |name: &'static str| {
            headers.iter().filter(move |(given, _)| *given == name).map(|(_, value)| value.as_bytes())
        };
        check_command(values, &["ledger.example".to_owned()]).map_err(|refusal| refusal.status())
    }

    #[test]
    fn what_a_web_page_may_have_sent_is_no_command() {
        let (json, host) = (("content-type", "application/json; charset=utf-8"), ("host", "127.0.0.1:7300"));
        assert_eq!(checked(&[json, host]), Ok(()));
        // A name of the site's own that leads here was 421, and could not be allowed.
        assert_eq!(checked(&[json, ("host", "Ledger.Example:7300")]), Ok(()));
        for (headers, status) in [
            (vec![host], 415),
            (vec![("content-type", "text/plain"), host], 415),
            (vec![json, ("content-type", "text/plain"), host], 415),
            (vec![("content-type", "application/json; charset=utf-16"), host], 415),
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
    fn our_own_page_may_read_and_no_other() {
        let read = |headers: &[(&str, &'static str)]| {
            let values = |name: &'static str| {
                headers.iter().filter(move |(given, _)| *given == name).map(|(_, value)| value.as_bytes())
            };
            check_read(values, &[]).map_err(|refusal| refusal.status())
        };
        let host = ("host", "localhost:7300");
        assert_eq!(read(&[host]), Ok(()));
        assert_eq!(
            read(&[host, ("sec-fetch-site", "same-origin"), ("origin", "http://localhost:7300")]),
            Ok(())
        );
        assert_eq!(read(&[host, ("sec-fetch-site", "none")]), Ok(()));
        assert_eq!(read(&[host, ("sec-fetch-site", "cross-site")]), Err(403));
        assert_eq!(read(&[host, ("sec-fetch-site", "same-site")]), Err(403));
        assert_eq!(read(&[("host", "evil.example:7300"), ("sec-fetch-site", "same-origin")]), Err(421));
        assert_eq!(read(&[]), Err(421));
    }

    #[test]
    fn only_names_that_nobody_can_point_here_are_ours() {
        for host in
            ["127.0.0.1", "127.0.0.1:7300", "[::1]:7300", "[::1]", "LocalHost:1", "Node-1", "node-1:7300"]
        {
            assert!(is_ours(host, ["node-1"].into_iter()), "{host}");
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
            "[zz:]",
            "127.0.0.1:",
            "127.0.0.1:x",
            "a b",
            "127.0.0.1@evil.example",
        ] {
            assert!(!is_ours(host, ["node-1"].into_iter()), "{host}");
        }
        assert!(!is_ours("", [""].into_iter()));
    }
}
