//! Checks of a verified token's claims.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::{
    Principal,
    auth::{AuthError, Verified},
};

/// The latest time that a claim may name, in seconds: the end of the year 9999.
const LATEST: f64 = 253_402_300_799.0;

/// The requirements on claims; see [`JwtVerifierBuilder`](super::JwtVerifierBuilder).
///
/// Default: only an expiry that has not passed is required, with a leeway of 30 s.
#[derive(Clone, Debug)]
pub(super) struct ClaimRules {
    /// `None` accepts any issuer.
    pub(super) issuers: Option<Vec<String>>,
    /// `None` accepts any audience.
    pub(super) audiences: Option<Vec<String>>,
    pub(super) expires: bool,
    pub(super) leeway: Duration,
    pub(super) subject: String,
    /// The first claim that is present is used.
    pub(super) scopes: Vec<String>,
}

impl Default for ClaimRules {
    fn default() -> Self {
        Self {
            issuers: None,
            audiences: None,
            expires: true,
            leeway: Duration::from_secs(30),
            subject: "sub".to_owned(),
            scopes: vec!["scope".to_owned(), "scp".to_owned()],
        }
    }
}

impl ClaimRules {
    pub(super) fn check(
        &self,
        claims: Map<String, Value>,
        now: SystemTime,
    ) -> Result<Verified, AuthError> {
        let expires_at = self.check_times(&claims, now)?;
        let issuer = text(&claims, "iss")?;
        if let Some(issuers) = &self.issuers
            && !issuer.is_some_and(|issuer| issuers.iter().any(|known| known == issuer))
        {
            return Err(AuthError::invalid("`iss` is missing, or another's"));
        }
        if let Some(audiences) = &self.audiences
            && !is_for(claims.get("aud"), audiences)
        {
            return Err(AuthError::invalid("`aud` is missing, or another"));
        }
        let subject = match text(&claims, &self.subject)? {
            Some(subject) if !subject.is_empty() => subject,
            _ => return Err(AuthError::invalid("the claim of the subject is missing")),
        };
        let mut principal = Principal::new(subject).with_scopes(self.scopes(&claims)?);
        if let Some(issuer) = issuer {
            principal = principal.with_issuer(issuer);
        }
        let mut verified = Verified::new(principal.with_claims(claims));
        // A remembered token ends when a new one would be refused: after the leeway.
        verified.expires_at = expires_at.and_then(|time| time.checked_add(self.leeway));
        Ok(verified)
    }

    /// Checks `exp`, `nbf` and `iat` (RFC 7519, section 4.1). Returns `exp`.
    fn check_times(
        &self,
        claims: &Map<String, Value>,
        now: SystemTime,
    ) -> Result<Option<SystemTime>, AuthError> {
        let ahead = now
            .checked_add(self.leeway)
            .ok_or_else(|| AuthError::invalid("there is no such time"))?;
        for name in ["nbf", "iat"] {
            if time(claims, name)?.is_some_and(|time| time > ahead) {
                return Err(AuthError::invalid(format!("`{name}` is in the future")));
            }
        }
        let expires_at = time(claims, "exp")?;
        match expires_at {
            None if self.expires => Err(AuthError::invalid("`exp` is missing")),
            Some(time) if time.checked_add(self.leeway).is_none_or(|time| time <= now) => {
                Err(AuthError::expired())
            }
            _ => Ok(expires_at),
        }
    }

    /// Reads the scopes. A string is a list separated by spaces (RFC 8693, section 4.2). An array
    /// is a list of single scopes, which some issuers use.
    fn scopes(&self, claims: &Map<String, Value>) -> Result<Vec<String>, AuthError> {
        let wrong = || AuthError::invalid("the claim of the scopes is no list of scopes");
        let Some(claim) = self.scopes.iter().find_map(|name| claims.get(name)) else {
            return Ok(Vec::new());
        };
        match claim {
            Value::String(list) => Ok(list
                .split(' ')
                .filter(|scope| !scope.is_empty())
                .map(str::to_owned)
                .collect()),
            Value::Array(list) => list
                .iter()
                .map(|scope| match scope {
                    Value::String(scope) if !scope.is_empty() && !scope.contains(' ') => {
                        Ok(scope.clone())
                    }
                    _ => Err(wrong()),
                })
                .collect(),
            Value::Null => Ok(Vec::new()),
            _ => Err(wrong()),
        }
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, AuthError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(AuthError::invalid(format!("`{name}` is no string"))),
    }
}

/// Reads a `NumericDate` (RFC 7519, section 2).
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<SystemTime>, AuthError> {
    let wrong = || AuthError::invalid(format!("`{name}` is no time"));
    let seconds = match claims.get(name) {
        None => return Ok(None),
        Some(Value::Number(seconds)) => seconds.as_f64().ok_or_else(wrong)?,
        Some(_) => return Err(wrong()),
    };
    if !(0.0..=LATEST).contains(&seconds) {
        return Err(wrong());
    }
    let since = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    UNIX_EPOCH.checked_add(since).map(Some).ok_or_else(wrong)
}

/// Returns `true` if the claim contains an accepted audience (RFC 7519, section 4.1.3). An array
/// with an element that is not a string never matches.
fn is_for(claim: Option<&Value>, audiences: &[String]) -> bool {
    let known = |name: &str| audiences.iter().any(|audience| audience == name);
    match claim {
        Some(Value::String(name)) => known(name),
        Some(Value::Array(names)) => {
            let mut names = names.iter().map(Value::as_str);
            names.clone().all(|name| name.is_some()) && names.any(|name| name.is_some_and(known))
        }
        _ => false,
    }
}
