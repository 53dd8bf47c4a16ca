//! Reads recordings.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::format::{Defect, END_BEGINS, End, EndMark, Entry, FormatError, Header, Line, Sum, VERSION};
use crate::limits::RECORD_LINE_BYTES_MAX;
use crate::request::Request;

/// A recording's requests, in order, and whether it is all there.
pub struct Entries {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    run: u64,
    /// The last that was read, from 1.
    line: usize,
    sum: Sum,
    state: State,
}

/// How far a file has been read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// Its last line says that it is whole, and how many requests there were in all, unless another file goes on.
    Whole(Option<u64>),
    /// There is nothing more to be had.
    Over,
}

/// Reads a recording, request by request.
///
/// # Errors
/// See [`read`].
pub fn read_file(path: &Path) -> Result<Entries, FormatError> {
    let file = File::open(path).map_err(|error| FormatError::of(path, error))?;
    read(path, BufReader::new(file))
}

/// Reads what is, or is to be, at `path`.
///
/// # Errors
/// Where it is none. That it is damaged, or not all there, say its entries: whatever comes before can be used.
pub fn read(path: &Path, reader: impl BufRead + Send + 'static) -> Result<Entries, FormatError> {
    let failed = |error: io::Error| FormatError::of(path, error);
    let mut reader: Box<dyn BufRead + Send> = Box::new(reader);
    let first = next_line(&mut reader).map_err(failed)?.unwrap_or_default();
    let header: Option<Header> = florin_input::json(&first).ok();
    let Some(Header { run, .. }) = header.filter(|h| h.florin_shadow_recording == VERSION) else {
        let got = String::from_utf8_lossy(&first).chars().take(80).collect();
        return Err(FormatError::of(path, Defect::Header(got)));
    };
    let path = path.to_owned();
    Ok(Entries { path, reader, run, line: 1, sum: Sum::begin(&first), state: State::Reading })
}

/// Whether a file is a recording, or has nothing in it that could be lost.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn is_ours(path: &Path) -> io::Result<bool> {
    let is_file = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        found => found?.is_file(),
    };
    // What is no file is not opened: a pipe may have no end.
    if !is_file {
        return Ok(false);
    }
    match read_file(path) {
        Ok(_) => Ok(true),
        Err(FormatError { defect: Defect::Header(got), .. }) => Ok(got.is_empty()),
        Err(FormatError { defect: Defect::Read(source), .. }) => Err(source),
        Err(_) => Ok(false),
    }
}

impl Entries {
    /// Once all is read: the run, and how many requests it had taken when it ended; nothing where another file goes on.
    pub fn ended(&self) -> Option<(u64, u64)> {
        match self.state {
            State::Whole(Some(taken)) => Some((self.run, taken)),
            _ => None,
        }
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, Defect> {
        let text = next_line(&mut self.reader)?.ok_or(Defect::Cut(self.line))?;
        self.line += 1;
        let wrong = |why| Defect::Line(self.line, why);
        if !text.ends_with(b"\n") {
            return Err(match text.len() {
                RECORD_LINE_BYTES_MAX.. => {
                    wrong(format!("expected at most {RECORD_LINE_BYTES_MAX} bytes, got more"))
                }
                _ => Defect::BreaksOff(self.line),
            });
        }
        if text.starts_with(END_BEGINS) {
            return self.end(&text).map(|()| None);
        }
        self.sum.add(&text);
        parse(&text, self.run).map(Some).map_err(wrong)
    }

    /// Takes the last line.
    fn end(&mut self, text: &[u8]) -> Result<(), Defect> {
        let wrong = |why| Defect::Line(self.line, why);
        let End { end } = florin_input::json(text).map_err(|error| wrong(error.to_string()))?;
        if self.reader.read(&mut [0])? > 0 {
            return Err(wrong("expected nothing behind it: it says that the recording is whole".to_owned()));
        }
        let found = self.sum.mark(end.taken);
        if end != found {
            let words =
                |mark: &EndMark| format!("{} requests with the checksum {}", mark.requests, mark.checksum);
            return Err(Defect::Damaged { expected: words(&end), found: words(&found) });
        }
        self.state = State::Whole(end.taken);
        Ok(())
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, FormatError>;

    fn next(&mut self) -> Option<Result<Entry, FormatError>> {
        if self.state != State::Reading {
            return None;
        }
        let next = self.next_entry();
        if next.is_err() {
            self.state = State::Over;
        }
        next.map_err(|defect| FormatError::of(&self.path, defect)).transpose()
    }
}

fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let bytes = reader.by_ref().take(RECORD_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
    Ok((bytes > 0).then_some(line))
}

fn parse(text: &[u8], run: u64) -> Result<Entry, String> {
    let line: Line = florin_input::json(text).map_err(|error| error.to_string())?;
    let method =
        Method::from_bytes(line.method.as_bytes()).map_err(|_| format!("method: got {:?}", line.method))?;
    let mut headers = HeaderMap::with_capacity(line.headers.len());
    for (name, value) in &line.headers {
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("headers: got the name {name:?}"))?;
        let value = HeaderValue::from_str(value).map_err(|_| format!("headers: got the value {value:?}"))?;
        headers.append(name, value);
    }
    let body = match line.body_base64.as_str() {
        "" => Bytes::from(line.body),
        text => Bytes::from(STANDARD.decode(text).map_err(|error| format!("body_base64: {error}"))?),
    };
    let request = Request::new(method, line.target, Arc::new(headers), body);
    Ok(Entry { number: (run, line.n), at_us: line.at_us, request })
}
