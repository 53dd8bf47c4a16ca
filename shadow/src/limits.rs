//! Every bound of the shadow, and why it is what it is. Those that a configuration may change are its defaults.

use std::time::Duration;

/// The longest head of a request or an answer that is followed. Servers accept 8 KiB or 16 KiB as a rule; a longer one
/// still passes, unseen.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers for which there is room without asking for it; Go and nginx accept 100 or fewer by default, florin 64.
pub const HEADERS_USUAL: usize = 128;
/// Headers of one head: as many as fit into it at four bytes each.
pub const HEADERS_MAX: usize = HEAD_BYTES_MAX / 4;
/// Bytes read at once from a caller or the primary: a batch of 100 balances in one piece.
pub const READ_BYTES: usize = 32 << 10;
/// The longest request body that is copied: florin accepts 48 KiB.
pub const REQUEST_COPY_BYTES_MAX: usize = 64 << 10;
/// The longest answer that is copied: 1,024 balances of 16 assets take 1.1 MiB in JSON.
pub const ANSWER_COPY_BYTES_MAX: usize = 2 << 20;
/// Callers that are connected at a time, each with a connection to the primary: a quarter of what a process may have open by
/// systemd's default, twice. One more is refused at once instead of being let wait.
pub const CALLERS_MAX: usize = 65_536;
/// How long a caller may be silent in the midst of a request, or take nothing of its answer: nginx's own default.
pub const CALLER_STALL: Duration = Duration::from_secs(60);
/// How long a caller may keep a connection open between two requests: longer than primaries let them.
pub const CALLER_IDLE: Duration = Duration::from_secs(600);
/// How long a caller that still sends may do so once the primary has closed: closing at once could take the last answer from it.
pub const CALLER_LINGER: Duration = Duration::from_millis(500);
/// How long a connection may be silent before the kernel asks whether there is still anybody.
pub const KEEPALIVE: Duration = Duration::from_secs(60);
/// Requests of one connection whose answers have not come; a caller that pipelines more waits, as it would anyway.
pub const PIPELINED_MAX: usize = 1_024;

/// Exchanges that wait for the candidate: 0.2 s at 20,000 requests a second.
pub const QUEUE_MAX: usize = 4_096;
/// Bytes of all copies, from their first byte to their verdict: a full queue of answers of 32 KiB.
pub const COPIES_BYTES_MAX: usize = 128 << 20;
/// Exchanges that are being compared at a time.
pub const IN_FLIGHT_MAX: usize = 64;
/// How long the candidate may take to answer.
pub const CANDIDATE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection to the primary may take. Callers wait for it, as they would without a proxy.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long catching up may take: two hundred times what a commit takes to be seen.
pub const CATCH_UP_BUDGET: Duration = Duration::from_secs(1);
/// How long a server is asked to hold a request until it has the version.
pub const CATCH_UP_WAIT_MS: u32 = 200;
/// Times that one account is asked again.
pub const CATCH_UP_ASKS_MAX: u32 = 50;
/// Between two such questions to one side: for servers that do not know `wait_ms`.
pub const CATCH_UP_PAUSE: Duration = Duration::from_millis(10);
/// How far clocks may be apart: NTP keeps hosts of one site within a tenth of it.
pub const CLOCK_SKEW: Duration = Duration::from_millis(100);
/// How long after a user was first heard of the candidate is asked about it, beside what clocks may be apart: a view that is as fresh as it
/// says then shows what the primary had shown.
pub const FIRST_ASK_MARGIN: Duration = Duration::from_millis(50);
/// Users in one generation of what the primary has shown, of which there are two: about 36 MiB in all.
pub const HISTORY_USERS_MAX: usize = 1 << 18;
/// The longest content that is remembered of a user: statistics of two assets take 1.5 KiB.
pub const HISTORY_CONTENT_BYTES_MAX: usize = 8 << 10;
/// Contents in one generation, of which there are two: balances of some 50,000 users, twice.
pub const HISTORY_CONTENTS_BYTES_MAX: usize = 16 << 20;
/// The share of requests of which it may be unproven what the candidate said at first: five times what a million reads beside
/// 1,000 transactions a second came to. More could hide defects.
pub const UNPROVEN_MAX: f64 = 0.005;
/// The share of requests that may not be comparable: more could hide defects.
pub const NOT_COMPARABLE_MAX: f64 = 0.001;

/// Users that a run counts: 24 MiB of them. Where there are more, it says "at least".
pub const ACCOUNTS_MAX: usize = 1 << 20;
/// Names of headers that are listed as not compared.
pub const HEADER_NAMES_MAX: usize = 100;
/// Compared answers that each endpoint needs before a run says that it has shown much: with none wrong among 300, fewer
/// than one in a hundred are wrong at 95 % confidence (3 / n).
pub const ANSWERS_MIN: u64 = 300;
/// Users that they have to be of.
pub const USERS_MIN: u64 = 100;

/// How long SIGTERM waits for callers' requests and for comparisons under way.
pub const DRAIN: Duration = Duration::from_secs(10);
/// How often a thread that relays shows that it turns: many times within any watchdog's patience.
pub const TURN: Duration = Duration::from_millis(250);
/// How often the verdict is written while a run goes on.
pub const KEEP_EVERY: Duration = Duration::from_secs(2);
/// Connections to the admin port; one more ends the one that was silent for longest.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// How long to wait before another connection is accepted, where there was no descriptor for one.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(10);
/// How often it is said that there are no descriptors left.
pub const SCARCITY_SAID_EVERY: Duration = Duration::from_secs(10);
/// A configuration, or a key: rules of a few dozen endpoints take less than a tenth.
pub const FILE_BYTES_MAX: usize = 256 << 10;
/// How long its end may take to come: of a file it comes at once, of a pipe when its writer has written.
pub const FILE_READ: Duration = Duration::from_secs(2);
/// How long the admin port's last answers may take.
pub const ADMIN_END: Duration = Duration::from_secs(1);
/// Silence in the middle of a request's head on the admin port, after which it is answered 408: as on florin's own.
pub const ADMIN_HEAD_SILENCE: Duration = Duration::from_secs(10);
/// How long such a head may take to come, drop by drop.
pub const ADMIN_HEAD: Duration = Duration::from_secs(30);

/// The longest body in an evidence file; a longer one is cut, and says so.
pub const EVIDENCE_BODY_BYTES_MAX: usize = 64 << 10;
/// The longest value of one difference in evidence.
pub const EVIDENCE_VALUE_BYTES_MAX: usize = 4 << 10;
/// `mismatches.jsonl` ends here; further ones are counted.
pub const EVIDENCE_BYTES_MAX: u64 = 256 << 20;
/// Mismatches that are also exported as recordings.
pub const EXPORTS_MAX: u64 = 1_000;
/// Mismatches and errors shown on the page.
pub const LATEST_MAX: usize = 20;
/// Differences of one request shown on the page.
pub const LATEST_DIFFERENCES_MAX: usize = 12;

/// How long a caller may wait for the candidate before the primary is asked instead.
pub const SERVE_TIMEOUT: Duration = Duration::from_millis(250);
/// How often the guard looks.
pub const GUARD_TICK: Duration = Duration::from_millis(100);
/// How soon it looks again where somebody else reads the counters: a timer's grain.
pub const GUARD_AGAIN: Duration = Duration::from_millis(1);
/// So many ticks back: who fails altogether is seen within a second, however much went well before.
pub const GUARD_TICKS: usize = 8;
/// Fewer requests than this say nothing, whatever the arithmetic of chance makes of them.
pub const GUARD_REQUESTS_MIN: u64 = 5;
/// What is too small to be seen in a second is looked for in a minute.
pub const GUARD_TICKS_MAX: usize = 600;

/// The guard acts on what chance explains with less probability than this: it looks ten times a second, day and night.
pub const GUARD_DOUBT: f64 = 1e-6;
/// How old the candidate's answers may be, by their own words: as long as catching up may take.
pub const SERVE_AGE: Duration = CATCH_UP_BUDGET;
/// The share of requests that may go without a verdict while the candidate serves: what nobody compares, nobody knows.
pub const UNJUDGED_MAX: f64 = 0.1;
/// Compared answers before a schedule's next step: with none wrong among them, fewer than one in a hundred are (3 / n).
pub const STEP_ANSWERS_MIN: u64 = 300;
/// How long it counts that the primary has answered a caller who has shown nothing.
pub const ADMISSION: Duration = Duration::from_secs(60);
/// The same of one who has shown credentials, which may be taken back: the mirror hears of that in a moment, if it is not behind.
pub const ADMISSION_OF_CREDENTIALS: Duration = Duration::from_secs(5);
/// The longest that may be configured for credentials.
pub const ADMISSION_OF_CREDENTIALS_MAX: Duration = Duration::from_secs(300);
/// Callers in one generation of those whom the primary has answered; two are kept, some 8 MiB in all.
pub const ADMITTED_MAX: usize = 1 << 16;

/// How long a side that was down must have been there before it counts as up: one that comes and goes is told of once a second at most.
pub const REACH_SETTLED: Duration = Duration::from_secs(1);
/// Questions in a row without an answer in time after which a side counts as down: one question may just be a hard one.
pub const SILENT_MAX: u64 = 10;

/// Bytes of one file of a recording.
pub const RECORD_FILE_BYTES: u64 = 256 << 20;
/// Files of a recording; the oldest goes when another begins.
pub const RECORD_FILES: usize = 8;
/// Exchanges that wait to be written.
pub const RECORD_QUEUE_MAX: usize = 8_192;
/// Bytes of them.
pub const RECORD_QUEUE_BYTES_MAX: usize = 64 << 20;
/// The longest last line of a recording.
pub const RECORD_END_BYTES_MAX: u64 = 160;
/// The longest line of a recording that is believed: the longest copies, in base64, and heads.
pub const RECORD_LINE_BYTES_MAX: usize = 4 << 20;

/// Threads that relay, at most; more than two are faster than any primary that they stand before.
pub const CALLER_THREADS_MAX: usize = 2;
/// Threads that compare, at most.
pub const BEHIND_THREADS_MAX: usize = 2;
/// How much lower the priority of everything behind the callers is.
pub const BEHIND_NICE: i32 = 5;
/// How long exchanges gather before they are looked at together: each wake-up, here and at the candidate, then is for several of them.
pub const GATHERING: Duration = Duration::from_millis(1);
/// How long a node that could not be reached in frames is left alone.
pub const NATIVE_PAUSE: Duration = Duration::from_millis(100);
/// Idle connections to a candidate in FlatBuffers that are kept.
pub const FRAMES_IDLE_MAX: usize = 64;
/// Codings of one body, one around the other: more than two is no server's choice.
pub const CODINGS_MAX: usize = 2;
/// Lists and objects within each other that are read: no answer of these endpoints is deeper than 6.
pub const JSON_DEPTH_MAX: usize = 64;

/// Differences looked at of one answer: as many as a batch of 1,024 accounts has assets. More are counted.
pub const DIFFERENCES_MAX: usize = 16_384;
/// Of those that no rule allows, so many are kept.
pub const DIFFERENCES_KEPT_MAX: usize = 100;
/// Places at which the primary differs from itself that are told apart.
pub const NOISE_PLACES_MAX: usize = 200;
/// The longest latency that is told apart: longer ones count as this.
pub const LATENCY_MAX_US: u64 = 60_000_000;
