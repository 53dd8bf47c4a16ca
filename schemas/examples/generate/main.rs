//! Writes the golden frames, which are committed and which nobody types:
//!
//!     cargo run -p florin-schema --example generate

mod golden;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match write_golden(&Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Replaces the folder, so that no frame stays whose case is gone.
fn write_golden(folder: &Path) -> Result<(), String> {
    let written = || -> std::io::Result<()> {
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        std::fs::create_dir(folder)?;
        golden::files().iter().try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes))
    };
    written().map_err(|error| format!("cannot write {}: {error}", folder.display()))
}
