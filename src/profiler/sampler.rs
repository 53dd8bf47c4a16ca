//! The kernel's samples. The event is the CPU clock, which virtual machines without hardware counters have too: it goes on only while
//! its thread runs, so a thread that sleeps costs nothing.

use std::fs;
use std::io;
use std::sync::Arc;

use perf_event::data::Record;
use perf_event::events::Software;
use perf_event::{Builder, SampleFlag, Sampler};

use super::ProfileError;
use super::sample::{REGISTERS, Registers, Sample};
use crate::limits::{PROFILE_HZ, PROFILE_RING_BYTES, PROFILE_STACK_BYTES, PROFILE_THREADS_MAX};

/// From here on an address of a call chain is no address, but says whose the next ones are (`PERF_CONTEXT_MAX`).
const MARKS: u64 = u64::MAX - 4_094;

/// All threads, watched.
pub(super) struct Sampling {
    threads: Vec<(Arc<str>, Sampler)>,
    lost: u64,
}

impl Sampling {
    /// Watches all threads that there are but this one; in the kernel too, where the host lets us see that.
    pub(super) fn begin() -> Result<Sampling, ProfileError> {
        let threads =
            threads().map_err(|source| ProfileError::Failed { what: "reading /proc/self/task", source })?;
        let mut sees_kernel = true;
        let mut watched = Vec::with_capacity(threads.len());
        for (thread_id, name) in threads {
            let mut opened = open(thread_id, sees_kernel);
            if sees_kernel && opened.as_ref().is_err_and(is_refused) {
                sees_kernel = false;
                opened = open(thread_id, false);
            }
            match opened {
                Ok(counter) => {
                    let sampler = counter.sampled(PROFILE_RING_BYTES);
                    watched.push((name, sampler.map_err(|source| ProfileError::Memory { source })?));
                }
                // It has ended since.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(source) if is_refused(&source) => {
                    return Err(ProfileError::Forbidden { paranoid: paranoid(), source });
                }
                Err(source) => return Err(ProfileError::Failed { what: "opening perf events", source }),
            }
        }
        for (_, sampler) in &mut watched {
            let enabled = sampler.enable();
            enabled.map_err(|source| ProfileError::Failed { what: "starting perf events", source })?;
        }
        Ok(Sampling { threads: watched, lost: 0 })
    }

    /// Hands over what has been seen since, with the thread's name.
    pub(super) fn drain(&mut self, mut take: impl FnMut(&Arc<str>, Sample<'_>)) {
        for (name, sampler) in &mut self.threads {
            // The kernel goes on writing meanwhile: no more than a whole buffer at a time.
            for _ in 0..PROFILE_RING_BYTES / PROFILE_STACK_BYTES as usize {
                let Some(record) = sampler.next_record() else { break };
                match record.parse_record() {
                    Ok(Record::Sample(sample)) => {
                        let kernel = sample.callchain().unwrap_or_default();
                        let registers =
                            sample.regs_user().and_then(|registers| Registers::of(&registers.regs));
                        take(
                            name,
                            Sample {
                                kernel: kernel.iter().copied().filter(|&address| address < MARKS).collect(),
                                registers,
                                stack: sample.stack_user().unwrap_or_default(),
                            },
                        );
                    }
                    Ok(Record::Lost(lost)) => self.lost += lost.lost,
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }

    /// Samples for which there was no room.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}

fn open(thread_id: i32, sees_kernel: bool) -> io::Result<perf_event::Counter> {
    let mut builder = Builder::new(Software::CPU_CLOCK);
    builder
        .observe_pid(thread_id)
        .any_cpu()
        .exclude_kernel(!sees_kernel)
        .exclude_hv(true)
        .sample_frequency(u64::from(PROFILE_HZ))
        .sample(SampleFlag::CALLCHAIN | SampleFlag::REGS_USER | SampleFlag::STACK_USER)
        .exclude_callchain_user(true)
        .sample_regs_user(REGISTERS)
        .sample_stack_user(PROFILE_STACK_BYTES);
    builder.build()
}

fn is_refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::ENOSYS))
}

fn paranoid() -> String {
    let read = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    read.map_or_else(|_| "not to be read".to_owned(), |text| text.trim().to_owned())
}

/// The threads of this process but this one, shards first: they are what a profile is about, where not all can be watched.
fn threads() -> io::Result<Vec<(i32, Arc<str>)>> {
    let own = rustix::thread::gettid().as_raw_nonzero().get();
    let mut threads: Vec<(i32, Arc<str>)> = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let Ok(Ok(thread_id)) = entry.map(|entry| entry.file_name().to_string_lossy().parse::<i32>()) else {
            continue;
        };
        let Ok(name) = fs::read_to_string(format!("/proc/self/task/{thread_id}/comm")) else { continue };
        if thread_id != own {
            threads.push((thread_id, Arc::from(name.trim_end())));
        }
    }
    threads.sort_by_key(|(thread_id, name)| (!name.starts_with("florin-shard"), *thread_id));
    threads.truncate(PROFILE_THREADS_MAX);
    Ok(threads)
}
