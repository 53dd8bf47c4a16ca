//! `florin get`: what a node answers, as a table for people or as JSON for programs.

mod json;

use std::time::Duration;

use clap::{Args, Subcommand};
use florin_client::records::{ArchivedBalance, AssetBalance, Balance, Statistics};
use florin_client::{Address, Asset, Entry, Freshness, Origin, UserId, Version, Window, WindowMask};

use super::caller::{Asked, CallerArgs, user_id};
use super::http::{NoAnswer, Refused};
use super::output::{Align, Table, rfc3339, say};
use crate::callers::SecretError;
use crate::limits::GET_DEADLINE;
use crate::numbers::{grouped, grouped_signed};

/// What to ask.
#[derive(Subcommand, Debug)]
pub enum GetCommand {
    /// What a user has of each asset, in minor units
    Balance {
        /// The user's id
        #[arg(value_name = "USER", value_parser = user_id)]
        user: UserId,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// What a user received and spent lately
    Statistics {
        /// The user's id
        #[arg(value_name = "USER", value_parser = user_id)]
        user: UserId,
        /// Some of 24h, 7d, 30d, lifetime [default: all of them]
        #[arg(long, value_name = "WINDOW,…", value_delimiter = ',', value_parser = window)]
        window: Vec<Window>,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// What several users have
    Balances {
        /// Their ids
        #[arg(value_name = "USER", value_parser = user_id, required = true)]
        users: Vec<UserId>,
        #[command(flatten)]
        common: CommonArgs,
    },
}

/// Flags that all of them take.
#[derive(Args, Debug)]
pub struct CommonArgs {
    /// The node: any of its ports, by TLS where florins:// is before it, or its unix socket
    #[arg(long, value_name = "HOST:PORT|florins://HOST:PORT|unix:PATH", default_value = "127.0.0.1:7400")]
    addr: Address,
    /// Print the node's own JSON
    #[arg(long)]
    json: bool,
    /// The answer must hold at least so many of the user's transactions: the version that a write was answered with
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    min_version: u64,
    /// The answer must be no older than this
    #[arg(long, value_name = "MS", default_value_t = 0, hide_default_value = true)]
    max_age_ms: u32,
    /// How long the node may wait until it can answer so, at most 1,000
    #[arg(long, value_name = "MS", default_value_t = 0, hide_default_value = true)]
    wait_ms: u32,
    #[command(flatten)]
    caller: CallerArgs,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The node refused, or cannot be reached.
    #[error("{0}")]
    Client(#[from] florin_client::Error),
    /// The same, over HTTP.
    #[error(transparent)]
    Http(#[from] NoAnswer),
    /// The node refused over HTTP.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It answers otherwise than florin does.
    #[error(
        "{address} does not answer as this florin expects it: {why}; use the florin of the node's version"
    )]
    Foreign {
        /// Who.
        address: Address,
        /// What is wrong.
        why: String,
    },
    /// No token where there should be one.
    #[error(transparent)]
    Token(#[from] SecretError),
    /// No runtime for the client.
    #[error("cannot start the client: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Runs `florin get`.
pub(super) fn run(command: &GetCommand) -> Result<(), GetError> {
    let (GetCommand::Balance { common, .. }
    | GetCommand::Statistics { common, .. }
    | GetCommand::Balances { common, .. }) = command;
    let node = common.caller.asking(&common.addr)?;
    let text = if common.json {
        json::answer(command, common, &node)?
    } else {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(table(command, common, &node))?
    };
    say(&text);
    Ok(())
}

async fn table(
    command: &GetCommand,
    common: &CommonArgs,
    node: &Asked,
) -> Result<String, florin_client::Error> {
    let client = node
        .client()
        .client_name(concat!("florin-get/", env!("CARGO_PKG_VERSION")))
        .deadline(common.deadline())
        .connect(node.address.clone())
        .await?
        .with_freshness(common.freshness());
    Ok(match command {
        GetCommand::Balance { user, .. } => {
            let reply = client.get_balance(*user).await?;
            balance_table(&reply.to_record(), reply.origin())
        }
        GetCommand::Statistics { user, window, .. } => {
            let reply = client.get_statistics(*user, mask(window)).await?;
            statistics_table(&reply.to_record(), reply.origin())
        }
        GetCommand::Balances { users, .. } => {
            let reply = client.get_balances(users).await?;
            let as_of = reply.as_of_us().map(rfc3339).unwrap_or_default();
            format!("{}\n\nas of {as_of}", balances_table(reply.iter()))
        }
    })
}

impl CommonArgs {
    /// How long all of it may take.
    fn deadline(&self) -> Duration {
        GET_DEADLINE + Duration::from_millis(self.wait_ms.into())
    }

    fn freshness(&self) -> Freshness {
        let version = Freshness::at_least(Version(self.min_version));
        let aged = if self.max_age_ms > 0 {
            version.and_no_older_than(Duration::from_millis(self.max_age_ms.into()))
        } else {
            version
        };
        aged.waiting(Duration::from_millis(self.wait_ms.into()))
    }

    /// As HTTP has it, ready to follow other parameters.
    fn query(&self) -> String {
        let (version, age, wait) = (self.min_version, self.max_age_ms, self.wait_ms);
        let given = [("min_version", version), ("max_age_ms", age.into()), ("wait_ms", wait.into())];
        let given = given.iter().filter(|(_, value)| *value > 0);
        given.map(|(name, value)| format!("&{name}={value}")).collect()
    }
}

fn window(text: &str) -> Result<Window, String> {
    let window = Window::ALL.iter().find(|window| window.name() == text);
    window.copied().ok_or_else(|| "expected 24h, 7d, 30d or lifetime".to_owned())
}

/// All of them where none is named.
fn mask(windows: &[Window]) -> WindowMask {
    let bits = windows.iter().fold(0, |bits, &window| bits | 1 << window as u8);
    WindowMask::new(bits).unwrap_or(WindowMask::ALL)
}

fn balance_table(balance: &Balance, origin: Origin) -> String {
    let mut table =
        Table::new(&[("asset", Align::Left), ("available", Align::Right), ("held", Align::Right)]);
    for AssetBalance { asset, available, held } in &balance.balances {
        table.row([code(*asset), grouped_signed(*available), grouped_signed(*held)]);
    }
    let heading = format!(
        "user {}, version {}, updated {}",
        balance.user_id,
        grouped(balance.version),
        rfc3339(balance.updated_at_us)
    );
    format!("{heading}\n\n{}\n\n{}", table.render(), footing(origin))
}

fn statistics_table(statistics: &Statistics, origin: Origin) -> String {
    let mut table = Table::new(&[
        ("asset", Align::Left),
        ("window", Align::Left),
        ("credits", Align::Right),
        ("sum", Align::Right),
        ("debits", Align::Right),
        ("sum", Align::Right),
        ("largest", Align::Right),
    ]);
    let windows = WindowMask::new(statistics.windows).unwrap_or(WindowMask::ALL);
    for asset in &statistics.statistics {
        for (window, totals) in windows.iter().zip(&asset.windows) {
            table.row([
                code(asset.asset),
                window.name().to_owned(),
                grouped(totals.credit_count),
                grouped_signed(totals.credit_sum),
                grouped(totals.debit_count),
                grouped_signed(totals.debit_sum),
                grouped_signed(totals.largest_debit),
            ]);
        }
    }
    let heading = format!(
        "user {}, version {}, first transaction {}, last {}",
        statistics.user_id,
        grouped(statistics.version),
        rfc3339(statistics.first_transaction_at_us),
        rfc3339(statistics.last_transaction_at_us)
    );
    format!("{heading}\n\n{}\n\n{}", table.render(), footing(origin))
}

fn balances_table<'a>(entries: impl Iterator<Item = Entry<'a>>) -> String {
    let mut table = Table::new(&[
        ("user", Align::Right),
        ("status", Align::Left),
        ("version", Align::Right),
        ("asset", Align::Left),
        ("available", Align::Right),
        ("held", Align::Right),
    ]);
    for entry in entries {
        let quarantined = if entry.is_quarantined { ", quarantined" } else { "" };
        let status = format!("{}{quarantined}", entry.status.name());
        let head = |version| [entry.user_id.to_string(), status.clone(), version];
        let Some(balance) = entry.balance.map(record).filter(|balance| !balance.balances.is_empty()) else {
            let [user, status, version] = head(String::new());
            table.row([user, status, version, String::new(), String::new(), String::new()]);
            continue;
        };
        for (index, row) in balance.balances.iter().enumerate() {
            let first = index == 0;
            let [user, status, version] =
                if first { head(grouped(balance.version)) } else { [const { String::new() }; 3] };
            let (available, held) = (grouped_signed(row.available), grouped_signed(row.held));
            table.row([user, status, version, code(row.asset), available, held]);
        }
    }
    table.render()
}

fn record(balance: &ArchivedBalance) -> Balance {
    rkyv::deserialize::<Balance, rkyv::rancor::Error>(balance).expect("integers are copied without fail")
}

fn footing(origin: Origin) -> String {
    let quarantined = if origin.is_quarantined() {
        "\nThis account is quarantined: its history is known to be incomplete."
    } else {
        ""
    };
    format!("as of {}, from shard {}{quarantined}", rfc3339(origin.as_of_us), origin.shard)
}

fn code(asset: u64) -> String {
    Asset::from_wire(asset).map_or_else(|_| format!("{asset:#x}"), |asset| asset.to_string())
}
