//! Every bound of the node, and why it is what it is. A queue or loop without one here is a defect.

use core::time::Duration;

pub use florin_schema::nodes::{HOLDERS_MAX, NODES_MAX, PARTITIONS_MAX};

pub use florin_schema::frame::{
    ASSETS_MAX, BATCH_USERS_MAX, HELLO_CLIENT_BYTES_MAX, HELLO_TOKEN_BYTES_MAX, PING_BYTES_MAX,
    REQUEST_BYTES_MAX, WAIT_MS_MAX,
};

/// Shards of one node: what the reply header's and the partition map's 16 bits and one machine's cores call for.
pub const SHARDS_MAX: u16 = 256;
/// How long a map stands before its epoch is raised though nothing has changed, µs: for so long a caller may hold to a later one, told
/// by a node that nobody else has heard of and that is gone.
pub const MAP_STANDS_US: u64 = 5_000_000;
/// How often a node that is not in its group, because it comes or is about to end, says that it is there, µs.
pub const ABSENT_SPEAKS_US: u64 = 500_000;
/// In how many descriptions of the group running such a node may have said nothing new and still be there: at four a second, four times
/// what it takes to speak again.
pub const ABSENT_UNHEARD_MAX: u32 = 8;
/// How long a node that is about to end waits for the others to hear what has just come about, µs: before it leaves its group that those
/// who stand by claim what it has, and before it ends whose that is now.
pub const LEAVE_HEARD_US: u64 = 500_000;
/// How long a node that has left its group to end waits for others to hear of it, µs: by then somebody who is in the group has asked it
/// many times, or nobody there knows of it any more. And how long one that knows of nobody else waits for the group to be described.
pub const LEAVE_UNHEARD_US: u64 = 5_000_000;
/// How lately a node must itself have told that it stays and has a partition, for another to let go of that one for it, µs. A node that is
/// about to end and that nobody knows any more ends although what it has was claimed before it claimed it: by twice this, whoever has
/// relied on it has not done so lately.
pub const HEARD_LATELY_US: u64 = LEAVE_UNHEARD_US / 2;
/// Maps of nodes that one shard has not yet taken over: it does so at its next turn, so that more wait only where it stands still.
pub const HOLDINGS_QUEUED_MAX: usize = 8;
/// Lives of nodes that a node remembers, for those that are gone must not come back by what others still tell of them: those of
/// the largest group, each started anew three times within the seconds for which such talk is under way.
pub const NODES_KNOWN_MAX: usize = 4 * NODES_MAX;
/// Bytes of what a node tells of all nodes, several times those of the largest group: 256 nodes and 8,192 partitions with four holders
/// each have 900,000. No shard keeps more for a caller, and no node reads more of another.
pub const NODES_BYTES_MAX: usize = 1 << 20;
/// Other nodes that are asked for what they know in a period, and at the same time: so many that what one of a hundred knows all know
/// after three periods, and so few that a node of the largest group asks and answers as often as one of nine.
pub const NODES_ASKED_EACH: usize = 8;
/// How long another node may take to tell what it knows, connecting included: it has it ready, and one that stands still holds up others.
pub const NODES_ASK: Duration = Duration::from_millis(250);
/// Between two such questions to one node: how old what is known of it may be.
pub const NODES_ASK_EVERY: Duration = Duration::from_millis(100);
/// The same of one that has not answered: callers wait for nobody of whom nothing is heard.
pub const NODES_ASK_AGAIN: Duration = Duration::from_millis(500);
/// Between two looks of the thread that keeps the map at what has changed.
pub const NODES_TURN: Duration = Duration::from_millis(20);
/// What the group and other nodes have said and was not looked at yet: whoever says more waits.
pub const NODES_QUEUED_MAX: usize = 64;
/// How long a node that was told to end waits for others to have what it has: a partition of some GiB is read in that.
pub const NODES_LEAVE_MAX: Duration = Duration::from_secs(60);
/// Nodes that one question over HTTP is sent on to, one after the other: while a partition moves, two may name each other.
pub const REDIRECTS_MAX: usize = 3;
/// How long the client library of the brokers is waited for at a time: what the thread is told waits for as long.
pub const GROUP_TURN: Duration = Duration::from_millis(20);
/// Bytes of a consumer group's name: Kafka's own bound for names.
pub const GROUP_NAME_BYTES_MAX: usize = 249;
/// Between two questions to the brokers for who is in the group: a small request each.
pub const GROUP_DESCRIBE_EVERY: Duration = Duration::from_millis(250);
/// Questions that one shard may have outstanding with one other and that are answered at once, but for lookups, which travel in
/// bundles. With [`MESH_WAITS_MAX`] and [`MESH_BUNDLES_MAX`] they are half of a ring's slots: the other half is for answers to
/// the other's questions, so an answer always finds room.
pub const MESH_ASKS_MAX: usize = 736;
/// Questions that one shard may have outstanding with one other and that may wait there for their freshness. They are
/// counted apart, so that those who wait never keep others from being asked; one more is answered without waiting.
pub const MESH_WAITS_MAX: usize = 256;
/// Bundles of lookups that one shard may have outstanding with one other: 2,048 lookups, some 100 µs of the other's work.
pub const MESH_BUNDLES_MAX: usize = 32;
/// Lookups that travel to another shard in one message: some groups of its pipeline, so that it begins with the first while
/// the next is filled, and so many that the message costs a lookup next to nothing.
pub const LOOKUPS_PER_BUNDLE: usize = 64;
/// Bytes of answers that a bundle is made for: with so many expected it is full. What a bundle of balances takes at most, and
/// of usual statistics.
pub const BUNDLE_BYTES: usize = LOOKUPS_PER_BUNDLE * ANSWER_BYTES;
/// Empty bundles that a shard keeps for the next lookups: one on its way to and one from each of many neighbours.
pub const SPARE_BUNDLES: usize = 256;
/// Slots of the ring for each ordered pair of shards; see [`MESH_ASKS_MAX`].
pub const MESH_RING_SLOTS: usize = 2 * (MESH_ASKS_MAX + MESH_WAITS_MAX + MESH_BUNDLES_MAX);
/// Rows on their way from the feed to one shard: 4,096 × 56 bytes fit in L2 and cover 1 ms at 4 million rows a second.
pub const FEED_RING_SLOTS: usize = 4_096;
/// Feed events that a shard takes in a turn while nobody asks: about 0.5 ms of work where each is another account's, so that whoever
/// asks meanwhile does not wait for 1 ms; and beside it a turn costs nothing.
pub const FEED_EVENTS_PER_TURN: usize = 512;
/// The same while it is asked: less than 0.1 ms, so that callers hardly notice how much is committed. Beside it a turn costs little still.
pub const FEED_EVENTS_BESIDE_ANSWERS: usize = 64;
/// For so long after an answer a shard counts as asked, µs: who asks one thing at a time needs less for the next. Between two of its
/// questions a shard has nothing to answer, and what it takes in then is what the second waits for.
pub const ASKED_US: u64 = 2_000;
/// How often a ledger in a file is asked what is new, µs: a tenth of the 50 ms in which a commit must be visible, for about
/// 1 % of one CPU (measured: 50 µs a round, of which the file's locks and its identity are 7 system calls).
pub const FEED_POLL_US: u64 = 5_000;
/// Rows that are read at once while following: the read transaction ends before any shard is waited for.
pub const FEED_BATCH_ROWS: usize = 4_096;
/// How long after a failure a ledger is tried again, µs.
pub const FEED_RETRY_US: u64 = 100_000;
/// How often a ledger that was replaced by another is looked at: it may be put back, µs.
pub const FEED_STANDING_US: u64 = 1_000_000;
/// Re-read rows that are sent in one round once the node answers: a quarter of what a shard's ring holds, so that rows
/// that others wait for are never far behind; and 200,000 rows a second while nothing else happens.
pub const REREAD_ROWS_PER_ROUND: usize = 1_024;
/// How long after an account was read again in vain, for its ledger has a hole, it may be again, µs. It doubles each time.
pub const REREAD_PAUSE_MIN_US: u64 = 1_000_000;
/// The longest such pause, µs: an hour, so that an account which cannot be repaired costs one reading an hour at most.
pub const REREAD_PAUSE_MAX_US: u64 = 3_600_000_000;
/// Runs of versions that are remembered of an account while it is read again: one, as long as its rows come in order. With
/// more it is read once more, whatever they were.
pub const REREAD_RUNS_MAX: usize = 256;
/// By how much the wall clock must move against the monotonic one between two rounds to have been set, µs. A clock that is
/// slewed moves by 500 µs a second.
pub const CLOCK_STEP_US: i64 = 500_000;
/// Accounts whose re-reading one shard may have asked of the feed and not yet got.
pub const REREADS_MAX: usize = 1_024;
/// How far the clock may be set back before accounts must be read again to tell their windows: the hour of a wrong
/// summer time, and one more. Each costs an account 24 bytes an asset and direction in which something happened in it.
pub const CLOCK_BACK_HOURS: i32 = 2;
/// How far ahead of the clock a transaction may lie for its hour to be remembered: what a writer's wrong clock or zone
/// makes of it, and a week. What lies farther ahead is read again when its time comes, so that an account's buckets are
/// bounded whatever its rows say.
pub const CLOCK_AHEAD_HOURS: i32 = 7 * 24;
/// Days whose dates a shard keeps as text: those on which most of the accounts that are asked for were changed last, in 1 KiB.
pub const DATES_KEPT: usize = 64;
/// Frames of one connection that are answered in one turn; the rest waits a turn, so that a caller that pipelines
/// without end costs its neighbours no more than this many lookups (about 30 µs).
pub const FRAMES_PER_TURN: usize = 128;
/// Lookups that are parsed, probed and answered together, while those of two more groups wait for memory: enough to hide
/// its latency, few enough for a core to have all their cache lines under way.
pub const LOOKUPS_PER_GROUP: usize = 16;
/// Bytes of answers that a connection may have unread, or still to come, before its requests wait; with the input that is
/// already here (at most [`INTAKE_BYTES_MAX`]) and one more answer this keeps it under 64 KiB; what the allocator rounds up
/// to, and leaves between, makes that 256 KiB of the process's memory at most.
pub const UNSENT_BYTES_MAX: usize = 24 * 1_024;
/// What an answer is taken to need before it is written: a header and a record of sixteen assets. Statistics are taken to need
/// as much as the largest that a shard has yet sent.
pub const ANSWER_BYTES: usize = 512;
/// Bytes that one wake-up of a multishot receive can bring: the kernel's 32 rounds of one provided buffer.
pub const INTAKE_BYTES_MAX: usize = 32 * PROVIDED_BUFFER_BYTES;
/// One provided buffer: 42 native requests, or the head of any usual HTTP request.
pub const PROVIDED_BUFFER_BYTES: usize = 1_024;
/// Provided buffers of a shard: 512 KiB, so that they stay in L2.
pub const PROVIDED_BUFFERS: u16 = 512;
/// Requests that wait for their freshness in one shard; one more is OVERLOADED.
pub const WAITING_MAX: usize = 1_024;
/// Requests of one connection that may wait for their freshness: 1 of 32 places in one waiting room, so that no caller takes
/// it all, and fewer than a connection may be owed answers, so that those that need not wait pass by. One more that would
/// have to wait is OVERLOADED.
pub const CONNECTION_WAITS_MAX: u32 = 32;
/// Silence in the middle of a request after which its connection is closed.
pub const PARTIAL_REQUEST_US: u64 = 10_000_000;
/// How long a connection may prove nothing, where who proves nothing may nothing: else strangers who only connect, and stay, take every
/// place. As long as half a request may take.
pub const UNPROVED_US: u64 = PARTIAL_REQUEST_US;
/// How long a draining node goes on answering.
pub const DRAIN_US: u64 = 10_000_000;
/// How long a draining connection that is quiet is kept, for what is on its way to it: many round trips within a region.
pub const DRAIN_QUIET_US: u64 = 50_000;
/// How long a draining shard goes on answering with data, and waits for the rest of a request: a connection that never
/// falls quiet must not keep the node.
pub const DRAIN_ANSWER_US: u64 = 1_000_000;
/// How long a draining shard reads on from a connection that never falls quiet: it has said since the beginning that it
/// ends, and refused data for a second.
pub const DRAIN_READ_US: u64 = 2 * DRAIN_ANSWER_US;
/// How long a draining shard waits for a caller who takes none of its answers: one more than a lost packet takes to be
/// sent again a few times.
pub const DRAIN_STALL_US: u64 = 1_000_000;
/// A Hello's body: its two strings take 1,088 bytes; the rest is room for fields that later clients append. It keeps
/// the longest legal frame at GetBalances' 8,232 bytes.
pub const HELLO_BYTES_MAX: usize = 4 * 1_024;
/// An HTTP request's line; more is 414. The longest that means anything has under 300 bytes, percent-encoded throughout.
pub const HTTP_LINE_BYTES_MAX: usize = 2 * 1_024;
/// An HTTP request's line and headers; more is 431.
pub const HTTP_HEAD_BYTES_MAX: usize = 8 * 1_024;
/// Headers of an HTTP request; more is 431.
pub const HTTP_HEADERS_MAX: usize = 64;
/// An HTTP request's body: 1,024 ids of 19 digits, quoted and separated, with room for white space; more is 413.
pub const HTTP_BODY_BYTES_MAX: usize = 48 * 1_024;
/// Words of one RESP command: an MGET of as many users as a batch may have, and some more, so that one too many is refused and no
/// reason to close a connection.
pub const RESP_WORDS_MAX: usize = 4 * BATCH_USERS_MAX;
/// A word of a RESP command: a token, or what an ECHO sends back.
pub const RESP_WORD_BYTES_MAX: usize = 1_024;
/// A RESP command: an MGET of 1,024 keys of 27 bytes takes 35 KiB.
pub const RESP_COMMAND_BYTES_MAX: usize = 48 * 1_024;
/// Connections of one shard: the size of its table of direct descriptors.
pub const CONNECTIONS_MAX: u32 = 32_768;
/// Connections of one shard below which a limit of files is warned of: a host's usual soft limit.
pub const CONNECTIONS_FEW: u32 = 1_024;
/// Accounts whose last version and assets a ledger's writer remembers, about 100 bytes each: 25 MiB.
pub const LEDGER_ACCOUNTS_CACHED_MAX: usize = 1 << 18;
/// Operations that one shard queues before it has to submit them in the middle of a turn.
pub const RING_SUBMISSIONS: u32 = 1_024;
/// Completions that a shard's ring holds: those of all its provided buffers, of as many sends, and room for a burst of
/// accepts. What does not fit waits in the kernel, which is slower and loses nothing.
pub const RING_COMPLETIONS: u32 = 4_096;
/// Completions that are handled in one turn, so that the mesh and the feed get theirs.
pub const COMPLETIONS_PER_TURN: usize = 1_024;
/// Connections with refusals for having asked too much that are served in one turn, behind all others: each takes some 5 µs of the
/// kernel's, so that a thousand of them add 40 µs to another's answer, and not 5 ms. They are still served faster than they can ask.
pub const LATE_SERVED_PER_TURN: usize = 8;
/// Connections that wait to be accepted, per listener; the kernel cuts it to net.core.somaxconn.
pub const LISTEN_BACKLOG: i32 = 4_096;
/// Listeners of one shard: the any-shard port, its own, the unix socket.
pub const LISTENERS_MAX: u32 = 3;
/// After the host ran out of files or memory for a new connection, accepting pauses this long.
pub const ACCEPT_RETRY_US: u64 = 10_000;
/// A shard that decides by itself polls for the next input where the mean distance between inputs is at most this: a caller
/// that asks 2,000 times a second is answered as if it always polled, and a rarer one is not worth a CPU.
pub const SPIN_GAP_MAX_US: u64 = 600;
/// A longer distance between inputs counts as this for the mean, so that some 16 close inputs make up for any pause.
pub const SPIN_GAP_SEEN_MAX_US: u64 = 4_000;
/// How often it is said, at most, that connections cannot be accepted.
pub const SCARCITY_LOG_US: u64 = 10_000_000;
/// Threads of the control plane that shake hands by TLS: one takes some 4,000 handshakes a second, and two never wait for one
/// another's.
pub const HANDSHAKE_THREADS: usize = 2;
/// Handshakes of a node under way at once, of some 30 KiB each; one more ends the oldest, for whoever means it is done within
/// some round trips.
pub const HANDSHAKES_MAX: usize = 1_024;
/// Of them, those of one address; one more of its is refused.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = 512;
/// How long a handshake may take: some round trips around the world, with a packet lost.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// Bytes that a handshake may take: four times what a long chain of certificates does.
pub const HANDSHAKE_BYTES_MAX: usize = 64 * 1_024;
/// Connections that have shaken hands and wait for their shard to take them; one more is closed.
pub const HANDED_OVER_MAX: usize = 256;
/// How long a record of TLS that has begun may take to be whole; it is looked at once so often, so it takes twice that at most.
pub const PARTIAL_RECORD_US: u64 = PARTIAL_REQUEST_US;
/// A file of certificates or keys: some hundred authorities.
pub const CERTIFICATES_BYTES_MAX: usize = 1_024 * 1_024;
/// Names of one certificate that are kept, and the bytes of each: more is no caller's.
pub const CERTIFICATE_NAMES_MAX: usize = 32;
/// See [`CERTIFICATE_NAMES_MAX`]; a SPIFFE id has at most so many.
pub const CERTIFICATE_NAME_BYTES_MAX: usize = 2_048;
/// Descriptors that are kept from callers: the ledger's files, logs, the admin port's [`ADMIN_CONNECTIONS_MAX`] connections,
/// what the runtimes and the listeners need.
pub const OPEN_FILES_RESERVED: u64 = 192;
/// Connections of the admin port; one more ends the one that has been silent for longest.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Silence after which a connection of the admin port is ended: six times as long as Prometheus is silent by default, and longer than
/// who has asked for a profile waits for it ([`PROFILE_SECONDS_MAX`]).
pub const ADMIN_IDLE_US: u64 = 90_000_000;
/// Silence in the middle of a head or a body that the admin port reads, after which it is answered 408: as long as on the shards' ports.
pub const ADMIN_PART_SILENCE: Duration = Duration::from_micros(PARTIAL_REQUEST_US);
/// How long a head, or a body, may take to come: [`APPLY_BODY_BYTES_MAX`] at 1.1 Mbit/s, and no drop by drop for ever.
pub const ADMIN_PART: Duration = Duration::from_secs(30);
/// Silence of a TCP peer after which its host is asked whether it is still there, how often, and how many times in vain:
/// together with [`UNACKNOWLEDGED_US`] a peer that has vanished is gone within two minutes.
pub const KEEPALIVE_IDLE_US: u64 = 60_000_000;
/// See [`KEEPALIVE_IDLE_US`].
pub const KEEPALIVE_INTERVAL_US: u64 = 15_000_000;
/// See [`KEEPALIVE_IDLE_US`].
pub const KEEPALIVE_PROBES: u32 = 3;
/// How long what was sent may stay unacknowledged, or a peer without room for more, before the connection is ended.
pub const UNACKNOWLEDGED_US: u64 = 105_000_000;
/// How long a connection that the server closes is still read, so that bytes under way do not reset it and take its
/// last answer with it.
pub const LINGER_US: u64 = 500_000;
/// How long a shard waits for the kernel to let go of its last operations; they are cancelled, so it is a matter of µs.
pub const CLOSE_DOWN_US: u64 = 2_000_000;
/// How long a start waits for a port whose last owner has just ended: a ring lets go of its listeners up to 0.2 s late.
pub const BIND_RETRY_US: u64 = 1_000_000;
/// A configuration file: all of its keys with a paragraph about each take 8 KiB.
pub const CONFIG_BYTES_MAX: usize = 64 * 1_024;
/// How long a configuration that is no file may take to come: what feeds a pipe does it at once, and a reload keeps the control
/// plane's thread for so long.
pub const CONFIG_READ: Duration = Duration::from_secs(2);
/// How long `florin principal add` waits for others who change the file, some milliseconds each.
pub const PRINCIPALS_LOCK: Duration = Duration::from_secs(30);
/// How often it looks whether they are done: as long as one takes.
pub const PRINCIPALS_LOCK_LOOK: Duration = Duration::from_millis(5);
/// How long a command waits for an answer over HTTP, from the look-up of the name to the last byte: above what a commit behind a
/// long import takes.
pub const CALL: Duration = Duration::from_secs(30);
/// How long `florin support` waits for all that it asks: a node that is to be looked at often stands still, and is asked five times.
pub const SUPPORT_CALLS: Duration = Duration::from_secs(30);
/// The longest answer that a command keeps. A receipt of [`APPLY_TRANSACTIONS_MAX`] has 1.5 MB, a batch of 1,024 users with sixteen
/// assets each some 1.4 MB.
pub const CALL_ANSWER_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// A line of a CSV file: a row takes under 200 bytes, and what is longer is no row.
pub const CSV_LINE_BYTES_MAX: usize = 16 * 1_024;
/// Transactions of one `POST /v1/transactions`, and of one commit that serves several: some 100 ms of SQLite's work.
pub const APPLY_TRANSACTIONS_MAX: usize = 10_000;
/// A body of `POST /v1/transactions`: [`APPLY_TRANSACTIONS_MAX`] objects of 200 bytes each, with room for white space.
pub const APPLY_BODY_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// How long a `POST /v1/transactions` waits for another program's transaction, wherever in the queue it stands: a caller
/// that is told soon can decide for itself.
pub const APPLY_WAIT: Duration = Duration::from_secs(2);
/// Requests that wait for the ledger's writer; one more is answered 429.
pub const APPLY_QUEUE_MAX: usize = 256;
/// Bytes that a connection of the drivers on a runtime receives at once at most: half of what a wake-up of a multishot
/// receive can bring, for one more receive may be under way when the shard has enough.
pub const RECEIVE_BYTES_MAX: usize = INTAKE_BYTES_MAX / 2;
/// Submissions of each of the three rings that glommio makes for one shard: they take about 50 KiB of locked memory
/// each, and what finds no place waits in glommio's own queue.
pub const GLOMMIO_RING_DEPTH: usize = 512;
/// Bytes of records in a block of a checkpoint: what is verified, read and taken in as one. With 256 buckets, whoever writes a
/// checkpoint holds 16 MiB of blocks that are not full yet.
pub const CHECKPOINT_BLOCK_BYTES: usize = 64 * 1_024;
/// A block that holds one account alone may be longer: 16 assets with an entry for each of 40 days and 240 hours in both
/// directions take 220 KiB, and nothing has to be larger than twenty times that.
pub const CHECKPOINT_BLOCK_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Bytes that a shard copies before it hands them over. It may be longer by the accounts of one group.
pub const CHECKPOINT_PIECE_BYTES: usize = 1_024 * 1_024;
/// Buffers under way between a shard and whoever writes its checkpoint: one is filled while others are written.
pub const CHECKPOINT_BUFFERS: usize = 4;
/// What such a buffer has room for besides: a group of 16 accounts and some, each of a usual size, so that a shard allocates nothing.
pub const CHECKPOINT_PIECE_ROOM: usize = 256 * 1_024;
/// How long a checkpoint in the making waits for the feed to get where it has to be; then it is given up, µs.
pub const CHECKPOINT_CUT_WAIT_US: u64 = 60_000_000;
/// Blocks under way between whoever loads a checkpoint and a shard: some 1 ms of its work, so that it never waits for them.
pub const CHECKPOINT_ORDERS: usize = 16;
/// Checkpoints that are kept: where the newest turns out to be damaged, the one before is there.
pub const CHECKPOINTS_KEPT: usize = 2;
/// Bytes of a section after which they are brought to the disk: what the kernel holds back is bounded, and so is how long the
/// disk is busy with it at once.
pub const CHECKPOINT_SYNC_BYTES: usize = 64 * 1_024 * 1_024;
/// Bytes after which whoever writes a checkpoint lets others on its CPU go before it: 0.1 ms of its work, where a slice of the kernel's
/// is 1 to 4 ms, also at a low priority, and a caller that wakes up waits for its end. Beside a thread that is always busy that
/// leaves it a hundredth of the CPU (a tenth without), and all of one that is idle.
pub const CHECKPOINT_YIELD_BYTES: usize = CHECKPOINT_BLOCK_BYTES;
/// A manifest: 25 bytes for each block of 64 KiB are this for 2.5 TiB of accounts.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 30;
/// Accounts that an idle shard copies in one turn: some 0.1 ms, so that whoever asks meanwhile waits no longer.
pub const CHECKPOINT_ACCOUNTS_PER_TURN: usize = 256;
/// Accounts that a shard with callers copies in a millisecond: at some 0.3 µs each they take a tenth of its time.
pub const CHECKPOINT_ACCOUNTS_PER_MS: u64 = 320;
/// Accounts that a shard takes in in one turn while it loads a checkpoint: some 0.2 ms.
pub const RESTORE_ACCOUNTS_PER_TURN: usize = 512;
/// How long whoever loads a checkpoint waits for a shard before it looks again: a block takes some 50 µs.
pub const CHECKPOINT_LOAD_LOOK: Duration = Duration::from_micros(50);
/// How often it is looked whether a checkpoint is due.
pub const CHECKPOINT_DUE_LOOK: Duration = Duration::from_millis(50);
/// How long whoever makes one waits for a shard, or for the feed, before it looks again.
pub const CHECKPOINT_LOOK: Duration = Duration::from_micros(500);
/// How long a request waits for its checkpoint before it is told to look later: less than any caller's patience.
pub const CHECKPOINT_WAIT: Duration = Duration::from_secs(10);
/// Between two looks of `florin checkpoint` at one that takes long.
pub const CHECKPOINT_PAUSE: Duration = Duration::from_millis(250);
/// Where the audit has found something wrong, no checkpoint is left that may hold it. So long after the last one the next is made.
pub const CHECKPOINT_AFTER_FINDING: Duration = Duration::from_secs(5);
/// And at least so many times as long as the last one took: where much is wrong, little of the time goes into that.
pub const CHECKPOINT_RESTS: u32 = 10;
/// How long systemd waits for a node that has just got on with loading, µs: as the unit's TimeoutStartSec= says.
pub const LOADING_US: u32 = 15 * 60 * 1_000_000;
/// How long a last checkpoint may take before systemd loses its patience, µs.
pub const CHECKPOINT_SAVING_US: u32 = 10 * 60 * 1_000_000;
/// Orders of the audit that one shard may have unanswered: one is carried out while the next is on its way.
pub const AUDIT_ORDERS: usize = 4;
/// Accounts that a shard copies for the audit in one turn: at some 1 µs each, with their windows, callers do not notice.
pub const AUDIT_ACCOUNTS_PER_ORDER: usize = 64;
/// Accounts of which a shard looks at the user alone in one turn: some 20 µs.
pub const AUDIT_ACCOUNTS_LISTED_PER_TURN: usize = 512;
/// New users that a shard notes while the ledger is read for the audit: 32 KiB, and 80,000 new users a second for 50 ms. Where more
/// come, the ledger is read again.
pub const AUDIT_NEW_USERS_MAX: usize = 4_096;
/// Rows that the audit reads at once: some 3 ms of SQLite's work, after which it rests.
pub const AUDIT_ROWS_PER_READ: usize = 1_024;
/// How often whatever seems different is read and compared again before it is told: what moves meanwhile is no difference.
pub const AUDIT_LOOKS: usize = 3;
/// Between two such looks: as long as a commit is in the log and not yet visible to whoever reads.
pub const AUDIT_LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How often an account's rows are asked for that it has been shown to have, and that whoever reads does not see yet: with the pause, for
/// ten seconds.
pub const AUDIT_VISIBLE_TRIES: usize = 100;
/// How long the audit waits for a shard or for the feed before it looks again.
pub const AUDIT_WAIT: Duration = Duration::from_micros(500);
/// How long it waits for the feed before it says so.
pub const AUDIT_WAIT_SAID: Duration = Duration::from_secs(2);
/// The shortest pause between two passes: a ledger with a few accounts is not read a thousand times a second.
pub const AUDIT_PASS_PAUSE: Duration = Duration::from_millis(500);
/// How long after a failure to read the ledger it is tried again.
pub const AUDIT_RETRY: Duration = Duration::from_secs(1);
/// Times that a piece of the ledger is read again because more new users came than were noted; then the pass goes without sums.
pub const AUDIT_REREADS_MAX: usize = 16;
/// Differences that are kept with both contents: some 1 KiB each. All are counted.
pub const AUDIT_EVIDENCE_MAX: usize = 64;
/// Characters of each content that is kept.
pub const AUDIT_CONTENT_MAX: usize = 1_024;
/// Looks of `florin audit` at an account that seems different: with the pause, for five seconds.
pub const AUDIT_COMMAND_LOOKS: u32 = 20;
/// Between two such looks.
pub const AUDIT_COMMAND_PAUSE: Duration = Duration::from_millis(250);
/// How much later than the time that it bears an answer may have been given, so that its windows are those of the next hour, µs.
pub const AUDIT_HOUR_SLACK_US: i64 = 60_000_000;
/// Looks at users from the control plane that one shard may have unanswered: one at a time is asked, and who asked before may have gone.
pub const LOOK_ORDERS: usize = 4;
/// How long such a look may take: a shard answers in its next turn.
pub const LOOK_WAIT: Duration = Duration::from_secs(2);
/// How long it waits before it looks again whether the shard has answered.
pub const LOOK_PAUSE: Duration = Duration::from_millis(1);
/// Between two looks at what the node is doing, while somebody watches: numbers that can be read.
pub const ACTIVITY_PERIOD: Duration = Duration::from_secs(1);
/// Who watches at a time; one more is answered 503. Most of the admin port's connections stay for probes and scrapes.
pub const ACTIVITY_STREAMS_MAX: usize = 16;
/// Refusals that are kept for whoever looks at the console, besides the log: some 200 bytes each.
pub const REFUSALS_KEPT: usize = 32;
/// How long what is known of the host's settings holds, while somebody watches: reading them takes some ten system calls.
pub const DRIFT_HOLDS: Duration = Duration::from_secs(30);
/// How often it is looked at whether something else runs on the shards' cores: a few system calls a shard.
pub const NEIGHBOURS_LOOK: Duration = Duration::from_secs(10);
/// The share of a core's time from which on it is worth a warning. The kernel counts in ticks, so less is noise.
pub const NEIGHBOURS_SHARE_WARNED: f64 = 0.05;
/// How often systemd's task looks whether the node is ready: whoever orders a restart waits for it.
pub const SYSTEMD_READY_LOOK: Duration = Duration::from_millis(10);
/// How often systemd's task looks afterwards, where no watchdog asks for more: often enough for a status that is read by people.
pub const SYSTEMD_LOOK: Duration = Duration::from_secs(1);
/// Looks within the watchdog's time: a shard may miss some of them before the process is killed for it.
pub const LOOKS_PER_WATCHDOG: u32 = 4;
/// How often the log's "ready" looks whether it may be said.
pub const READY_LOOK: Duration = Duration::from_millis(10);
/// How often it is looked, once it was, whether that has changed, and what was slow: several times a second, and next to no work.
pub const STATE_LOOK: Duration = Duration::from_millis(100);
/// How long the admin port's last answers may take once the node has ended.
pub const ADMIN_END: Duration = Duration::from_secs(2);
/// How long the ledger's writer may take at the end to bring its log into the ledger's file: what is left of it stays valid.
pub const WRITER_END: Duration = Duration::from_secs(5);
/// Rows between two reports of an import's or a generator's progress: a few milliseconds.
pub const PROGRESS_ROWS: u64 = 1_024;
/// Between two looks of `florin publish --follow` at the ledger: what is committed meanwhile waits for half of it.
pub const PUBLISH_LOOK: Duration = Duration::from_millis(5);
/// Holds that a made-up platform may have open at once: they are kept in memory.
pub const GENERATED_HOLDS_MAX: usize = 4_096;
/// What an import reads of its file at once: a larger buffer than the default saves system calls on large files.
pub const IMPORT_READ_BYTES: usize = 256 * 1_024;
/// Between two pages of the demonstration's screen.
pub const DEMO_REFRESH: Duration = Duration::from_millis(500);
/// Between two of its lines, where there is no screen.
pub const DEMO_LINE: Duration = Duration::from_secs(1);
/// Between two looks at the keyboard and at a stop sign, while a screen is shown.
pub const SCREEN_GLANCE: Duration = Duration::from_millis(50);
/// Lines of a panel of the screen that names callers or refusals, at most: the shards have the room.
pub const SCREEN_PANEL_LINES: usize = 6;
/// Digits of a user's id that is typed there: those of the largest.
pub const USER_DIGITS_MAX: usize = 19;
/// Between two of its questions who was refused: each is a connection of its own.
pub const TOP_REFUSALS: Duration = Duration::from_secs(2);
/// How long `florin top` waits for a node to answer, and how often it tries to reach one that does not.
pub const TOP_CALL: Duration = Duration::from_secs(1);
/// How long a node may be silent that sends an event each second.
pub const TOP_SILENCE: Duration = Duration::from_secs(5);
/// Callers on each thread of the demonstration that asks as much as the machine can bear: some hundred share each write.
pub const DEMO_RUSH_CALLERS: usize = 512;
/// Such threads, at most: more of them would take the shards' CPUs on most machines.
pub const DEMO_RUSH_THREADS_MAX: usize = 8;
/// How long such a caller rests that was not answered.
pub const DEMO_RUSH_PAUSE: Duration = Duration::from_millis(10);
/// How often its writer commits what has happened since: often enough to look live.
pub const DEMO_COMMIT: Duration = Duration::from_millis(10);
/// Its readers; each asks one thing at a time.
pub const DEMO_READERS: u32 = 8;
/// Users in one of its readers' batches.
pub const DEMO_BATCH_USERS: usize = 16;
/// How long a call of `florin get` may take besides what it was told to wait.
pub const GET_DEADLINE: Duration = Duration::from_secs(5);
/// The least that it gives each of several nodes that it may have to ask for JSON, however little is left: a healthy one answers far sooner.
pub const GET_SHARE_MIN: Duration = Duration::from_millis(100);
/// Transactions that `florin apply` puts into one request, unless one line holds more: few enough that a refused one is found cheaply.
pub const APPLY_BATCH_TRANSACTIONS: usize = 1_000;
/// Times that it repeats a request while the server says that it is busy: with [`APPLY_PAUSE`] some seconds, as a burst of others takes.
pub const APPLY_ATTEMPTS_MAX: u32 = 30;
/// Between two such attempts.
pub const APPLY_PAUSE: Duration = Duration::from_millis(200);
/// Connections that a driver on a runtime accepts before its other tasks go on.
pub const ACCEPTED_AT_ONCE: usize = 64;
/// Between two attempts to bind a port; see [`BIND_RETRY_US`].
pub const BIND_RETRY: Duration = Duration::from_millis(20);
/// What an executor of glommio's insists on being allowed to lock, whether or not it needs that much.
pub const GLOMMIO_LOCKED_BYTES_MIN: u64 = 512 * 1_024;
/// Completions that are copied out of the ring at a time, so that handling them may submit.
pub const COMPLETIONS_COPIED_MAX: usize = 64;
/// Connections that all listeners of a shard may bring at once.
pub const ACCEPTS_QUEUED_MAX: u32 = LISTENERS_MAX * LISTEN_BACKLOG.unsigned_abs();
/// How much lower the priority is of threads for which no caller waits, or none who is served already: those that make handshakes
/// and checkpoints, and the audit. On a CPU that they share with others they get a tenth.
pub const NICE_OF_HOUSEKEEPING: i32 = 10;
/// For how long a shard asks to run at a time, ns: the shortest that Linux takes. Whoever asks for less at a time comes first.
pub const SHARD_SLICE_NS: u64 = 100_000;
/// How long the feed waits for a shard before it looks again: one that goes on has emptied only part of its ring by then,
/// and for one that stands still the feed does not burn a CPU (at 50 µs it took 11 % of one).
pub const FEED_LOOK_AGAIN: Duration = Duration::from_micros(200);
/// Things of one kind (unreadable rows, defects) that the feed logs one by one.
pub const FEED_LOGGED_MAX: u64 = 100;
/// Rows routed between two wake-ups of the shards: an eighth of a shard's ring, so that it never fills before its shard has heard.
pub const FEED_WAKE_ROWS: usize = 512;
/// Empty buffers that a shard keeps for the next connection that needs one.
pub const SPARE_BUFFERS: usize = 1_024;
/// The capacity above which a buffer is not kept: all spare ones together are 32 MiB at most.
pub const SPARE_BUFFER_BYTES: usize = 32 * 1_024;
/// While requests wait for their freshness: how often the watermark is looked at, for it wakes nobody, µs.
pub const WAITING_POLL_US: u64 = 2_000;
/// Lines of an empty index: 8 KiB. One where defects are looked for, so that a handful of accounts makes it grow.
pub const INDEX_LINES_MIN: usize = if cfg!(debug_assertions) { 1 } else { 128 };
/// With all but one in so many of the accounts for which it has room, an index makes more: so that who has time has filled that, a page every few ms, by
/// when it is needed; and so late that few of all tables hold it, which is a quarter of an index.
pub const INDEX_AHEAD_PART: usize = 40;
/// Lines of a growing index that move with each new account: so few so that a turn's worth of new accounts moves 4,096 in some
/// 0.15 ms; and so many that they have all moved when a twentieth more accounts have come.
pub const INDEX_LINES_PER_INSERTION: usize = 4;
/// Lines that move in each turn besides, so that growth also ends where no account comes any more: some 10 µs. One where defects
/// are looked for, so that much happens while lines move.
pub const INDEX_LINES_PER_TURN: usize = if cfg!(debug_assertions) { 1 } else { 256 };
/// Chunks of accounts of which a commit is coming, for which a shard keeps room to note where they lie: 16 KiB, for commits of 2.8
/// million accounts each shard.
pub const UNFINISHED_CHUNKS_USUAL: usize = 4_096;
/// Callers that a directory may name: 10 bits of them are a company's teams and services; a token is compared with all of theirs.
pub const PRINCIPALS_MAX: usize = 1_024;
/// Numbers that principals may have: a name keeps its own as long as the node runs, and they are indices on every shard.
pub const PRINCIPAL_NUMBERS_MAX: usize = 4 * PRINCIPALS_MAX;
/// Refusals under way from a shard to the audit log; one more is counted and not told.
pub const REFUSALS_QUEUED_MAX: usize = 256;
/// Directories under way to a shard, which takes them as soon as it is woken.
pub const DIRECTORIES_QUEUED_MAX: usize = 4;
/// The highest rate and burst of a quota, requests: beyond what a shard answers in a second.
pub const QUOTA_MAX: u32 = 10_000_000;
/// Times a second that all shards together take credit of a principal at its full rate: the word that they share for it is
/// touched this often, and a shard holds back so small a part of a second's credit.
pub const QUOTA_LEASES_PER_S: u64 = 1_000;
/// Requests that a shard takes credit for at once, at most.
pub const QUOTA_LEASE_MAX: u32 = 1_024;
/// Wrong tokens that an address may show at once, on one shard; then one each [`WRONG_TOKEN_US`].
pub const WRONG_TOKENS_BURST: u64 = 20;
/// See [`WRONG_TOKENS_BURST`]: ten a second are a misconfigured fleet's, and keep a guesser of 256 bits waiting for ever.
pub const WRONG_TOKEN_US: u64 = 100_000;
/// Addresses whose wrong tokens a shard remembers; those that fall together share their bound.
pub const WRONG_TOKEN_PLACES: usize = 1_024;
/// A file of principals: [`PRINCIPALS_MAX`] of them with some lines each.
pub const PRINCIPALS_BYTES_MAX: usize = 1_024 * 1_024;
/// A name of a principal or of a key: it stands in tokens, in metrics and in every line of the audit log.
pub const PRINCIPAL_NAME_BYTES_MAX: usize = 64;
/// Tokens of one principal: those of a rotation that is under way twice.
pub const TOKENS_PER_PRINCIPAL_MAX: usize = 4;
/// Keys that sign tokens: the one in use, and the one before or after it.
pub const SIGNING_KEYS_MAX: usize = 2;
/// A secret: a token or a key on one line.
pub const SECRET_BYTES_MAX: usize = 1_024;
/// A key that signs tokens: as many bytes as its signature has, so that it is no easier to guess.
pub const KEY_BYTES_MIN: usize = 32;
/// Lines of the audit log in one second; more are counted and told in one.
pub const AUDIT_LOG_LINES_PER_S: u64 = 1_000;
/// Deeds under way to the audit log; one more is counted and not told.
pub const AUDIT_LOG_QUEUE_MAX: usize = 1_024;
/// How often the audit log looks at what shards have refused: their queues hold some thousand refusals a second each.
pub const AUDIT_LOG_LOOK: Duration = Duration::from_millis(50);
/// Bytes of a request's path that the audit log shows: all paths that mean anything are shorter.
pub const AUDIT_LOG_PATH_BYTES_MAX: usize = 128;
/// For how long a signed token may be made: a month, for what needs longer is known by its hash and can be taken back.
pub const SIGNED_TOKEN_MAX: Duration = Duration::from_secs(31 * 86_400);
/// For how long a profile may be taken, seconds: twice what profilers ask for.
pub const PROFILE_SECONDS_MAX: u64 = 60;
/// For how long one is taken unless it is said.
pub const PROFILE_SECONDS: u64 = 10;
/// Times that a profile looks at a thread in each second of its CPU time: enough to see a hundredth of ten seconds, and no multiple of
/// what timers tick at.
pub const PROFILE_HZ: u32 = 99;
/// Of a thread's stack that a profile is shown each time: all of a shard's, whose loop is shallow, in a build for tests too.
pub const PROFILE_STACK_BYTES: u32 = 16 * 1_024;
/// A thread's samples that the profiler has not looked at yet: those of a third of a second, for it is late where the host is busy.
pub const PROFILE_RING_BYTES: usize = 32 * PROFILE_STACK_BYTES as usize;
/// How often the profiler looks at them: it takes two of each thread then.
pub const PROFILE_LOOK: Duration = Duration::from_millis(20);
/// Threads that a profile watches: with their buffers, 256 MiB while it is taken.
pub const PROFILE_THREADS_MAX: usize = 512;
/// Functions of one stack: those of a recursion are cut off.
pub const PROFILE_FRAMES_MAX: usize = 256;
/// Different stacks of a profile: ten times as many as a node was seen to have, and 64 MiB at most.
pub const PROFILE_STACKS_MAX: usize = 65_536;
/// Notes of slow answers under way from a shard to the log: a second's worth of turns of 10 ms; one more is counted and not told.
pub const SLOW_QUEUED_MAX: usize = 128;
/// Slow answers that the log has a line for in each second; more are counted and told in one.
pub const SLOW_LINES_PER_S: usize = 10;
/// The end of a log file that `florin support` takes: a day of a node that has something to say, and small enough to send.
pub const SUPPORT_LOG_BYTES: u64 = 4 * 1_024 * 1_024;
/// Lines of the journal that it takes: as much.
pub const SUPPORT_LOG_LINES: u64 = 20_000;
