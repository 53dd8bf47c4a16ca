//! What is committed is what the generators make today.

#[path = "../examples/generate/code.rs"]
mod code;

use std::fs;
use std::path::Path;

const COMMAND: &str = "cargo run -p florin-schema --example generate";

#[test]
fn the_flatbuffers_code_is_what_flatc_makes_of_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    code::generate(code::Language::Rust, folder.path()).unwrap();
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated");
    for entry in fs::read_dir(folder.path()).unwrap() {
        let name = entry.unwrap().file_name();
        let made = fs::read(folder.path().join(&name)).unwrap();
        let kept = fs::read(committed.join(&name)).unwrap_or_default();
        assert!(made == kept, "src/generated/{} is stale: run `{COMMAND}`", name.display());
    }
}

#[test]
fn the_same_flatc_writes_go() {
    let folder = tempfile::tempdir().unwrap();
    code::generate(code::Language::Go, folder.path()).unwrap();
    let balance = fs::read_to_string(folder.path().join("florin/v1/Balance.go")).unwrap();
    assert!(balance.contains("func GetRootAsBalance("), "{balance}");
}
