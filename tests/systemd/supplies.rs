//! What a machine is made of: a Debian tree, and florin's package in two versions. All below target/.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::pages;

const FLORIN: &str = env!("CARGO_BIN_EXE_florin");

/// What is missing to run a machine, if anything is.
pub fn missing() -> Option<&'static str> {
    static MISSING: LazyLock<Option<&'static str>> = LazyLock::new(|| {
        if !rustix::process::geteuid().is_root() {
            return Some("root");
        }
        let mut mounting = Command::new("unshare");
        mounting.args(["--mount", "--net", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
        if !mounting.output().is_ok_and(|output| output.status.success()) {
            return Some("a root that may mount, which one in an unprivileged container may not");
        }
        let needs = [
            ("systemd-nspawn", "systemd-nspawn (package systemd-container)"),
            ("mmdebstrap", "mmdebstrap"),
            ("nsenter", "nsenter (package util-linux)"),
            ("setpriv", "setpriv (package util-linux)"),
            ("cargo-deb", "cargo-deb (scripts/test installs it)"),
        ];
        let is_there =
            |program| command(program).arg("--version").output().is_ok_and(|output| output.status.success());
        needs.into_iter().find(|(program, _)| !is_there(program)).map(|(_, name)| name)
    });
    *MISSING
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A command, found where scripts/test puts its tools as well.
fn command(program: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.current_dir(root()).env("PATH", format!("{}:{path}", root().join("target/tools/bin").display()));
    command
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// A minimal Debian of this host's release, with systemd: made once, and kept for later runs.
pub fn debian() -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let release = fs::read_to_string("/etc/os-release").unwrap();
    let release = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap();
    let tree = root().join("target/machines").join(release);
    if !tree.exists() {
        let unfinished = tree.with_extension("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        fs::create_dir_all(unfinished.parent().unwrap()).unwrap();
        run(command("mmdebstrap")
            .args(["--quiet", "--variant=apt", "--format=directory", "--include=systemd,systemd-sysv"])
            .args(["--dpkgopt=path-exclude=/usr/share/locale/*", release])
            .arg(&unfinished));
        fs::rename(&unfinished, &tree).unwrap();
    }
    tree
}

/// The package, made of the program that this test was built with: each version once, for while one test installs it another wants it.
pub fn package(version: &str) -> PathBuf {
    static MADE: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(package) = made.get(version) {
        return package.clone();
    }
    pages::write_all(&root().join("target/pages")).unwrap();
    let built = Path::new(FLORIN).parent().unwrap().file_name().unwrap();
    let profile = if built == "debug" { "dev" } else { built.to_str().unwrap() };
    let package = root().join(format!("target/machines/florin_{version}.deb"));
    run(command("cargo-deb")
        .args(["deb", "--no-build", "--quiet", "--fast", "--profile", profile, "--deb-version", version])
        .arg("--output")
        .arg(&package));
    made.insert(version.to_owned(), package.clone());
    package
}
