//! JSON with the order of its members and the digits of its numbers.

use std::fmt;

use proptest::{collection::vec, prelude::*, sample::select};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

#[derive(Clone, PartialEq)]
pub enum Json {
    /// `null`, `true`, `false` or a number.
    Word(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

use Json::{List, Object, Text, Word};

impl Json {
    pub fn read(text: &str) -> Self {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        match raw.get().as_bytes()[0] {
            b'{' => Object(serde_json::from_str::<Members>(text).unwrap().0),
            b'[' => {
                let elements: Vec<&RawValue> = serde_json::from_str(text).unwrap();
                List(elements.iter().map(|it| Self::read(it.get())).collect())
            }
            b'"' => Text(serde_json::from_str(text).unwrap()),
            _ => Word(raw.get().to_owned()),
        }
    }

    pub fn text(text: &str) -> Self {
        Text(text.to_owned())
    }

    pub fn number(number: u64) -> Self {
        Word(number.to_string())
    }

    pub fn members(&self) -> &[(String, Self)] {
        match self {
            Object(members) => members,
            _ => &[],
        }
    }

    pub fn get(&self, name: &str) -> Option<&Self> {
        let mut members = self.members().iter();
        members.find(|(it, _)| it == name).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Self> {
        match self {
            Object(members) => {
                let member = members.iter_mut().find(|(it, _)| it == name);
                member.map(|(_, value)| value)
            }
            _ => None,
        }
    }

    pub fn elements_mut(&mut self) -> &mut Vec<Self> {
        match self {
            List(elements) => elements,
            _ => panic!("not a list: {self:?}"),
        }
    }

    /// Without the members that are not to be kept.
    pub fn filtered(mut self, keep: impl Fn(&str) -> bool) -> Self {
        if let Object(members) = &mut self {
            members.retain(|(name, _)| keep(name));
        }
        self
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let string = |text: &str| serde_json::to_string(text).unwrap();
        match self {
            Word(word) => f.write_str(word),
            Text(text) => f.write_str(&string(text)),
            List(elements) => {
                f.write_str("[")?;
                for (index, element) in elements.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{element}")?;
                }
                f.write_str("]")
            }
            Object(members) => {
                f.write_str("{")?;
                for (index, (name, value)) in members.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{}:{value}", string(name))?;
                }
                f.write_str("}")
            }
        }
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

struct Members(Vec<(String, Json)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OfObject;
        impl<'de> Visitor<'de> for OfObject {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    members.push((name, Json::read(value.get())));
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(OfObject)
    }
}

/// Numbers of which some are beyond a 64-bit integer or float.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "7",
    "-1",
    "0.10",
    "5.0",
    "1e3",
    "1E+2",
    "-2.50e-7",
    "9007199254740993",
    "18446744073709551616",
    "123456789012345678901234567890",
    "3.14159265358979323846264338",
    "1e-400",
];

/// Strings shorter than what stands for an id in the answers of a [`Server`](crate::peers::Server).
fn string() -> BoxedStrategy<String> {
    prop_oneof![
        "[a-z]{0,6}",
        "[ -~]{0,8}",
        "\\PC{0,4}",
        select(vec!["\u{0}\n\t", "\u{2028}\"\\/", "{\"a\":1}"]).prop_map(str::to_owned),
    ]
    .boxed()
}

/// Names that no revision has.
fn name() -> BoxedStrategy<String> {
    prop_oneof![3 => "x[a-zA-Z0-9/]{0,5}", 1 => "x[\"\\\\ é😀.]{0,3}"].boxed()
}

/// Any JSON, with numbers that a 64-bit float can hold at least roughly.
pub fn json() -> BoxedStrategy<Json> {
    any_of(NUMBERS.to_vec())
}

/// Any JSON.
pub fn json_with_huge_numbers() -> BoxedStrategy<Json> {
    any_of([NUMBERS, &["1e400", "-1e999"]].concat())
}

fn any_of(numbers: Vec<&'static str>) -> BoxedStrategy<Json> {
    let words = [vec!["null", "true", "false"], numbers].concat();
    let leaf = prop_oneof![
        select(words).prop_map(|word| Word(word.to_owned())),
        string().prop_map(Text),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(List),
            vec((string(), inner), 0..4).prop_map(once_each),
        ]
    })
    .boxed()
}

/// An object with members that no revision has.
pub fn object_of(value: BoxedStrategy<Json>) -> BoxedStrategy<Json> {
    vec((name(), value), 0..4).prop_map(once_each).boxed()
}

/// Each name once.
fn once_each(members: Vec<(String, Json)>) -> Json {
    let mut once: Vec<(String, Json)> = Vec::new();
    for (name, value) in members {
        if once.iter().all(|(other, _)| *other != name) {
            once.push((name, value));
        }
    }
    Object(once)
}

/// An object with these members, where they are, and others, in any order.
pub fn shape(
    members: Vec<(&'static str, BoxedStrategy<Option<Json>>)>,
    others: BoxedStrategy<Json>,
) -> BoxedStrategy<Json> {
    let (names, values): (Vec<_>, Vec<_>) = members.into_iter().unzip();
    (values, object_of(others))
        .prop_map(move |(values, others)| {
            let known = names.iter().zip(values);
            let known = known.filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
            known.chain(others.members().to_vec()).collect::<Vec<_>>()
        })
        .prop_shuffle()
        .prop_map(Object)
        .boxed()
}
