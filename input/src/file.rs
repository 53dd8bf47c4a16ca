//! Reading a file that somebody has named within bounds: neither a start nor a reload on a runtime's only thread may wait for
//! somebody who never writes to a FIFO, nor read a device without end. A file with a secret is read only where nobody else can.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// The file's text.
///
/// # Errors
/// Also where it has more than `bytes_max` bytes, or is not all there within `patience`.
pub fn read_text(path: &Path, bytes_max: usize, patience: Duration) -> io::Result<String> {
    text(read(&mut open(path)?, bytes_max, patience)?)
}

/// What is in a file that nobody else is to read: a key, a password, a token.
///
/// # Errors
/// As [`read_text`]; and where others than root and this process's user may read or write it, but for a group that may read it.
pub fn read_secret(path: &Path, bytes_max: usize, patience: Duration) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    guarded(&file)?;
    read(&mut file, bytes_max, patience)
}

/// The text of a file that says whom to trust: who may write it decides that.
///
/// # Errors
/// As [`read_text`]; and where others than root and this process's user may write it.
pub fn read_trusted(path: &Path, bytes_max: usize, patience: Duration) -> io::Result<String> {
    let mut file = open(path)?;
    let facts = file.metadata()?;
    if !is_own_alone(&facts) {
        let why = format!(
            "it says whom to trust, has the mode {:03o} and belongs to user {}: expected one of root's or of this process's user, which \
             nobody else may write (chmod go-w)",
            facts.mode() & 0o7777,
            facts.uid()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    text(read(&mut file, bytes_max, patience)?)
}

/// As [`read_secret`], where the secret is text.
///
/// # Errors
/// As [`read_secret`].
pub fn read_secret_text(path: &Path, bytes_max: usize, patience: Duration) -> io::Result<String> {
    text(read_secret(path, bytes_max, patience)?)
}

/// Whether a file's secret is kept, for who leaves the reading to somebody else.
///
/// # Errors
/// As [`read_secret`].
pub fn is_secret_kept(path: &Path) -> io::Result<()> {
    guarded(&open(path)?)
}

/// Whether root or this process's user are who decides about a file.
fn is_own(facts: &Metadata) -> bool {
    facts.uid() == 0 || facts.uid() == rustix::process::geteuid().as_raw()
}

/// Whether nobody else may write what it is of, either.
pub fn is_own_alone(facts: &Metadata) -> bool {
    is_own(facts) && facts.mode() & 0o022 == 0
}

/// A group may read it: systemd's credentials are files of root's that a service's group reads.
fn guarded(file: &File) -> io::Result<()> {
    let facts = file.metadata()?;
    if is_own(&facts) && facts.mode() & 0o037 == 0 {
        return Ok(());
    }
    let why = format!(
        "it holds a secret, has the mode {:03o} and belongs to user {}: expected one of root's or of this process's user, which no others \
         may read and whose group may not write it (chmod 600)",
        facts.mode() & 0o7777,
        facts.uid()
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Opens without waiting for whoever would write to a FIFO.
///
/// # Errors
/// The system's.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "expected UTF-8"))
}

fn read(file: &mut File, bytes_max: usize, patience: Duration) -> io::Result<Vec<u8>> {
    let end = Instant::now() + patience;
    let mut bytes = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        wait(file, end, patience)?;
        match file.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        if bytes.len() > bytes_max {
            let why = format!("expected at most {bytes_max} bytes, found more");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
    }
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

    #[test]
    fn a_secret_that_others_can_get_at_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "secret").unwrap();
        for (mode, is_kept) in
            [(0o600, true), (0o400, true), (0o640, true), (0o660, false), (0o644, false), (0o602, false)]
        {
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            let read = read_secret_text(&path, 1_000, Duration::from_secs(1));
            assert_eq!(is_secret_kept(&path).is_ok(), is_kept, "{mode:o}");
            match read {
                Ok(text) => assert!(is_kept && text == "secret", "{mode:o}"),
                Err(error) => {
                    assert!(!is_kept, "{mode:o}: {error}");
                    assert!(error.to_string().contains(&format!("the mode {mode:o}")), "{error}");
                    assert!(!error.to_string().contains(": secret"), "{error}");
                }
            }
        }
        // Somebody else's, which only root can make.
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        if std::os::unix::fs::chown(&path, Some(12_345), None).is_ok() {
            assert_eq!(is_secret_kept(&path).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn what_others_may_write_says_nobody_whom_to_trust() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        std::fs::write(&path, "an authority").unwrap();
        let read = || read_trusted(&path, 1_000, Duration::from_secs(1));
        for (mode, is_trusted) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            match read() {
                Ok(text) => assert!(is_trusted && text == "an authority", "{mode:o}"),
                Err(error) => {
                    assert!(!is_trusted && error.to_string().contains("chmod go-w"), "{mode:o}: {error}")
                }
            }
        }
        // Somebody else's, which only root can make.
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        if std::os::unix::fs::chown(&path, Some(12_345), None).is_ok() {
            assert_eq!(read().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
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
