//! Listens over stub stacks.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::{StreamExt, future::pending};
use rmcp::model::*;
use rmcp_layers::{Error, McpClient, McpRequest};

use crate::{Answer, changes, seconds};

async fn acknowledge(request: &McpRequest) -> Result<(), Error> {
    let ClientRequest::SubscriptionsListenRequest(listen) = &*request.message else {
        return Err(ErrorData::method_not_found::<SubscriptionsListenRequestMethod>().into());
    };
    let params =
        SubscriptionsAcknowledgedNotificationParams::new(listen.params.notifications.clone());
    let notice = SubscriptionsAcknowledgedNotification::new(params);
    request.context.caller.notify(notice.into()).await
}

#[tokio::test(start_paused = true)]
async fn a_listen_yields_changes_for_as_long_as_it_is_held() {
    let open = Arc::new(AtomicBool::new(false));
    struct Open(Arc<AtomicBool>);
    impl Drop for Open {
        fn drop(&mut self) {
            self.0.store(false, Ordering::SeqCst);
        }
    }
    let stack = tower::service_fn({
        let open = open.clone();
        move |request: McpRequest| {
            let open = open.clone();
            async move {
                open.store(true, Ordering::SeqCst);
                let _open = Open(open);
                acknowledge(&request).await?;
                for _ in 0..200 {
                    tokio::time::sleep(seconds(120)).await;
                    let change = ToolListChangedNotification::default();
                    request.context.caller.notify(change.into()).await?;
                }
                pending::<Answer>().await
            }
        }
    });
    let client = McpClient::new(stack);
    let mut changed = client.listen(changes()).await.unwrap();
    assert_eq!(changed.accepted().tools_list_changed, Some(true));
    for _ in 0..200 {
        let change = changed.next().await.unwrap().unwrap();
        assert!(matches!(
            change,
            ServerNotification::ToolListChangedNotification(_)
        ));
    }
    assert!(open.load(Ordering::SeqCst));
    drop(changed);
    assert!(!open.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_listen_tells_how_it_ended_after_all_that_came_before() {
    let fails = tower::service_fn(|request: McpRequest| async move {
        acknowledge(&request).await?;
        for _ in 0..2 {
            let change = ToolListChangedNotification::default();
            request.context.caller.notify(change.into()).await?;
        }
        Answer::Err(rmcp_layers::TransportError::new("connection reset").into())
    });
    let mut changed = McpClient::new(fails).listen(changes()).await.unwrap();
    assert!(changed.next().await.unwrap().is_ok());
    assert!(changed.next().await.unwrap().is_ok());
    assert!(changed.next().await.unwrap().unwrap_err().is_transport());
    assert!(changed.next().await.is_none());

    let unknown = tower::service_fn(|_request: McpRequest| async move {
        Answer::Err(ErrorData::method_not_found::<SubscriptionsListenRequestMethod>().into())
    });
    assert!(
        McpClient::new(unknown)
            .listen(changes())
            .await
            .unwrap_err()
            .is_protocol()
    );

    let silent = tower::service_fn(|_request: McpRequest| pending::<Answer>());
    assert!(
        McpClient::new(silent)
            .listen(changes())
            .await
            .unwrap_err()
            .is_timeout()
    );
}
