//! Every bound of a program stands in one place of its own, with its reason.

use std::fs;
use std::path::Path;

use super::{SOURCES, sources};

/// Numbers of the server that are no bounds: formats, laws of time, layouts. All others stand in `limits.rs`, with their reason.
const NO_BOUNDS: &[(&str, &[&str])] = &[
    // Estimates of a bar of progress, a story's numbers, what significant means.
    ("bench/src/compare/case.rs", &["NEIGHBOURS"]),
    ("bench/src/compare/schedule.rs", &["FIRST_CLIMB", "LATER_CLIMB", "SEEKING"]),
    ("bench/src/compare/statistics.rs", &["CONFIDENCE", "SIGNIFICANT"]),
    ("bench/src/cost.rs", &["CPU_PERCENT", "DOLLARS_SAVED", "HOURS_PER_YEAR", "VCPUS_SAVED"]),
    ("bench/src/generator/sockets.rs", &["GROUP", "PAGE_BYTES"]),
    ("bench/src/protocol/resp.rs", &["BEGUN"]),
    ("bench/src/protocol/value.rs", &["ID_DIGITS", "LENGTH_DIGITS"]),
    ("bench/src/targets/fixed.rs", &["AS_OF_US"]),
    ("clients/rust/src/connection/dial.rs", &["HELLO_ID"]),
    ("clients/rust/src/hedge.rs", &["REQUEST"]),
    ("core/src/audit/fingerprint.rs", &["BUCKETS", "BYTES"]),
    ("core/src/audit/recompute.rs", &["DAY_HOURS", "HOUR_US"]),
    ("core/src/checkpoint/manifest.rs", &["CHECKSUM_BYTES"]),
    ("core/src/checkpoint/mod.rs", &["BUCKETS", "FORMAT"]),
    ("core/src/ledger/bucket.rs", &["HOUR_BIAS"]),
    ("core/src/ledger/windows.rs", &["HOURS_PER_DAY", "HOUR_US"]),
    (
        "core/src/shard/blocks.rs",
        &["EVERY_UNIT_BYTES", "LARGE", "SMALL_BYTES_MAX", "SPAN_BYTES", "THREE_LINES_BYTES", "UNIT_BYTES"],
    ),
    ("core/src/shard/index.rs", &["LINES_PER_NEW", "PLACES", "TAGS", "USERS_PER_LINE"]),
    ("core/src/shard/damage.rs", &["DAY_US"]),
    ("core/src/shard/memory.rs", &["CACHE_LINE_BYTES", "GIB", "HUGE_PAGE_BYTES"]),
    ("core/src/shard/metrics.rs", &["BUCKETS", "STEPS_BITS"]),
    // As many cache lines as a core has under way.
    ("core/src/shard/quota.rs", &["UNITS_PER_S"]),
    ("core/src/shard/table/walk.rs", &["GROUP"]),
    ("core/src/wire/encode/flat.rs", &["PREFIX_BYTES"]),
    ("core/src/wire/encode/json.rs", &["AROUND_BYTES", "ROW_BYTES", "TIMES_BYTES", "WINDOW_BYTES"]),
    ("core/src/wire/encode/line.rs", &["EIGHT_DIGITS", "NUMBER"]),
    ("core/src/wire/encode/response.rs", &["HEADERS_BYTES"]),
    ("core/src/wire/encode/time.rs", &["DAY_S", "DAY_US", "FIRST_DAY", "LAST_DAY"]),
    ("core/src/wire/resp/words.rs", &["DIGITS_MAX", "WORD_BYTES_MIN"]),
    ("shadow/src/cutover/guard.rs", &["ABOVE_P99"]),
    ("shadow/src/judge/windows.rs", &["HOUR_US"]),
    ("shadow/src/record/format.rs", &["VERSION"]),
    ("sources/kafka/src/address.rs", &["PORT", "TOPIC_BYTES_MAX"]),
    ("sources/kafka/src/position.rs", &["ENTRY_BYTES", "HEAD_BYTES"]),
    ("sources/postgres/src/address.rs", &["PORT"]),
    ("sources/postgres/src/position.rs", &["PAGE", "POSITION_BYTES"]),
    ("sources/postgres/src/row.rs", &["AMOUNT", "ASSET", "KIND", "TIME", "USER", "VERSION"]),
    ("sources/postgres/src/stream.rs", &["HEADER_BYTES"]),
    ("src/callers/directory.rs", &["CERTIFICATE", "GID", "REST_BITS", "SIGNED", "TOKEN", "UID"]),
    ("src/cli/generate/platform.rs", &["POPULARITY_EXPONENT"]),
    ("src/cli/screen.rs", &["HISTORY"]),
    ("src/cli/settings.rs", &["SHARD_PORT"]),
    // Times in µs are below it.
    ("src/nodes/text.rs", &["NUMBERS_END"]),
    // What was measured, with the command for each.
    (
        "src/cli/size/measured.rs",
        &[
            "ACCOUNT_BYTES",
            "ASSET_BYTES",
            "BUCKET_BYTES",
            "CHECKPOINT_RATIO",
            "HTTP_US",
            "LOADED_ROWS_PER_S",
            "ONE_BY_ONE_US",
            "PIPELINED_US",
            "PROCESS_BYTES",
            "RESIDENT_RATIO",
            "RESTORED_ACCOUNTS_PER_S",
            "UTILISATION",
        ],
    ),
    ("src/drivers/glommio/mod.rs", &["NOT_DUE"]),
    ("src/drivers/refusal.rs", &["ENTRIES"]),
    ("src/drivers/ring/buffers.rs", &["GROUP", "PAGE_BYTES"]),
    ("src/drivers/ring/spinning.rs", &["GAP_WEIGHT"]),
    ("src/profiler/sampler.rs", &["MARKS"]),
    ("src/profiler/symbols.rs", &["KERNEL"]),
    ("src/profiler/sample.rs", &["REGISTERS"]),
    ("src/tls/session.rs", &["HEAD_BYTES"]),
    // The first process of all kernel threads, and a drawing's measures.
    ("tuning/src/host/processes.rs", &["KTHREADD"]),
    ("tuning/src/show/svg.rs", &["CORES_PER_LINE", "GAP", "HEAD", "NIC_HEIGHT", "ROOM"]),
    ("tuning/src/show/terminal.rs", &["CORES_PER_LINE"]),
];

/// A bound that stands where it is used is found by nobody who asks what a program's bounds are. bench/plain is a peer of the server,
/// written as others would write it.
#[test]
fn bounds_stand_in_limits() {
    let mut found = Vec::new();
    let others =
        ["core/src", "src", "input/src", "shadow/src", "bench/src", "tuning/src", "clients/rust/src"];
    for folder in others.iter().chain(SOURCES) {
        for (file, text) in sources(folder) {
            let place = file.display().to_string();
            if file == Path::new(folder).join("limits.rs") {
                continue;
            }
            let known =
                NO_BOUNDS.iter().find(|(known, _)| *known == place).map_or(&[][..], |(_, names)| names);
            found.extend(
                numbers(&text).filter(|name| !known.contains(name)).map(|name| format!("{place}: {name}")),
            );
        }
    }
    assert!(found.is_empty(), "give each its place and its reason in limits.rs:\n{}", found.join("\n"));
}

/// The same of the client in Go.
#[test]
fn bounds_of_the_go_client_stand_in_limits() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/go");
    let files =
        fs::read_dir(&folder).expect("the client is there").map(|entry| entry.expect("readable").path());
    let names = |file: &Path| file.file_name().expect("a file").to_string_lossy().into_owned();
    let mut read = 0;
    for file in files.filter(|file| names(file).ends_with(".go")) {
        if names(&file) == "limits.go" || names(&file).ends_with("_test.go") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("readable");
        read += 1;
        // A name of the package, and a number or a length of time that is written out.
        let mut is_in_list = false;
        let bound = text.lines().find(|line| {
            is_in_list = *line == "const (" || (is_in_list && *line != ")");
            let declared =
                line.strip_prefix("const ").or_else(|| line.strip_prefix('\t').filter(|_| is_in_list));
            let Some((name, value)) = declared.and_then(|line| line.split_once(" = ")) else { return false };
            let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
            is_name && (value.parse::<u64>().is_ok() || value.contains(" << ") || value.contains("* time."))
        });
        assert_eq!(bound, None, "{}: give it its place and its reason in limits.go", file.display());
    }
    assert!(read > 5, "the client has moved");
}

/// The constants of a file that are a length of time, or a number that is written out.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (_, after) = line.split_once("const ")?;
        let (name, rest) = after.split_once(": ")?;
        let (kind, value) = rest.split_once(" = ")?;
        let is_time = kind.ends_with("Duration");
        let is_number = ["usize", "u64", "u32", "u16", "i64", "i32", "f64"].contains(&kind);
        let is_written_out = value.bytes().all(|byte| b"0123456789_.*+-<>() ;".contains(&byte));
        (is_time || (is_number && is_written_out)).then_some(name)
    })
}
