//! What docs/operating.md says of backup and restore is done here, word by word.

use std::process::Command;

use crate::scratch::*;

const DOCUMENT: &str = include_str!("../../../../docs/operating.md");
const FOLDER: &str = "/var/lib/florin/";

/// The one documented command with these words in it, without whose it is, for the ledger of `scratch`.
fn documented(words: &str, scratch: &Scratch) -> String {
    let mut commands = DOCUMENT.lines().filter_map(|line| line.strip_prefix("sudo -u florin "));
    let command = commands.find(|command| command.contains(words));
    let command = command.unwrap_or_else(|| panic!("docs/operating.md has no command with {words}"));
    command.replace(FOLDER, scratch.file("").to_str().unwrap())
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
    run(&documented("cp ", &scratch));
    assert_eq!(scratch.rows(), before);
    assert_eq!(scratch.writer().append(&[recharge(3, 7)]).unwrap()[0].version.0, 2);
}
