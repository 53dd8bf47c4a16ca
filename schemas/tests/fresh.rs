//! What is committed is what the generators make today.

#[path = "../examples/generate/code.rs"]
mod code;
#[path = "../examples/generate/golden/mod.rs"]
mod golden;

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

#[test]
fn the_golden_frames_are_what_the_generator_makes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let made = golden::files();
    for (name, bytes) in &made {
        let kept = fs::read(folder.join(name)).unwrap_or_default();
        assert!(*bytes == kept, "golden/{name} is stale: run `{COMMAND}`");
    }
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(made.contains_key(&name), "golden/{name} belongs to no case: run `{COMMAND}`");
    }
}
