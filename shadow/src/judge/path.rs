//! Where in an answer something stands, and patterns of such places.

use std::fmt;

/// A step into a value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PathStep {
    /// A field.
    Key(String),
    /// An element of a list.
    Index(usize),
    /// The element of a list whose `asset` this is.
    Named(String),
}

/// A place in an answer, such as `statistics[COIN].windows.24h.debit_sum`. The empty path is the whole answer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Path(Vec<PathStep>);

impl Path {
    /// The whole answer.
    pub const ROOT: Path = Path(Vec::new());

    /// A field of this place.
    #[must_use]
    pub fn key(&self, key: &str) -> Path {
        self.with(PathStep::Key(key.to_owned()))
    }

    /// An element of this place.
    #[must_use]
    pub fn index(&self, index: usize) -> Path {
        self.with(PathStep::Index(index))
    }

    /// The element of this place with that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Path {
        self.with(PathStep::Named(name.to_owned()))
    }

    fn with(&self, step: PathStep) -> Path {
        let mut steps = Vec::with_capacity(self.0.len() + 1);
        steps.extend_from_slice(&self.0);
        steps.push(step);
        Path(steps)
    }

    /// From the outside in.
    pub fn steps(&self) -> &[PathStep] {
        &self.0
    }

    /// The same place of any element: every element's name and number becomes `*`, and so does a key that is a number. For
    /// counting.
    pub fn kind(&self) -> String {
        let mut text = String::new();
        for step in &self.0 {
            match step {
                PathStep::Key(key) if !key.is_empty() && key.bytes().all(|b| b.is_ascii_digit()) => {
                    text.push_str(".*")
                }
                PathStep::Key(key) if text.is_empty() => text.push_str(key),
                PathStep::Key(key) => {
                    text.push('.');
                    text.push_str(key);
                }
                PathStep::Index(_) | PathStep::Named(_) => text.push_str("[*]"),
            }
        }
        text
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("(all)");
        }
        for (at, step) in self.0.iter().enumerate() {
            match step {
                PathStep::Key(key) if at == 0 => f.write_str(key)?,
                PathStep::Key(key) => write!(f, ".{key}")?,
                PathStep::Index(index) => write!(f, "[{index}]")?,
                PathStep::Named(name) => write!(f, "[{name}]")?,
            }
        }
        Ok(())
    }
}

/// Places that a rule is about: a path in which `*` stands for any key and `[*]` for any element.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    text: String,
    steps: Vec<Expected>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Expected {
    AnyKey,
    Key(String),
    AnyElement,
    Element(String),
}

/// Why a text is no pattern.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected a path like balances[*].available or statistics[COIN].windows.24h, got {0:?}")]
pub struct PatternError(String);

impl Pattern {
    /// Reads a pattern; the empty one is the whole answer.
    ///
    /// # Errors
    /// Where brackets or dots do not fit.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        let wrong = || PatternError(text.to_owned());
        let mut steps = Vec::new();
        for part in text.split('.').filter(|_| !text.is_empty()) {
            let (key, mut elements) = part.split_at(part.find('[').unwrap_or(part.len()));
            match key {
                "" if steps.is_empty() && !elements.is_empty() => {}
                "" => return Err(wrong()),
                "*" => steps.push(Expected::AnyKey),
                key => steps.push(Expected::Key(key.to_owned())),
            }
            while !elements.is_empty() {
                let (element, rest) =
                    elements.strip_prefix('[').and_then(|e| e.split_once(']')).ok_or_else(wrong)?;
                steps.push(match element {
                    "" => return Err(wrong()),
                    "*" => Expected::AnyElement,
                    name => Expected::Element(name.to_owned()),
                });
                elements = rest;
            }
        }
        Ok(Pattern { text: text.to_owned(), steps })
    }

    /// Whether the place itself is meant.
    pub fn is(&self, path: &Path) -> bool {
        self.steps.len() == path.0.len() && self.holds(path)
    }

    /// Whether the place is meant, or lies within one that is.
    pub fn holds(&self, path: &Path) -> bool {
        self.steps.len() <= path.0.len()
            && self.steps.iter().zip(&path.0).all(|(expected, step)| match (expected, step) {
                (Expected::AnyKey, PathStep::Key(_)) => true,
                (Expected::AnyElement, PathStep::Index(_) | PathStep::Named(_)) => true,
                (Expected::Key(a), PathStep::Key(b)) | (Expected::Element(a), PathStep::Named(b)) => a == b,
                (Expected::Element(a), PathStep::Index(b)) => *a == b.to_string(),
                _ => false,
            })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_people_write_them() {
        let path = Path::ROOT.key("statistics").named("COIN").key("windows").key("24h").key("debit_sum");
        assert_eq!(path.to_string(), "statistics[COIN].windows.24h.debit_sum");
        assert_eq!(path.kind(), "statistics[*].windows.24h.debit_sum");
        assert_eq!(Path::ROOT.key("users").key("42").key("a").kind(), "users.*.a");
        assert_eq!(Path::ROOT.index(3).key("a").to_string(), "[3].a");
        assert_eq!(Path::ROOT.to_string(), "(all)");
    }

    #[test]
    fn a_pattern_means_its_place_and_what_lies_within() {
        let path =
            Path::ROOT.key("balances").index(3).key("balance").key("balances").named("COIN").key("held");
        for (pattern, is, holds) in [
            ("balances[3].balance.balances[COIN].held", true, true),
            ("balances[*].balance.*[*].*", true, true),
            ("balances[*]", false, true),
            ("", false, true),
            ("balances[4]", false, false),
            ("balances[*].balance.balances[USD].held", false, false),
            ("balances[3].balance.balances[COIN].held.x", false, false),
            ("held", false, false),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            assert_eq!((pattern.is(&path), pattern.holds(&path)), (is, holds), "{pattern}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [".a", "a..b", "a[", "a[]", "a]b[1]x", "a[1]b", "a."] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
