//! Threads that the node cannot do without: one that panics ends the process, after its message. A node whose feed or
//! writer is gone must not go on as if it were there.

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
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _end = EndsProcess;
        run()
    })
}

/// Held by a thread as long as it runs: a panic while it is held ends the process.
pub struct EndsProcess;

impl Drop for EndsProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            let name = thread::current().name().unwrap_or("without a name").to_owned();
            tracing::error!(
                thread = name,
                "a thread that the node cannot do without has panicked; the process ends"
            );
            process::abort();
        }
    }
}
