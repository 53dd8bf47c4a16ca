//! What is committed is what the generators make.

#[path = "../generate/src/digests.rs"]
mod digests;
#[path = "../examples/generate/golden/mod.rs"]
mod golden;

use std::fs;
use std::path::Path;

/// `flatc` takes minutes to compile. So the schema and the code are held against what they were when it made the one of the other.
#[test]
fn the_flatbuffers_code_and_its_schema_are_as_they_were_when_flatc_made_it() {
    const COMMAND: &str = "cargo run --manifest-path schemas/generate/Cargo.toml";
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR"));
    let recorded = fs::read_to_string(schemas.join("generated.sha256")).unwrap();
    let there = digests::of(schemas).unwrap();
    assert_eq!(there, recorded, "the schema or its code has changed alone: run `{COMMAND}`");
}

#[test]
fn the_golden_frames_are_what_the_generator_makes() {
    const COMMAND: &str = "cargo run -p florin-schema --example generate";
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
