//! Which columns of a table are a transaction's, and what its words for kinds mean: a table that is there already is mapped, not
//! moved.
//!
//! ```toml
//! [ledger.columns]                        # what is not named bears florin's own name
//! user_id = "account_no"
//! version = "derived"                     # there is none: the n-th row of its account in the order of commits
//!
//! [ledger.kinds]                          # with it, these words and no others
//! deposit = "recharge"                    # its amounts are above 0
//! payout = "-withdrawal"                  # its amounts are below 0: 500 withdrawn is -500
//! transfer = "gift_received|-gift_sent"   # the sign says which
//! ```

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use florin_core::ledger::Kind;

/// A column that a transaction is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// Whose.
    UserId,
    /// Its place.
    Version,
    /// Of what.
    Asset,
    /// What happened.
    Kind,
    /// How much.
    Amount,
    /// When.
    OccurredAt,
}

impl Field {
    /// In the order in which they are read.
    pub const ALL: [Field; 6] =
        [Field::UserId, Field::Version, Field::Asset, Field::Kind, Field::Amount, Field::OccurredAt];

    /// As florin's own table has it.
    pub const fn name(self) -> &'static str {
        match self {
            Field::UserId => "user_id",
            Field::Version => "version",
            Field::Asset => "asset",
            Field::Kind => "kind",
            Field::Amount => "amount",
            Field::OccurredAt => "occurred_at",
        }
    }

    /// What a legal value is.
    pub const fn expected(self) -> &'static str {
        match self {
            Field::UserId => "a whole number from 0 to 9223372036854775807",
            Field::Version => "a whole number from 1",
            Field::Asset => "1 to 8 characters of A-Z, 0-9 and _",
            Field::Kind => "a kind that is mapped",
            Field::Amount => {
                "a whole number of minor units, with the sign that its kind is mapped with, and not 0"
            }
            Field::OccurredAt => "a time in the years 1 to 9999",
        }
    }
}

/// The column of florin's own table that says which transaction a row is. Nodes do not read it; writers do.
pub const TRANSACTION_ID: &str = "transaction_id";
/// Instead of a version's column.
const DERIVED: &str = "derived";

/// Columns that bear other names, by florin's own: `user_id=account_no,version=derived`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Columns(BTreeMap<String, String>);

/// What a table's words or numbers for kinds mean: `deposit=recharge,transfer=gift_received|-gift_sent`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kinds(BTreeMap<String, Rule>);

/// The kinds that a word stands for, by the amount's sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Rule {
    above: Option<Kind>,
    below: Option<Kind>,
}

/// What is wrong with a mapping.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MappingError {
    /// No pair.
    #[error(
        "expected NAME=VALUE pairs with commas in between (a comma, = or % within one as %2C, %3D, %25), and {0:?} is none"
    )]
    Pair(String),
    /// One name twice.
    #[error("expected each name once, and {0:?} comes again")]
    Twice(String),
    /// Nothing of a transaction.
    #[error(
        "expected names of a transaction's columns (transaction_id, user_id, version, asset, kind, amount, occurred_at), and {0:?} is none"
    )]
    Field(String),
    /// Two fields cannot be read from one column.
    #[error("expected another column for each field, and {0:?} is named for two")]
    SharedColumn(String),
    /// Not a kind, or the same sign twice.
    #[error(
        "expected a kind for {word:?} ({kinds}), with - before it where its amounts are below 0, or two such with | in between, and \
         {found:?} is none", kinds = kinds()
    )]
    Rule {
        /// The table's word.
        word: String,
        /// What was said of it.
        found: String,
    },
}

/// See the module. The default is florin's own table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    columns: [Option<String>; Field::ALL.len()],
    transaction_id: String,
    /// None = florin's own names and numbers.
    kinds: Option<(HashMap<String, Rule>, HashMap<i64, Rule>)>,
}

impl Default for Mapping {
    fn default() -> Mapping {
        Mapping {
            columns: Field::ALL.map(|field| Some(field.name().to_owned())),
            transaction_id: TRANSACTION_ID.to_owned(),
            kinds: None,
        }
    }
}

impl Mapping {
    /// Made of what was said of columns and of kinds.
    ///
    /// # Errors
    /// Two fields of one column.
    pub fn new(columns: &Columns, kinds: &Kinds) -> Result<Mapping, MappingError> {
        let mut mapping = Mapping::default();
        for (field, column) in &columns.0 {
            if field == TRANSACTION_ID {
                mapping.transaction_id.clone_from(column);
            }
            for (known, place) in Field::ALL.into_iter().zip(&mut mapping.columns) {
                if known.name() == field {
                    *place = Some(column.clone()).filter(|name| known != Field::Version || name != DERIVED);
                }
            }
        }
        let mut used: Vec<&String> =
            mapping.columns.iter().flatten().chain([&mapping.transaction_id]).collect();
        used.sort_unstable();
        if let Some(pair) = used.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(MappingError::SharedColumn(pair[0].clone()));
        }
        if !kinds.0.is_empty() {
            let words = kinds.0.iter().map(|(word, &rule)| (word.clone(), rule)).collect();
            let numbers = kinds.0.iter().filter_map(|(word, &rule)| Some((word.parse().ok()?, rule)));
            mapping.kinds = Some((words, numbers.collect()));
        }
        Ok(mapping)
    }

    /// Whether it is florin's own table, which its commands write to.
    pub fn is_own(&self) -> bool {
        *self == Mapping::default()
    }

    /// Tells it from others, in few words that stay the same.
    pub fn name(&self) -> String {
        if self.is_own() {
            return "as florin's".to_owned();
        }
        let rules = |(words, _): &(HashMap<String, Rule>, _)| {
            let sorted: BTreeMap<_, _> = words.iter().collect();
            format!("{sorted:?}")
        };
        let whole = format!("{:?} {:?}", self.columns, self.kinds.as_ref().map(rules));
        let mixed = whole.bytes().fold(0, |hash, byte| florin_schema::ids::mix(hash ^ u64::from(byte)));
        format!("mapped {mixed:016x}")
    }

    /// The column's name; none = there is none.
    pub fn column(&self, field: Field) -> Option<&str> {
        self.columns[field as usize].as_deref()
    }

    /// Whether the rows bear no version.
    pub fn is_derived(&self) -> bool {
        self.column(Field::Version).is_none()
    }

    /// The kind and amount of a row.
    ///
    /// # Errors
    /// The field that holds what is not mapped.
    #[inline]
    pub fn kind_of_word(&self, word: &str, amount: i64) -> Result<(Kind, i64), Field> {
        match &self.kinds {
            // `char(n)` fills up with blanks.
            Some((words, _)) => words.get(word.trim_end_matches(' ')).ok_or(Field::Kind)?.of(amount),
            None => own(Kind::parse(word).ok(), amount),
        }
    }

    /// The kind and amount of a row.
    ///
    /// # Errors
    /// The field that holds what is not mapped.
    #[inline]
    pub fn kind_of_number(&self, number: i64, amount: i64) -> Result<(Kind, i64), Field> {
        match &self.kinds {
            Some((_, numbers)) => numbers.get(&number).ok_or(Field::Kind)?.of(amount),
            None => own(Kind::from_number(number), amount),
        }
    }
}

#[inline]
fn own(kind: Option<Kind>, amount: i64) -> Result<(Kind, i64), Field> {
    let kind = kind.ok_or(Field::Kind)?;
    if amount > 0 { Ok((kind, amount)) } else { Err(Field::Amount) }
}

impl Rule {
    fn of(self, amount: i64) -> Result<(Kind, i64), Field> {
        let kind = match amount.signum() {
            1 => self.above,
            -1 => self.below,
            _ => None,
        };
        // The least number has no opposite.
        let amount = amount.checked_abs().ok_or(Field::Amount)?;
        kind.map(|kind| (kind, amount)).ok_or(Field::Amount)
    }

    fn parse(text: &str) -> Option<Rule> {
        let mut rule = Rule::default();
        for part in text.split('|') {
            let (place, name) = match part.trim().strip_prefix('-') {
                Some(name) => (&mut rule.below, name),
                None => (&mut rule.above, part.trim()),
            };
            if place.replace(Kind::parse(name).ok()?).is_some() {
                return None;
            }
        }
        Some(rule)
    }
}

impl FromStr for Columns {
    type Err = MappingError;

    fn from_str(text: &str) -> Result<Columns, MappingError> {
        let columns = pairs(text)?;
        let is_field =
            |name: &str| name == TRANSACTION_ID || Field::ALL.iter().any(|field| field.name() == name);
        match columns.keys().find(|name| !is_field(name)) {
            Some(unknown) => Err(MappingError::Field(unknown.clone())),
            None => Ok(Columns(columns)),
        }
    }
}

impl FromStr for Kinds {
    type Err = MappingError;

    fn from_str(text: &str) -> Result<Kinds, MappingError> {
        let mut kinds = BTreeMap::new();
        for (word, found) in pairs(text)? {
            let rule = Rule::parse(&found).ok_or_else(|| MappingError::Rule { word: word.clone(), found })?;
            kinds.insert(word, rule);
        }
        Ok(Kinds(kinds))
    }
}

fn pairs(text: &str) -> Result<BTreeMap<String, String>, MappingError> {
    let plain = |text: &str| text.replace("%3D", "=").replace("%2C", ",").replace("%25", "%");
    let mut pairs = BTreeMap::new();
    for pair in text.split(',') {
        let (name, value) = pair.split_once('=').ok_or_else(|| MappingError::Pair(pair.to_owned()))?;
        let (name, value) = (plain(name), plain(value));
        if name.is_empty() || value.is_empty() {
            return Err(MappingError::Pair(pair.to_owned()));
        }
        if pairs.contains_key(&name) {
            return Err(MappingError::Twice(name));
        }
        pairs.insert(name, value);
    }
    Ok(pairs)
}

fn kinds() -> String {
    Kind::ALL.map(Kind::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(columns: &str, kinds: &str) -> Mapping {
        let columns = if columns.is_empty() { Columns::default() } else { columns.parse().unwrap() };
        let kinds = if kinds.is_empty() { Kinds::default() } else { kinds.parse().unwrap() };
        Mapping::new(&columns, &kinds).unwrap()
    }

    #[test]
    fn unless_told_otherwise_it_is_florins_own_table() {
        let own = mapping("", "");
        assert!(own.is_own() && !own.is_derived());
        assert_eq!(own.column(Field::OccurredAt), Some("occurred_at"));
        assert_eq!(own.kind_of_word("hold", 5), Ok((Kind::Hold, 5)));
        assert_eq!(own.kind_of_number(10, 5), Ok((Kind::Capture, 5)));
        for (word, amount, field) in
            [("hold", 0, Field::Amount), ("hold", -5, Field::Amount), ("x", 5, Field::Kind)]
        {
            assert_eq!(own.kind_of_word(word, amount), Err(field));
        }
        assert_eq!(own.kind_of_number(11, 5), Err(Field::Kind));
    }

    #[test]
    fn columns_are_mapped_by_name() {
        let mapped = mapping("user_id=account no,version=derived,amount=a%2Cb%3Dc%25", "");
        assert_eq!(mapped.column(Field::UserId), Some("account no"));
        assert_eq!(mapped.column(Field::Amount), Some("a,b=c%"));
        assert_eq!((mapped.column(Field::Version), mapped.is_derived()), (None, true));
        assert_eq!(mapped.column(Field::Asset), Some("asset"));
        assert!(!mapped.is_own());
    }

    #[test]
    fn words_mean_kinds_and_signs_say_which() {
        let mapped = mapping("", "deposit=recharge,payout=-withdrawal,7=gift_received|-gift_sent");
        assert_eq!(mapped.kind_of_word("deposit   ", 5), Ok((Kind::Recharge, 5)));
        assert_eq!(mapped.kind_of_word("payout", -5), Ok((Kind::Withdrawal, 5)));
        assert_eq!(mapped.kind_of_number(7, 5), Ok((Kind::GiftReceived, 5)));
        assert_eq!(mapped.kind_of_number(7, -5), Ok((Kind::GiftSent, 5)));
        for (word, amount, field) in [
            ("deposit", -5, Field::Amount),
            ("payout", 5, Field::Amount),
            ("payout", i64::MIN, Field::Amount),
            ("7", 0, Field::Amount),
            // Once some are mapped, no others are guessed.
            ("recharge", 5, Field::Kind),
        ] {
            assert_eq!(mapped.kind_of_word(word, amount), Err(field), "{word} {amount}");
        }
        assert_eq!(mapped.kind_of_number(1, 5), Err(Field::Kind));
    }

    /// A checkpoint's accounts are what another mapping has made of the same rows.
    #[test]
    fn a_name_tells_one_mapping_from_another() {
        let names: std::collections::BTreeSet<String> = [
            mapping("", ""),
            mapping("amount=cents", ""),
            mapping("", "a=hold,b=-release,c=refund"),
            mapping("", "a=hold,b=release,c=refund"),
        ]
        .iter()
        .flat_map(|mapping| [mapping.name(), mapping.name()])
        .collect();
        assert_eq!(names.len(), 4, "{names:?}");
        assert_eq!(
            mapping("", "b=-release,c=refund,a=hold").name(),
            mapping("", "a=hold,b=-release,c=refund").name()
        );
    }

    #[test]
    fn what_maps_nothing_is_refused_with_what_does() {
        for columns in ["user_id", "=a", "user_id=", "seq=a", "user_id=a,user_id=b", ""] {
            assert!(columns.parse::<Columns>().is_err(), "{columns}");
        }
        for kinds in ["a=b", "a=hold|release", "a=-hold|-release", "a=hold|", "a=hold,a=release"] {
            assert!(kinds.parse::<Kinds>().is_err(), "{kinds}");
        }
        let shared = Mapping::new(&"user_id=amount".parse().unwrap(), &Kinds::default());
        assert_eq!(shared, Err(MappingError::SharedColumn("amount".to_owned())));
    }
}
