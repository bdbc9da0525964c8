//! The members of an object, found by one quick pass over its text.

use std::{borrow::Cow, collections::HashSet};

use memchr::memchr2;

/// The number of levels that serde reads.
const MAX_DEPTH: usize = 127;

/// The length of a list of names from which on it is searched by hash.
const MANY: usize = 16;

/// The members of the outermost object of a text, each once.
#[derive(Debug, Default)]
pub(crate) struct Outline<'a> {
    pub(crate) members: Vec<(Cow<'a, str>, &'a str)>,
}

impl<'a> Outline<'a> {
    /// Finds the members of a text, which is JSON. There are none if it is not an object.
    ///
    /// # Errors
    ///
    /// Fails if an object at any depth has two members of one name, or if the text is nested more
    /// deeply than serde reads.
    pub(crate) fn of(json: &'a str) -> Result<Self, String> {
        let mut scan = Scan {
            text: json,
            at: 0,
            open: Vec::new(),
            outermost: Vec::new(),
        };
        scan.run()?;
        Ok(Self {
            members: scan.outermost,
        })
    }
}

/// An object or array that is open.
struct Open<'a> {
    /// The names of an object so far.
    names: Option<Names<'a>>,
    /// The name whose value comes, and the place where it begins.
    name: Option<(Cow<'a, str>, usize)>,
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    open: Vec<Open<'a>>,
    outermost: Vec<(Cow<'a, str>, &'a str)>,
}

impl<'a> Scan<'a> {
    fn run(&mut self) -> Result<(), String> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            let from = self.at;
            self.at += 1;
            match byte {
                b'{' | b'[' => self.begin(*byte == b'{')?,
                b'}' | b']' => {
                    self.end_member(from);
                    self.open.pop();
                }
                b',' => self.end_member(from),
                b'"' => {
                    self.at = end_of_string(bytes, self.at);
                    self.string(from)?;
                }
                b':' => {
                    if let Some(Open {
                        name: Some(name), ..
                    }) = self.open.last_mut()
                    {
                        name.1 = self.at;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, is_object: bool) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err("recursion limit exceeded".to_owned());
        }
        self.open.push(Open {
            names: is_object.then(Names::default),
            name: None,
        });
        Ok(())
    }

    /// Takes a string that ends here. It is a name if none is waiting for its value.
    fn string(&mut self, from: usize) -> Result<(), String> {
        let Some(Open {
            names: Some(names),
            name: name @ None,
        }) = self.open.last_mut()
        else {
            return Ok(());
        };
        let quoted = &self.text[from..self.at];
        let own = match quoted.contains('\\') {
            true => Cow::Owned(serde_json::from_str(quoted).map_err(|error| error.to_string())?),
            false => Cow::Borrowed(&quoted[1..quoted.len() - 1]),
        };
        if names.is_there(&own) {
            return Err(format!("the member `{own}` is given twice"));
        }
        names.add(own.clone());
        *name = Some((own, self.at));
        Ok(())
    }

    /// Ends the value of a member.
    fn end_member(&mut self, at: usize) {
        let is_outermost = self.open.len() == 1;
        let name = self.open.last_mut().and_then(|open| open.name.take());
        if let Some((name, from)) = name.filter(|_| is_outermost) {
            let value = self.text[from..at].trim_ascii();
            self.outermost.push((name, value));
        }
    }
}

/// Returns the place after a string's end.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while let Some(found) = text.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found + 1;
        if text[at - 1] == b'"' {
            return at;
        }
        // The escaped character.
        at = text.len().min(at + 1);
    }
    text.len()
}

/// The names of an object.
#[derive(Default)]
struct Names<'a> {
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    fn is_there(&self, name: &str) -> bool {
        self.few.iter().any(|other| other == name) || self.many.contains(name)
    }

    fn add(&mut self, name: Cow<'a, str>) {
        if self.many.is_empty() && self.few.len() < MANY {
            self.few.push(name);
            return;
        }
        self.many.extend(self.few.drain(..));
        self.many.insert(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(text: &str) -> Result<Vec<(String, String)>, String> {
        serde_json::from_str::<serde::de::IgnoredAny>(text).unwrap();
        let members = Outline::of(text)?.members;
        let owned = members
            .into_iter()
            .map(|(name, value)| (name.into_owned(), value.to_owned()));
        Ok(owned.collect())
    }

    #[test]
    fn members_are_found_with_their_text() {
        let text = r#" { "a" : 1 , "b\u0062":"x,}\"]\\", "c":{"a":[1,{"a":2}]},"d":[],"e":{} } "#;
        let expected = [
            ("a", "1"),
            ("bb", r#""x,}\"]\\""#),
            ("c", r#"{"a":[1,{"a":2}]}"#),
            ("d", "[]"),
            ("e", "{}"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(outline(text).unwrap(), expected);
        for none in ["{}", "[]", "5", r#""a:b""#, "null", r#"[{"a":1}]"#] {
            assert_eq!(outline(none).unwrap(), [], "{none}");
        }
    }

    #[test]
    fn a_name_that_is_given_twice_is_found_at_any_depth() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"b":[[{"a":1,"\u0061":2}]]}"#,
            r#"{"b":{"c":{"a":"\\","a":""}}}"#,
        ] {
            assert_eq!(outline(text).unwrap_err(), "the member `a` is given twice");
        }
        let many: Vec<_> = (0..40).map(|i| format!(r#""k{i}":"k{i}""#)).collect();
        assert!(outline(&format!("{{{}}}", many.join(","))).is_ok());
        for twice in ["k0", "k15", "k16", "k39"] {
            let text = format!(r#"{{{},"{twice}":1}}"#, many.join(","));
            assert!(outline(&text).is_err(), "{twice}");
        }
    }

    #[test]
    fn what_is_nested_more_deeply_than_serde_reads_is_refused() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(outline(&nested(MAX_DEPTH)).is_ok());
        assert!(outline(&nested(MAX_DEPTH + 1)).is_err());
        let read = |levels| serde_json::from_str::<serde_json::Value>(&nested(levels)).is_ok();
        assert!(read(MAX_DEPTH) && !read(MAX_DEPTH + 1));
    }
}
