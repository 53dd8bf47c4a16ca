//! What is committed is what the generators make today.

#[path = "../examples/generate/code.rs"]
mod code;
#[path = "../examples/generate/golden/mod.rs"]
mod golden;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

const COMMAND: &str = "cargo run -p florin-schema --example generate";

#[test]
fn the_flatbuffers_code_is_what_flatc_makes_of_the_schema() {
    for (language, committed) in [
        (code::Language::Rust, "src/generated"),
        (code::Language::Go, "../clients/go/internal/generated/florin/v1"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        code::generate(language, folder.path()).unwrap();
        let made = match language {
            code::Language::Rust => folder.path().to_owned(),
            code::Language::Go => folder.path().join("florin/v1"),
        };
        assert_same_files(&made, &Path::new(env!("CARGO_MANIFEST_DIR")).join(committed));
    }
}

fn assert_same_files(made: &Path, committed: &Path) {
    let names = |folder: &Path| -> BTreeSet<OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    assert_eq!(names(committed), names(made), "{} is stale: run `{COMMAND}`", committed.display());
    for name in names(made) {
        let same = fs::read(made.join(&name)).unwrap() == fs::read(committed.join(&name)).unwrap();
        assert!(same, "{}/{} is stale: run `{COMMAND}`", committed.display(), name.display());
    }
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
