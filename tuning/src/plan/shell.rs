//! A plan as a shell script: to be read, kept, or run where florin is not installed. It keeps no journal.

use std::fmt::Write;

use super::Plan;

/// The script.
pub fn shell(plan: &Plan) -> String {
    let mut text = "#!/bin/sh\n# Made by florin tune plan --shell. `florin tune apply` does the same, reads back, and can undo it.\nset -u\nif systemd-detect-virt --quiet --container 2>/dev/null; then\n    echo 'this is a container, and much of /proc and /sys is its host'\\''s: run this on the host' >&2\n    exit 1\nfi\nfailed=0\nput() { printf '%s\\n' \"$2\" 2>/dev/null >\"$1\" || { echo \"$1: not written\" >&2; failed=1; }; }\n".to_owned();
    let mut knob = None;
    for setting in &plan.settings {
        if knob != Some(setting.knob) {
            knob = Some(setting.knob);
            writeln!(text, "\n# {}", setting.knob).expect("a String takes any text");
        }
        let (path, value) = (quoted(&setting.path), quoted(&setting.value));
        let line = if setting.is_of_boot() {
            format!("echo 'add to the command line of the kernel, in the boot loader: '{value}")
        } else {
            format!("put {path} {value}")
        };
        writeln!(text, "{line}").expect("a String takes any text");
    }
    text.push_str("\nexit $failed\n");
    text
}

/// A word for the shell, whatever it holds.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-,=:".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole() {
        assert_eq!(quoted("/proc/irq/3/smp_affinity_list"), "/proc/irq/3/smp_affinity_list");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
