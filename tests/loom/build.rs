//! Sets `cfg(loom)` for this package alone: as a flag for the whole build it would also reach tokio, which then hides
//! half of itself.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(loom)");
    println!("cargo::rustc-cfg=loom");
    println!("cargo::rerun-if-changed=build.rs");
}
