//! Who shows what to whom, and how that changes while a node runs.

use std::{fs, io::Write, sync::Arc};

use florin::{
    node::{Node, StartError},
    tls::{
        authority::{Authority, Pair},
        tally::Outcome,
    },
};
use rustls::{ClientConfig, HandshakeKind};

use super::super::support::Caller;
use super::support::{Callers, Files, Secure, TEAM, client, connect, count, tls_address, until_counted};

/// Whether the node takes such a caller. One that it does not learns of it once it reads.
fn is_taken(config: &Arc<ClientConfig>, node: &Node) -> bool {
    let mut caller = connect(config, tls_address(node));
    let asked = caller.0.write_all(&super::super::support::ping(1, b"me")).and_then(|()| caller.0.flush());
    asked.is_ok() && caller.read_reply().is_ok()
}

#[test]
fn only_who_shows_a_certificate_of_the_right_authority_is_taken() {
    let files = Files::new();
    let node = files.start(1, Callers::ShowCertificates);
    let (own, foreign) = (&files.authority, Authority::new("foreign").unwrap());
    let takes = |pair: Option<Pair>| is_taken(&Arc::new(client(own, pair.as_ref())), &node);
    assert!(takes(Some(own.caller(TEAM).unwrap())));
    assert!(!takes(None), "one without a certificate");
    assert!(!takes(Some(foreign.caller(TEAM).unwrap())), "one of another authority");
    until_counted(&node, Outcome::Failed, 2);
    assert!(takes(Some(own.node(&["localhost".to_owned()]).unwrap())), "nodes ask each other");
}

#[test]
fn a_caller_finds_a_node_of_another_authority_out() {
    let files = Files::new();
    let node = files.start(1, Callers::Anybody);
    let stranger = Authority::new("stranger").unwrap();
    assert!(!is_taken(&Arc::new(client(&stranger, None)), &node));
}

/// Certificates change without a lost request: old connections go on, new ones are shown the new one, and a mistake changes nothing.
#[test]
fn what_is_shown_can_change_while_callers_are_served() {
    let files = Files::new();
    let node = files.start(1, Callers::ShowCertificates);
    let identities = Arc::clone(&node.tls().unwrap().identities);
    let old = Arc::new(client(&files.authority, Some(&files.authority.caller(TEAM).unwrap())));
    let mut before: Caller<Secure> = connect(&old, tls_address(&node));
    before.ping(1);

    let next = Authority::new("next").unwrap();
    files.write_node(&next);
    files.write_client_ca(&next);
    before.ping(2);
    assert!(is_taken(&old, &node), "nothing has been read again yet");
    identities.reload().unwrap();
    before.ping(3);
    let new = Arc::new(client(&next, Some(&next.caller(TEAM).unwrap())));
    assert!(is_taken(&new, &node));
    // Its ticket says that it was believed by the authorities before.
    assert!(!is_taken(&old, &node), "a ticket of before is worth nothing");
    before.ping(4);

    for broken in ["", "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n"] {
        let path = files.folder.path().join("node.crt");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, broken).unwrap();
        let refusal = identities.reload().unwrap_err().to_string();
        assert!(refusal.contains("--tls-cert") && refusal.contains("node.crt"), "{refusal}");
        fs::write(&path, whole).unwrap();
    }
    // A key of another certificate.
    let other = next.node(&["localhost".to_owned()]).unwrap();
    files.write_key(&other.key);
    let refusal = identities.reload().unwrap_err().to_string();
    assert!(refusal.contains("--tls-key"), "{refusal}");
    assert!(is_taken(&new, &node));
    before.ping(5);
}

#[test]
fn a_ticket_carries_who_the_caller_is() {
    let files = Files::new();
    let node = files.start(1, Callers::ShowCertificates);
    let config = Arc::new(client(&files.authority, Some(&files.authority.caller(TEAM).unwrap())));
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut caller = connect(&config, tls_address(&node));
        caller.ping(1);
        assert_eq!(caller.0.conn.handshake_kind(), Some(expected));
    }
    assert_eq!(count(&node, Outcome::Unnamed), 0);
}

#[test]
fn a_node_without_its_certificate_does_not_start_and_says_which_file() {
    let files = Files::new();
    fs::remove_file(files.folder.path().join("node.key")).unwrap();
    let refusal = Node::start(files.config(1, Callers::Anybody)).unwrap_err();
    assert!(matches!(refusal, StartError::Tls(_)) && refusal.exit_code() == 2, "{refusal}");
    let said = refusal.to_string();
    assert!(
        said.contains("--tls-key") && said.contains("node.key") && said.contains("No such file"),
        "{said}"
    );
}
