//! Where this process's threads run, by the kernel's own account of them.

use std::fs;

use serde::Serialize;

/// A thread, as `GET /v1/shards` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Thread {
    name: String,
    thread_id: u32,
    /// The CPU that it ran on last.
    runs_on: Option<usize>,
    /// Those that it may run on, as a list.
    may_run_on: Option<String>,
}

/// What the scheduler did to a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Scheduled {
    /// The CPU that it ran on last.
    pub(super) runs_on: Option<usize>,
    /// Times that it was moved to another CPU; none where the kernel does not count them.
    pub(super) migrations: Option<u64>,
    /// Times that it gave its CPU up by itself.
    pub(super) voluntary: Option<u64>,
    /// Times that its CPU was taken from it.
    pub(super) involuntary: Option<u64>,
    /// Time on a CPU, ns.
    pub(super) on_cpu_ns: Option<u64>,
}

impl Scheduled {
    /// Of a thread of this process; nothing is known of one that has ended.
    pub(super) fn of(thread_id: u32) -> Scheduled {
        let status = file(thread_id, "status").unwrap_or_default();
        Scheduled {
            runs_on: file(thread_id, "stat").as_deref().and_then(processor),
            migrations: file(thread_id, "sched").as_deref().and_then(migrations),
            voluntary: field(&status, "voluntary_ctxt_switches"),
            involuntary: field(&status, "nonvoluntary_ctxt_switches"),
            on_cpu_ns: file(thread_id, "schedstat").and_then(|text| text.split(' ').next()?.parse().ok()),
        }
    }
}

/// All threads of this process.
pub(super) fn all() -> Vec<Thread> {
    let Ok(folder) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let ids = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let thread = |thread_id: u32| {
        let status = file(thread_id, "status")?;
        Some(Thread {
            name: text_field(&status, "Name")?.to_owned(),
            thread_id,
            runs_on: file(thread_id, "stat").as_deref().and_then(processor),
            may_run_on: text_field(&status, "Cpus_allowed_list").map(str::to_owned),
        })
    };
    let mut threads: Vec<Thread> = ids.filter_map(thread).collect();
    threads.sort_by_key(|thread| thread.thread_id);
    threads
}

fn file(thread_id: u32, name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/self/task/{thread_id}/{name}")).ok()
}

/// Field 39 of `stat`; the name in field 2 may hold anything, so fields are counted from its last parenthesis.
fn processor(stat: &str) -> Option<usize> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(39 - 3)?.parse().ok()
}

/// A line of `sched` is `se.nr_migrations   :   7`.
fn migrations(sched: &str) -> Option<u64> {
    let line = sched.lines().find(|line| line.starts_with("se.nr_migrations"))?;
    line.split_once(':')?.1.trim().parse().ok()
}

fn text_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

fn field(status: &str, name: &str) -> Option<u64> {
    text_field(status, name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_is_found_where_it_runs() {
        let own = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        let found = Scheduled::of(own);
        assert!(
            found.runs_on.is_some() && found.voluntary.is_some() && found.involuntary.is_some(),
            "{found:?}"
        );
        let listed = all().into_iter().find(|thread| thread.thread_id == own).unwrap();
        assert!(listed.may_run_on.is_some() && !listed.name.is_empty(), "{listed:?}");
        assert_eq!(Scheduled::of(u32::MAX), Scheduled::default());
    }

    #[test]
    fn what_the_kernel_writes_is_understood() {
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        assert_eq!(processor(&format!("12 (a ) b) {}", fields.join(" "))), Some(39));
        assert_eq!(
            migrations("florin-shard-0 (12, #threads: 3)\n---\nse.nr_migrations      :       7\n"),
            Some(7)
        );
        assert_eq!(
            field("Name:\tx\nnonvoluntary_ctxt_switches:\t5\n", "nonvoluntary_ctxt_switches"),
            Some(5)
        );
    }
}
