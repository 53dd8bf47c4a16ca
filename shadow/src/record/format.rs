//! A recording: JSON lines. The first says what it is, the last that it is whole, each other is one request, and the status that the
//! primary gave it.
//!
//! ```text
//! {"florin_shadow_recording":2,"run":7230}
//! {"n":1,"at_us":1795000000000000,"method":"GET","target":"/v1/users/42/balance","headers":[["accept","*/*"]],"status":200}
//! {"end":{"requests":1,"checksum":"6f…","taken":1}}
//! ```
//!
//! The checksum is SipHash-2-4, 128 bits under the key 0, of all lines before. `taken` is how many requests the recorder had taken in
//! all; it is missing where another file goes on.
//!
//! A body is text where it is UTF-8, and base64 under `body_base64` where it is not.

use std::fs;
use std::hash::Hasher;
use std::io::{self, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, header};
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::answer::Answer;
use crate::credentials::{Kept, may_be_secret};
use crate::files::private;
use crate::request::{HOP_BY_HOP, Request};

/// Of what is written and read.
pub(super) const VERSION: u32 = 2;

/// One request of a recording.
#[derive(Clone, Debug)]
pub struct Entry {
    /// In which run of the recorder, and which request of it.
    pub number: (u64, u64),
    /// When it was asked, µs since 1970 UTC.
    pub at_us: i64,
    /// What was asked.
    pub request: Request,
}

/// Why a file is no recording.
#[derive(Debug, thiserror::Error)]
#[error("{}", words(.path, .defect))]
pub struct FormatError {
    /// Which.
    pub path: String,
    /// What is wrong with it.
    pub defect: Defect,
}

/// What is wrong with a recording; lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum Defect {
    /// It cannot be read.
    #[error(": {0}")]
    Read(#[from] io::Error),
    /// Its first line is another.
    #[error(" is no recording: expected a first line {{\"florin_shadow_recording\":{VERSION}}}, got {0:?}")]
    Header(String),
    /// The last line has no end: whoever wrote it was killed.
    #[error(", line {0} breaks off: whoever wrote it was killed, and what it had not yet written is missing")]
    BreaksOff(usize),
    /// There is no last line, which says that it is whole.
    #[error(
        " is cut after line {0}: its last line, which says that it is whole, is missing. Whoever wrote it was killed or is still \
         writing, or the file was cut; what it does hold can be replayed"
    )]
    Cut(usize),
    /// The last line says otherwise.
    #[error(" is damaged: its last line speaks of {expected}, and there are {found}")]
    Damaged {
        /// Requests and checksum, as written.
        expected: String,
        /// Requests and checksum, as found.
        found: String,
    },
    /// Another file goes on where this one ends.
    #[error(" goes on in another file, which was not given: give all of them, oldest first")]
    GoesOn,
    /// A line is none.
    #[error(", line {0}: {1}")]
    Line(usize, String),
}

fn words(path: &str, defect: &Defect) -> String {
    let begins = if matches!(defect, Defect::Read(_)) { "cannot read " } else { "" };
    format!("{begins}{path}{defect}")
}

impl FormatError {
    /// What is wrong with the file at `path`.
    pub fn of(path: &Path, defect: impl Into<Defect>) -> FormatError {
        FormatError { path: path.display().to_string(), defect: defect.into() }
    }

    /// Whether what was read before it can be used, though it is not all that there was.
    pub const fn is_partial(&self) -> bool {
        matches!(self.defect, Defect::BreaksOff(_) | Defect::Cut(_) | Defect::Damaged { .. } | Defect::GoesOn)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub florin_shadow_recording: u32,
    /// Of one run of the recorder: its files are numbered on.
    pub run: u64,
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub end: EndMark,
}

/// What the last line says of those before.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct EndMark {
    /// Lines with a request.
    pub requests: u64,
    /// Of all lines before.
    pub checksum: String,
    /// Requests that the recorder has taken in all; nothing where another file goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<u64>,
}

/// How the last line begins, and no request's does.
pub(super) const END_BEGINS: &[u8] = b"{\"end\":";

/// What a file's lines come to.
#[derive(Clone, Default)]
pub(super) struct Sum {
    requests: u64,
    hasher: SipHasher24,
}

impl Sum {
    /// Of a file that begins with this line.
    pub fn begin(first: &[u8]) -> Sum {
        let mut sum = Sum::default();
        sum.hasher.write(first);
        sum
    }

    /// Adds a request's line.
    pub fn add(&mut self, line: &[u8]) {
        self.requests += 1;
        self.hasher.write(line);
    }

    /// What the last line says.
    pub fn mark(&self, taken: Option<u64>) -> EndMark {
        let checksum = format!("{:032x}", self.hasher.finish128().as_u128());
        EndMark { requests: self.requests, checksum, taken }
    }

    /// The last line.
    pub fn line(&self, taken: Option<u64>) -> String {
        serde_json::to_string(&End { end: self.mark(taken) }).expect("a line has string keys") + "\n"
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// From 1, in the order in which requests came; a number that is missing is a request that is.
    pub n: u64,
    pub at_us: i64,
    pub method: String,
    pub target: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body_base64: String,
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
pub fn line(number: u64, request: &Request, answer: Option<&Answer>, at_us: i64, kept: &Kept) -> String {
    let harmless = request.headers.iter().filter(|(name, _)| !HOP_BY_HOP.contains(name) && is_kept(name));
    let headers =
        harmless.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    let body = kept.body(request);
    let text = std::str::from_utf8(&body).ok().map(str::to_owned);
    let line = Line {
        n: number,
        at_us,
        method: request.method.to_string(),
        target: kept.target(&request.target).into_owned(),
        headers: headers.collect(),
        body_base64: if text.is_none() { STANDARD.encode(&body) } else { String::new() },
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
    let (first, line) = (first_line(0), line(1, request, answer, at_us, &Kept::default()));
    let mut sum = Sum::begin(first.as_bytes());
    sum.add(line.as_bytes());
    private(path)?.write_all((first + &line + &sum.line(Some(1))).as_bytes())
}
