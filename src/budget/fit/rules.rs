use std::collections::HashSet;

use serde_json::Value;

/// The number of schemas that may apply to one value. A value to which more apply is kept whole.
const MAX_SCHEMAS: usize = 64;

/// The keywords that a changed string may violate.
const OF_STRINGS: &[&str] = &[
    "pattern",
    "format",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
];

/// The keywords that name other schemas for the same value.
const BRANCHES: &[&str] = &["allOf", "anyOf", "oneOf"];
const CONDITIONS: &[&str] = &["if", "then", "else"];

/// The keywords that any change of a value may violate, or that lead to schemas out of reach.
const OF_WHOLE_VALUES: &[&str] = &[
    "const",
    "enum",
    "not",
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "$dynamicRef",
    "$recursiveRef",
];

/// The schemas that may apply to a value, of all branches. A change that satisfies them all is
/// valid whatever branch applies.
#[derive(Clone, Debug)]
pub(super) struct Rules<'s> {
    root: &'s Value,
    schemas: Vec<&'s Value>,
    is_complete: bool,
}

impl<'s> Rules<'s> {
    /// Creates the rules of a value without a schema.
    pub(super) fn none() -> Self {
        Self {
            root: &Value::Null,
            schemas: Vec::new(),
            is_complete: true,
        }
    }

    pub(super) fn of(root: &'s Value) -> Self {
        let mut rules = Self {
            root,
            ..Self::none()
        };
        rules.add(root);
        rules
    }

    fn add(&mut self, schema: &'s Value) {
        if self
            .schemas
            .iter()
            .any(|known| std::ptr::eq(*known, schema))
        {
            return;
        }
        if self.schemas.len() == MAX_SCHEMAS {
            self.is_complete = false;
            return;
        }
        self.schemas.push(schema);
        if let Some(reference) = schema.get("$ref") {
            let pointer = reference.as_str().and_then(|it| it.strip_prefix('#'));
            match pointer.and_then(|pointer| self.root.pointer(pointer)) {
                Some(named) => self.add(named),
                None => self.is_complete = false,
            }
        }
        for branch in BRANCHES {
            for schema in schema
                .get(branch)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                self.add(schema);
            }
        }
        for condition in CONDITIONS {
            if let Some(schema) = schema.get(condition) {
                self.add(schema);
            }
        }
    }

    /// Returns rules with the schemas that `find` adds.
    fn inner(&self, find: impl Fn(&'s Value, &mut Self)) -> Self {
        let mut inner = Self {
            root: self.root,
            schemas: Vec::new(),
            is_complete: true,
        };
        for schema in &self.schemas {
            find(schema, &mut inner);
        }
        inner
    }

    /// Returns the rules of a member.
    pub(super) fn member(&self, name: &str) -> Self {
        self.inner(|schema, inner| {
            let own = schema.get("properties").and_then(|all| all.get(name));
            if let Some(own) = own {
                inner.add(own);
            }
            // A pattern is not matched here: its schema may apply.
            let patterns = schema.get("patternProperties").and_then(Value::as_object);
            for pattern in patterns.into_iter().flat_map(|patterns| patterns.values()) {
                inner.add(pattern);
            }
            for others in ["additionalProperties", "unevaluatedProperties"] {
                if let Some(others) = schema.get(others).filter(|_| own.is_none()) {
                    inner.add(others);
                }
            }
        })
    }

    /// Returns the rules of an element.
    pub(super) fn element(&self, index: usize) -> Self {
        self.inner(|schema, inner| {
            let tuple = |name: &str| schema.get(name).and_then(Value::as_array);
            let own = tuple("prefixItems").or_else(|| tuple("items"));
            match own.and_then(|own| own.get(index)) {
                Some(own) => inner.add(own),
                None => {
                    let others = ["items", "additionalItems", "unevaluatedItems"];
                    for others in others.iter().filter_map(|name| schema.get(name)) {
                        inner.add(others);
                    }
                }
            }
        })
    }

    fn any(&self, names: &[&str]) -> bool {
        let has = |schema: &&Value| names.iter().any(|name| schema.get(name).is_some());
        self.schemas.iter().any(has)
    }

    fn greatest(&self, name: &str) -> usize {
        let numbers = self.schemas.iter().filter_map(|it| it.get(name)?.as_u64());
        let greatest = numbers.max().unwrap_or_default();
        usize::try_from(greatest).unwrap_or(usize::MAX)
    }

    /// Returns `true` if the value must stay as it is.
    pub(super) fn is_fixed(&self) -> bool {
        !self.is_complete || self.any(OF_WHOLE_VALUES)
    }

    /// Returns `true` if a string may be replaced by another one of a permitted length.
    pub(super) fn may_change_string(&self) -> bool {
        !self.is_fixed() && !self.any(OF_STRINGS)
    }

    /// Returns the minimum number of characters of a string.
    pub(super) fn min_length(&self) -> usize {
        self.greatest("minLength")
    }

    /// Returns `true` if a string has a maximum length.
    pub(super) fn has_max_length(&self) -> bool {
        self.any(&["maxLength"])
    }

    pub(super) fn min_items(&self) -> usize {
        self.greatest("minItems")
    }

    pub(super) fn min_members(&self) -> usize {
        self.greatest("minProperties")
    }

    pub(super) fn required(&self) -> HashSet<&'s str> {
        let names = self
            .schemas
            .iter()
            .filter_map(|it| it.get("required")?.as_array());
        names.flatten().filter_map(Value::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_schemas_of_all_branches_and_references_apply() {
        let schema = json!({
            "allOf": [{ "required": ["a"] }, { "$ref": "#/$defs/more" }],
            "$defs": {
                "more": {
                    "required": ["b"],
                    "properties": { "list": { "anyOf": [{ "minItems": 2 }, { "type": "null" }] } },
                    "additionalProperties": { "pattern": "^x" },
                },
            },
        });
        let rules = Rules::of(&schema);
        assert_eq!(rules.required(), HashSet::from(["a", "b"]));
        assert_eq!(rules.member("list").min_items(), 2);
        assert!(!rules.member("other").may_change_string());
        assert!(rules.member("list").may_change_string());
    }

    #[test]
    fn a_recursive_schema_ends_and_one_out_of_reach_fixes_its_value() {
        let schema = json!({
            "properties": {
                "child": { "$ref": "#" },
                "far": { "$ref": "https://example.com/schema" },
            },
            "minProperties": 1,
        });
        let rules = Rules::of(&schema);
        assert_eq!(rules.member("child").member("child").min_members(), 1);
        assert!(rules.member("child").member("far").is_fixed());
        assert!(!rules.is_fixed());
    }

    #[test]
    fn elements_have_the_rules_of_their_place() {
        let schema = json!({
            "prefixItems": [{ "enum": [1] }],
            "items": { "minLength": 3 },
        });
        let rules = Rules::of(&schema);
        assert!(rules.element(0).is_fixed());
        assert_eq!(rules.element(1).min_length(), 3);
    }
}
