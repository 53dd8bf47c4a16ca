//! Whether this is a container. `/proc/irq`, `/sys/devices` and most of `/proc/sys` have no namespace: root in a container
//! may write the host's.

use std::fs;
use std::path::Path;

/// Files that container managers put there: systemd-nspawn and LXC, Docker, Podman, and what systemd makes of them.
const MARKS: &[&str] =
    &["run/host/container-manager", "run/systemd/container", ".dockerenv", "run/.containerenv"];
/// A file of every control group but the root: where the mount's root has it, the mount is a part of somebody's tree. Of
/// Kubernetes' containers it is the only mark.
const NOT_THE_ROOT: &str = "sys/fs/cgroup/cgroup.events";
/// What the first process was started with; only root may read it.
const FIRST_ENVIRONMENT: &str = "proc/1/environ";

/// How it shows that the system below `root` is a container, if it does.
pub fn container(root: &Path) -> Option<String> {
    let marks = MARKS.iter().chain(&[NOT_THE_ROOT]);
    let mark = marks.copied().find(|mark| root.join(mark).exists()).map(|mark| format!("there is /{mark}"));
    mark.or_else(|| {
        let environment = fs::read(root.join(FIRST_ENVIRONMENT)).ok()?;
        let variable =
            environment.split(|byte| *byte == 0).find(|variable| variable.starts_with(b"container="))?;
        Some(format!("/{FIRST_ENVIRONMENT} has {}", String::from_utf8_lossy(variable)))
    })
}
