//! An error that a foreign layer returns keeps what it says up to the wire.

use std::{sync::Arc, time::Duration};

use rmcp::{ErrorData, model::ErrorCode};
use rmcp_layers::{Error, Handler, McpRequest, Refusal, TransportError, auth::AuthError, code};
use serde_json::{Value, json};
use tower::{BoxError, ServiceBuilder};

use super::raw::Raw;
use crate::common::demo::Demo;

/// An error of a foreign crate, around one of those.
#[derive(Debug, thiserror::Error)]
#[error("the policy said no")]
struct Wrapped(#[source] BoxError);

/// What a caller is told where a filter returns this.
async fn told(error: impl Fn() -> BoxError + Clone + Send + 'static) -> Value {
    let stack = ServiceBuilder::new()
        .filter(move |request: McpRequest| match request.as_tool_call() {
            Some(_) => Err(error()),
            None => Ok(request),
        })
        .service(Handler::new(Demo::default()));
    let mut client = Raw::legacy(stack).await;
    let answer = client.ask("tools/call", json!({ "name": "add" })).await;
    answer["error"].clone()
}

/// The same, also where an I/O error, a shared error, or a foreign error, once and twice, wraps it.
async fn told_in_any_case(
    error: impl Fn() -> BoxError + Clone + Send + 'static,
    wanted: impl Fn(&Value),
) {
    wanted(&told(error.clone()).await);
    let io = error.clone();
    wanted(&told(move || std::io::Error::other(io()).into()).await);
    let shared = error.clone();
    wanted(&told(move || Arc::<dyn std::error::Error + Send + Sync>::from(shared()).into()).await);
    let once = error.clone();
    wanted(&told(move || Wrapped(once()).into()).await);
    wanted(&told(move || Wrapped(Wrapped(error()).into()).into()).await);
}

#[tokio::test]
async fn a_refusal_keeps_its_code_its_data_and_its_time() {
    let refusal = || {
        Refusal::new("policy", "nothing is deleted here")
            .with_code(code::FORBIDDEN)
            .with_data(json!({ "rule": 7 }))
            .with_retry_after(Duration::from_millis(1_500))
            .into()
    };
    told_in_any_case(refusal, |error| {
        assert_eq!(error["code"], -31403, "{error}");
        assert_eq!(
            error["message"],
            "refused by policy: nothing is deleted here"
        );
        assert_eq!(error["data"]["layer"], "policy");
        assert_eq!(error["data"]["rule"], 7);
        assert_eq!(error["data"]["retryAfterMs"], 1500);
    })
    .await;
    let own = |code: i32| {
        move || {
            let refusal = Refusal::new("policy", "no").with_code(ErrorCode(code));
            BoxError::from(refusal)
        }
    };
    for code in [-31429, -31401, -31451] {
        assert_eq!(told(own(code)).await["code"], code);
        let refusal = move || Refusal::new("policy", "no").with_code(ErrorCode(code));
        let boxed = told(move || BoxError::from(Box::new(refusal()))).await;
        assert_eq!(boxed["code"], code);
        let shared = told(move || Arc::new(Error::from(refusal())).into()).await;
        assert_eq!(shared["code"], code);
    }
}

#[tokio::test]
async fn a_json_rpc_error_arrives_as_it_is() {
    let protocol = || ErrorData::new(ErrorCode(-31999), "so", Some(json!({ "a": 1 }))).into();
    told_in_any_case(protocol, |error| {
        let wanted = json!({ "code": -31999, "message": "so", "data": { "a": 1 } });
        assert_eq!(error, &wanted);
    })
    .await;
    let peers = || rmcp::ServiceError::McpError(ErrorData::invalid_params("so", None)).into();
    told_in_any_case(peers, |error| assert_eq!(error["code"], -32602, "{error}")).await;
}

#[tokio::test]
async fn transport_failures_timeouts_and_cancellations_are_what_they_are() {
    let transport = || {
        TransportError::not_delivered("connection refused")
            .with_upstream("far")
            .with_retry_after(Duration::from_secs(3))
            .into()
    };
    told_in_any_case(transport, |error| {
        assert_eq!(error["code"], -31502, "{error}");
        assert_eq!(error["data"]["upstream"], "far");
        assert_eq!(error["data"]["delivered"], "no");
        assert_eq!(error["data"]["retryAfterMs"], 3000);
    })
    .await;
    let timeout = || match Error::timeout(Duration::from_secs(2)) {
        Error::Timeout(timeout) => timeout.into(),
        other => other.into(),
    };
    told_in_any_case(timeout, |error| {
        assert_eq!(error["code"], -31504, "{error}");
        assert_eq!(error["data"]["afterMs"], 2000);
    })
    .await;
    let elapsed = || tower::timeout::error::Elapsed::new().into();
    told_in_any_case(elapsed, |error| {
        assert_eq!(error["code"], -31504, "{error}")
    })
    .await;
    let cancelled = || Error::cancelled("why not").into();
    told_in_any_case(cancelled, |error| {
        assert_eq!(error["code"], -31499, "{error}")
    })
    .await;
}

#[tokio::test]
async fn an_error_of_the_auth_module_is_its_refusal() {
    let auth = || AuthError::insufficient_scope(["db:write"]).into();
    told_in_any_case(auth, |error| {
        assert_eq!(error["code"], -31403, "{error}");
        assert_eq!(error["data"]["scopes"], json!(["db:write"]));
    })
    .await;
    let unknown = || AuthError::missing_token().into();
    told_in_any_case(unknown, |error| {
        assert_eq!(error["code"], -31401, "{error}")
    })
    .await;
}

#[tokio::test]
async fn a_foreign_error_stays_a_refusal_of_a_layer() {
    let foreign = told(|| Wrapped("no".into()).into()).await;
    assert_eq!(foreign["code"], -31403, "{foreign}");
    assert_eq!(foreign["data"]["layer"], "layer");
}
