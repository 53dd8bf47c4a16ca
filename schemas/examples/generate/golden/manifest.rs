//! `golden.json`: what each golden frame holds, in JSON, with 64-bit integers as strings.

use florin_schema::layout::SCHEMA_FINGERPRINT;
use florin_schema::{Asset, NodeMap, records};
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct Manifest {
    /// For whoever opens it.
    pub about: String,
    /// [`SCHEMA_FINGERPRINT`].
    pub rkyv_schema: String,
    /// Well-formed requests.
    pub requests: Vec<RequestFrame>,
    /// Replies that a client must read.
    pub replies: Vec<ReplyFrame>,
    /// Requests that a server must refuse with INVALID_REQUEST.
    pub refused_requests: Vec<RefusedRequest>,
    /// Replies that a client must not believe.
    pub refused_replies: Vec<RefusedReply>,
}

/// A request.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct RequestFrame {
    /// Beside `golden.json`.
    pub file: String,
    /// Field by field.
    pub header: RequestHeaderFields,
    /// Where FRESHNESS is set.
    pub freshness: Option<FreshnessFields>,
    /// Where the opcode has one.
    pub body: Option<RequestBody>,
}

/// The 24 bytes of a request header.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct RequestHeaderFields {
    pub length: u32,
    pub version: u8,
    pub opcode: u8,
    pub encoding: u8,
    pub flags: u8,
    pub request_id: String,
    pub user_id: String,
}

/// The 16 option bytes.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct FreshnessFields {
    pub min_version: String,
    pub max_age_ms: u32,
    pub wait_ms: u32,
}

/// What a request's body says.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum RequestBody {
    /// Of a Hello.
    Hello {
        /// Name and version.
        client: String,
        /// What proves the caller.
        token: String,
    },
    /// Of a GetStatistics: the mask.
    Windows(u8),
    /// Of a GetBalances.
    UserIds(Vec<String>),
    /// Of a Ping, in hex.
    PayloadHex(String),
}

/// A reply.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct ReplyFrame {
    /// Beside `golden.json`.
    pub file: String,
    /// Field by field.
    pub header: ReplyHeaderFields,
    /// What its body says.
    pub body: ReplyBody,
}

/// The 32 bytes of a reply header.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct ReplyHeaderFields {
    pub length: u32,
    pub version: u8,
    pub opcode: u8,
    pub encoding: u8,
    pub status: u8,
    pub request_id: String,
    pub as_of_us: String,
    pub shard: u16,
    pub flags: u16,
    pub schema: u32,
}

/// What a reply's body says.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum ReplyBody {
    /// Of a Hello.
    Hello {
        /// Name and version.
        server: String,
        /// How many.
        shards: u16,
        /// One a shard, or none.
        ports: Vec<u16>,
        /// The routing function.
        mix: String,
        /// The fingerprint.
        rkyv_schema: String,
        /// Drawn when the node started; 0 from a server that has none.
        node_id: String,
        /// 0 where it is not known.
        ledger_id: String,
        /// Where nodes divide the users among them.
        #[serde(skip_serializing_if = "Option::is_none")]
        nodes: Option<MapFields>,
    },
    /// Of a GetBalance.
    Balance(BalanceFields),
    /// Of a GetStatistics.
    Statistics(StatisticsFields),
    /// Of a GetBalances.
    Balances(Vec<EntryFields>),
    /// Of a Ping, in hex.
    PayloadHex(String),
    /// Of every status but OK.
    Message(String),
}

/// A `Balance`.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct BalanceFields {
    pub user_id: String,
    pub version: String,
    pub updated_at_us: String,
    pub balances: Vec<AssetBalanceFields>,
}

/// An `AssetBalance`; the asset as its code.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct AssetBalanceFields {
    pub asset: String,
    pub available: String,
    pub held: String,
}

/// A `NodeMap`.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct MapFields {
    pub epoch: String,
    pub partitioner: String,
    pub nodes: Vec<MapNodeFields>,
    pub partitions: Vec<PartitionFields>,
}

/// A `MapNode`.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct MapNodeFields {
    pub node_id: String,
    pub host: String,
    pub port: u16,
    pub tls_port: u16,
}

/// A partition's holders, by their places among the nodes.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct PartitionFields {
    pub owner: Option<u16>,
    pub standbys: Vec<u16>,
}

impl From<&NodeMap> for MapFields {
    fn from(map: &NodeMap) -> MapFields {
        let nodes = map.nodes().iter().map(|node| MapNodeFields {
            node_id: node.id.0.to_string(),
            host: node.host.clone(),
            port: node.port,
            tls_port: node.tls_port,
        });
        let partitions = (0..map.partitions()).map(|partition| PartitionFields {
            owner: map.owner(partition),
            standbys: map.standbys(partition).collect(),
        });
        MapFields {
            epoch: map.epoch.to_string(),
            partitioner: map.partitioner.to_string(),
            nodes: nodes.collect(),
            partitions: partitions.collect(),
        }
    }
}

/// A `Statistics`.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct StatisticsFields {
    pub user_id: String,
    pub version: String,
    pub windows: u8,
    pub statistics: Vec<AssetStatisticsFields>,
    pub first_transaction_at_us: String,
    pub last_transaction_at_us: String,
}

/// An `AssetStatistics`; the asset as its code.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct AssetStatisticsFields {
    pub asset: String,
    pub windows: Vec<WindowFields>,
}

/// A `WindowStatistics`.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct WindowFields {
    pub credit_count: String,
    pub credit_sum: String,
    pub debit_count: String,
    pub debit_sum: String,
    pub largest_debit: String,
}

/// A `BalanceEntry`.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct EntryFields {
    pub user_id: String,
    pub status: u8,
    pub quarantined: bool,
    pub balance: Option<BalanceFields>,
}

/// A request that a server refuses.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct RefusedRequest {
    /// Beside `golden.json`.
    pub file: String,
    /// What the refusal's message must name.
    pub field: String,
    /// Whether the server closes the connection behind the refusal, for it cannot tell where the next frame begins.
    pub closes: bool,
    /// The refusal's.
    pub request_id: String,
}

/// A reply that a client does not believe.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct RefusedReply {
    /// Beside `golden.json`.
    pub file: String,
    /// Where it is wrong.
    pub field: String,
}

impl Manifest {
    /// An empty one.
    pub fn new() -> Manifest {
        Manifest {
            about: "The golden frames of florin's wire protocol, version 1; see wire.md. 64-bit integers are strings. \
                    Made by `cargo run -p florin-schema --example generate`."
                .to_owned(),
            rkyv_schema: SCHEMA_FINGERPRINT.to_string(),
            requests: Vec::new(),
            replies: Vec::new(),
            refused_requests: Vec::new(),
            refused_replies: Vec::new(),
        }
    }
}

fn code(asset: u64) -> String {
    Asset::from_wire(asset).expect("golden frames name legal assets").to_string()
}

impl From<&records::Balance> for BalanceFields {
    fn from(balance: &records::Balance) -> BalanceFields {
        let row = |row: &records::AssetBalance| AssetBalanceFields {
            asset: code(row.asset),
            available: row.available.to_string(),
            held: row.held.to_string(),
        };
        BalanceFields {
            user_id: balance.user_id.to_string(),
            version: balance.version.to_string(),
            updated_at_us: balance.updated_at_us.to_string(),
            balances: balance.balances.iter().map(row).collect(),
        }
    }
}

impl From<&records::Statistics> for StatisticsFields {
    fn from(statistics: &records::Statistics) -> StatisticsFields {
        let window = |window: &records::WindowStatistics| WindowFields {
            credit_count: window.credit_count.to_string(),
            credit_sum: window.credit_sum.to_string(),
            debit_count: window.debit_count.to_string(),
            debit_sum: window.debit_sum.to_string(),
            largest_debit: window.largest_debit.to_string(),
        };
        let asset = |asset: &records::AssetStatistics| AssetStatisticsFields {
            asset: code(asset.asset),
            windows: asset.windows.iter().map(window).collect(),
        };
        StatisticsFields {
            user_id: statistics.user_id.to_string(),
            version: statistics.version.to_string(),
            windows: statistics.windows,
            statistics: statistics.statistics.iter().map(asset).collect(),
            first_transaction_at_us: statistics.first_transaction_at_us.to_string(),
            last_transaction_at_us: statistics.last_transaction_at_us.to_string(),
        }
    }
}

impl From<&records::BalanceEntry> for EntryFields {
    fn from(entry: &records::BalanceEntry) -> EntryFields {
        EntryFields {
            user_id: entry.user_id.to_string(),
            status: entry.status,
            quarantined: entry.quarantined,
            balance: entry.balance.as_ref().map(BalanceFields::from),
        }
    }
}
