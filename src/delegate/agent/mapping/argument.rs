use rmcp::model::JsonObject;
use serde_json::Value;

/// The place of an argument: a name, or a JSON pointer to a member of another argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Argument(Vec<String>);

impl Argument {
    pub(super) fn new(place: impl Into<String>) -> Self {
        let place = place.into();
        let Some(path) = place.strip_prefix('/') else {
            return Self(vec![place]);
        };
        let names = path.split('/');
        Self(
            names
                .map(|name| name.replace("~1", "/").replace("~0", "~"))
                .collect(),
        )
    }

    /// Sets the argument, in objects that are made if need be.
    pub(super) fn set(&self, arguments: &mut JsonObject, value: Value) {
        let Some((name, outer)) = self.0.split_last() else {
            return;
        };
        let mut inside = arguments;
        for outer in outer {
            let member = inside.entry(outer.clone()).or_insert(Value::Null);
            if !member.is_object() {
                *member = JsonObject::new().into();
            }
            let Value::Object(next) = member else { return };
            inside = next;
        }
        inside.insert(name.clone(), value);
    }

    pub(super) fn misfit(&self) -> Option<String> {
        self.0.iter().any(String::is_empty).then(|| {
            format!(
                "the argument `{}` has an empty name",
                match &self.0[..] {
                    [name] if name.is_empty() => "/".to_owned(),
                    names => names.join("/"),
                }
            )
        })
    }
}

/// Returns `true` for a JSON pointer. The empty one is the whole value.
pub(super) fn is_pointer(pointer: &str) -> bool {
    pointer.is_empty() || pointer.starts_with('/')
}

pub(super) fn not_a_pointer(pointer: &str) -> String {
    format!("`{pointer}` is not a JSON pointer (RFC 6901); it begins with `/`, as in `/threadId`")
}
