//! Reads structs by the names of their fields, however deep they lie. The code that serde derives also takes an array of the
//! values in their order: `["100%"]` for `{"candidate":"100%"}`, and `[0,10000,null,false,0]` for a state that decides about money.
//!
//! It wraps whatever serde hands around while it reads: deserializers, their visitors, and what gives access to parts. What
//! serde buffers first escapes it (`flatten`, `untagged`, `tag = …`): `tests/layering.rs` allows none of these where structs are read.

use core::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};

/// Reads one JSON text, and nothing behind it.
///
/// # Errors
/// Where it is no JSON, is another, has an array for a struct, or names a struct's field twice.
pub fn json<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = by_names(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Reads from any deserializer, such as TOML's.
///
/// # Errors
/// The deserializer's, and where it has an array for a struct.
pub fn by_names<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(ByNames(deserializer))
}

/// Any of serde's parts, which hands on only wrapped ones.
struct ByNames<P>(P);

/// A struct's visitor, to which no array comes.
struct Fields<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Fields<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(ByNames(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<V::Value, A::Error> {
        Err(Error::invalid_type(Unexpected::Seq, &"an object, whose fields have names"))
    }
}

macro_rules! wrap_visitors {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method(ByNames(visitor))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for ByNames<D> {
    type Error = D::Error;

    wrap_visitors! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_option
        deserialize_unit deserialize_seq deserialize_map deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit_struct(name, ByNames(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, ByNames(visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(len, ByNames(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple_struct(name, len, ByNames(visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, Fields(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, ByNames(visitor))
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! hand_on {
    ($($method:ident: $value:ty),* $(,)?) => {
        $(fn $method<E: Error>(self, value: $value) -> Result<V::Value, E> {
            self.0.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for ByNames<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    hand_on! {
        visit_bool: bool, visit_i8: i8, visit_i16: i16, visit_i32: i32, visit_i64: i64, visit_i128: i128,
        visit_u8: u8, visit_u16: u16, visit_u32: u32, visit_u64: u64, visit_u128: u128, visit_f32: f32,
        visit_f64: f64, visit_char: char, visit_str: &str, visit_borrowed_str: &'de str, visit_string: String,
        visit_bytes: &[u8], visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>,
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(ByNames(deserializer))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(ByNames(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(ByNames(seq))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(ByNames(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(ByNames(data))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for ByNames<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(ByNames(deserializer))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for ByNames<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(ByNames(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for ByNames<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(ByNames(seed))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(ByNames(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for ByNames<A> {
    type Error = A::Error;
    type Variant = ByNames<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (value, variant) = self.0.variant_seed(ByNames(seed))?;
        Ok((value, ByNames(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for ByNames<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(ByNames(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, ByNames(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Fields(visitor))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Deserialize, PartialEq, Debug)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        n: u32,
    }

    #[derive(Deserialize, PartialEq, Debug)]
    enum Kind {
        Plain,
        One(Inner),
        Two(u8, Inner),
        Named { inner: Inner },
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Outer<'a> {
        #[serde(borrow, default)]
        text: &'a str,
        #[serde(borrow)]
        raw: Option<&'a RawValue>,
        list: Option<Vec<Inner>>,
        maybe: Option<Inner>,
        map: Option<BTreeMap<String, Inner>>,
        pair: Option<(u8, Inner)>,
        kinds: Option<Vec<Kind>>,
    }

    #[test]
    fn what_has_names_is_read_as_ever() {
        let text = br#" {"text":"t","raw":[1, 2],"list":[{"n":1}],"maybe":{"n":2},"map":{"a":{"n":3}},"pair":[1,{"n":4}],
            "kinds":["Plain",{"One":{"n":5}},{"Two":[1,{"n":6}]},{"Named":{"inner":{"n":7}}}]} "#;
        let outer: Outer<'_> = json(text).unwrap();
        assert_eq!((outer.text, outer.raw.unwrap().get()), ("t", "[1, 2]"));
        assert_eq!((outer.list, outer.maybe), (Some(vec![Inner { n: 1 }]), Some(Inner { n: 2 })));
        assert_eq!(outer.map.unwrap()["a"], Inner { n: 3 });
        assert_eq!(outer.pair, Some((1, Inner { n: 4 })));
        let kinds = [
            Kind::Plain,
            Kind::One(Inner { n: 5 }),
            Kind::Two(1, Inner { n: 6 }),
            Kind::Named { inner: Inner { n: 7 } },
        ];
        assert_eq!(outer.kinds.unwrap(), kinds);
        assert_eq!(json::<Vec<&RawValue>>(b"[1,{}]").unwrap()[1].get(), "{}");
    }

    /// `["100%"]` once moved all callers to the candidate, and a state in an array was taken for one.
    #[test]
    fn an_array_is_no_struct_however_deep_it_lies() {
        for text in [
            "[]",
            r#"["t"]"#,
            r#"{"list":[[1]]}"#,
            r#"{"maybe":[1]}"#,
            r#"{"map":{"a":[1]}}"#,
            r#"{"pair":[1,[1]]}"#,
            r#"{"kinds":[{"One":[1]}]}"#,
            r#"{"kinds":[{"Two":[1,[1]]}]}"#,
            r#"{"kinds":[{"Named":[{"n":1}]}]}"#,
            r#"{"kinds":[{"Named":{"inner":[1]}}]}"#,
        ] {
            let error = json::<Outer<'_>>(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("an object, whose fields have names"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_named_twice_or_stands_behind_is_refused() {
        for (text, expected) in [
            (r#"{"n":1,"n":1}"#, "duplicate field `n`"),
            (r#"{"n":1,"m":1}"#, "unknown field `m`"),
            (r#"{"n":1} {}"#, "trailing characters"),
            (r#"{"n":1"#, "EOF"),
        ] {
            let error = json::<Inner>(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
