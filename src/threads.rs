//! Threads and tasks that the node cannot do without: one that panics ends the process, after its message. A node whose
//! feed, writer or control plane is gone must not go on as if it were there.

pub use florin_record::threads::{EndsProcess, spawn_vital};

/// Starts a task on the current runtime whose panic ends the process: tokio would keep it to itself.
pub fn spawn_vital_task<T: Send + 'static>(
    name: &str,
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let end = EndsProcess::of(name);
    tokio::spawn(async move {
        let _end = end;
        task.await
    })
}

/// Each death is died by another process: this test's own program, asked for one of the tests that are ignored.
#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    /// The control plane's tasks died unseen: tokio keeps a task's panic for whoever awaits it, and nobody did.
    #[test]
    fn whoever_panics_ends_the_process_with_the_reason() {
        for test in ["threads::tests::a_thread_that_panics", "threads::tests::a_task_that_panics"] {
            let program = std::env::current_exe().unwrap();
            let ended =
                Command::new(program).args(["--exact", "--ignored", "--nocapture", test]).output().unwrap();
            let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
            assert_eq!(ended.status.signal(), Some(6), "{test}: {said}");
            assert!(said.contains("a test's reason"), "{test}: {said}");
            assert!(said.contains("florin-vital has panicked"), "{test}: {said}");
        }
    }

    fn log() {
        tracing_subscriber::fmt().with_ansi(false).with_writer(io::stderr).init();
    }

    #[test]
    #[ignore = "dies; the test above runs it in another process"]
    fn a_thread_that_panics() {
        log();
        let _ = spawn_vital("florin-vital", || panic!("a test's reason")).unwrap().join();
    }

    #[test]
    #[ignore = "dies; the test above runs it in another process"]
    fn a_task_that_panics() {
        log();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            spawn_vital_task("florin-vital", async {
                tokio::task::yield_now().await;
                panic!("a test's reason")
            });
            // Not awaited: nobody asks how it ended.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        });
    }
}
