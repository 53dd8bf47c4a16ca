//! Who may ask what, by TLS: by a token where nobody is asked for a certificate, and by a certificate where everybody is. The kinds of
//! callers, the requests and what each is refused with are those of plain transports.

use std::{net::SocketAddr, sync::Arc};

use florin::node::NodeConfig;
use florin::shard::Rights;
use florin::tls::CertificateNames;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

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

/// Whoever stayed connected kept the rights of a certificate by which nobody could connect any more. The clock that judges it is the node's.
#[test]
fn a_certificate_says_nothing_once_it_has_ended() {
    let (known, files) = (Known::new(), Files::new());
    let pair = files.authority.caller(&uri("balance")).unwrap();
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    let end_us = CertificateNames::of(&certificate).unwrap().until_us;
    let config = Arc::new(client(&files.authority, Some(&pair)));
    for (now_us, may) in [(end_us - 1, Some(Rights::BALANCE)), (end_us, None)] {
        let plain = files.config(1, Callers::ShowCertificates);
        let (node, _) = known.start_as(NodeConfig { fixed_wall_us: Some(now_us), ..plain });
        let address = node.addresses().tls_shard_listen[0];
        let kind = Kind { name: "balance", token: None, may };
        everything_of(&kind, "mTLS", 1, &by_tls(&config, address));
    }
}
