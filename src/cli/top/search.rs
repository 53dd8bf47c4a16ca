//! One user, looked at from `florin top`: what a caller of the node's would be answered.

use std::collections::BTreeMap;

use florin_schema::Window;
use hyper::HeaderMap;
use serde::Deserialize;

use crate::cli::caller::{Asked, in_flags};
use crate::cli::http::whole_within;
use crate::cli::keys::Typed;
use crate::cli::output::{Align, Table};
use crate::limits::{TOP_CALL, USER_DIGITS_MAX};
use crate::numbers::grouped_signed;

/// What is typed of a user's id, and what was found.
pub(super) struct Search<'a> {
    node: &'a Asked,
    typed: String,
    found: Vec<String>,
}

impl Search<'_> {
    /// Of a node's users.
    pub(super) fn of(node: &Asked) -> Search<'_> {
        Search { node, typed: String::new(), found: Vec::new() }
    }

    /// One more key.
    pub(super) fn take(&mut self, typed: Typed) {
        match typed {
            Typed::Digit(digit) if self.typed.len() < USER_DIGITS_MAX => self.typed.push(digit),
            Typed::Digit(_) => {}
            Typed::Erase => drop(self.typed.pop()),
            Typed::Enter => {
                let user = std::mem::take(&mut self.typed);
                self.found.clear();
                if !user.is_empty() {
                    self.look(&user, "balance", balances);
                    self.look(&user, "statistics", windows);
                }
            }
        }
    }

    /// What was found.
    pub(super) fn lines(&self) -> &[String] {
        &self.found
    }

    /// What the keys do now.
    pub(super) fn keys(&self) -> String {
        match self.typed.as_str() {
            "" => "digits and Enter look at a user   q ends".to_owned(),
            typed => format!("user {typed}   Enter looks   q ends"),
        }
    }

    fn look(&mut self, user: &str, what: &str, table: fn(&str) -> Option<Table>) {
        let path = format!("/v1/users/{user}/{what}");
        let told = match whole_within(TOP_CALL, self.node, "GET", &path, "") {
            Err(error) => format!("{what}: {}", in_flags(&error.to_string())),
            Ok((_, answer)) if !answer.is_success() => format!("{what}: {}", answer.detail()),
            Ok((headers, answer)) => match table(&answer.body) {
                None => format!("{what}: the node's answer cannot be read: use the florin of its version"),
                Some(table) => format!("{}\n{}", heading(&headers, user, what), table.render()),
            },
        };
        self.found.extend(told.lines().map(str::to_owned));
    }
}

fn heading(headers: &HeaderMap, user: &str, what: &str) -> String {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("?");
    let has = |name| headers.contains_key(name);
    let quarantined = match (has("florin-quarantined"), has("florin-lasting")) {
        (false, _) => "",
        (true, false) => ", quarantined: its history is known to be incomplete",
        (true, true) => {
            ", quarantined: its history is known to be incomplete, and stays so until the ledger is mended"
        }
    };
    let (version, shard, as_of) = (header("florin-version"), header("florin-shard"), header("florin-as-of"));
    format!("{what} of user {user} at version {version} on shard {shard}, as of {as_of}{quarantined}")
}

#[derive(Deserialize)]
struct Balance {
    balances: Vec<OfAsset>,
}

#[derive(Deserialize)]
struct OfAsset {
    asset: String,
    available: String,
    held: String,
}

fn balances(body: &str) -> Option<Table> {
    let balance: Balance = florin_input::json(body.as_bytes()).ok()?;
    let mut table =
        Table::new(&[("asset", Align::Left), ("available", Align::Right), ("held", Align::Right)]);
    for of in balance.balances {
        table.row([of.asset, number(&of.available)?, number(&of.held)?]);
    }
    Some(table)
}

#[derive(Deserialize)]
struct Statistics {
    statistics: Vec<Windows>,
}

#[derive(Deserialize)]
struct Windows {
    asset: String,
    windows: BTreeMap<String, Totals>,
}

#[derive(Deserialize)]
struct Totals {
    credit_count: String,
    credit_sum: String,
    debit_count: String,
    debit_sum: String,
}

fn windows(body: &str) -> Option<Table> {
    let statistics: Statistics = florin_input::json(body.as_bytes()).ok()?;
    let [left, right] = [Align::Left, Align::Right];
    let mut table = Table::new(&[
        ("asset", left),
        ("window", left),
        ("credits", right),
        ("received", right),
        ("debits", right),
        ("spent", right),
    ]);
    for of in statistics.statistics {
        for window in Window::ALL {
            let Some(totals) = of.windows.get(window.name()) else { continue };
            let Totals { credit_count, credit_sum, debit_count, debit_sum } = totals;
            let [credits, received, debits, spent] =
                [number(credit_count)?, number(credit_sum)?, number(debit_count)?, number(debit_sum)?];
            table.row([of.asset.clone(), window.name().to_owned(), credits, received, debits, spent]);
        }
    }
    Some(table)
}

fn number(text: &str) -> Option<String> {
    text.parse().ok().map(grouped_signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_answers_is_shown_and_what_it_may_not_answer_is_not_guessed() {
        let body =
            r#"{"user_id":"42","version":"7","balances":[{"asset":"COIN","available":"-1200","held":"0"}]}"#;
        assert_eq!(balances(body).unwrap().render(), "asset  available  held\nCOIN      -1,200     0");
        let body = r#"{"statistics":[{"asset":"COIN","windows":{"lifetime":{"credit_count":"1","credit_sum":"5000","debit_count":"2",
                       "debit_sum":"300"},"24h":{"credit_count":"0","credit_sum":"0","debit_count":"0","debit_sum":"0"}}}]}"#;
        let shown = windows(body).unwrap().render();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[1].contains("24h") && lines[2].contains("lifetime"), "{shown}");
        assert!(lines[2].contains("5,000"), "{shown}");
        assert!(balances(r#"{"balances":[{"asset":"COIN","available":"much","held":"0"}]}"#).is_none());
        let mut headers = HeaderMap::new();
        headers.insert("florin-shard", "3".parse().unwrap());
        headers.insert("florin-quarantined", "true".parse().unwrap());
        let heading = heading(&headers, "42", "balance");
        assert!(heading.contains("on shard 3") && heading.contains("known to be incomplete"), "{heading}");
    }

    #[test]
    fn an_id_is_typed_mended_and_no_longer_than_any() {
        let node = Asked { address: "127.0.0.1:1".parse().unwrap(), token: None, tls: None };
        let mut search = Search::of(&node);
        "123".chars().for_each(|digit| search.take(Typed::Digit(digit)));
        search.take(Typed::Erase);
        assert!(search.keys().starts_with("user 12 "), "{}", search.keys());
        (0..100).for_each(|_| search.take(Typed::Digit('9')));
        assert_eq!(search.typed.len(), USER_DIGITS_MAX);
        search.take(Typed::Enter);
        assert!(search.lines()[0].starts_with("balance: cannot reach florin"), "{:?}", search.lines());
        search.take(Typed::Enter);
        assert!(search.lines().is_empty(), "Enter alone clears");
    }
}
