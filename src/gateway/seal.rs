//! Sealed values: `requestState` and task ids are sealed on the way out and lead back to their
//! member.

use std::sync::Arc;

use rmcp::model::{ErrorData, RequestStateCodec, SealOptions};

use crate::{Error, Principal};

/// The kind of a sealed value. A value sealed as one kind does not open as another.
#[derive(Clone, Copy, Debug)]
pub(super) enum SealKind {
    State,
    Task,
}

impl SealKind {
    fn field(self) -> &'static str {
        match self {
            Self::State => "requestState",
            Self::Task => "taskId",
        }
    }
}

/// Seals values, so that a caller can neither forge a route nor use a value of another principal.
#[derive(Clone, Debug)]
pub(super) struct Seal(Arc<RequestStateCodec>);

impl Seal {
    pub(super) fn new(codec: RequestStateCodec) -> Self {
        Self(Arc::new(codec))
    }

    /// Creates a seal with a random key.
    pub(super) fn random() -> Self {
        let key: [u8; 32] = rand::random();
        Self::new(RequestStateCodec::new_unchecked(key.to_vec()))
    }

    /// Seals a value. The same value seals to the same text, so that a caller can compare task ids.
    pub(super) fn seal(
        &self,
        kind: SealKind,
        member: &str,
        value: &str,
        principal: Option<&Principal>,
    ) -> String {
        // A member's name has no line break.
        let payload = format!("{member}\n{value}");
        let bound = bound_to(kind, principal);
        let options = SealOptions::new().associated_data(&bound);
        self.0.seal_with(payload.as_bytes(), &options)
    }

    /// Returns the member, and the value as the member gave it.
    pub(super) fn open(
        &self,
        kind: SealKind,
        sealed: &str,
        principal: Option<&Principal>,
    ) -> Result<(String, String), Error> {
        let refuse = |why: &str| {
            let field = kind.field();
            let message =
                format!("`{field}` is not one that this gateway gave to this caller: {why}");
            Error::from(ErrorData::invalid_params(message, None))
        };
        let payload = self
            .0
            .open_with(sealed, &bound_to(kind, principal))
            .map_err(|error| refuse(&error.to_string()))?;
        let payload = String::from_utf8(payload).map_err(|_| refuse("it is not text"))?;
        let (member, value) = payload
            .split_once('\n')
            .ok_or_else(|| refuse("it names no member"))?;
        Ok((member.to_owned(), value.to_owned()))
    }
}

fn bound_to(kind: SealKind, principal: Option<&Principal>) -> Vec<u8> {
    let mut bound = format!("rmcp-layers/gateway/{}", kind.field()).into_bytes();
    if let Some(principal) = principal {
        let (issuer, subject) = principal.identity();
        for part in [issuer.unwrap_or_default(), subject] {
            bound.push(0);
            // The length prefix keeps different pairs of parts different.
            bound.extend(part.len().to_be_bytes());
            bound.extend(part.as_bytes());
        }
    }
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_for_the_same_principal_and_kind_only() {
        let seal = Seal::random();
        let alice = Principal::new("alice");
        let sealed = seal.seal(SealKind::State, "db", "a\nb", Some(&alice));
        assert_eq!(
            sealed,
            seal.seal(SealKind::State, "db", "a\nb", Some(&alice))
        );
        let opened = seal.open(SealKind::State, &sealed, Some(&alice)).unwrap();
        assert_eq!(opened, ("db".to_owned(), "a\nb".to_owned()));
        let bob = Principal::new("bob");
        for refused in [
            seal.open(SealKind::Task, &sealed, Some(&alice)),
            seal.open(SealKind::State, &sealed, Some(&bob)),
            seal.open(SealKind::State, &sealed, None),
            seal.open(SealKind::State, "db\nforged", Some(&alice)),
            Seal::random().open(SealKind::State, &sealed, Some(&alice)),
        ] {
            let error = refused.unwrap_err();
            assert_eq!(error.as_protocol().unwrap().code.0, -32602);
        }
    }
}
