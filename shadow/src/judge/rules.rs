//! Differences that somebody has agreed to, each by a rule with a name and a reason.

use super::compare::{Comparison, Difference, DifferenceKind};
use super::path::{Path, Pattern};
use crate::answer::time_us;
use crate::json::Value;
use crate::request::Endpoint;

/// A rule's place in the list of rules.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RuleIndex(pub usize);

/// One agreed difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What reports call it.
    pub name: String,
    /// Why it is right.
    pub reason: String,
    /// Where it holds; everywhere where none is named.
    pub endpoint: Option<Endpoint>,
    /// What it allows.
    pub action: Action,
}

/// What a rule allows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Whatever stands at a place, or within it.
    Ignore(Pattern),
    /// Whole numbers that differ by no more than this.
    TolerateUnits(Pattern, u64),
    /// Times that differ by no more than so many µs.
    TolerateTime(Pattern, u64),
    /// A field of the objects at a place has another key on the candidate's side.
    Rename {
        /// The objects.
        at: Pattern,
        /// The primary's key.
        primary: String,
        /// The candidate's.
        candidate: String,
    },
}

/// All rules, in the order in which they are tried.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// These, in this order.
    pub fn new(rules: Vec<Rule>) -> Rules {
        Rules(rules)
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }

    fn of(&self, endpoint: Endpoint) -> impl Iterator<Item = (RuleIndex, &Rule)> {
        let rules = self.0.iter().enumerate().map(|(at, rule)| (RuleIndex(at), rule));
        rules.filter(move |(_, rule)| rule.endpoint.is_none_or(|only| only == endpoint))
    }

    /// Gives the candidate's fields the primary's names, and says which rules did.
    pub fn rename(&self, endpoint: Endpoint, path: &Path, candidate: &mut Value) -> Vec<RuleIndex> {
        let mut used = Vec::new();
        for (index, rule) in self.of(endpoint) {
            if let Action::Rename { at, primary, candidate: key } = &rule.action
                && rename(at, (primary, key), path, candidate)
            {
                used.push(index);
            }
        }
        used
    }

    /// Takes the differences that a rule allows out of the comparison, and says which rules did.
    pub fn excuse(&self, endpoint: Endpoint, comparison: &mut Comparison) -> Vec<RuleIndex> {
        let mut used = Vec::new();
        comparison.differences.retain(|difference| {
            match self.of(endpoint).find(|(_, rule)| rule.action.allows(difference)) {
                Some((index, _)) => {
                    used.push(index);
                    false
                }
                None => true,
            }
        });
        used.sort_unstable();
        used.dedup();
        used
    }
}

impl Action {
    fn allows(&self, difference: &Difference) -> bool {
        // What a side claims to hold is no matter of taste.
        if difference.kind == DifferenceKind::Version {
            return false;
        }
        match self {
            Action::Ignore(pattern) => pattern.holds(&difference.path),
            Action::TolerateUnits(pattern, most) => {
                pattern.is(&difference.path)
                    && apart(difference, |value| value.as_whole())
                        .is_some_and(|apart| apart <= u128::from(*most))
            }
            Action::TolerateTime(pattern, most_us) => {
                let time = |value: &Value| time_us(value.as_text()?).map(i128::from);
                pattern.is(&difference.path)
                    && apart(difference, time).is_some_and(|apart| apart <= u128::from(*most_us))
            }
            Action::Rename { .. } => false,
        }
    }
}

fn apart(difference: &Difference, read: impl Fn(&Value) -> Option<i128>) -> Option<u128> {
    let side = |text: &Option<String>| read(&Value::parse(text.as_ref()?.as_bytes()).ok()?);
    side(&difference.primary)?.checked_sub(side(&difference.candidate)?).map(i128::unsigned_abs)
}

fn rename(at: &Pattern, (primary, candidate): (&str, &str), path: &Path, value: &mut Value) -> bool {
    let mut renamed = false;
    match value {
        Value::Object(fields) => {
            if at.is(path) && !fields.iter().any(|(key, _)| key == primary) {
                for (key, _) in fields.iter_mut().filter(|(key, _)| key == candidate) {
                    primary.clone_into(key);
                    renamed = true;
                }
            }
            for (key, value) in fields {
                renamed |= rename(at, (primary, candidate), &path.key(key), value);
            }
        }
        Value::List(elements) => {
            for (index, element) in elements.iter_mut().enumerate() {
                let name = element.get("asset").and_then(Value::as_text).map(|name| path.named(name));
                let path = name.unwrap_or_else(|| path.index(index));
                renamed |= rename(at, (primary, candidate), &path, element);
            }
        }
        _ => {}
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::compare::compare;
    use crate::limits::DIFFERENCES_MAX;

    fn rule(action: Action) -> Rules {
        Rules::new(vec![Rule { name: "r".to_owned(), reason: "because".to_owned(), endpoint: None, action }])
    }

    /// How many differences are left, and whether the rule was used.
    fn judged(rules: &Rules, primary: &str, candidate: &str) -> (usize, bool) {
        let parse = |text: &str| Value::parse(text.as_bytes()).unwrap();
        let mut candidate = parse(candidate);
        let mut used = rules.rename(Endpoint::Balance, &Path::ROOT, &mut candidate);
        let mut comparison = Comparison::default();
        compare(&Path::ROOT, &parse(primary), &candidate, &mut comparison);
        used.extend(rules.excuse(Endpoint::Balance, &mut comparison));
        (comparison.differences.len(), !used.is_empty())
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn an_ignored_place_and_what_lies_within_it_does_not_count() {
        let rules = rule(Action::Ignore(pattern("a[*].b")));
        assert_eq!(judged(&rules, r#"{"a":[{"b":1}]}"#, r#"{"a":[{"b":2}]}"#), (0, true));
        assert_eq!(judged(&rules, r#"{"a":[{"b":{"x":1}}]}"#, r#"{"a":[{"b":{"x":2}}]}"#), (0, true));
        assert_eq!(judged(&rules, r#"{"a":[{"b":1}]}"#, r#"{"a":[{}]}"#), (0, true));
        assert_eq!(judged(&rules, r#"{"a":[{"c":1}]}"#, r#"{"a":[{"c":2}]}"#), (1, false));
        assert_eq!(judged(&rules, r#"{"a":[{"b":1}]}"#, r#"{"a":[{"b":1}]}"#), (0, false));
    }

    #[test]
    fn a_rule_allows_as_many_differences_as_there_are_and_never_one_that_was_not_looked_at() {
        let rules = rule(Action::Ignore(pattern("[*].x")));
        let list = |length: usize, x: u32| format!("[{}]", vec![format!("{{\"x\":{x}}}"); length].join(","));
        assert_eq!(judged(&rules, &list(1_024, 1), &list(1_024, 2)), (0, true));
        let mut comparison = Comparison::default();
        let too_many = DIFFERENCES_MAX + 1;
        let (a, b) = (list(too_many, 1), list(too_many, 2));
        let (a, b) = (Value::parse(a.as_bytes()).unwrap(), Value::parse(b.as_bytes()).unwrap());
        compare(&Path::ROOT, &a, &b, &mut comparison);
        rules.excuse(Endpoint::Balance, &mut comparison);
        assert!(!comparison.is_same() && comparison.differences.is_empty());
    }

    #[test]
    fn a_tolerance_has_a_bound_and_is_for_numbers_only() {
        let rules = rule(Action::TolerateUnits(pattern("n"), 1));
        assert_eq!(judged(&rules, r#"{"n":"5"}"#, r#"{"n":"6"}"#), (0, true));
        assert_eq!(judged(&rules, r#"{"n":5}"#, r#"{"n":"4"}"#), (0, true));
        assert_eq!(judged(&rules, r#"{"n":"5"}"#, r#"{"n":"7"}"#), (1, false));
        assert_eq!(judged(&rules, r#"{"n":"5"}"#, r#"{"n":"x"}"#), (1, false));
        assert_eq!(judged(&rules, r#"{"n":"5"}"#, "{}"), (1, false));
        let extreme = (format!(r#"{{"n":"{}"}}"#, i128::MAX), format!(r#"{{"n":"{}"}}"#, i128::MIN));
        assert_eq!(judged(&rules, &extreme.0, &extreme.1), (1, false));
        let rules = rule(Action::TolerateTime(pattern("t"), 999));
        let (a, b) = (r#"{"t":"2026-11-22T04:05:06.000999Z"}"#, r#"{"t":"2026-11-22T04:05:06Z"}"#);
        assert_eq!(judged(&rules, a, b), (0, true));
        assert_eq!(judged(&rules, a, r#"{"t":"2026-11-22T04:05:07Z"}"#), (1, false));
    }

    #[test]
    fn a_renamed_key_is_compared_under_the_primarys_name() {
        let rules = rule(Action::Rename {
            at: pattern("b[*]"),
            primary: "avail".to_owned(),
            candidate: "available".to_owned(),
        });
        let primary = r#"{"b":[{"asset":"A","avail":1}]}"#;
        assert_eq!(judged(&rules, primary, r#"{"b":[{"asset":"A","available":1}]}"#), (0, true));
        assert_eq!(judged(&rules, primary, r#"{"b":[{"asset":"A","available":2}]}"#), (1, true));
        assert_eq!(judged(&rules, primary, r#"{"b":[{"asset":"A","avail":1,"available":1}]}"#), (1, false));
    }

    #[test]
    fn a_rule_holds_at_its_endpoint_only_and_never_for_versions() {
        let mut rules = rule(Action::Ignore(pattern("")));
        let mut comparison = Comparison::default();
        comparison.push(&Path::ROOT, DifferenceKind::Version, None, None);
        assert_eq!(rules.excuse(Endpoint::Balance, &mut comparison), []);
        rules.0[0].endpoint = Some(Endpoint::Statistics);
        assert_eq!(judged(&rules, "1", "2"), (1, false));
    }
}
