use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Principal;

/// A principal in the record of a plan. Credentials are not part of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PrincipalRecord {
    subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    claims: Map<String, Value>,
}

impl From<&Principal> for PrincipalRecord {
    fn from(principal: &Principal) -> Self {
        Self {
            subject: principal.subject().to_owned(),
            issuer: principal.issuer().map(str::to_owned),
            scopes: principal.scopes().to_vec(),
            claims: principal.claims().clone(),
        }
    }
}

impl From<PrincipalRecord> for Principal {
    fn from(record: PrincipalRecord) -> Self {
        let principal = Self::new(record.subject)
            .with_scopes(record.scopes)
            .with_claims(record.claims);
        match record.issuer {
            Some(issuer) => principal.with_issuer(issuer),
            None => principal,
        }
    }
}
