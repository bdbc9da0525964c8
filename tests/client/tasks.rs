//! Calls that become tasks.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp::model::*;
use rmcp_layers::{Error, McpClient, McpRequest, McpResponse};
use serde_json::json;
use tokio::time::Instant;

use crate::{Answer, Person, inputs, said, seconds};

fn task(status: TaskStatus) -> Task {
    Task::new("t1", status, "2026-07-28T00:00:00Z", "2026-07-28T00:00:00Z")
        .with_poll_interval_ms(2_000)
}

/// Makes a task of each call, and answers the polls by `payload`, which may fail.
#[derive(Clone)]
struct Tasks {
    payload: fn(usize) -> Result<TaskPayload, Error>,
    polls: Arc<AtomicUsize>,
    updates: Arc<Mutex<Vec<InputResponses>>>,
    cancelled: Arc<AtomicBool>,
}

impl Tasks {
    fn new(payload: fn(usize) -> Result<TaskPayload, Error>) -> Self {
        Self {
            payload,
            polls: Arc::default(),
            updates: Arc::default(),
            cancelled: Arc::default(),
        }
    }

    fn answer(&self, request: &McpRequest) -> Answer {
        let result: ServerResult = match &*request.message {
            ClientRequest::CallToolRequest(_) => {
                ServerResult::CreateTaskResult(CreateTaskResult::new(task(TaskStatus::Working)))
            }
            ClientRequest::GetTaskRequest(request) => {
                assert_eq!(request.params.task_id, "t1");
                let payload = (self.payload)(self.polls.fetch_add(1, Ordering::SeqCst))?;
                let task = DetailedTask::new(task(TaskStatus::Working), payload);
                ServerResult::GetTaskResult(GetTaskResult::new(task))
            }
            ClientRequest::UpdateTaskRequest(request) => {
                self.updates
                    .lock()
                    .unwrap()
                    .push(request.params.input_responses.clone());
                ServerResult::task_ack(())
            }
            ClientRequest::CancelTaskRequest(_) => {
                self.cancelled.store(true, Ordering::SeqCst);
                ServerResult::task_ack(())
            }
            other => panic!("unexpected {}", other.method()),
        };
        Ok(McpResponse::new(result))
    }

    fn stack(
        &self,
    ) -> impl tower::Service<
        McpRequest,
        Response = McpResponse,
        Error = Error,
        Future = std::future::Ready<Answer>,
    > + Clone
    + Send
    + 'static {
        let tasks = self.clone();
        tower::service_fn(move |request: McpRequest| std::future::ready(tasks.answer(&request)))
    }
}

fn completed() -> TaskPayload {
    let result = json!({ "content": [{ "type": "text", "text": "at last" }], "isError": false });
    TaskPayload::Completed {
        result: result.as_object().unwrap().clone(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_is_polled_to_its_end() {
    let tasks = Tasks::new(|n| {
        Ok(if n < 3 {
            TaskPayload::Working
        } else {
            completed()
        })
    });
    let client = McpClient::builder(tasks.stack())
        .handler(Person::default())
        .build();
    let started = Instant::now();
    assert_eq!(said(&client.call_tool("any").await.unwrap()), "at last");
    assert_eq!(started.elapsed(), seconds(8));
    tokio::time::sleep(seconds(1)).await;
    assert!(!tasks.cancelled.load(Ordering::SeqCst));

    let once = client.call_tool("any").once().await.unwrap();
    assert!(matches!(once, CallToolResponse::Task(created) if created.task.task_id == "t1"));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_wants_input_gets_it_once_for_each_question() {
    let tasks = Tasks::new(|n| {
        Ok(match n {
            0..2 => TaskPayload::InputRequired {
                input_requests: inputs(&["x"]),
            },
            2 => TaskPayload::InputRequired {
                input_requests: inputs(&["x", "y"]),
            },
            _ => completed(),
        })
    });
    let person = Person::default();
    let client = McpClient::builder(tasks.stack())
        .handler(person.clone())
        .build();
    assert_eq!(said(&client.call_tool("any").await.unwrap()), "at last");
    assert_eq!(person.elicited.load(Ordering::SeqCst), 2);
    let updates = tasks.updates.lock().unwrap();
    let keys: Vec<_> = updates
        .iter()
        .map(|update| update.keys().cloned().collect::<Vec<_>>())
        .collect();
    assert_eq!(keys, [["x"], ["y"]]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_is_its_json_rpc_error_and_a_cancelled_one_a_cancellation() {
    let failed = Tasks::new(|_| {
        let error = json!({ "code": -32001, "message": "disk full", "data": { "free": 0 } });
        Ok(TaskPayload::Failed {
            error: error.as_object().unwrap().clone(),
        })
    });
    let client = McpClient::builder(failed.stack())
        .handler(Person::default())
        .build();
    let error = client.call_tool("any").await.unwrap_err();
    let wire = error.as_protocol().unwrap();
    assert_eq!((wire.code.0, &*wire.message), (-32001, "disk full"));

    let cancelled = Tasks::new(|_| Ok(TaskPayload::Cancelled));
    let client = McpClient::builder(cancelled.stack())
        .handler(Person::default())
        .build();
    assert!(client.call_tool("any").await.unwrap_err().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_cancels_its_task() {
    let tasks = Tasks::new(|_| Ok(TaskPayload::Working));
    let client = McpClient::builder(tasks.stack())
        .handler(Person::default())
        .build();
    let error = client
        .call_tool("any")
        .total_timeout(seconds(59))
        .await
        .unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(tasks.polls.load(Ordering::SeqCst), 29);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(tasks.cancelled.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_fails_is_repeated_but_not_for_ever() {
    let tasks = Tasks::new(|n| match n {
        0 | 1 => Err(rmcp_layers::TransportError::new("connection reset").into()),
        _ => Ok(completed()),
    });
    let client = McpClient::builder(tasks.stack())
        .handler(Person::default())
        .build();
    assert_eq!(said(&client.call_tool("any").await.unwrap()), "at last");

    let tasks = Tasks::new(|_| Err(rmcp_layers::TransportError::new("connection reset").into()));
    let client = McpClient::builder(tasks.stack())
        .handler(Person::default())
        .build();
    assert!(client.call_tool("any").await.unwrap_err().is_transport());
    assert_eq!(tasks.polls.load(Ordering::SeqCst), 3);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(tasks.cancelled.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_task_for_a_client_that_knows_none_is_an_error_and_is_cancelled() {
    let tasks = Tasks::new(|_| Ok(TaskPayload::Working));
    let error = McpClient::new(tasks.stack())
        .call_tool("any")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Tasks extension"), "{error}");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(tasks.cancelled.load(Ordering::SeqCst));
}
