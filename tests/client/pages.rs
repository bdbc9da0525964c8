//! Lists of several pages.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rmcp::model::*;
use rmcp_layers::{Error, McpClient, McpRequest, McpResponse};
use tower::util::BoxCloneService;

use crate::Answer;

fn pages(
    next: fn(usize) -> String,
) -> (
    impl Fn() -> McpClient<BoxCloneService<McpRequest, McpResponse, Error>>,
    Arc<AtomicUsize>,
) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let client = move || {
        let count = count.clone();
        McpClient::new(BoxCloneService::new(tower::service_fn(
            move |_request: McpRequest| {
                let n = count.fetch_add(1, Ordering::SeqCst);
                let tool = Tool::new(format!("tool{n}"), "", JsonObject::new());
                let mut page = ListToolsResult::with_all_items(vec![tool]);
                page.next_cursor = Some(next(n));
                std::future::ready(Answer::Ok(McpResponse::new(page)))
            },
        )))
    };
    (client, asked)
}

#[tokio::test]
async fn a_list_ends_where_a_cursor_is_repeated() {
    let (client, asked) = pages(|n| (n % 3).to_string());
    assert_eq!(client().list_all_tools().await.unwrap().len(), 4);
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_list_without_an_end_ends_after_1000_pages() {
    let (client, asked) = pages(|n| n.to_string());
    assert_eq!(client().list_all_tools().await.unwrap().len(), 1_000);
    assert_eq!(asked.load(Ordering::SeqCst), 1_000);
}
