use std::{any::Any, panic::AssertUnwindSafe};

use futures::FutureExt;
use rmcp::model::ErrorData;

use crate::Error;

/// Runs a handler or a layer of the application. A panic in it becomes an internal error (-32603).
/// The panic's text is only logged.
///
/// rmcp serves each request in a task. A panic would end the task, and the request would stay
/// unanswered.
pub(crate) fn caught<F, T, E>(future: F) -> impl Future<Output = Result<T, E>>
where
    F: Future<Output = Result<T, E>>,
    E: From<ErrorData>,
{
    AssertUnwindSafe(future)
        .catch_unwind()
        .map(|ended| match ended {
            Ok(result) => result,
            Err(panic) => {
                tracing::error!(
                    panic = message(&*panic),
                    "a request's handler or layer panicked"
                );
                let message = "the server failed unexpectedly on this request; its log says more";
                Err(ErrorData::internal_error(message, None).into())
            }
        })
}

/// Runs a call down a stack in the same way. Its error becomes the crate's own.
pub(crate) fn caught_call<F, T, E>(future: F) -> impl Future<Output = Result<T, Error>>
where
    F: Future<Output = Result<T, E>>,
    E: Into<Error>,
{
    caught(future.map(|result| result.map_err(Into::into)))
}

/// Returns the text of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("the panic has no text")
}
