//! Params that two parsers may read differently.
//!
//! The text of a request reaches its server, and layers decide by the typed request. So the server
//! must not read another request than they did. Some parsers take the first of two members with one
//! name, and others the last (RFC 8259, section 4). Some match names without regard to case.

use std::borrow::Cow;

use super::outline::Outline;

/// The members that the params of any method have.
const MEMBERS: &[&str] = &[
    "_meta",
    "argument",
    "arguments",
    "capabilities",
    "clientInfo",
    "context",
    "cursor",
    "inputResponses",
    "level",
    "name",
    "notifications",
    "protocolVersion",
    "ref",
    "requestState",
    "task",
    "taskId",
    "type",
    "uri",
];

/// The members of params that have members of the protocol themselves.
const NESTED: &[&str] = &["ref", "argument"];

/// Returns the path of a member, and the reason, if params may be read in two ways.
pub(super) fn ambiguity(params: &str) -> Option<(String, String)> {
    let members = match Outline::of(params) {
        Ok(outline) => outline.members,
        // Members behind those that are nested too deeply are not checked.
        Err(why) => return Some(("params".to_owned(), why)),
    };
    if let Some(found) = lookalike("params", &members) {
        return Some(found);
    }
    let mut nested = members.iter().filter(|(name, _)| NESTED.contains(&&**name));
    nested.find_map(|(name, value)| {
        let members = Outline::of(value).ok()?.members;
        lookalike(&format!("params.{name}"), &members)
    })
}

/// Returns the first member that differs from one of the protocol only in case.
fn lookalike(path: &str, members: &[(Cow<'_, str>, &str)]) -> Option<(String, String)> {
    let unknown = members.iter().map(|(name, _)| &**name);
    let mut unknown = unknown.filter(|name| !MEMBERS.contains(name));
    let (name, meant) = unknown.find_map(|name| {
        let folded = folded(name);
        let meant = MEMBERS
            .iter()
            .find(|known| known.eq_ignore_ascii_case(&folded))?;
        Some((name, meant))
    })?;
    let why = format!("names are case-sensitive: expected `{meant}`");
    Some((format!("{path}.{name}"), why))
}

/// Returns a name with ASCII letters in the place of the two other letters that fold to one
/// (Unicode, CaseFolding.txt).
fn folded(name: &str) -> Cow<'_, str> {
    match name.is_ascii() {
        true => Cow::Borrowed(name),
        false => Cow::Owned(name.replace('\u{17f}', "s").replace('\u{212a}', "k")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(params: &str) -> Option<String> {
        ambiguity(params).map(|(path, why)| format!("{path}: {why}"))
    }

    #[test]
    fn params_with_one_reading_are_not_ambiguous() {
        for params in [
            r#"{"name":"a","arguments":{"Name":1,"name":2,"a":[{"a":1},{"a":1}]}}"#,
            r#"{"name":"a","x":1,"nam":2,"_meta":{"a":1,"A":2}}"#,
            r#"{"ref":{"type":"ref/prompt","name":"p"}}"#,
            "[]",
            "5",
        ] {
            assert_eq!(found(params), None, "{params}");
        }
        let many: Vec<_> = (0..100).map(|i| format!(r#""k{i}":{i}"#)).collect();
        assert_eq!(found(&format!("{{{}}}", many.join(","))), None);
        let twice = found(&format!(r#"{{"arguments":{{{},"k7":1}}}}"#, many.join(",")));
        assert!(twice.is_some_and(|why| why.contains("`k7`")));
    }

    #[test]
    fn a_member_that_is_given_twice_is_found_at_any_depth() {
        for params in [
            r#"{"name":"a","name":"b"}"#,
            r#"{"arguments":{"a":[{"p":1,"\u0070":2}]}}"#,
            r#"{"_meta":{"a":1,"a":1}}"#,
        ] {
            assert!(
                found(params).is_some_and(|why| why.contains("twice")),
                "{params}"
            );
        }
    }

    #[test]
    fn members_behind_a_number_beyond_the_range_or_a_deep_one_are_not_left_unchecked() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for odd in ["1e400", &deep] {
            for rest in [r#""arguments":{"a":1,"a":2}"#, r#""Name":"b""#] {
                let params = format!(r#"{{"x":{odd},"name":"a",{rest}}}"#);
                assert!(found(&params).is_some(), "{params}");
            }
        }
        assert_eq!(found(r#"{"x":1e400,"name":"a"}"#), None);
        let why = found(&format!(r#"{{"name":"a","x":{deep}}}"#));
        assert!(why.is_some_and(|why| why.contains("recursion limit")));
    }

    #[test]
    fn a_member_that_differs_from_one_of_the_protocol_in_case_is_found() {
        for (params, path) in [
            (r#"{"name":"a","Name":"b"}"#, "params.Name"),
            (r#"{"name":"a","argument\u017f":{}}"#, "params.argumentſ"),
            (r#"{"name":"a","tas\u212a":{}}"#, "params.tas\u{212a}"),
            (r#"{"ref":{"name":"a","NAME":"b"}}"#, "params.ref.NAME"),
        ] {
            assert!(
                found(params).is_some_and(|why| why.starts_with(path)),
                "{params}"
            );
        }
    }
}
