//! The PostgreSQL that `scripts/postgresql-18` has fetched, where the user that servers run as can start it: not where the checkout lies in a
//! folder of root's alone.

use std::path::Path;

use florin_postgres::server::Programs;

/// The programs, and which version they say they are.
pub fn fetched() -> impl Iterator<Item = (Programs, String)> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    let folders = std::fs::read_dir(tools).into_iter().flatten().flatten();
    folders.filter_map(|entry| Programs::at(entry.path().join("bin"))).filter_map(|programs| {
        let said = programs.command("postgres").unwrap().arg("--version").output();
        match said.ok().filter(|said| said.status.success()) {
            Some(said) => Some((programs, String::from_utf8_lossy(&said.stdout).into_owned())),
            None => {
                eprintln!("skipped: {programs:?} cannot be run by another user than root");
                None
            }
        }
    })
}
