//! The admin port's matrix: every kind of caller, every route, in plain, by TLS and by certificates. What nobody has granted is refused, and
//! said to be.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;

use super::secure::{ask, connect, trusting};
use super::support::{Server, folder_with_ledger, run, write};

/// Every route, what it takes, and a body that changes nothing.
const ROUTES: [(&str, &str, &str, &str); 26] = [
    ("GET", "/healthz", "", ""),
    ("HEAD", "/readyz", "", ""),
    ("GET", "/readyz", "", ""),
    ("GET", "/metrics", "", "metrics"),
    ("HEAD", "/metrics", "", "metrics"),
    ("GET", "/v1/shards", "", "metrics"),
    ("GET", "/v1/nodes", "", "metrics"),
    ("GET", "/v1/checkpoint", "", "metrics"),
    ("GET", "/v1/nowhere", "", "metrics"),
    ("GET", "/", "", ""),
    ("GET", "/console/console.js", "", ""),
    ("GET", "/console/nowhere", "", "metrics"),
    ("HEAD", "/v1/activity", "", "metrics"),
    ("GET", "/v1/users/1/balance", "", "balance"),
    ("GET", "/v1/users/1/statistics", "", "statistics"),
    ("GET", "/v1/refusals", "", "admin"),
    ("GET", "/v1/audit", "", "admin"),
    ("GET", "/debug/pprof/profile?seconds=0", "", "admin"),
    ("GET", "/debug/flamegraph?seconds=0", "", "admin"),
    ("GET", "/debug/nowhere", "", "admin"),
    ("POST", "/v1/checkpoint", "", "admin"),
    ("POST", "/v1/transactions", "[]", "write"),
    ("POST", "/v1/nowhere", "[]", "admin"),
    ("PUT", "/v1/transactions", "[]", "admin"),
    ("DELETE", "/v1/transactions", "", "admin"),
    ("POST", "/healthz", "", "admin"),
];

/// Its rights; `None` = nobody knows it.
struct Kind {
    name: String,
    token: Option<String>,
    may: Option<Vec<&'static str>>,
}

/// How a kind of caller is refused, if it is.
fn expected(kind: &Kind, needed: &str) -> Option<u16> {
    match &kind.may {
        _ if needed.is_empty() => None,
        None => Some(401),
        Some(may) => (!may.contains(&needed)).then_some(403),
    }
}

/// All routes by one kind, over one way.
fn every_route(kind: &Kind, way: &str, address: SocketAddr, by: Option<&Arc<ClientConfig>>) {
    for (method, path, body, needed) in ROUTES {
        let context = format!("{method} {path} by {} {way}", kind.name);
        let status =
            ask(&mut *connect(address, by), [method, path], kind.token.as_deref(), body).expect(&context);
        let refused = Some(status).filter(|status| matches!(status, 401 | 403 | 429));
        // An address may show only so many wrong tokens: what comes above that is not looked at.
        let is_wrong = kind.may.is_none() && kind.token.is_some();
        let is_expected = refused == expected(kind, needed) || (is_wrong && refused == Some(429));
        assert!(is_expected, "{context}: {status}");
    }
}

fn add(folder: &Path, name: &str, may: &str) -> String {
    run(folder, &["principal", "add", name, "--may", may]).ok().trim().to_owned()
}

#[test]
fn no_kind_of_caller_gets_through_on_any_route_what_it_was_not_granted() {
    const RIGHTS: [&str; 6] = ["balance", "statistics", "batch", "metrics", "write", "admin"];
    let folder = folder_with_ledger();
    let at = folder.path();
    let kind = |name: &str, token: Option<&str>, may: Option<&[&'static str]>| Kind {
        name: name.to_owned(),
        token: token.map(str::to_owned),
        may: may.map(<[_]>::to_vec),
    };
    let mut kinds = vec![kind("nobody", None, None)];
    for right in &RIGHTS {
        let token = add(at, right, right);
        kinds.push(kind(right, Some(&token), Some(&[*right])));
    }
    let all = add(at, "all", &RIGHTS.join(","));
    kinds.push(kind("all", Some(&all), Some(&RIGHTS)));
    let key = write(at, "key", &"k".repeat(32));
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut principals = std::fs::read_to_string(at.join("principals.toml")).unwrap();
    principals += &format!("\n[[key]]\nkid = \"k1\"\nsecret = \"file:{}\"\n", key.display());
    write(at, "principals.toml", &principals);
    // Each right's certificate, too.
    let uri = |name: &str| format!("spiffe://florin.local/{name}");
    for right in &RIGHTS {
        run(at, &["principal", "add", right, "--certificate", &uri(right)]).ok();
    }
    let callers: Vec<String> = RIGHTS.iter().chain(&["stranger"]).map(|name| uri(name)).collect();
    run(at, &["tls", "init", "certs", "--caller", &callers.join(",")]).ok();
    // Of a principal that may do everything, a token that may less.
    let signed =
        run(at, &["principal", "sign", "all", "--kid", "k1", "--may", "metrics"]).ok().trim().to_owned();
    kinds.push(kind("signed", Some(&signed), Some(&["metrics"])));

    let start = |more: &[&str]| {
        let shared = [
            "--principals",
            "principals.toml",
            "--shards",
            "1",
            "--tls-admin",
            "127.0.0.1:0",
            "--tls-cert",
            "certs/node.crt",
            "--tls-key",
            "certs/node.key",
        ];
        Server::start(at, &[&shared[..], more].concat())
    };
    let certs = at.join("certs");
    let by_tls = trusting(&[&*certs], None);
    let node = start(&[]);
    let secure = node.tls_admin.unwrap();
    for kind in &kinds {
        every_route(kind, "in plain", node.admin, None);
        every_route(kind, "by TLS", secure, Some(&by_tls));
    }
    // Last, for from then on tokens of this address are not looked at for a while.
    let wrong = kind("wrong", Some("wrong"), None);
    every_route(&wrong, "in plain", node.admin, None);
    every_route(&wrong, "by TLS", secure, Some(&by_tls));
    drop(node);

    let node = start(&["--tls-client-ca", "certs/ca.crt"]);
    let secure = node.tls_admin.unwrap();
    for right in RIGHTS {
        let shows = trusting(&[&*certs], Some(&certs.join(right)));
        every_route(&kind(right, None, Some(&[right])), "by its certificate", secure, Some(&shows));
    }
    let stranger = trusting(&[&*certs], Some(&certs.join("stranger")));
    every_route(&kind("a stranger", None, None), "by its certificate", secure, Some(&stranger));
    // A token, if one is shown, says more; and without a certificate nobody is let in.
    for kind in kinds.iter().filter(|kind| kind.token.is_some()) {
        every_route(kind, "with a stranger's certificate", secure, Some(&stranger));
    }
    assert!(ask(&mut *connect(secure, Some(&by_tls)), ["GET", "/healthz"], Some(&all), "").is_err());
}
