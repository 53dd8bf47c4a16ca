//! Which CPUs threads and servers run on.

use std::{fmt, io, str::FromStr};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A list of CPUs, as `0-3,8` on the command line. Empty: wherever the kernel likes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cpus(pub Vec<usize>);

/// A text that is no list of CPUs.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no list of CPUs: say for example 0 or 0-3,8")]
pub struct CpusError(String);

impl FromStr for Cpus {
    type Err = CpusError;

    fn from_str(text: &str) -> Result<Cpus, CpusError> {
        let cpus = florin_tune::numbers(text).filter(|cpus| cpus.iter().all(|&cpu| cpu < CpuSet::MAX_CPU));
        cpus.map(Cpus).ok_or_else(|| CpusError(text.to_owned()))
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&cpus.join(","))
    }
}

/// Pins the calling thread, and whatever it starts from then on; an empty list leaves everything as it is.
pub fn pin_current(cpus: &[usize]) -> io::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    Ok(sched_setaffinity(None, &set)?)
}

/// Does something while the calling thread, and so each process that it starts, is pinned to `cpus`.
pub fn pinned<T>(cpus: &[usize], work: impl FnOnce() -> T) -> io::Result<T> {
    let before = sched_getaffinity(None)?;
    pin_current(cpus)?;
    let done = work();
    sched_setaffinity(None, &before)?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_what_is_none_is_refused() {
        assert_eq!("8,0-2,1".parse(), Ok(Cpus(vec![0, 1, 2, 8])));
        for wrong in ["", "a", "3-1", "0,", "-1", "99999"] {
            assert!(wrong.parse::<Cpus>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_pin_lasts_as_long_as_its_work() {
        let before = sched_getaffinity(None).unwrap();
        let first = (0..CpuSet::MAX_CPU).find(|&cpu| before.is_set(cpu)).unwrap();
        let inside = pinned(&[first], || sched_getaffinity(None).unwrap()).unwrap();
        assert_eq!((inside.count(), inside.is_set(first)), (1, true));
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
