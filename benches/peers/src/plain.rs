//! A reverse proxy of axum and reqwest that knows nothing of MCP: the least that a gateway on these
//! libraries costs.

use axum::{Router, body::Body, extract::Request, routing::any};
use http::{Response, header::HOST};

/// Returns a proxy that passes each request on to `server`, and its response back.
pub fn router(server: &str) -> Router {
    let client = reqwest::Client::new();
    let server = reqwest::Url::parse(server).expect("the server's address");
    let pass = move |request: Request| {
        let (client, server) = (client.clone(), server.clone());
        async move {
            let (mut parts, body) = request.into_parts();
            parts.headers.remove(HOST);
            let body = axum::body::to_bytes(body, usize::MAX).await;
            let sent = client
                .request(parts.method, server)
                .headers(parts.headers)
                .body(body.expect("the request's body"))
                .send();
            let response = http::Response::<reqwest::Body>::from(sent.await.expect("a response"));
            let response: Response<Body> = response.map(Body::new);
            response
        }
    };
    Router::new().fallback(any(pass))
}
