//! What a result keeps that its type does not have.

use rmcp_layers::ServiceBuilderExt;
use tower::ServiceBuilder;

use super::{
    office::layer,
    peers::{Caller, LEGACY, MODERN, Road, Server},
};

#[tokio::test]
async fn a_result_that_fits_leaves_as_it_came_with_its_tokens_added() {
    const CAME: &str =
        r#""content":[{"type":"text","text":"short","origin":"disk"}],"vendor":{"z":1.50,"a":2}"#;
    for road in [Road::Lines, Road::Json, Road::Events] {
        for (revision, meta) in [
            (LEGACY, ""),
            (LEGACY, r#","_meta":{"own":1.0}"#),
            (MODERN, r#","_meta":{"own":1.0},"resultType":"complete""#),
        ] {
            let (server, _seen) = Server::answering(revision, &format!("{{{CAME}{meta}}}"));
            let stack = ServiceBuilder::new()
                .budget(layer().build().unwrap())
                .service(server.by(road).await);
            let mut caller = Caller::modern(stack);
            let answer = caller.ask("tools/call", r#""name":"any""#).await;
            assert!(answer.contains(CAME), "{road:?} {answer}");
            assert_eq!(
                answer.contains(r#""own":1.0,"#),
                !meta.is_empty(),
                "{answer}"
            );
            let says = r#""rmcp-layers/budget":{"charged":"#;
            assert!(answer.contains(says), "{road:?} {answer}");
        }
    }
}
