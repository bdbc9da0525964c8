use http::{HeaderMap, Uri, header::AUTHORIZATION};

use super::AuthError;

/// Default limit of a token's length in bytes. Typical issuers use one or two KiB.
pub(crate) const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Returns the token of an `Authorization: Bearer` header (RFC 6750, section 2.1). Returns `None`
/// if there is no such header, if it has another scheme, or if it has no token.
///
/// # Errors
///
/// [`Malformed`](super::AuthErrorKind::Malformed) if there are several `Authorization` headers.
/// [`Invalid`](super::AuthErrorKind::Invalid) if the header is not ASCII, or if the token has
/// characters that a token cannot have.
pub fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>, AuthError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(AuthError::malformed("several Authorization headers"));
    }
    let value = value
        .to_str()
        .map_err(|_| AuthError::invalid("the Authorization header is not ASCII"))?;
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    let token = rest.trim_start_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Ok(None);
    }
    check_characters(token)?;
    Ok(Some(token))
}

/// Refuses a request with a token in its query string (RFC 6750, section 2.3; MCP 2026-07-28,
/// Authorization, "Token Requirements"), because URLs are written to logs.
///
/// # Errors
///
/// [`Malformed`](super::AuthErrorKind::Malformed) if there is such a token.
pub fn no_token_in_query(uri: &Uri) -> Result<(), AuthError> {
    let query = uri.query().unwrap_or_default();
    let named = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default();
        is_access_token(name)
    };
    if query.split(['&', ';']).any(named) {
        return Err(AuthError::malformed("a token in the query string"));
    }
    Ok(())
}

/// Returns `true` if a query parameter's name, percent-decoded, is `access_token`.
fn is_access_token(name: &str) -> bool {
    let mut bytes = name.bytes();
    let decoded = std::iter::from_fn(|| {
        let byte = bytes.next()?;
        if byte != b'%' {
            return Some(byte);
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        u8::try_from(digit()? * 16 + digit()?).ok()
    });
    decoded
        .map(|byte| byte.to_ascii_lowercase())
        .eq(b"access_token".iter().copied())
}

/// Checks the characters of a token (`b64token`, RFC 6750, section 2.1).
pub(crate) fn check_characters(token: &str) -> Result<(), AuthError> {
    let body = token.trim_end_matches('=');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    if body.is_empty() || !body.bytes().all(allowed) {
        return Err(AuthError::invalid(
            "the token has characters that no token can have",
        ));
    }
    Ok(())
}
