//! A profile as `go tool pprof` and continuous profilers read it: github.com/google/pprof/blob/main/proto/profile.proto, gzipped.

use std::collections::HashMap;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use super::Taken;
use super::symbols::{Frame, Symbols};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    /// All texts; elsewhere they are numbers in here.
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
    #[prost(int64, repeated, tag = "13")]
    comment: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    r#type: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    /// Innermost first.
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    str: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    memory_start: u64,
    #[prost(uint64, tag = "3")]
    memory_limit: u64,
    #[prost(uint64, tag = "4")]
    file_offset: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
    #[prost(bool, tag = "8")]
    has_filenames: bool,
    #[prost(bool, tag = "9")]
    has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    has_inline_frames: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    /// Innermost first.
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// Writes it.
pub(super) fn write(taken: &Taken, symbols: &mut Symbols) -> io::Result<Vec<u8>> {
    let bytes = profile(taken, symbols).encode_to_vec();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&bytes)?;
    gzip.finish()
}

fn profile(taken: &Taken, symbols: &mut Symbols) -> Profile {
    let mut writing = Writing::default();
    // The first text is empty, says the format.
    writing.text("");
    let period = i64::try_from(taken.period.as_nanos()).unwrap_or(i64::MAX);
    let cpu = ValueType { r#type: writing.text("cpu"), unit: writing.text("nanoseconds") };
    let samples = ValueType { r#type: writing.text("samples"), unit: writing.text("count") };
    let thread = writing.text("thread");
    for module in symbols.modules() {
        let id = writing.profile.mapping.len() as u64 + 1;
        let filename = writing.text(&module.name);
        writing.profile.mapping.push(Mapping {
            id,
            memory_start: module.range.start,
            memory_limit: module.range.end,
            file_offset: module.file_offset,
            filename,
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
            has_inline_frames: true,
        });
    }
    for (stack, count) in taken.recording.stacks() {
        let location_id = stack.addresses.iter().map(|&address| writing.location(address, symbols)).collect();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let label = Label { key: thread, str: writing.text(&stack.thread) };
        let value = vec![count, count.saturating_mul(period)];
        writing.profile.sample.push(Sample { location_id, value, label: vec![label] });
    }
    let comment = writing.text(&format!("{} samples were lost for want of room", taken.recording.lost));
    Profile {
        sample_type: vec![samples, cpu.clone()],
        time_nanos: taken.order.began_us.saturating_mul(1_000),
        duration_nanos: i64::try_from(taken.order.during.as_nanos()).unwrap_or(i64::MAX),
        period_type: Some(cpu),
        period,
        comment: vec![comment],
        ..writing.profile
    }
}

/// A profile that is being put together: what is in it already has its number.
#[derive(Default)]
struct Writing {
    profile: Profile,
    texts: HashMap<String, i64>,
    functions: HashMap<(String, String), u64>,
    locations: HashMap<u64, u64>,
}

impl Writing {
    fn text(&mut self, text: &str) -> i64 {
        if let Some(&known) = self.texts.get(text) {
            return known;
        }
        let number = self.texts.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.texts.insert(text.to_owned(), number);
        number
    }

    fn function(&mut self, frame: &Frame) -> u64 {
        let key = (frame.function.clone(), frame.file.clone());
        if let Some(&known) = self.functions.get(&key) {
            return known;
        }
        let id = self.functions.len() as u64 + 1;
        let (name, filename) = (self.text(&frame.function), self.text(&frame.file));
        self.profile.function.push(Function { id, name, filename });
        self.functions.insert(key, id);
        id
    }

    fn location(&mut self, address: u64, symbols: &mut Symbols) -> u64 {
        if let Some(&known) = self.locations.get(&address) {
            return known;
        }
        let id = self.locations.len() as u64 + 1;
        let of = |mapping: &&Mapping| (mapping.memory_start..mapping.memory_limit).contains(&address);
        let mapping_id = self.profile.mapping.iter().find(of).map_or(0, |mapping| mapping.id);
        let line = |frame: &Frame| Line { function_id: self.function(frame), line: i64::from(frame.line) };
        let line = symbols.at(address).iter().map(line).collect();
        self.profile.location.push(Location { id, mapping_id, address, line });
        self.locations.insert(address, id);
        id
    }
}
