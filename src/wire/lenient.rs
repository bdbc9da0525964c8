//! Values that can be read in part.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

/// The maximum number of members that are left out of one value.
const MAX_LEFT_OUT: usize = 64;

/// Reads a value without the members below `within` that do not fit. Returns the names of those.
///
/// # Errors
///
/// Fails with the path and the reason if anything else does not fit, or if too many members do not.
pub(crate) fn read_within<T: DeserializeOwned>(
    value: &mut Value,
    within: &[&str],
) -> Result<(T, Vec<String>), serde_path_to_error::Error<serde_json::Error>> {
    read_without(value, within, 2)
}

/// Reads a value without those of these members, and of the members below them, that do not fit.
pub(crate) fn read_without_members<T: DeserializeOwned>(
    value: &mut Value,
    members: &[&str],
) -> Result<(T, Vec<String>), serde_path_to_error::Error<serde_json::Error>> {
    read_without(value, members, 1)
}

/// Reads a value without any member that does not fit.
pub(crate) fn read_without_all<T: DeserializeOwned>(
    value: &mut Value,
) -> Result<(T, Vec<String>), serde_path_to_error::Error<serde_json::Error>> {
    let names: Vec<_> = match value.as_object() {
        Some(members) => members.keys().cloned().collect(),
        None => Vec::new(),
    };
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    read_without(value, &names, 1)
}

fn read_without<T: DeserializeOwned>(
    value: &mut Value,
    within: &[&str],
    least: usize,
) -> Result<(T, Vec<String>), serde_path_to_error::Error<serde_json::Error>> {
    let mut left_out = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize(&*value) {
            Ok(read) => return Ok((read, left_out)),
            Err(error) => error,
        };
        let path: Vec<_> = error.path().iter().cloned().collect();
        let first = path.first().map(Segment::to_string);
        let may_be_left_out = first.is_some_and(|first| within.contains(&first.as_str()));
        if !may_be_left_out || path.len() < least || left_out.len() >= MAX_LEFT_OUT {
            return Err(error);
        }
        let whole = error.path().to_string();
        if !leave_out(value, &path, least) {
            return Err(error);
        }
        left_out.push(whole);
    }
}

/// Removes the member at a path, or the innermost one of the path that exists.
fn leave_out(value: &mut Value, path: &[Segment], least: usize) -> bool {
    for length in (least..=path.len()).rev() {
        let Some((last, before)) = path[..length].split_last() else {
            continue;
        };
        let mut parent = Some(&mut *value);
        for segment in before {
            parent = parent.and_then(|parent| match segment {
                Segment::Map { key } => parent.get_mut(key),
                Segment::Seq { index } => parent.get_mut(index),
                _ => None,
            });
        }
        let removed = match (parent, last) {
            (Some(Value::Object(members)), Segment::Map { key }) => {
                members.shift_remove(key).is_some()
            }
            (Some(Value::Array(elements)), Segment::Seq { index }) if *index < elements.len() => {
                elements.remove(*index);
                true
            }
            _ => false,
        };
        if removed {
            return true;
        }
    }
    false
}
