//! The tasks beside the threads of [`florin_record::threads`] that the node cannot do without.

pub use florin_record::threads::{EndsProcess, Vital, spawn_vital};

use crate::limits::NICE_OF_HOUSEKEEPING;

/// Lets the calling thread come after those that callers wait for, where they share a CPU. Refused only where a filter forbids it:
/// then it takes what it needs.
pub fn give_way() {
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE_OF_HOUSEKEEPING);
}

/// Starts a task on the current runtime whose panic ends the process: tokio would keep it to itself.
pub fn spawn_vital_task<T: Send + 'static>(
    vital: Vital,
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let end = EndsProcess::of(vital);
    tokio::spawn(async move {
        let _end = end;
        task.await
    })
}
