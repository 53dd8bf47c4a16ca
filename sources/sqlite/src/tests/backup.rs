//! What docs/deploy.md says of backup and restore is done here, word by word.

use std::process::Command;

use crate::scratch::*;

const DOCUMENT: &str = include_str!("../../../../docs/deploy.md");
const FOLDER: &str = "/var/lib/florin/";

/// The one documented command with these words in it, without whose it is, for the ledger of `scratch`.
fn documented(words: &str, scratch: &Scratch) -> String {
    let mut lines = DOCUMENT.lines().filter(|line| line.starts_with("    ") && line.contains(words));
    let line = lines.next().unwrap_or_else(|| panic!("docs/deploy.md has no command with {words}"));
    let folder = scratch.file("");
    line.trim().trim_start_matches("sudo -u florin ").replace(FOLDER, folder.to_str().unwrap())
}

fn run(command: &str) {
    let status = Command::new("sh").args(["-ec", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// After a stop, a log was left that lay over the restored file: the rows that the restore should have taken back were served.
#[test]
fn what_the_document_says_of_backup_and_restore_is_so() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    writer.append(&[recharge(1, 7), recharge(2, 8)]).unwrap();
    // The documented statement, by the library: not every host has the program.
    let backup = documented("VACUUM INTO", &scratch);
    let sql = backup.split('"').nth(1).unwrap();
    scratch.sql(sql);
    let before = scratch.rows();
    writer.append(&[recharge(3, 7)]).unwrap();
    // As if killed: the log stays, and is full.
    writer.abandon();

    run(&documented("rm -f", &scratch));
    run(&documented(" cp ", &scratch));
    assert_eq!(scratch.rows(), before);
    assert_eq!(scratch.writer().append(&[recharge(3, 7)]).unwrap()[0].version.0, 2);
}
