//! Threads that a node cannot do without: one that panics ends the process, after its message. A node whose feed or writer
//! is gone must not go on as if it were there.

use std::io;
use std::process;
use std::thread::{self, JoinHandle};

/// Starts a thread whose panic ends the process.
///
/// # Errors
/// The system's, where it gives no thread (EAGAIN: `ulimit -u`, `TasksMax=`, memory).
pub fn spawn_vital<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let end = EndsProcess::of(name);
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _end = end;
        run()
    })
}

/// Held by a thread or a task as long as it runs: a panic while it is held ends the process.
pub struct EndsProcess {
    name: String,
}

impl EndsProcess {
    /// For what bears this name in the log.
    pub fn of(name: &str) -> EndsProcess {
        EndsProcess { name: name.to_owned() }
    }
}

impl Drop for EndsProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(
                "{} has panicked, and the node cannot do without it; the process ends",
                self.name
            );
            process::abort();
        }
    }
}
