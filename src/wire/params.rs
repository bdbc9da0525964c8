use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, IntoDeserializer, MapAccess, Visitor, value::CowStrDeserializer},
    forward_to_deserialize_any,
};
use serde_json::value::RawValue;

use super::members::Name;

pub(super) const META: &str = "_meta";

/// The parts of params beside their type.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beside<'de> {
    /// `_meta` as text. It goes into the request's context.
    pub(crate) meta: Option<&'de RawValue>,
    /// The params have members that their type does not have.
    pub(crate) has_more: bool,
}

/// Reads params without their `_meta`.
pub(crate) struct WithoutMeta<'s, 'de, D> {
    pub(crate) params: D,
    pub(crate) beside: &'s mut Beside<'de>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for WithoutMeta<'_, 'de, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let beside = self.beside;
        self.params.deserialize_map(MembersOf {
            visitor,
            beside,
            known: &[],
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let beside = self.beside;
        self.params.deserialize_map(MembersOf {
            visitor,
            beside,
            known,
        })
    }

    /// Params are there.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct MembersOf<'s, 'de, V> {
    visitor: V,
    beside: &'s mut Beside<'de>,
    known: &'static [&'static str],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for MembersOf<'_, 'de, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let (beside, known) = (self.beside, self.known);
        self.visitor.visit_map(Members { map, beside, known })
    }
}

struct Members<'s, 'de, A> {
    map: A,
    beside: &'s mut Beside<'de>,
    known: &'static [&'static str],
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<'_, 'de, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(Name(name)) = self.map.next_key()? {
            if name == META {
                self.beside.meta = Some(self.map.next_value()?);
                continue;
            }
            self.beside.has_more |= !self.known.contains(&&*name);
            let name: CowStrDeserializer<'_, A::Error> = Cow::into_deserializer(name);
            return seed.deserialize(name).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}
