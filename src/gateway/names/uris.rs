//! Outward URIs: the member's name is put in front of the scheme, so that a URI alone identifies
//! its member.
//!
//! The resource `file:///a` of the member `db` is `db+file:///a` outside. URI templates, and the
//! URIs that a caller expands from them, have the same prefix. Schemes are case-insensitive and
//! allow fewer characters than member names (RFC 3986, section 3.1). Other characters of a name are
//! therefore written as `.` and two hexadecimal digits. An app's view (`ui://`) has the member's
//! name after the scheme.

use std::{borrow::Cow, fmt::Write, sync::Arc};

/// The scheme of resources that are an app's views (SEP-1865). Hosts render no other scheme, so it
/// stays in front: `ui://chart/view.html` of the member `db` is `ui://db/chart/view.html` outside.
const UI: &str = "ui://";

/// The prefix of a member's URIs: the member's name, unless the member is never prefixed.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct UriPrefix(Option<Arc<str>>);

impl UriPrefix {
    pub(in crate::gateway) fn new(member: Option<Arc<str>>) -> Self {
        Self(member)
    }

    /// Returns `true` if outward URIs differ from the member's own.
    pub(in crate::gateway) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the outward form of a member's URI.
    pub(in crate::gateway) fn outward<'a>(&self, uri: &'a str) -> Cow<'a, str> {
        match &self.0 {
            Some(member) => prefixed(member, uri).into(),
            None => uri.into(),
        }
    }

    /// Turns a URI of the member into the outward URI. Returns `true` if they differ.
    pub(in crate::gateway) fn put_before(&self, uri: &mut String) -> bool {
        if let Some(member) = &self.0 {
            *uri = prefixed(member, uri);
        }
        self.is_set()
    }
}

/// Returns the outward form of a member's URI or URI template.
pub(in crate::gateway) fn prefixed(member: &str, uri: &str) -> String {
    let mut outward = String::with_capacity(member.len() + 1 + uri.len());
    let (scheme, end, rest) = match split_ui(uri) {
        Some((scheme, rest)) => (scheme, '/', rest),
        None => ("", '+', uri),
    };
    outward.push_str(scheme);
    for byte in member.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => outward.push(char::from(byte)),
            // Writing to a string does not fail.
            other => drop(write!(outward, ".{other:02x}")),
        }
    }
    outward.push(end);
    outward.push_str(rest);
    outward
}

/// Returns the member's name and its own URI, if `outward` can be a prefixed URI.
pub(in crate::gateway) fn split(outward: &str) -> Option<(String, Cow<'_, str>)> {
    if let Some((scheme, rest)) = split_ui(outward) {
        let (label, rest) = rest.split_once('/')?;
        return Some((member(label)?, format!("{scheme}{rest}").into()));
    }
    let (label, uri) = outward.split_once('+')?;
    Some((member(label)?, uri.into()))
}

/// Returns `true` if this is the URI of an app's view.
pub(in crate::gateway) fn is_ui(uri: &str) -> bool {
    split_ui(uri).is_some()
}

/// Splits the URI of an app's view into its scheme, as written, and the rest.
fn split_ui(uri: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = uri.split_at_checked(UI.len())?;
    scheme.eq_ignore_ascii_case(UI).then_some((scheme, rest))
}

/// Decodes a member's name.
fn member(label: &str) -> Option<String> {
    let mut member = String::with_capacity(label.len());
    let mut bytes = label.bytes();
    while let Some(byte) = bytes.next() {
        match byte.to_ascii_lowercase() {
            byte @ (b'a'..=b'z' | b'0'..=b'9' | b'-') => member.push(char::from(byte)),
            b'.' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                member.push(char::from_u32(high * 16 + low).filter(char::is_ascii)?);
            }
            _ => return None,
        }
    }
    Some(member)
}

/// Returns the part of a URI template before its first expression (RFC 6570).
pub(in crate::gateway) fn literal(template: &str) -> &str {
    template.split('{').next().unwrap_or(template)
}

/// Returns `true` if a URI may be made of a template. A URI without a scheme fits no template.
pub(in crate::gateway) fn fits(template: &str, uri: &str) -> bool {
    let literal = literal(template);
    literal.contains(':') && uri.starts_with(literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_comes_back_as_it_was() {
        for member in ["db", "My_Files.v2", "a-1"] {
            for uri in ["file:///a%20b?x#y", "git+ssh://h/p", "odd", "test://{id}/x"] {
                let outward = prefixed(member, uri);
                assert_eq!(
                    split(&outward),
                    Some((member.to_owned(), uri.into())),
                    "{outward}"
                );
                // Some clients write schemes in lower case.
                assert_eq!(
                    outward
                        .split_once('+')
                        .map(|(label, _)| label.to_lowercase()),
                    outward.split_once('+').map(|(label, _)| label.to_owned())
                );
            }
        }
    }

    #[test]
    fn a_view_of_an_app_keeps_its_scheme() {
        for member in ["db", "My_Files.v2"] {
            for uri in ["ui://chart/view.html", "ui://", "ui:///a", "UI://{id}/x"] {
                let outward = prefixed(member, uri);
                assert!(is_ui(&outward), "{outward}");
                assert_eq!(split(&outward), Some((member.to_owned(), uri.into())));
            }
        }
        assert_eq!(prefixed("db", "ui://c/v"), "ui://db/c/v");
        assert_eq!(prefixed("db", "uix://c/v"), "db+uix://c/v");
        assert_eq!(split("ui://chart"), None);
    }

    #[test]
    fn what_is_not_prefixed_is_not_taken_apart() {
        assert_eq!(split("file:///a+b"), None);
        assert_eq!(split("nothing"), None);
        assert_eq!(prefixed("db", "file:///a"), "db+file:///a");
    }
}
