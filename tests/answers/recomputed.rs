//! What schemas/domain.md says, row by row, with no regard for speed and none of the server's code.

use std::collections::BTreeMap;
use std::path::Path;

use florin_record::{NewTransaction, TransactionText};

/// Every account's rows, in the order of their versions.
pub struct Ledger {
    pub accounts: BTreeMap<u64, Vec<Row>>,
}

pub struct Row {
    asset: String,
    kind: i64,
    amount: i64,
    occurred_at_us: i64,
}

/// An account's balance: assets with available and held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Balance {
    pub user_id: u64,
    pub version: u64,
    pub updated_at_us: i64,
    pub assets: Vec<(String, i64, i64)>,
}

/// Credit count and sum, debit count and sum, largest debit.
pub type Totals = [i64; 5];

/// All that the endpoints say of a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    pub balance: Balance,
    /// Each asset's totals in 24h, 7d, 30d and lifetime.
    pub statistics: Vec<(String, [Totals; 4])>,
    pub first_us: i64,
    pub last_us: i64,
}

impl Ledger {
    pub fn read(path: &Path) -> Ledger {
        let connection = rusqlite::Connection::open(path).expect("the ledger's file");
        let query = "SELECT user_id, version, asset, kind, amount, occurred_at FROM transactions ORDER BY user_id, version";
        let mut statement = connection.prepare(query).expect("the ledger's schema");
        let mut accounts: BTreeMap<u64, Vec<Row>> = BTreeMap::new();
        let mut rows = statement.query([]).expect("the rows");
        while let Some(row) = rows.next().expect("a row") {
            let account = accounts.entry(row.get::<_, i64>(0).expect("an id") as u64).or_default();
            let version: i64 = row.get(1).expect("a version");
            account.push(Row {
                asset: row.get(2).expect("an asset"),
                kind: row.get(3).expect("a kind"),
                amount: row.get(4).expect("an amount"),
                occurred_at_us: row.get(5).expect("a time"),
            });
            assert_eq!(version, account.len() as i64, "versions are dense");
        }
        Ledger { accounts }
    }

    /// Of lines with user, version, asset, kind, amount and time, in this order.
    #[cfg(feature = "postgres")]
    pub fn of_lines(lines: &str) -> Ledger {
        let mut accounts: BTreeMap<u64, Vec<Row>> = BTreeMap::new();
        for line in lines.lines() {
            let cells: Vec<&str> = line.split('|').collect();
            let number = |at: usize| cells[at].parse::<i64>().expect("a number");
            let account = accounts.entry(number(0) as u64).or_default();
            account.push(Row {
                asset: cells[2].to_owned(),
                kind: number(3),
                amount: number(4),
                occurred_at_us: number(5),
            });
            assert_eq!(number(1), account.len() as i64, "versions are dense");
        }
        Ledger { accounts }
    }
}

pub fn account(user_id: u64, rows: &[Row], now_us: i64) -> Account {
    let mut assets: BTreeMap<&str, (i64, i64, [Totals; 4])> = BTreeMap::new();
    for row in rows {
        let (available, held, windows) = assets.entry(&row.asset).or_default();
        let (to_available, to_held) = match row.kind {
            1..=4 => (1, 0),
            5..=7 => (-1, 0),
            8 => (-1, 1),
            9 => (1, -1),
            10 => (0, -1),
            other => panic!("kind {other}"),
        };
        *available += to_available * row.amount;
        *held += to_held * row.amount;
        for (window, totals) in windows.iter_mut().enumerate() {
            let (bucket_us, buckets) =
                [(3_600_000_000, 24), (86_400_000_000, 7), (86_400_000_000, 30), (1, i64::MAX)][window];
            let ago = now_us.div_euclid(bucket_us) - row.occurred_at_us.div_euclid(bucket_us);
            if window < 3 && !(0..buckets).contains(&ago) {
                continue;
            }
            match row.kind {
                1..=4 => {
                    totals[0] += 1;
                    totals[1] += row.amount;
                }
                5..=7 | 10 => {
                    totals[2] += 1;
                    totals[3] += row.amount;
                    totals[4] = totals[4].max(row.amount);
                }
                _ => {}
            }
        }
    }
    let times = rows.iter().map(|row| row.occurred_at_us);
    let (first_us, last_us) = (times.clone().min().expect("a row"), times.max().expect("a row"));
    Account {
        balance: Balance {
            user_id,
            version: rows.len() as u64,
            updated_at_us: last_us,
            assets: assets.iter().map(|(code, totals)| ((*code).to_owned(), totals.0, totals.1)).collect(),
        },
        statistics: assets.iter().map(|(code, totals)| ((*code).to_owned(), totals.2)).collect(),
        first_us,
        last_us,
    }
}

/// A transaction of a user's that no other has.
pub fn recharge(user_id: u64, n: u64, now_us: i64) -> NewTransaction {
    let text = TransactionText {
        transaction_id: &format!("00000000-0000-4000-8000-{n:012}"),
        user_id: &user_id.to_string(),
        asset: "COIN",
        kind: "recharge",
        amount: &(n + 1).to_string(),
        occurred_at: "2026-11-22T04:05:06Z",
    };
    assert_eq!(now_us, 1_795_320_306_000_000);
    text.parse().expect("a legal transaction")
}
