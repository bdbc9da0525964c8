//! Parses a token before any of its content is trusted.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value, value::RawValue};

use crate::{auth::AuthError, wire::Outline};

/// Limit of a key id's length in bytes.
const MAX_KID: usize = 256;
/// Header parameters that would let the token choose its key (RFC 8725, section 3.10), or change
/// how it is read.
const REFUSED: [&str; 8] = ["jku", "jwk", "x5u", "x5c", "crit", "b64", "enc", "zip"];

/// A signed token in compact form (RFC 7515, section 3.1), its signature not yet verified.
#[derive(Debug)]
pub(super) struct Compact<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// The signed bytes.
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
    claims: &'a str,
}

/// The accepted token types (`typ`; RFC 8725, section 3.11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Types {
    /// `JWT`, `at+jwt`, or none.
    #[default]
    Common,
    /// Only `at+jwt` (RFC 9068).
    AccessToken,
}

impl<'a> Compact<'a> {
    pub(super) fn parse(token: &'a str, types: Types) -> Result<Self, AuthError> {
        let invalid = |what: &'static str| AuthError::invalid(what);
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid("not three parts"));
        };
        let signed = &token.as_bytes()[..header.len() + 1 + claims.len()];
        let header = object(header, "header")?;
        if let Some(name) = REFUSED.iter().find(|name| header.contains_key(**name)) {
            return Err(AuthError::invalid(format!(
                "the header has `{name}`, which is not followed"
            )));
        }
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => name
                .parse()
                .map_err(|_| invalid("the header's `alg` is none that is known"))?,
            _ => return Err(invalid("the header has no `alg`")),
        };
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= MAX_KID => Some(kid.clone()),
            Some(_) => return Err(invalid("the header's `kid` is too long, or no string")),
        };
        types.check(header.get("typ"))?;
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| invalid("the signature is not base64url"))?;
        Ok(Self {
            algorithm,
            kid,
            signed,
            signature,
            claims,
        })
    }

    /// Returns the claims. Trust them only after the signature has been verified.
    pub(super) fn claims(&self) -> Result<Map<String, Value>, AuthError> {
        object(self.claims, "claims")
    }
}

impl Types {
    fn check(self, typ: Option<&Value>) -> Result<(), AuthError> {
        let wrong = || AuthError::invalid("the header's `typ` is that of another kind of token");
        let typ = match typ {
            None if self == Self::Common => return Ok(()),
            Some(Value::String(typ)) => typ,
            _ => return Err(wrong()),
        };
        // The prefix "application/" may be omitted if the rest has no slash (RFC 7515, section
        // 4.1.9).
        let short = match typ.split_at_checked(12) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
            _ => typ,
        };
        let is_jwt = self == Self::Common && short.eq_ignore_ascii_case("jwt");
        if is_jwt || short.eq_ignore_ascii_case("at+jwt") {
            Ok(())
        } else {
            Err(wrong())
        }
    }
}

/// Parses a part of a token as a JSON object. An object with a duplicate member is refused, because
/// two readers could interpret it differently (RFC 8725, section 2.6; RFC 7515, section 4).
fn object(part: &str, name: &'static str) -> Result<Map<String, Value>, AuthError> {
    let invalid = |what: &str| AuthError::invalid(format!("the {name}: {what}"));
    let json = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| invalid("not base64url"))?;
    serde_json::from_slice::<&RawValue>(&json)
        .ok()
        .and_then(|json| Outline::of(json.get()).ok())
        .ok_or_else(|| invalid("not JSON in UTF-8, or a member stands twice"))?;
    serde_json::from_slice(&json).map_err(|_| invalid("not a JSON object"))
}
