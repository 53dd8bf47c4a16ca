//! What an answer says, whatever it was encoded in.

use std::fmt;

use serde_json::value::RawValue;

use super::number::Number;
use crate::limits::JSON_DEPTH_MAX;

/// A JSON value whose numbers are exact and whose keys keep their order and their repetitions.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// An object.
    Object(Vec<(String, Value)>),
}

/// Why bytes are no JSON that can be compared.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JsonError {
    /// The grammar.
    #[error("expected JSON: {0}")]
    Syntax(String),
    /// Too many lists and objects within each other.
    #[error("expected at most {JSON_DEPTH_MAX} lists and objects within each other, got more")]
    Depth,
    /// A number with an exponent beyond any use.
    #[error("expected a number that can be compared, got {0}")]
    Number(String),
}

impl Value {
    /// Reads JSON.
    ///
    /// # Errors
    /// Where the bytes are none.
    pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
        let raw: &RawValue = serde_json::from_slice(bytes).map_err(syntax)?;
        read(raw, 0)
    }

    /// The first field of this name, where this is an object that has one.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Object(fields) => fields.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The elements, where this is a list.
    pub fn elements(&self) -> Option<&[Value]> {
        match self {
            Value::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// The words of a string.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number, in a string or bare.
    pub fn as_whole<T: std::str::FromStr>(&self) -> Option<T> {
        match self {
            Value::Text(text) => text.parse().ok(),
            Value::Number(number) => number.text().parse().ok(),
            _ => None,
        }
    }

    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::Text(_) => "string",
            Value::List(_) => "list",
            Value::Object(_) => "object",
        }
    }
}

/// As JSON without spaces, numbers as they were written.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Number(number) => f.write_str(number.text()),
            Value::Text(text) => quoted(f, text),
            Value::List(elements) => {
                f.write_str("[")?;
                for (at, element) in elements.iter().enumerate() {
                    if at > 0 {
                        f.write_str(",")?;
                    }
                    write!(f, "{element}")?;
                }
                f.write_str("]")
            }
            Value::Object(fields) => {
                f.write_str("{")?;
                for (at, (key, value)) in fields.iter().enumerate() {
                    if at > 0 {
                        f.write_str(",")?;
                    }
                    quoted(f, key)?;
                    write!(f, ":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
}

fn syntax(error: serde_json::Error) -> JsonError {
    JsonError::Syntax(error.to_string())
}

/// Level by level: `RawValue` is the library's only way to a number's own digits that leaves its other users alone.
fn read(raw: &RawValue, depth: usize) -> Result<Value, JsonError> {
    let text = raw.get();
    if depth > JSON_DEPTH_MAX {
        return Err(JsonError::Depth);
    }
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let Fields(fields) = serde_json::from_str(text).map_err(syntax)?;
            let fields = fields.into_iter().map(|(key, raw)| Ok((key, read(raw, depth + 1)?)));
            Value::Object(fields.collect::<Result<_, JsonError>>()?)
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(syntax)?;
            Value::List(elements.into_iter().map(|raw| read(raw, depth + 1)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Value::Text(serde_json::from_str(text).map_err(syntax)?),
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'n') => Value::Null,
        _ => Value::Number(Number::parse(text).ok_or_else(|| JsonError::Number(text.to_owned()))?),
    })
}

/// An object's fields in their order, repetitions included.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Fields<'de>, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> serde::de::Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        for text in [
            "null",
            "[]",
            "{}",
            "-12.50e3",
            "123456789012345678901234567890",
            r#"{"b":[1,{"a":"x\n\"é"}],"a":null,"a":false}"#,
        ] {
            assert_eq!(Value::parse(text.as_bytes()).unwrap().to_string(), text);
        }
        assert_eq!(Value::parse(b" { \"a\" : [ 1 , true ] } ").unwrap().to_string(), r#"{"a":[1,true]}"#);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "[1,]", "nul", "{\"a\":1}x", "\u{1}", "\"\\x\""] {
            assert!(matches!(Value::parse(text.as_bytes()), Err(JsonError::Syntax(_))), "{text}");
        }
        assert!(matches!(Value::parse(b"\"\xff\""), Err(JsonError::Syntax(_))));
        assert_eq!(
            Value::parse("[".repeat(100).as_bytes()).unwrap_err().to_string().split(':').next(),
            Some("expected JSON")
        );
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(Value::parse(deep.as_bytes()).is_err());
        assert_eq!(
            Value::parse(b"1e99999999999").unwrap_err(),
            JsonError::Number("1e99999999999".to_owned())
        );
    }

    proptest! {
        #[test]
        fn any_text_and_integer_survives(text: String, integer: i128) {
            let json = format!("{{{}:{integer}}}", serde_json::to_string(&text).unwrap());
            let value = Value::parse(json.as_bytes()).unwrap();
            prop_assert_eq!(value.to_string(), json);
            prop_assert_eq!(value.get(&text).and_then(Value::as_whole::<i128>), Some(integer));
        }
    }
}
