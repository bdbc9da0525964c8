//! What attackers try, and what they hear.

use rmcp_layers::auth::AuthError;

#[test]
fn a_challenge_names_no_detail() {
    let error = AuthError::invalid("the signature is wrong");
    let challenge = error.www_authenticate(Some("https://mcp.example/.well-known/x"), None);
    assert_eq!(
        challenge,
        r#"Bearer error="invalid_token", resource_metadata="https://mcp.example/.well-known/x""#
    );
}
