//! A florin that knows its callers, before one that answers everybody: at a share of 100 % nobody gets from the second what the first would
//! refuse.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use florin::callers::{Secret, SigningKey, sign};
use florin::shard::Rights;

use crate::cutover::{EVERYBODY, PATIENT, USERS, direct_status, is_candidates, marked};
use crate::shadow::{Caller, Shadow, generated, http};
use crate::support::{Server, run};

/// A caller: what it shows, and how its balance, its statistics and its batch are answered.
struct Kind {
    name: &'static str,
    header: String,
    expected: [u16; 3],
}

#[test]
fn nobody_gets_by_cutover_what_a_florin_that_knows_its_callers_would_refuse() {
    let folder = generated(USERS, 5_000, "2026-11-22T10:30:00Z");
    let at = folder.path();
    let add =
        |name: &str, may: &str| run(at, &["principal", "add", name, "--may", may]).ok().trim().to_owned();
    let (reader, all) = (add("reader", "balance"), add("all", "balance,statistics,batch"));
    let secret = [b'k'; 32];
    fs::write(at.join("key"), secret).unwrap();
    fs::set_permissions(at.join("key"), fs::Permissions::from_mode(0o600)).unwrap();
    let entry = format!("\n[[key]]\nkid = \"k1\"\nsecret = \"file:{}\"\n", at.join("key").display());
    let principals = fs::read_to_string(at.join("principals.toml")).unwrap();
    fs::write(at.join("principals.toml"), principals + &entry).unwrap();
    let key = SigningKey::new("k1", &Secret::new(secret.to_vec())).unwrap();
    let ended = sign(&key, "all", Rights::READS, 1);

    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let kind = |name, header, expected| Kind { name, header, expected };
    let known =
        [kind("reader", bearer(&reader), [200, 403, 403]), kind("all", bearer(&all), [200, 200, 200])];
    let unknown = [
        kind("nobody", String::new(), [401; 3]),
        kind("wrong", bearer("wrong"), [401; 3]),
        kind("ended", bearer(ended.reveal_text().unwrap()), [401; 3]),
    ];
    let primary = Server::start(at, &["--shards", "1", "--principals", "principals.toml"]);
    let node = Server::start(at, &["--shards", "1"]);
    let candidate = marked(&node, || None);
    let config =
        PATIENT.replace("vouched-by = \"this test\"", "vouched-by = \"primary\"\nadmission-seconds = 300");
    let shadow = Shadow::configured(&folder, [&http(primary.any), &http(candidate)], &config, &EVERYBODY);
    let user = (0..USERS).find(|user| direct_status(node.any, *user) == 200).expect("a user");
    let questions = [
        (["GET".to_owned(), format!("/v1/users/{user}/balance")], String::new()),
        (["GET".to_owned(), format!("/v1/users/{user}/statistics")], String::new()),
        (["POST".to_owned(), "/v1/balances:batchGet".to_owned()], format!("{{\"user_ids\":[\"{user}\"]}}")),
    ];
    // How many of each kind's questions the candidate has answered.
    let mut caller = Caller::connect(shadow.listen);
    let mut asked = 0;
    let mut round = |kinds: &[Kind]| {
        let mut served = Vec::new();
        for kind in kinds {
            for (at, ([method, target], body)) in questions.iter().enumerate() {
                let answer = caller.ask_with([method, target], &kind.header, body).expect("an answer");
                asked += 1;
                assert_eq!(
                    answer.status, kind.expected[at],
                    "{method} {target} by {}: {}",
                    kind.name, answer.head
                );
                served.extend(is_candidates(&answer).then_some((kind.name, at)));
            }
        }
        shadow.settled(asked);
        served
    };
    let granted = [("reader", 0), ("all", 0), ("all", 1), ("all", 2)];
    assert_eq!(round(&known), []);
    assert_eq!(round(&known), granted);
    // What the candidate answers those who may, it answers nobody else: neither now nor once they have asked again.
    for _ in 0..2 {
        assert_eq!(round(&unknown), []);
        assert_eq!(round(&known), granted);
    }
}
