use std::{borrow::Cow, fmt, io::Write};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The members of a JSON object as text, in their order. A name may be there twice.
#[derive(Debug, Default)]
pub(crate) struct Members<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

/// A name of a member.
#[derive(Deserialize)]
pub(super) struct Name<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl<'a> Members<'a> {
    /// Reads the members of an object. Returns `None` for any other JSON.
    pub(crate) fn of(text: &'a RawValue) -> Option<Self> {
        serde_json::from_str(text.get()).ok()
    }

    /// Reads the members of an object in a text.
    pub(super) fn of_text(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Returns `None` if there is a member besides these, or one of them twice.
    pub(crate) fn has_only(&self, names: &[&str]) -> Option<()> {
        let known = self.0.iter().all(|(name, _)| names.contains(&&**name));
        let is_once = |name: &&str| self.0.iter().filter(|(other, _)| other == name).count() <= 1;
        (known && names.iter().all(is_once)).then_some(())
    }

    /// Returns the value of a member that is there once.
    pub(super) fn get_only(&self, name: &str) -> Option<&'a RawValue> {
        let mut found = self.0.iter().filter(|(other, _)| other == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(*value)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        let mut found = self.0.iter().filter(|(other, _)| other == name);
        found.next_back().map(|(_, value)| *value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OfObject;
        impl<'de> Visitor<'de> for OfObject {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(OfObject)
    }
}

/// Writes an object of these members.
pub(crate) fn write<'a>(
    out: &mut impl Write,
    members: impl Iterator<Item = (&'a str, &'a RawValue)>,
) -> serde_json::Result<()> {
    write_texts(out, members.map(|(name, value)| (name, value.get())))
}

/// Writes an object with these members, whose values are JSON.
pub(super) fn write_texts<'a>(
    out: &mut impl Write,
    members: impl Iterator<Item = (&'a str, &'a str)>,
) -> serde_json::Result<()> {
    let mut mark: &[u8] = b"{";
    for (name, value) in members {
        out.write_all(mark).map_err(serde_json::Error::io)?;
        serde_json::to_writer(&mut *out, name)?;
        let written = out
            .write_all(b":")
            .and_then(|()| out.write_all(value.as_bytes()));
        written.map_err(serde_json::Error::io)?;
        mark = b",";
    }
    let end: &[u8] = if mark == b"{" { b"{}" } else { b"}" };
    out.write_all(end).map_err(serde_json::Error::io)
}

/// Returns an object with other values of some of its members. A member that is not there is added
/// at the end.
pub(crate) fn with_members<'a>(
    mut members: Members<'a>,
    others: &[(&'a str, &'a RawValue)],
) -> serde_json::Result<Vec<u8>> {
    for (name, value) in others {
        let mut own = members.0.iter_mut().filter(|(own, _)| own == name);
        match own.next_back() {
            Some((_, own)) => *own = value,
            None => members.0.push((Cow::Borrowed(*name), value)),
        }
    }
    let length = members
        .0
        .iter()
        .map(|(name, value)| name.len() + value.get().len() + 4);
    let mut out = Vec::with_capacity(length.sum::<usize>() + 2);
    let members = members.0.iter().map(|(name, value)| (&**name, *value));
    write(&mut out, members)?;
    Ok(out)
}

/// Returns the text of an object with another string at a JSON pointer. Returns `None` if there is
/// no string.
pub(super) fn with_string_at(object: &[u8], pointer: &str, string: &str) -> Option<Vec<u8>> {
    let names: Vec<&str> = pointer.strip_prefix('/')?.split('/').collect();
    value_with_string(object, &names, string)
}

fn value_with_string(value: &[u8], names: &[&str], string: &str) -> Option<Vec<u8>> {
    let Some((name, rest)) = names.split_first() else {
        let is_string = value.starts_with(b"\"");
        return is_string.then(|| serde_json::to_vec(string).ok()).flatten();
    };
    let members: Members<'_> = serde_json::from_slice(value).ok()?;
    let inner = members.get(name)?.get().as_bytes();
    let inner = value_with_string(inner, rest, string)?;
    with_members(members, &[(*name, serde_json::from_slice(&inner).ok()?)]).ok()
}
