//! `florin support` is passed on to strangers: what is planted where secrets lie must be in none of its files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Server, folder_with_ledger, run, write};

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
    // What is there already is not written over.
    run(folder.path(), &arguments).refused(1);
}

#[test]
fn a_node_that_is_down_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("support").display().to_string();
    let log = write(folder.path(), "log", "INFO x\n").display().to_string();
    run(folder.path(), &["support", &out, "--admin", "127.0.0.1:1", "--log", &log]).ok();
    assert!(fs::read_to_string(format!("{out}/readyz.json")).unwrap().starts_with("no answer: "));
}
