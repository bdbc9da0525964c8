//! The changes that layers made to a typed value, applied to the text that it was read from.
//!
//! - `came` is the text, with all of its members, their order and the digits of its numbers.
//! - `read` is the value before any change, as JSON. It lacks what its type has no place for.
//! - `now` is the value as it is to leave, as JSON.
//!
//! Members that are in `came` alone stay. Members that are in `read` and `now` alone were added by
//! the type, and stay away. Any other difference between `read` and `now` is a change.

use std::collections::{HashMap, HashSet, VecDeque};

use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};

use super::{members::Members, partial};

/// The way in which an element of a list is found after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elements {
    /// By its name, its URI or its value.
    ByIdentity,
    /// By its index: the change has neither moved nor replaced an element.
    InPlace,
}

/// Returns `came` with the changes from `read` to `now`.
pub(super) fn apply(came: &RawValue, read: &Value, now: &Value) -> serde_json::Result<Vec<u8>> {
    apply_to(came, read, now, Elements::ByIdentity)
}

/// Returns `came` with the changes from `read` to `now`, which has its elements by this rule.
pub(crate) fn apply_to(
    came: &RawValue,
    read: &Value,
    now: &Value,
    elements: Elements,
) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(came.get().len());
    write(&mut out, came, read, now, elements)?;
    Ok(out)
}

fn write(
    out: &mut Vec<u8>,
    came: &RawValue,
    read: &Value,
    now: &Value,
    by: Elements,
) -> serde_json::Result<()> {
    if read == now {
        out.extend_from_slice(came.get().as_bytes());
        return Ok(());
    }
    match (read, now) {
        _ if partial::is_replaced_stand_in(came, read, now) => {}
        (Value::Object(read), Value::Object(now)) => {
            if let Some(members) = Members::of(came) {
                return write_object(out, &members, read, now, by);
            }
        }
        (Value::Array(read), Value::Array(now)) => {
            let elements: Option<Vec<&RawValue>> = serde_json::from_str(came.get()).ok();
            if let Some(elements) = elements.filter(|elements| elements.len() == read.len()) {
                return write_array(out, &elements, read, now, by);
            }
        }
        _ => {}
    }
    put(out, now)
}

fn put(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) -> serde_json::Result<()> {
    serde_json::to_writer(out, value)
}

/// The members with the content of a block or a resource. What else came in an object of which one
/// was changed may repeat the content that a layer has redacted.
const CONTENT: &[&str] = &["text", "blob", "data"];

fn write_object(
    out: &mut Vec<u8>,
    came: &Members<'_>,
    read: &Map<String, Value>,
    now: &Map<String, Value>,
    by: Elements,
) -> serde_json::Result<()> {
    out.push(b'{');
    let replaces_content = CONTENT.iter().any(|name| read.get(*name) != now.get(*name));
    let start = out.len();
    let begin = |out: &mut Vec<u8>, name: &str| {
        if out.len() > start {
            out.push(b',');
        }
        put(out, name)?;
        out.push(b':');
        Ok::<_, serde_json::Error>(())
    };
    // A member that is there twice has the last value.
    let last: HashMap<&str, &RawValue> = came
        .0
        .iter()
        .map(|(name, value)| (&**name, *value))
        .collect();
    let mut written = HashSet::with_capacity(last.len());
    for (name, _) in &came.0 {
        let Some(value) = last.get(&**name).filter(|_| written.insert(&**name)) else {
            continue;
        };
        match (read.get(&**name), now.get(&**name)) {
            // A layer has replaced the content that it may repeat.
            (None, None) if replaces_content => {}
            // The type has no place for it, and no layer has added it.
            (None, None) => {
                begin(out, name)?;
                out.extend_from_slice(value.get().as_bytes());
            }
            (Some(read), Some(now)) => {
                begin(out, name)?;
                write(out, value, read, now, by)?;
            }
            (None, Some(now)) => {
                begin(out, name)?;
                put(out, now)?;
            }
            // A layer has removed it.
            (Some(_), None) => {}
        }
    }
    for (name, value) in now {
        if !written.contains(name.as_str()) && read.get(name) != Some(value) {
            begin(out, name)?;
            put(out, value)?;
        }
    }
    out.push(b'}');
    Ok(())
}

fn write_array(
    out: &mut Vec<u8>,
    came: &[&RawValue],
    read: &[Value],
    now: &[Value],
    by: Elements,
) -> serde_json::Result<()> {
    out.push(b'[');
    for (index, (value, origin)) in now.iter().zip(origins(read, now, by)).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match origin {
            Some(from) => write(out, came[from], &read[from], value, by)?,
            None => put(out, value)?,
        }
    }
    out.push(b']');
    Ok(())
}

/// Returns for each element of an array after a change the index that it had before. Each index is
/// there once at most. Takes time in proportion to the length of the elements.
///
/// An element is the one before with the same name, or without a name the one with the same value.
/// In an array of the same length, an element that is new may also be the one of the same place
/// that is gone, with a change.
fn origins(read: &[Value], now: &[Value], by: Elements) -> Vec<Option<usize>> {
    let is_same_length = read.len() == now.len();
    if is_same_length && by == Elements::InPlace {
        return (0..now.len()).map(Some).collect();
    }
    let mut origins = vec![None; now.len()];
    let mut is_used = vec![false; read.len()];
    if is_same_length {
        for (index, (before, after)) in read.iter().zip(now).enumerate() {
            if is_same(before, after) {
                origins[index] = Some(index);
                is_used[index] = true;
            }
        }
    }
    let mut moved = HashMap::<_, VecDeque<_>>::new();
    let unused = is_used.iter().enumerate().filter(|(_, used)| !**used);
    for (index, _) in unused {
        moved
            .entry(identity(&read[index]))
            .or_default()
            .push_back(index);
    }
    if moved.is_empty() {
        return origins;
    }
    let new = |origins: &[Option<usize>]| {
        let new = origins.iter().enumerate().filter(|(_, it)| it.is_none());
        new.map(|(index, _)| index).collect::<Vec<_>>()
    };
    for index in new(&origins) {
        let same = moved.get_mut(&identity(&now[index]));
        if let Some(from) = same.and_then(VecDeque::pop_front) {
            origins[index] = Some(from);
            is_used[from] = true;
        }
    }
    if is_same_length {
        for index in new(&origins) {
            let (before, after) = (&read[index], &now[index]);
            if !is_used[index] && (is_changed(before, after) || is_renamed(before, after)) {
                origins[index] = Some(index);
            }
        }
    }
    origins
}

/// The members that name an element among its siblings.
const NAMES: &[&str] = &["name", "uri", "uriTemplate"];

fn name_of(value: &Value) -> Option<&str> {
    NAMES.iter().find_map(|name| value.get(name)?.as_str())
}

/// Returns the identity of an element: its name, or else the whole element.
fn identity(value: &Value) -> String {
    match name_of(value) {
        Some(name) => format!("name {name}"),
        None => format!("value {value}"),
    }
}

fn is_same(before: &Value, after: &Value) -> bool {
    match (name_of(before), name_of(after)) {
        (Some(before), Some(after)) => before == after,
        (None, None) => before == after,
        _ => false,
    }
}

/// Returns `true` if an element without a name may be another one of the same place, changed.
fn is_changed(before: &Value, after: &Value) -> bool {
    name_of(before).is_none() && name_of(after).is_none() && before.get("type") == after.get("type")
}

/// Returns `true` if an element may be another one with another name: at least half of the other
/// members are the same.
fn is_renamed(before: &Value, after: &Value) -> bool {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else {
        return false;
    };
    let is_rest = |name: &&String| !NAMES.contains(&name.as_str());
    let count = |members: &Map<String, Value>| members.keys().filter(is_rest).count();
    let same = before
        .iter()
        .filter(|(name, value)| is_rest(name) && after.get(*name) == Some(*value));
    let same = same.count();
    before.get("type") == after.get("type")
        && same > 0
        && 2 * same >= count(before).max(count(after))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_str, json, value::to_raw_value};

    use super::*;

    fn applied(came: &str, read: Value, now: Value) -> String {
        let came: Box<RawValue> = from_str(came).unwrap();
        String::from_utf8(apply(&came, &read, &now).unwrap()).unwrap()
    }

    #[test]
    fn a_text_without_changes_is_the_text_that_came() {
        let came = r#"{ "z": 1e400, "a": [1, {"b":   2}] }"#;
        assert_eq!(applied(came, json!({ "a": 1 }), json!({ "a": 1 })), came);
    }

    #[test]
    fn a_change_leaves_all_other_members_as_they_came() {
        let came = r#"{"z":1e400,"name":"a","x":{"n":0.10},"gone":1,"def":2}"#;
        let read = json!({ "name": "a", "x": { "n": 0.1 }, "gone": 1, "added": null });
        let now = json!({ "name": "b", "x": { "n": 0.1 }, "added": null, "new": [] });
        assert_eq!(
            applied(came, read, now),
            r#"{"z":1e400,"name":"b","x":{"n":0.10},"def":2,"new":[]}"#
        );
    }

    #[test]
    fn elements_are_found_by_name_when_others_are_removed_or_moved() {
        let came = r#"[{"name":"a","u":1},{"name":"b","u":2},{"name":"c","u":3}]"#;
        let read = json!([{ "name": "a" }, { "name": "b" }, { "name": "c" }]);
        let now = json!([{ "name": "c", "title": "C" }, { "name": "a" }, { "name": "d" }]);
        assert_eq!(
            applied(came, read, now),
            r#"[{"name":"c","u":3,"title":"C"},{"name":"a","u":1},{"name":"d"}]"#
        );
    }

    #[test]
    fn an_element_in_the_place_of_another_takes_nothing_over() {
        let came = r#"[{"name":"a","secret":1}]"#;
        let now = applied(came, json!([{ "name": "a" }]), json!([{ "name": "b" }]));
        assert_eq!(now, r#"[{"name":"b"}]"#);
    }

    #[test]
    fn an_element_with_another_name_and_most_of_the_rest_keeps_the_rest() {
        let came = r#"[{"name":"a","inputSchema":{},"description":"d","_meta":{"u":"x"},"x":1},{"name":"b","inputSchema":{},"y":2}]"#;
        let read = json!([
            { "name": "a", "inputSchema": {}, "description": "d", "_meta": { "u": "x" } },
            { "name": "b", "inputSchema": {} },
        ]);
        let now = json!([
            { "name": "p_a", "inputSchema": {}, "description": "d", "_meta": { "u": "y" } },
            { "name": "p_b", "inputSchema": {} },
        ]);
        assert_eq!(
            applied(came, read, now),
            r#"[{"name":"p_a","inputSchema":{},"description":"d","_meta":{"u":"y"},"x":1},{"name":"p_b","inputSchema":{},"y":2}]"#
        );
    }

    #[test]
    fn a_changed_stand_in_keeps_nothing_of_what_it_stood_for() {
        let came = r#"[{"type":"new","secret":2},{"type":"new","secret":3}]"#;
        let stand_in =
            |n| json!({ "type": "text", "text": format!(r#"{{"type":"new","secret":{n}}}"#) });
        let read = json!([stand_in(2), stand_in(3)]);
        let now = json!([{ "type": "text", "text": "redacted" }, stand_in(3)]);
        assert_eq!(
            applied(came, read, now),
            r#"[{"type":"text","text":"redacted"},{"type":"new","secret":3}]"#
        );
    }

    #[test]
    fn an_element_that_only_has_another_name_keeps_the_rest() {
        let came = r#"[{"uri":"a","text":"t","x":1}]"#;
        let read = json!([{ "uri": "a", "text": "t" }]);
        let now = applied(came, read, json!([{ "uri": "b", "text": "t" }]));
        assert_eq!(now, r#"[{"uri":"b","text":"t","x":1}]"#);
    }

    #[test]
    fn a_block_with_other_text_keeps_its_place_and_nothing_that_may_repeat_it() {
        let came = r#"[{"type":"text","text":"long","x":1},{"type":"new","y":2}]"#;
        let read = json!([{ "type": "text", "text": "long" }, { "type": "text", "text": "?" }]);
        let now = json!([{ "type": "text", "text": "l" }, { "type": "text", "text": "?" }]);
        assert_eq!(
            applied(came, read, now),
            r#"[{"type":"text","text":"l"},{"type":"new","y":2}]"#
        );
    }

    #[test]
    fn a_member_that_is_given_twice_counts_once() {
        let came = r#"{"a":1,"b":2,"a":3}"#;
        let now = applied(came, json!({ "b": 2 }), json!({ "b": 4 }));
        assert_eq!(now, r#"{"a":3,"b":4}"#);
    }

    #[test]
    fn many_elements_take_time_in_proportion() {
        let many: Vec<_> = (0..20_000)
            .map(|i| json!({ "name": i.to_string() }))
            .collect();
        let came = to_raw_value(&many).unwrap();
        let mut now = many.clone();
        now.reverse();
        now.pop();
        let out = apply(&came, &Value::Array(many), &Value::Array(now.clone())).unwrap();
        assert_eq!(serde_json::from_slice::<Vec<Value>>(&out).unwrap(), now);
    }
}
