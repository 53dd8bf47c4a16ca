//! Reads recordings.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::format::{END_BEGINS, End, Entry, FormatError, Header, Line, Sum, VERSION};
use crate::limits::RECORD_LINE_BYTES_MAX;
use crate::request::Request;

/// A recording's requests, in order, and whether it is all there.
pub struct Entries {
    path: String,
    reader: BufReader<File>,
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
/// Where it is none. That it is damaged, or not all there, say its entries: whatever comes before can be used.
pub fn read_file(path: &Path) -> Result<Entries, FormatError> {
    let name = path.display().to_string();
    let failed = |source| FormatError::Read { path: path.display().to_string(), source };
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let first = next_line(&mut reader).map_err(failed)?.unwrap_or_default();
    let header: Option<Header> = florin_input::json(&first).ok();
    let Some(Header { run, .. }) = header.filter(|h| h.florin_shadow_recording == VERSION) else {
        let got = String::from_utf8_lossy(&first).chars().take(80).collect();
        return Err(FormatError::Header { path: name, got });
    };
    Ok(Entries { path: name, reader, run, line: 1, sum: Sum::begin(&first), state: State::Reading })
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
        Err(FormatError::Header { got, .. }) => Ok(got.is_empty()),
        Err(FormatError::Read { source, .. }) => Err(source),
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

    fn next_entry(&mut self) -> Option<Result<Entry, FormatError>> {
        let path = self.path.clone();
        let line = self.line + 1;
        let text = match next_line(&mut self.reader) {
            Ok(None) => return Some(Err(FormatError::Cut { path, line: self.line })),
            Err(source) => return Some(Err(FormatError::Read { path, source })),
            Ok(Some(text)) => text,
        };
        let wrong = |why| FormatError::Line { path: path.clone(), line, why };
        self.line = line;
        if !text.ends_with(b"\n") {
            let error = match text.len() {
                RECORD_LINE_BYTES_MAX.. => {
                    wrong(format!("expected at most {RECORD_LINE_BYTES_MAX} bytes, got more"))
                }
                _ => FormatError::BreaksOff { path, line },
            };
            return Some(Err(error));
        }
        if text.starts_with(END_BEGINS) {
            return self.end(&text).unwrap_or_else(|why| Some(wrong(why))).map(Err);
        }
        self.sum.add(&text);
        Some(parse(&text, self.run).map_err(wrong))
    }

    /// Takes the last line: nothing where it is right, else what is wrong.
    fn end(&mut self, text: &[u8]) -> Result<Option<FormatError>, String> {
        let End { end } = florin_input::json(text).map_err(|error| error.to_string())?;
        let mut behind = [0];
        if self.reader.read(&mut behind).map_err(|error| error.to_string())? > 0 {
            return Err("expected nothing behind it: it says that the recording is whole".to_owned());
        }
        let found = self.sum.mark(end.taken);
        if end == found {
            self.state = State::Whole(end.taken);
            return Ok(None);
        }
        let words =
            |requests: u64, checksum: &str| format!("{requests} requests with the checksum {checksum}");
        Ok(Some(FormatError::Damaged {
            path: self.path.clone(),
            expected: words(end.requests, &end.checksum),
            found: words(found.requests, &found.checksum),
        }))
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, FormatError>;

    fn next(&mut self) -> Option<Result<Entry, FormatError>> {
        if self.state != State::Reading {
            return None;
        }
        let next = self.next_entry();
        if matches!(next, Some(Err(_))) {
            self.state = State::Over;
        }
        next
    }
}

fn next_line(reader: &mut BufReader<File>) -> io::Result<Option<Vec<u8>>> {
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
