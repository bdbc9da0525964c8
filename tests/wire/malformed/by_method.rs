//! Params that do not fit, for each method of the specification.

use serde_json::{Map, Value, json};

use super::{Row, error};
use crate::{
    common::specification::{METHODS, Method},
    peers::{LEGACY, MODERN},
};

pub(super) fn rows() -> Vec<Row> {
    METHODS.iter().flat_map(of_method).collect()
}

fn of_method(method: &Method) -> Vec<Row> {
    let mut rows = Vec::new();
    let only = |row: Row| match method {
        _ if method.is_removed => row.only(LEGACY),
        // Older revisions do not have them.
        _ if ["server/discover", "skills/list", "subscriptions/listen"].contains(&method.name) => {
            row.only(MODERN)
        }
        _ => row,
    };
    let mut refused = |params: &str, path: &str| {
        let name = method.name;
        let message = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{name}","params":{params}}}"#);
        rows.push(only(Row::new(message, "7", error(-32602, path))));
    };
    for params in ["[]", r#"["x"]"#, r#""x""#, "5", "true"] {
        refused(params, "params");
    }
    refused(r#"{"_meta":[]}"#, "params._meta");
    let members: Map<String, Value> =
        serde_json::from_str(&format!("{{{}}}", method.params)).unwrap();
    for name in members.keys() {
        let with = |value: Option<Value>| {
            let mut members = members.clone();
            members.shift_remove(name);
            if let Some(value) = value {
                members.insert(name.clone(), value);
            }
            let members = Value::Object(members).to_string();
            let members = members.trim_start_matches('{');
            let comma = if members == "}" { "" } else { "," };
            format!("{{$m{comma}{members}")
        };
        refused(&with(None), name);
        refused(&with(Some(json!(5))), &format!("params.{name}"));
        refused(&with(Some(json!(null))), name);
    }
    rows
}
