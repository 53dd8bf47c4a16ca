//! Who may ask what, by TLS: by a token where nobody is asked for a certificate, and by a certificate where everybody is. The kinds of
//! callers, the requests and what each is refused with are those of plain transports.

use std::{net::SocketAddr, sync::Arc};

use florin::shard::Rights;
use rustls::ClientConfig;

use super::super::callers::{Kind, Known, Talk, everything_of, uri};
use super::super::support::shard_counts;
use super::support::{Callers, Files, client, connect};

fn by_tls<'a>(config: &'a Arc<ClientConfig>, address: SocketAddr) -> impl Fn() -> Box<dyn Talk> + 'a {
    move || Box::new(connect(config, address).0)
}

#[test]
fn by_tls_what_nobody_has_granted_is_refused() {
    let (known, files) = (Known::new(), Files::new());
    let client = Arc::new(client(&files.authority, None));
    for shards in shard_counts() {
        for kind in &known.kinds {
            // An address may show only so many wrong tokens.
            let (node, _) = known.start_as(files.config(shards, Callers::Anybody));
            everything_of(kind, "TLS", shards, &by_tls(&client, node.addresses().tls_shard_listen[0]));
        }
    }
}

/// Whoever has shown a certificate is its owner without a word; a token, if one is shown, says more; and a certificate that was
/// verified, but that nobody has listed, is nobody's.
#[test]
fn a_certificate_is_whose_it_is_and_nobody_elses() {
    let (known, files) = (Known::new(), Files::new());
    let shows = |name: &str| {
        let pair = files.authority.caller(&uri(name)).unwrap();
        Arc::new(client(&files.authority, Some(&pair)))
    };
    for shards in shard_counts() {
        let (node, _) = known.start_as(files.config(shards, Callers::ShowCertificates));
        let address = node.addresses().tls_shard_listen[0];
        for kind in known.kinds.iter().filter(|kind| kind.token.as_deref() == Some(kind.name)) {
            // Those whose tokens are wrong have certificates that nobody has listed.
            let kind = Kind { token: None, ..kind.clone() };
            everything_of(&kind, "mTLS", shards, &by_tls(&shows(kind.name), address));
        }
        let stranger = Kind { name: "stranger", token: None, may: None };
        everything_of(&stranger, "mTLS", shards, &by_tls(&shows("stranger"), address));
        let token = |name: &'static str, may| Kind { name, token: Some(name.to_owned()), may };
        let reader = token("balance", Some(Rights::BALANCE));
        everything_of(&reader, "mTLS, a stranger's", shards, &by_tls(&shows("stranger"), address));
        everything_of(&reader, "mTLS, of all", shards, &by_tls(&shows("all"), address));
    }
}
