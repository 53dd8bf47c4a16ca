//! Whether this is a container. `/proc/irq`, `/sys/devices` and most of `/proc/sys` have no namespace: root in a container
//! may write the host's.

use std::fs;
use std::path::Path;

/// Files that container managers put there: systemd-nspawn and LXC, Docker, Podman, and what systemd makes of them.
const MARKS: &[&str] =
    &["run/host/container-manager", "run/systemd/container", ".dockerenv", "run/.containerenv"];
/// A file of every control group but the root: where the mount's root has it, the mount is a part of somebody's tree.
const NOT_THE_ROOT: &str = "sys/fs/cgroup/cgroup.events";
/// What the first process was started with; only root may read it.
const FIRST_ENVIRONMENT: &str = "proc/1/environ";
/// In which namespace process ids are counted. Kubernetes' containers have no mark but this and the control group's.
const PIDS: &str = "proc/self/ns/pid";
/// The host's own: the kernel's constant `PROC_PID_INIT_INO`.
const PIDS_OF_HOST: &str = "pid:[4026531836]";

/// How it shows that the system below `root` is a container, if it does.
pub fn container(root: &Path) -> Option<String> {
    let mark = MARKS.iter().chain(&[NOT_THE_ROOT]).find(|mark| root.join(mark).exists());
    mark.map(|mark| format!("there is /{mark}"))
        .or_else(|| {
            let pids = fs::read_link(root.join(PIDS)).ok()?.to_string_lossy().into_owned();
            (pids != PIDS_OF_HOST).then(|| format!("/{PIDS} is {pids}, not the host's"))
        })
        .or_else(|| {
            let environment = fs::read(root.join(FIRST_ENVIRONMENT)).ok()?;
            let mut variables = environment.split(|byte| *byte == 0);
            let variable = variables.find(|variable| variable.starts_with(b"container="))?;
            Some(format!("/{FIRST_ENVIRONMENT} has {}", String::from_utf8_lossy(variable)))
        })
}
