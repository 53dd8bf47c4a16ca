//! The golden frames: every opcode, both encodings, every status, and what must be refused.

mod content;
mod flat;
pub mod manifest;
mod refused;
mod replies;
mod requests;

use std::collections::BTreeMap;

use manifest::Manifest;

/// Every file of `golden/` by its name: the frames and `golden.json`.
pub fn files() -> BTreeMap<String, Vec<u8>> {
    let mut golden = Golden { manifest: Manifest::new(), files: BTreeMap::new() };
    requests::add(&mut golden);
    replies::add(&mut golden);
    refused::add(&mut golden);
    let mut json = serde_json::to_vec_pretty(&golden.manifest).expect("the manifest has string keys only");
    json.push(b'\n');
    golden.files.insert("golden.json".to_owned(), json);
    golden.files
}

struct Golden {
    manifest: Manifest,
    files: BTreeMap<String, Vec<u8>>,
}

impl Golden {
    /// Keeps `frame` under `name` and answers the file's name.
    fn keep(&mut self, name: &str, frame: Vec<u8>) -> String {
        let file = format!("{name}.bin");
        assert!(self.files.insert(file.clone(), frame).is_none(), "two golden frames are called {name}");
        file
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
