//! Reading a file that somebody has named within bounds: neither a start nor a reload on a runtime's only thread may wait for
//! somebody who never writes to a FIFO, nor read a device without end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// The file's text.
///
/// # Errors
/// Also where it has more than `bytes_max` bytes, or is not all there within `patience`.
pub fn read_text(path: &Path, bytes_max: usize, patience: Duration) -> io::Result<String> {
    let end = Instant::now() + patience;
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut text = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        wait(&file, end, patience)?;
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(bytes) => text.extend_from_slice(&piece[..bytes]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        if text.len() > bytes_max {
            let why = format!("expected at most {bytes_max} bytes, found more");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
    }
    String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Until there is something to read, which a file has at once. The end of a FIFO that nobody has opened for writing is none.
fn wait(file: &File, end: Instant, patience: Duration) -> io::Result<()> {
    let left = end.saturating_duration_since(Instant::now());
    let limit = Timespec::try_from(left).expect("seconds fit");
    match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&limit)) {
        Ok(0) => {
            let why = format!("it is no file, and its end did not come within {patience:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        }
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> io::Result<String> {
        read_text(path, 1_000, Duration::from_secs(1))
    }

    /// A FIFO without a writer held the start for ever, `/dev/zero` until memory ran out.
    #[test]
    fn a_configuration_ends_or_is_given_up() {
        assert_eq!(read(Path::new("/dev/zero")).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::TimedOut);
        // What `--config <(…)` gives is read to its end.
        let writer = std::thread::spawn({
            let path = path.clone();
            move || std::fs::write(path, "shards = 2\n").unwrap()
        });
        assert_eq!(read(&path).unwrap(), "shards = 2\n");
        writer.join().unwrap();
    }
}
