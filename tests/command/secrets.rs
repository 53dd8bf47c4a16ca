//! `florin support` is passed on to strangers: what is planted where secrets lie must be in none of its files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::{NOBODY, Server, end, florin, folder_with_ledger, run, write};

const SECRET: &str = "hunter2-of-the-bank";

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { open.push(entry) } else { found.push(entry) }
        }
    }
    found
}

#[test]
fn no_secret_is_in_what_is_passed_on() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &["--shards", "1"]);
    let config = write(
        folder.path(),
        "florin.toml",
        &format!(
            "# the password is {SECRET}\npassword = \"{SECRET}\"\nshards = 4\naudit-log = \"/var/log/a\"\n[ledger]\n\
             address = \"postgres://app:{SECRET}@db/x?table=t&password={SECRET}\"\ntoken = \"{SECRET}\"\n"
        ),
    );
    let log = write(
        folder.path(),
        "florin.log",
        &format!(
            "INFO started\nERROR cannot reach postgres://app:{SECRET}@db/x\nWARN Authorization: Bearer {SECRET}\n\
                  {{\"message\":\"x\",\"token\":\"{SECRET}\"}}\nINFO ready\n"
        ),
    );
    let out = folder.path().join("support");
    let [admin, config, log, out_text] = [
        server.admin.to_string(),
        config.display().to_string(),
        log.display().to_string(),
        out.display().to_string(),
    ];
    let arguments = ["support", &out_text, "--admin", &admin, "--config", &config, "--log", &log];
    run(folder.path(), &arguments).ok();
    for file in files(&out) {
        let bytes = fs::read(&file).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(SECRET), "{}", file.display());
    }
    let text = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    assert!(
        text("florin.toml").contains("shards = 4\n") && text("florin.toml").contains("app:(left out)@db/x"),
        "{}",
        text("florin.toml")
    );
    assert!(text("log.txt").contains("INFO ready") && text("readyz.json").contains("\"ready\":true"));
    assert!(text("metrics.txt").contains("florin_accounts") && text("version.txt").starts_with("florin "));
    // It is TOML again, which a whole line without its end was not.
    let config: toml::Table = toml::from_str(&text("florin.toml")).expect("TOML");
    assert_eq!(
        config["ledger"]["address"].as_str(),
        Some("postgres://app:(left out)@db/x?table=t&password (left out)")
    );
    // Whoever may log in here does not read it: it was everybody's.
    for file in files(&out).into_iter().chain([out.clone(), out.join("host")]) {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has {mode:o}", file.display());
    }
    // What is there already is not written over.
    let said = run(folder.path(), &arguments).refused(1);
    assert!(said.contains("is there already: name a folder that is not there yet"), "{said}");
}

/// It ended with 0 and half a configuration, and of a folder whose parent was missing it said to name one that was not there.
#[test]
fn what_cannot_be_used_is_told_with_what_to_do() {
    let folder = folder_with_ledger();
    let at = folder.path();
    let server = Server::start(at, &["--shards", "1"]);
    write(at, "log", "INFO x\n");
    write(
        at,
        "broken.toml",
        &format!("shards = 1\nledger = \"postgres://app:{SECRET}@db/x\npassword = \"{SECRET}\"\n"),
    );
    let (admin, reads) = (format!("http://{}/", server.admin), server.addr());
    let support = |out: &str, admin: &str, more: &[&str]| {
        run(at, &[&["support", out, "--admin", admin, "--log", "log"], more].concat())
    };
    let said = support("a/b/c", &admin, &[]).refused(1);
    assert!(said.contains("florin: a/b is not there: make it (mkdir -p)"), "{said}");

    let said = support("broken", &admin, &["--config", "broken.toml"]).refused(3);
    let why = "florin.toml: broken.toml: line 2 is not TOML";
    assert!(said.contains(why), "{said}");
    assert!(fs::read_to_string(at.join("broken/missing.txt")).unwrap().starts_with(why));
    for file in files(&at.join("broken")) {
        assert!(!String::from_utf8_lossy(&fs::read(&file).unwrap()).contains(SECRET), "{}", file.display());
    }

    let said = support("reads", &reads, &[]).refused(3);
    let why = format!("metrics.txt, shards.json, checkpoint.json, audit.json: {reads} answers reads alone");
    assert!(said.contains(&why) && said.matches("admin port").count() == 1, "{said}");
}

#[test]
fn a_node_that_is_down_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("support").display().to_string();
    let log = write(folder.path(), "log", "INFO x\n").display().to_string();
    let said = run(folder.path(), &["support", &out, "--admin", NOBODY, "--log", &log]).refused(3);
    let pages = "readyz.json, metrics.txt, shards.json, checkpoint.json, audit.json: cannot reach florin at 127.0.0.1:1";
    assert!(said.contains(pages) && said.contains("is `florin serve` running"), "{said}");
    let left = |name: &str| fs::read_to_string(format!("{out}/{name}"));
    assert!(left("missing.txt").unwrap().starts_with(pages) && left("log.txt").unwrap().contains("INFO x"));
    left("readyz.json").unwrap_err();
}

/// It ended with 0, with pages that held a refusal whose reason had been taken for a secret: "token (left out)".
#[test]
fn what_the_folder_lacks_is_told_with_the_reason() {
    let folder = folder_with_ledger();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for (name, may) in [("whole", "metrics,admin"), ("half", "metrics")] {
        let token = run(folder.path(), &["principal", "add", name, "--may", may]).ok();
        fs::set_permissions(write(folder.path(), name, &token), PermissionsExt::from_mode(0o600)).unwrap();
    }
    let server = Server::start(folder.path(), &["--shards", "1", "--principals", "principals.toml"]);
    let admin = server.admin.to_string();
    // No unit has started this node: the journal is empty, as where a user may not read it.
    let journalctl = |script: &str| {
        let program = write(folder.path(), "journalctl", &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
    };
    let support = |out: &str, more: &[&str]| {
        let mut command = florin(folder.path(), &[&["support", out, "--admin", &admin], more].concat());
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", folder.path().display())).env_remove("FLORIN_TOKEN");
        end(command, "")
    };
    let why = "token: expected one of a caller who may ";

    journalctl("exit 1");
    let said = support("stranger", &[]).refused(3);
    assert!(said.contains(&format!(
        "metrics.txt, shards.json, checkpoint.json: the node answered 401: {why}metrics"
    )));
    assert!(said.contains(&format!("audit.json: the node answered 401: {why}admin")), "{said}");
    assert!(said.contains("log.txt: journalctl ") && said.contains("--log FILE"), "{said}");
    let missing = fs::read_to_string(at("stranger/missing.txt")).unwrap();
    assert!(missing.contains(&format!("{why}metrics")) && said.contains(&missing), "{missing}");

    journalctl("echo INFO ready");
    let said = support("half-seen", &["--token-file", "half"]).refused(3);
    assert!(
        said.contains("\naudit.json: the node answered 403: ") && !said.contains("metrics.txt"),
        "{said}"
    );

    let said = support("all", &["--token-file", "whole"]).ok();
    let all =
        "version.txt, readyz.json, metrics.txt, shards.json, checkpoint.json, audit.json, log.txt, host";
    assert!(said.contains(&format!("all holds {all}, without secrets")), "{said}");
    assert!(fs::read_to_string(at("all/log.txt")).unwrap() == "INFO ready\n");
    fs::read_to_string(at("all/missing.txt")).unwrap_err();
}
