//! The tasks beside the threads of [`florin_record::threads`] that the node cannot do without.

pub use florin_record::threads::{EndsProcess, Vital, spawn_vital};

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
