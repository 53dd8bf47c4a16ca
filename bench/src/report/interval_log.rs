//! Latencies second by second, in HdrHistogram's interval log format (.hlog), which its viewers and tools read.

use std::time::{Duration, SystemTime};

use hdrhistogram::{
    Histogram,
    serialization::{
        V2DeflateSerializer,
        interval_log::{IntervalLogWriterBuilder, Tag},
    },
};

/// The log of one target's seconds, ns inside, shown in ms.
pub fn interval_log(label: &str, intervals: &[Histogram<u64>]) -> String {
    let tag = label.replace([' ', ',', '\r', '\n'], "_");
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder.with_start_time(SystemTime::now()).with_max_value_divisor(1e6).add_comment("latencies in ns");
    let mut log =
        builder.begin_log_with(&mut bytes, &mut serializer).expect("writing into memory does not fail");
    for (second, interval) in intervals.iter().enumerate() {
        let start = Duration::from_secs(second as u64);
        log.write_histogram(interval, start, Duration::from_secs(1), Tag::new(&tag))
            .expect("writing into memory does not fail, and the histogram is within the format's bounds");
    }
    drop(log);
    String::from_utf8(bytes).expect("an interval log is text")
}
