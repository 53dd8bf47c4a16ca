//! Two values, held against each other: by meaning, and by how they are written.

use std::collections::{HashMap, HashSet};

use super::path::{Path, PathStep};
use crate::json::Value;
use crate::limits::{DIFFERENCES_KEPT_MAX, DIFFERENCES_MAX};

/// The field by which the elements of a list are known, so that one that is missing does not shift all others.
const IDENTITY: &str = "asset";

/// How two answers differ at one place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DifferenceKind {
    /// HTTP's status.
    Status,
    /// The candidate lacks it.
    Missing,
    /// Only the candidate has it.
    Added,
    /// The same elements in another order.
    Order,
    /// Another kind of value, or a body that is no JSON on one side.
    Type,
    /// Another value.
    Value,
    /// A header says otherwise.
    Header,
    /// A version that contradicts what is known.
    Version,
}

impl DifferenceKind {
    /// In reports.
    pub const fn name(self) -> &'static str {
        match self {
            DifferenceKind::Status => "status",
            DifferenceKind::Missing => "missing",
            DifferenceKind::Added => "added",
            DifferenceKind::Order => "order",
            DifferenceKind::Type => "type",
            DifferenceKind::Value => "value",
            DifferenceKind::Header => "header",
            DifferenceKind::Version => "version",
        }
    }
}

/// One place at which the two sides do not say the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Where.
    pub path: Path,
    /// How.
    pub kind: DifferenceKind,
    /// What the primary has there, as JSON or in words; nothing where it has nothing.
    pub primary: Option<String>,
    /// What the candidate has there.
    pub candidate: Option<String>,
}

/// All that two values differ in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Comparison {
    /// Where they mean something else; a bounded number of them.
    pub differences: Vec<Difference>,
    /// Differences beyond those.
    pub more: usize,
    /// The same keys stand in another order somewhere. JSON gives that no meaning.
    pub key_order: bool,
    /// The same number is spelled otherwise somewhere.
    pub spelling: bool,
}

impl Comparison {
    /// Whether nothing differs that was not allowed by a rule.
    pub fn is_same(&self) -> bool {
        self.differences.is_empty() && self.more == 0
    }

    /// A single difference.
    pub fn of(difference: Difference) -> Comparison {
        Comparison { differences: vec![difference], ..Comparison::default() }
    }

    /// Keeps what no version explains: fields that one side lacks, other kinds of values, and headers. Accounts change their
    /// amounts and gain assets, and what is not set yet is `null`.
    pub fn keep_shape(&mut self) {
        let is_null = |side: &Option<String>| side.as_deref() == Some("null");
        self.differences.retain(|difference| match difference.kind {
            // An entity tag is one of a version.
            DifferenceKind::Header => difference.path.steps() != [PathStep::Key("etag".to_owned())],
            DifferenceKind::Type => !is_null(&difference.primary) && !is_null(&difference.candidate),
            DifferenceKind::Missing | DifferenceKind::Added => {
                matches!(difference.path.steps().last(), Some(PathStep::Key(_)))
            }
            DifferenceKind::Status
            | DifferenceKind::Order
            | DifferenceKind::Value
            | DifferenceKind::Version => false,
        });
        self.more = 0;
    }

    /// Keeps the first few differences, and counts the others.
    pub fn trim(&mut self) {
        self.more += self.differences.len().saturating_sub(DIFFERENCES_KEPT_MAX);
        self.differences.truncate(DIFFERENCES_KEPT_MAX);
    }

    /// Adds a difference.
    pub fn push(
        &mut self,
        path: &Path,
        kind: DifferenceKind,
        primary: Option<String>,
        candidate: Option<String>,
    ) {
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(Difference { path: path.clone(), kind, primary, candidate });
        } else {
            self.more += 1;
        }
    }

    fn values(
        &mut self,
        path: &Path,
        kind: DifferenceKind,
        primary: Option<&Value>,
        candidate: Option<&Value>,
    ) {
        self.push(path, kind, primary.map(Value::to_string), candidate.map(Value::to_string));
    }
}

/// Compares two values that stand at `path`.
pub fn compare(path: &Path, primary: &Value, candidate: &Value, into: &mut Comparison) {
    match (primary, candidate) {
        (Value::Object(p), Value::Object(c)) => objects(path, p, c, into),
        (Value::List(p), Value::List(c)) => lists(path, p, c, into),
        (Value::Null, Value::Null) => {}
        (Value::Bool(p), Value::Bool(c)) if p == c => {}
        (Value::Text(p), Value::Text(c)) if p == c => {}
        (Value::Number(p), Value::Number(c)) if p == c => into.spelling |= p.text() != c.text(),
        _ if primary.kind() == candidate.kind() => {
            into.values(path, DifferenceKind::Value, Some(primary), Some(candidate));
        }
        _ => into.values(path, DifferenceKind::Type, Some(primary), Some(candidate)),
    }
}

type Field = (String, Value);

fn objects(path: &Path, primary: &[Field], candidate: &[Field], into: &mut Comparison) {
    let same_keys =
        primary.len() == candidate.len() && primary.iter().zip(candidate).all(|(p, c)| p.0 == c.0);
    if same_keys {
        for ((key, p), (_, c)) in primary.iter().zip(candidate) {
            compare(&path.key(key), p, c, into);
        }
        return;
    }
    // A key that stands twice is compared time by time: which of them counts, readers of JSON do not agree on.
    let mut others: HashMap<&str, Vec<&Value>> = HashMap::new();
    for (key, value) in candidate.iter().rev() {
        others.entry(key).or_default().push(value);
    }
    let mut shared = HashSet::new();
    for (key, p) in primary {
        match others.get_mut(key.as_str()).and_then(Vec::pop) {
            Some(c) => {
                shared.insert(key.as_str());
                compare(&path.key(key), p, c, into);
            }
            None => into.values(&path.key(key), DifferenceKind::Missing, Some(p), None),
        }
    }
    for (key, _) in candidate {
        if let Some(c) = others.get_mut(key.as_str()).and_then(Vec::pop) {
            into.values(&path.key(key), DifferenceKind::Added, None, Some(c));
        }
    }
    let order = |fields: &'_ [Field]| -> Vec<String> {
        fields.iter().map(|(key, _)| key).filter(|key| shared.contains(key.as_str())).cloned().collect()
    };
    into.key_order |= order(primary) != order(candidate);
}

fn lists(path: &Path, primary: &[Value], candidate: &[Value], into: &mut Comparison) {
    if let (Some(p_names), Some(c_names)) = (names(primary), names(candidate)) {
        return named(path, (primary, &p_names), (candidate, &c_names), into);
    }
    for (index, (p, c)) in primary.iter().zip(candidate).enumerate() {
        compare(&path.index(index), p, c, into);
    }
    for (index, p) in primary.iter().enumerate().skip(candidate.len()) {
        into.values(&path.index(index), DifferenceKind::Missing, Some(p), None);
    }
    for (index, c) in candidate.iter().enumerate().skip(primary.len()) {
        into.values(&path.index(index), DifferenceKind::Added, None, Some(c));
    }
}

/// The elements' names, where all of them have one and none has another's.
fn names(elements: &[Value]) -> Option<Vec<&str>> {
    let names: Option<Vec<&str>> = elements.iter().map(|element| element.get(IDENTITY)?.as_text()).collect();
    names.filter(|names| names.iter().collect::<HashSet<_>>().len() == names.len())
}

type NamedList<'a> = (&'a [Value], &'a [&'a str]);

fn named(path: &Path, (p, p_names): NamedList<'_>, (c, c_names): NamedList<'_>, into: &mut Comparison) {
    let mut others: HashMap<&str, &Value> = c_names.iter().copied().zip(c).collect();
    for (name, value) in p_names.iter().zip(p) {
        match others.remove(name) {
            Some(other) => compare(&path.named(name), value, other, into),
            None => into.values(&path.named(name), DifferenceKind::Missing, Some(value), None),
        }
    }
    for (name, value) in c_names.iter().zip(c).filter(|(name, _)| others.contains_key(*name)) {
        into.values(&path.named(name), DifferenceKind::Added, None, Some(value));
    }
    let (in_p, in_c): (HashSet<&str>, HashSet<&str>) =
        (p_names.iter().copied().collect(), c_names.iter().copied().collect());
    let p_shared = p_names.iter().filter(|name| in_c.contains(*name));
    let c_shared = c_names.iter().filter(|name| in_p.contains(*name));
    if !p_shared.eq(c_shared) {
        let list = |names: &[&str]| Some(names.join(", "));
        into.push(path, DifferenceKind::Order, list(p_names), list(c_names));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compared(primary: &str, candidate: &str) -> Comparison {
        let mut comparison = Comparison::default();
        let (p, c) = (Value::parse(primary.as_bytes()).unwrap(), Value::parse(candidate.as_bytes()).unwrap());
        compare(&Path::ROOT, &p, &c, &mut comparison);
        comparison
    }

    fn found(primary: &str, candidate: &str) -> Vec<String> {
        let comparison = compared(primary, candidate);
        let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let line = |d: &Difference| {
            format!("{} {} {} {}", d.path, d.kind.name(), word(&d.primary), word(&d.candidate))
        };
        comparison.differences.iter().map(line).collect()
    }

    #[test]
    fn each_difference_is_named_where_it_is() {
        let cases: &[(&str, &str, &[&str])] = &[
            (r#"{"a":"1"}"#, r#"{"a":"2"}"#, &[r#"a value "1" "2""#]),
            (r#"{"a":"1"}"#, r#"{"a":1}"#, &[r#"a type "1" 1"#]),
            (r#"{"a":1,"b":2}"#, r#"{"b":2}"#, &["a missing 1 -"]),
            (r#"{"b":2}"#, r#"{"b":2,"c":null}"#, &["c added - null"]),
            (r#"{"a":1,"a":2}"#, r#"{"a":1}"#, &["a missing 2 -"]),
            (r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#, &["a value 1 2", "a value 2 1"]),
            ("[1,2]", "[1,3,4]", &["[1] value 2 3", "[2] added - 4"]),
            ("[1,2]", "[1]", &["[1] missing 2 -"]),
            ("9007199254740993", "9007199254740992", &["(all) value 9007199254740993 9007199254740992"]),
            (
                r#"{"b":[{"asset":"A","n":1},{"asset":"B","n":2}]}"#,
                r#"{"b":[{"asset":"B","n":2}]}"#,
                &[r#"b[A] missing {"asset":"A","n":1} -"#],
            ),
            (
                r#"{"b":[{"asset":"A","n":1},{"asset":"B","n":2}]}"#,
                r#"{"b":[{"asset":"B","n":3},{"asset":"A","n":1}]}"#,
                &["b[B].n value 2 3", "b order A, B B, A"],
            ),
            // Where a name stands twice, places count.
            (r#"[{"asset":"A"},{"asset":"A"}]"#, r#"[{"asset":"A"}]"#, &[r#"[1] missing {"asset":"A"} -"#]),
        ];
        for (primary, candidate, expected) in cases {
            assert_eq!(found(primary, candidate), *expected, "{primary} {candidate}");
        }
    }

    #[test]
    fn spelling_and_order_of_keys_are_no_differences_but_are_seen() {
        let order = compared(r#"{"a":1,"b":{"c":1,"d":2}}"#, r#"{"a":1,"b":{"d":2,"c":1}}"#);
        assert_eq!((order.differences.len(), order.key_order, order.spelling), (0, true, false));
        let spelling = compared("[1.0]", "[1]");
        assert_eq!((spelling.differences.len(), spelling.key_order, spelling.spelling), (0, false, true));
    }

    #[test]
    fn an_answer_that_is_all_wrong_keeps_some_of_it_and_counts_the_rest() {
        let all = DIFFERENCES_MAX + 50;
        let mut comparison = compared(&format!("{:?}", vec![1; all]), &format!("{:?}", vec![2; all]));
        assert_eq!((comparison.differences.len(), comparison.more), (DIFFERENCES_MAX, 50));
        comparison.trim();
        assert_eq!(
            (comparison.differences.len(), comparison.more),
            (DIFFERENCES_KEPT_MAX, all - DIFFERENCES_KEPT_MAX)
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(|n| Value::parse(n.to_string().as_bytes()).unwrap()),
            "[a-c]{0,3}".prop_map(Value::Text),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
                prop::collection::vec(("[a-f]|asset", inner), 0..6).prop_map(Value::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_equals_itself_and_difference_is_mutual(a in any_value(), b in any_value()) {
            let mut same = Comparison::default();
            compare(&Path::ROOT, &a, &a, &mut same);
            prop_assert_eq!(&same, &Comparison::default());
            let (mut there, mut back) = (Comparison::default(), Comparison::default());
            compare(&Path::ROOT, &a, &b, &mut there);
            compare(&Path::ROOT, &b, &a, &mut back);
            prop_assert_eq!(there.differences.is_empty(), back.differences.is_empty());
            // Nothing but equal values is found equal, were it not for the order of keys.
            if there.differences.is_empty() && !there.key_order {
                prop_assert_eq!(a.to_string(), b.to_string());
            }
        }

        #[test]
        fn one_changed_leaf_is_one_difference_at_its_place(amounts in prop::collection::vec(any::<i64>(), 1..16), at: prop::sample::Index) {
            let rows = |amounts: &[i64]| {
                let row = |(i, a): (usize, &i64)| format!(r#"{{"asset":"A{i}","available":"{a}"}}"#);
                format!(r#"{{"balances":[{}]}}"#, amounts.iter().enumerate().map(row).collect::<Vec<_>>().join(","))
            };
            let at = at.index(amounts.len());
            let mut wrong = amounts.clone();
            wrong[at] = wrong[at].wrapping_add(1);
            let expected = format!(r#"balances[A{at}].available value "{}" "{}""#, amounts[at], wrong[at]);
            prop_assert_eq!(found(&rows(&amounts), &rows(&wrong)), vec![expected]);
        }
    }
}
