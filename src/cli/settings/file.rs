//! Reading a configuration file within bounds: a start, and SIGHUP's reload on the control plane's only thread, must not wait for
//! somebody who never writes to a FIFO, nor read a device without end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::limits::{CONFIG_BYTES_MAX, CONFIG_READ};

/// The file's text.
///
/// # Errors
/// Also where it has more than [`CONFIG_BYTES_MAX`] bytes, or is not all there within [`CONFIG_READ`].
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let end = Instant::now() + CONFIG_READ;
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let mut text = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        wait(&file, end)?;
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(bytes) => text.extend_from_slice(&piece[..bytes]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        if text.len() > CONFIG_BYTES_MAX {
            let why = format!("expected at most {CONFIG_BYTES_MAX} bytes, found more");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
    }
    String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Until there is something to read, which a file has at once. The end of a FIFO that nobody has opened for writing is none.
fn wait(file: &File, end: Instant) -> io::Result<()> {
    let left = end.saturating_duration_since(Instant::now());
    let limit = Timespec::try_from(left).expect("seconds fit");
    match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&limit)) {
        Ok(0) => {
            let why = format!("it is no file, and its end did not come within {CONFIG_READ:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        }
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A FIFO without a writer held the start for ever, `/dev/zero` until memory ran out.
    #[test]
    fn a_configuration_ends_or_is_given_up() {
        assert_eq!(read_text(Path::new("/dev/zero")).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        assert_eq!(read_text(&path).unwrap_err().kind(), io::ErrorKind::TimedOut);
        // What `--config <(…)` gives is read to its end.
        let writer = std::thread::spawn({
            let path = path.clone();
            move || std::fs::write(path, "shards = 2\n").unwrap()
        });
        assert_eq!(read_text(&path).unwrap(), "shards = 2\n");
        writer.join().unwrap();
    }
}
