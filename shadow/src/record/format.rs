//! A recording: JSON lines. The first says what it is, each other is one request, and the status that the primary gave it.
//!
//! ```text
//! {"florin_shadow_recording":1,"run":7230}
//! {"n":1,"at_us":1795000000000000,"method":"GET","target":"/v1/users/42/balance","headers":[["accept","*/*"]],"status":200}
//! ```
//!
//! A body is text where it is UTF-8, and base64 under `body_base64` where it is not.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::credentials::{may_be_secret, without_secrets};
use crate::files::private;
use crate::limits::RECORD_LINE_BYTES_MAX;
use crate::request::HOP_BY_HOP;
use crate::request::Request;

const VERSION: u32 = 1;

/// One request of a recording.
#[derive(Clone, Debug)]
pub struct Entry {
    /// In which run of the recorder, and which request of it; recordings of before had no numbers.
    pub number: Option<(u64, u64)>,
    /// When it was asked, µs since 1970 UTC.
    pub at_us: i64,
    /// What was asked.
    pub request: Request,
}

/// Why a file is no recording.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Its first line is another.
    #[error(
        "{path} is no recording: expected a first line {{\"florin_shadow_recording\":{VERSION}}}, got {got:?}"
    )]
    Header {
        /// Which.
        path: String,
        /// What came.
        got: String,
    },
    /// The last line has no end: whoever wrote it was killed.
    #[error(
        "{path}, line {line} breaks off: whoever wrote it was killed, and what it had not yet written is missing"
    )]
    BreaksOff {
        /// Which.
        path: String,
        /// From 1.
        line: usize,
    },
    /// A line is none.
    #[error("{path}, line {line}: {why}")]
    Line {
        /// Which.
        path: String,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    florin_shadow_recording: u32,
    /// Of one run of the recorder: its files are numbered on.
    #[serde(default)]
    run: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// From 1, in the order in which requests came; a number that is missing is a request that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    at_us: i64,
    method: String,
    target: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    body: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    body_base64: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
}

/// The first line of a file that `run` of the recorder writes.
pub fn first_line(run: u64) -> String {
    format!("{{\"florin_shadow_recording\":{VERSION},\"run\":{run}}}\n")
}

/// A recording is passed around: what may prove who a caller is, stays behind, and so does where it came from.
fn is_kept(name: &HeaderName) -> bool {
    !may_be_secret(name) && name != header::REFERER
}

/// A request's line, the `number`th of its recording.
pub fn line(number: u64, request: &Request, answer: Option<&Answer>, at_us: i64) -> String {
    let kept = request.headers.iter().filter(|(name, _)| !HOP_BY_HOP.contains(name) && is_kept(name));
    let headers = kept.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    let text = std::str::from_utf8(&request.body).ok().map(str::to_owned);
    let line = Line {
        n: Some(number),
        at_us,
        method: request.method.to_string(),
        target: without_secrets(&request.target).into_owned(),
        headers: headers.collect(),
        body_base64: if text.is_none() { STANDARD.encode(&request.body) } else { String::new() },
        body: text.unwrap_or_default(),
        status: answer.map(|answer| answer.status),
    };
    serde_json::to_string(&line).expect("a line has string keys") + "\n"
}

/// Writes a recording of one request.
///
/// # Errors
/// Where the file cannot be written.
pub fn export(path: &Path, request: &Request, answer: Option<&Answer>) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let at_us = answer.map_or(0, |answer| answer.at.asked_us);
    private(path)?.write_all((first_line(0) + &line(1, request, answer, at_us)).as_bytes())
}

/// Reads a recording, request by request.
///
/// # Errors
/// Where it is none, or is damaged. A line that breaks off at the end of the file, where a writer was killed, is such a damage.
pub fn read_file(
    path: &Path,
) -> Result<impl Iterator<Item = Result<Entry, FormatError>> + use<>, FormatError> {
    let name = path.display().to_string();
    let failed = |source| FormatError::Read { path: path.display().to_string(), source };
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let first = next_line(&mut reader).map_err(failed)?.unwrap_or_default();
    let header = florin_input::json(&first).ok().filter(|h: &Header| h.florin_shadow_recording == VERSION);
    let Some(Header { run, .. }) = header else {
        let got = String::from_utf8_lossy(&first).chars().take(80).collect();
        return Err(FormatError::Header { path: name, got });
    };
    let mut number = 1;
    Ok(std::iter::from_fn(move || {
        number += 1;
        let wrong = |why| FormatError::Line { path: name.clone(), line: number, why };
        match next_line(&mut reader) {
            Ok(None) => None,
            Ok(Some(text)) if text.ends_with(b"\n") => Some(parse(&text, run).map_err(wrong)),
            Ok(Some(text)) if text.len() >= RECORD_LINE_BYTES_MAX => {
                Some(Err(wrong(format!("expected at most {RECORD_LINE_BYTES_MAX} bytes, got more"))))
            }
            Ok(Some(_)) => Some(Err(FormatError::BreaksOff { path: name.clone(), line: number })),
            Err(source) => Some(Err(FormatError::Read { path: name.clone(), source })),
        }
    }))
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
    let number = line.n.map(|number| (run, number));
    Ok(Entry {
        number,
        at_us: line.at_us,
        request: Request::new(method, line.target, Arc::new(headers), body),
    })
}
