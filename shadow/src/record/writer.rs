//! Writes traffic to a file that is rotated: FILE is the newest, FILE.1 the one before, and so on.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::format::{Sum, first_line, line};
use super::read::is_ours;
use crate::answer::Answer;
use crate::budget::{Budget, Held};
use crate::credentials::Kept;
use crate::files::private;
use crate::limits::{RECORD_END_BYTES_MAX, RECORD_QUEUE_BYTES_MAX, RECORD_QUEUE_MAX};
use crate::request::Request;

/// Where a recording goes, and how large it may become.
#[derive(Clone, Debug)]
pub struct RecordSettings {
    /// The newest file.
    pub file: PathBuf,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Files in all; the oldest goes when another begins.
    pub files: usize,
    /// What of requests is written beside what is known to be no secret.
    pub kept: Kept,
}

/// Why nothing can be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// It cannot be written.
    #[error("cannot write the recording {path}: {source}; name a file in a folder that can be written to")]
    Write {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is something else, which would be renamed, and be gone when there are enough recordings.
    #[error(
        "{path} is there already and is no recording of florin's: it is left as it is. Name another file"
    )]
    Foreign {
        /// Which.
        path: String,
    },
}

/// The way in: never waits.
#[derive(Clone)]
pub struct Recorder {
    queue: SyncSender<(String, Held)>,
    budget: Budget,
    taken: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
    kept: Arc<Kept>,
}

/// Writes until every [`Recorder`] is gone.
pub struct Recording {
    thread: JoinHandle<Result<u64, RecorderError>>,
    dropped: Arc<AtomicU64>,
}

/// What became of the traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// Requests in the files, those that were rotated away included.
    pub written: u64,
    /// Requests that the disk was too slow for.
    pub dropped: u64,
}

impl Recorder {
    /// Opens the file, and starts to write.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn start(settings: RecordSettings) -> Result<(Recorder, Recording), RecorderError> {
        let taken = Arc::new(AtomicU64::new(0));
        let kept = Arc::new(settings.kept.clone());
        let mut files = Files::open(settings, Arc::clone(&taken))?;
        let (queue, lines) = sync_channel(RECORD_QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let thread = thread::Builder::new().name("recording".to_owned());
        let path = files.settings.file.display().to_string();
        let thread = thread
            .spawn(move || {
                write(&mut files, &lines).inspect_err(|error| {
                    tracing::error!("{error}: callers are still served, and nothing more is recorded");
                })
            })
            .map_err(|source| RecorderError::Write { path, source })?;
        let budget = Budget::new(RECORD_QUEUE_BYTES_MAX);
        let recorder = Recorder { queue, budget, taken, dropped: Arc::clone(&dropped), kept };
        Ok((recorder, Recording { thread, dropped }))
    }

    /// Takes a request that was asked at `at_us`, or drops it and counts that.
    pub fn take(&self, request: &Request, answer: Option<&Answer>, at_us: i64) {
        // One that is dropped leaves its number missing.
        let number = self.taken.fetch_add(1, Ordering::Relaxed) + 1;
        let line = line(number, request, answer, at_us, &self.kept);
        let mut held = self.budget.nothing();
        if !held.take(line.len()) || self.queue.try_send((line, held)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Recording {
    /// Waits until everything is written.
    ///
    /// # Errors
    /// Where something could not be.
    pub fn end(self) -> Result<Recorded, RecorderError> {
        let written = self.thread.join().expect("the recording's thread does not panic")?;
        Ok(Recorded { written, dropped: self.dropped.load(Ordering::Relaxed) })
    }
}

fn write(files: &mut Files, lines: &Receiver<(String, Held)>) -> Result<u64, RecorderError> {
    let mut written = 0;
    while let Ok((first, _held)) = lines.recv() {
        files.write(&first)?;
        written += 1;
        // Flushed when there is nothing more to write: whoever looks at the file sees all but the last moment.
        while let Ok((next, _held)) = lines.try_recv() {
            files.write(&next)?;
            written += 1;
        }
        files.flush()?;
    }
    files.end()?;
    Ok(written)
}

struct Files {
    settings: RecordSettings,
    run: u64,
    /// Requests that the recorder has taken.
    taken: Arc<AtomicU64>,
    file: BufWriter<File>,
    bytes: u64,
    sum: Sum,
}

impl Files {
    fn open(settings: RecordSettings, taken: Arc<AtomicU64>) -> Result<Files, RecorderError> {
        for age in 0..settings.files {
            let path = aged(&settings.file, age);
            if !is_ours(&path).map_err(|source| failed(&path, source))? {
                return Err(RecorderError::Foreign { path: path.display().to_string() });
            }
        }
        // What an earlier run has recorded is no less worth than what this one did before.
        if fs::metadata(&settings.file).is_ok_and(|found| found.len() > 0) {
            age(&settings).map_err(|source| failed(&settings.file, source))?;
        }
        let run = rand::random();
        let (file, bytes, sum) =
            begin(&settings.file, run).map_err(|source| failed(&settings.file, source))?;
        Ok(Files { settings, run, taken, file, bytes, sum })
    }

    fn write(&mut self, line: &str) -> Result<(), RecorderError> {
        if self.bytes + line.len() as u64 + RECORD_END_BYTES_MAX > self.settings.file_bytes {
            self.rotate().map_err(|source| failed(&self.settings.file, source))?;
        }
        self.bytes += line.len() as u64;
        self.sum.add(line.as_bytes());
        self.file.write_all(line.as_bytes()).map_err(|source| failed(&self.settings.file, source))
    }

    fn flush(&mut self) -> Result<(), RecorderError> {
        self.file.flush().map_err(|source| failed(&self.settings.file, source))
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.mark(None)?;
        age(&self.settings)?;
        (self.file, self.bytes, self.sum) = begin(&self.settings.file, self.run)?;
        Ok(())
    }

    /// Says that all of it is there.
    fn end(&mut self) -> Result<(), RecorderError> {
        let taken = self.taken.load(Ordering::Relaxed);
        self.mark(Some(taken)).map_err(|source| failed(&self.settings.file, source))
    }

    fn mark(&mut self, taken: Option<u64>) -> io::Result<()> {
        self.file.write_all(self.sum.line(taken).as_bytes())?;
        self.file.flush()
    }
}

/// Gives every file the name of the next older one; the oldest goes.
fn age(settings: &RecordSettings) -> io::Result<()> {
    let newest = &settings.file;
    for age in (0..settings.files.saturating_sub(1)).rev() {
        match fs::rename(aged(newest, age), aged(newest, age + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// FILE, FILE.1, FILE.2, …
fn aged(newest: &Path, age: usize) -> PathBuf {
    if age == 0 {
        return newest.to_owned();
    }
    let mut name = newest.as_os_str().to_owned();
    name.push(format!(".{age}"));
    PathBuf::from(name)
}

fn begin(path: &Path, run: u64) -> io::Result<(BufWriter<File>, u64, Sum)> {
    let first = first_line(run);
    let mut file = BufWriter::new(private(path)?);
    file.write_all(first.as_bytes())?;
    file.flush()?;
    Ok((file, first.len() as u64, Sum::begin(first.as_bytes())))
}

fn failed(path: &Path, source: io::Error) -> RecorderError {
    RecorderError::Write { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Method};

    use super::*;
    use crate::limits::RECORD_LINE_BYTES_MAX;
    use crate::record::{Defect, read_file};

    fn request(target: &str, headers: HeaderMap, body: &'static [u8]) -> Request {
        Request::new(Method::POST, target.to_owned(), Arc::new(headers), Bytes::from_static(body))
    }

    #[test]
    fn what_is_written_is_read_again_without_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("traffic.jsonl");
        let kept = Kept { parameters: vec!["page".to_owned()], bodies: vec!["/x".to_owned()] };
        let settings = RecordSettings { file: file.clone(), file_bytes: 1 << 20, files: 3, kept };
        let (recorder, recording) = Recorder::start(settings).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("x-api-key", "x"),
            ("accept", "a"),
            ("accept", "b"),
            ("connection", "close"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        recorder.take(&request("/v1/balances:batchGet?page=é", headers, b"{\"user_ids\":[1]}"), None, 1);
        recorder.take(&request("/x?otp=abc", HeaderMap::new(), b"\xff\x00"), None, 1);
        recorder.take(&request("/v1/balances:batchGet", HeaderMap::new(), b"{\"pin\":1}"), None, 1);
        drop(recorder);
        assert_eq!(recording.end().unwrap(), Recorded { written: 3, dropped: 0 });
        let entries: Vec<_> = read_file(&file).unwrap().map(Result::unwrap).collect();
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0].request.target, "/v1/balances:batchGet?page=é");
        assert_eq!(entries[0].request.headers.get_all("accept").iter().count(), 2);
        assert_eq!(entries[0].request.headers.len(), 2);
        assert_eq!(entries[1].request.target, "/x?otp=LEFT-OUT");
        let numbers: Vec<_> = entries.iter().map(|entry| entry.number.1).collect();
        assert_eq!(numbers, [1, 2, 3]);
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "it names users");
        assert_eq!(entries[1].request.body, &b"\xff\x00"[..]);
        assert_eq!(entries[2].request.body, "LEFT-OUT");
    }

    #[test]
    fn files_are_rotated_and_bounded_and_each_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t");
        let settings =
            RecordSettings { file: file.clone(), file_bytes: 1_000, files: 3, kept: Kept::default() };
        let (recorder, recording) = Recorder::start(settings).unwrap();
        for number in 0..200 {
            recorder.take(&request(&format!("/{number}"), HeaderMap::new(), b""), None, 1);
        }
        drop(recorder);
        assert_eq!(recording.end().unwrap().written, 200);
        let mut targets = Vec::new();
        for name in ["t.2", "t.1", "t"] {
            let path = folder.path().join(name);
            assert!(fs::metadata(&path).unwrap().len() <= 1_000);
            targets.extend(read_file(&path).unwrap().map(|entry| entry.unwrap().request.target));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        let expected: Vec<String> = (200 - targets.len()..200).map(|number| format!("/{number}")).collect();
        assert_eq!(targets, expected);
    }

    #[test]
    fn what_an_earlier_run_has_recorded_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t");
        for (target, files) in [("/first", 2), ("/second", 2), ("/third", 2)] {
            let settings =
                RecordSettings { file: file.clone(), file_bytes: 1_000, files, kept: Kept::default() };
            let (recorder, recording) = Recorder::start(settings).unwrap();
            recorder.take(&request(target, HeaderMap::new(), b""), None, 1);
            drop(recorder);
            recording.end().unwrap();
        }
        let targets = |name: &str| -> Vec<String> {
            let entries = read_file(&folder.path().join(name)).unwrap();
            entries.map(|entry| entry.unwrap().request.target).collect()
        };
        assert_eq!((targets("t.1"), targets("t")), (vec!["/second".to_owned()], vec!["/third".to_owned()]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    /// Whatever stood under the name was renamed, step by step, until it was gone.
    #[test]
    fn what_is_no_recording_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t");
        let start = |file: &Path| {
            let settings =
                RecordSettings { file: file.to_owned(), file_bytes: 1_000, files: 3, kept: Kept::default() };
            Recorder::start(settings).map(|(recorder, recording)| {
                drop(recorder);
                recording.end().unwrap();
            })
        };
        for name in ["t", "t.1", "t.2"] {
            let other = folder.path().join(name);
            fs::write(&other, "[ledger]\n").unwrap();
            let error = start(&file).unwrap_err().to_string();
            assert!(error.contains(&format!("{name} is there already and is no recording")), "{error}");
            assert_eq!(fs::read_to_string(&other).unwrap(), "[ledger]\n");
            fs::remove_file(&other).unwrap();
        }
        assert!(matches!(start(Path::new("/dev/null")), Err(RecorderError::Foreign { .. })));
        assert!(matches!(start(folder.path()), Err(RecorderError::Foreign { .. })));
        // Nothing is lost of a file with nothing in it, nor of one that only its first line says to be a recording.
        for text in ["", &first_line(7)] {
            fs::write(&file, text).unwrap();
            start(&file).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    /// A file that had been cut between two lines was replayed as if it were whole.
    #[test]
    fn a_file_that_is_cut_anywhere_or_changed_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t");
        let settings =
            RecordSettings { file: file.clone(), file_bytes: 1_000, files: 9, kept: Kept::default() };
        let (recorder, recording) = Recorder::start(settings).unwrap();
        for number in 0..20 {
            recorder.take(&request(&format!("/{number}"), HeaderMap::new(), b""), None, 1);
        }
        drop(recorder);
        recording.end().unwrap();
        let read = |path: &Path| {
            let mut entries = read_file(path).unwrap();
            let error = entries.find_map(Result::err).map(|error| error.defect);
            (error, entries.ended().map(|(_, taken)| taken))
        };
        assert!(matches!(read(&file), (None, Some(20))));
        let older = folder.path().join("t.1");
        assert!(matches!(read(&older), (None, None)), "it goes on in the newer one");
        let whole = fs::read(&older).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let cut = folder.path().join("cut");
        for end in first..whole.len() {
            fs::write(&cut, &whole[..end]).unwrap();
            let error = read(&cut).0;
            let is_boundary = whole[end - 1] == b'\n';
            let is_told = match error {
                Some(Defect::Cut(_)) => is_boundary,
                Some(Defect::BreaksOff(_)) => !is_boundary,
                _ => false,
            };
            assert!(is_told, "cut at {end}: {error:?}");
        }
        // A line less, one twice, another word in one, and something behind the end.
        let text = String::from_utf8(whole).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let with = |lines: &[&str]| {
            fs::write(&cut, lines.join("\n") + "\n").unwrap();
            read(&cut).0
        };
        let without = [&lines[..2], &lines[3..]].concat();
        let twice = [&lines[..3], &lines[2..]].concat();
        let other = lines[2].replace("POST", "PUT");
        let changed = [&lines[..2], &[other.as_str()], &lines[3..]].concat();
        for damaged in [without, twice, changed] {
            assert!(matches!(with(&damaged), Some(Defect::Damaged { .. })), "{damaged:?}");
        }
        assert!(matches!(with(&[&lines[..], &lines[1..2]].concat()), Some(Defect::Line(..))));
    }

    #[test]
    fn what_is_no_recording_is_refused_and_a_broken_end_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t");
        let error = |text: &str| {
            fs::write(&file, text).unwrap();
            match read_file(&file) {
                Ok(mut entries) => {
                    entries.find_map(Result::err).map(|error| error.to_string()).unwrap_or_default()
                }
                Err(error) => error.to_string(),
            }
        };
        assert!(error("{}\n").contains("is no recording: expected a first line"));
        assert!(error("").contains("got \"\""));
        let good = r#"{"n":1,"at_us":1,"method":"GET","target":"/"}"#;
        assert!(error(&format!("{}{{}}\n{good}\n", first_line(7))).contains("line 2: missing field"));
        assert!(
            error(&format!("{}{good}\n{}\n", first_line(7), good.replace("GET", "G T")))
                .contains("line 3: method")
        );
        assert!(error(&format!("{}{good}\n{{\"n\":2,", first_line(7))).contains("line 3 breaks off"));
        // A writer that was killed may have left half a character.
        let torn =
            [format!("{}{good}\n{{\"n\":2,\"target\":\"/", first_line(7)).as_bytes(), b"\xc3"].concat();
        fs::write(&file, torn).unwrap();
        let entries: Vec<_> =
            read_file(&file).unwrap().map(|entry| entry.map_err(|error| error.defect)).collect();
        assert!(matches!(entries[..], [Ok(_), Err(Defect::BreaksOff(3))]), "{entries:?}");
        let endless = format!("{}{}\n", first_line(7), "x".repeat(RECORD_LINE_BYTES_MAX));
        assert!(error(&endless).contains("line 2: expected at most"), "{}", error(&endless));
        assert!(read_file(&folder.path().join("none")).err().unwrap().to_string().contains("cannot read"));
    }
}
