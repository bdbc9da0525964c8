//! Requests as this crate's transports received them.

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use rmcp::model::{ClientRequest, Extensions, GetExtensions};
use tokio_util::bytes::Bytes;

use super::lossless::{Lossless, Source};
use crate::{
    protocol::{Unreadable, methods},
    util::lock,
};

/// The reading of a request, in its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Received(Arc<ReceivedRequest>);

/// A request as this crate's transport received it, and the text of its answer.
#[derive(Debug)]
pub(crate) struct ReceivedRequest {
    method: String,
    /// The request, if rmcp has read it by itself.
    request: Mutex<Option<Box<ClientRequest>>>,
    source: Option<Source>,
    unreadable: Option<Arc<Unreadable>>,
    /// `false` if rmcp would not read the text as the same request.
    is_plain: bool,
    /// A server has taken the reading.
    is_taken: AtomicBool,
    answer: AnswerText,
}

/// The text of the result that answers a request, once the stack has set it.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnswerText(Arc<OnceLock<Bytes>>);

impl AnswerText {
    pub(crate) fn get(&self) -> Option<&Bytes> {
        self.0.get()
    }

    /// Returns `true` if the request is not there any more, so that nothing can set the text.
    pub(crate) fn is_final(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Received {
    pub(super) fn new(
        method: String,
        source: Option<Source>,
        unreadable: Option<Arc<Unreadable>>,
        is_plain: bool,
    ) -> Self {
        Self(Arc::new(ReceivedRequest {
            method,
            request: Mutex::default(),
            source,
            is_plain: is_plain && unreadable.is_none(),
            unreadable,
            is_taken: AtomicBool::new(false),
            answer: AnswerText::default(),
        }))
    }

    /// Takes the reading out of a request's extensions. It is given once: the head of an HTTP
    /// request goes down the stack with the request, and a server further down, in this process,
    /// would take the caller's text for that of the request that it is sent.
    pub(crate) fn take(extensions: &mut Extensions) -> Option<Self> {
        let received = extensions
            .remove::<Self>()
            .or_else(|| Self::over_http(extensions))?;
        let is_first = !received.0.is_taken.swap(true, Ordering::Relaxed);
        is_first.then_some(received)
    }

    /// Returns what `read` finds in the request that is kept here.
    pub(crate) fn with_request<T>(
        &self,
        read: impl FnOnce(&ClientRequest) -> Option<T>,
    ) -> Option<T> {
        lock(&self.0.request).as_deref().and_then(read)
    }

    /// Takes the request that is kept here.
    pub(crate) fn take_request(&self) -> Option<ClientRequest> {
        lock(&self.0.request).take().map(|request| *request)
    }

    /// Takes the reading for a call that its transport begins. Returns the request, which is
    /// `message` unless the reading keeps it.
    pub(crate) fn begin(&self, message: ClientRequest) -> Lossless<ClientRequest> {
        self.0.is_taken.store(true, Ordering::Relaxed);
        self.in_place_of(message)
    }

    /// Returns the reading in a request's extensions.
    pub(crate) fn of(extensions: &Extensions) -> Option<Self> {
        let own = extensions.get::<Self>().cloned();
        own.or_else(|| Self::over_http(extensions))
    }

    /// Returns `true` if the request with these extensions cannot be read.
    pub(crate) fn is_unreadable(extensions: &Extensions) -> bool {
        Self::of(extensions).is_some_and(|received| received.unreadable().is_some())
    }

    #[cfg(feature = "http-server")]
    fn over_http(extensions: &Extensions) -> Option<Self> {
        super::over_http::ReceivedOverHttp::of(extensions)?
            .request()
            .cloned()
    }

    #[cfg(not(feature = "http-server"))]
    fn over_http(_: &Extensions) -> Option<Self> {
        None
    }

    /// Keeps the request itself, for a transport that gives rmcp another one.
    pub(super) fn set_request(&self, request: ClientRequest) {
        *lock(&self.0.request) = Some(Box::new(request));
    }

    pub(crate) fn request(&self) -> &Arc<ReceivedRequest> {
        &self.0
    }

    /// Returns the request that was received in the place of `message`, which rmcp has read.
    pub(crate) fn in_place_of(&self, message: ClientRequest) -> Lossless<ClientRequest> {
        let is_same = message.method() == self.0.method;
        let own = lock(&self.0.request).take().filter(|_| is_same);
        let mut message = own.map_or(message, |own| *own);
        // `_meta` is in the request's context.
        *message.extensions_mut() = Extensions::new();
        Lossless::from_source(message, self.0.source.clone().filter(|_| is_same))
    }

    /// Returns the reason why the request cannot be read, if it cannot.
    pub(crate) fn unreadable(&self) -> Option<&Arc<Unreadable>> {
        self.0.unreadable.as_ref()
    }

    /// Sets the text of the answer's result, which the transport writes in place of rmcp's.
    pub(crate) fn set_answer(&self, result: Bytes) {
        // A request has one answer.
        let _ = self.0.answer.0.set(result);
    }
}

impl ReceivedRequest {
    /// Returns the text of the params.
    pub(super) fn params(&self) -> Option<Bytes> {
        self.source.as_ref().map(|source| source.text().clone())
    }

    pub(crate) fn method(&self) -> &str {
        &self.method
    }

    /// Returns the target of a request that has not been served yet.
    #[cfg(all(feature = "auth", feature = "http-server"))]
    pub(crate) fn target(&self) -> Option<String> {
        let request = lock(&self.request);
        let target = self.target_of(request.as_deref()?);
        target.map(str::to_owned)
    }

    /// Returns the target of `request`, which is this one.
    pub(crate) fn target_of<'a>(&'a self, request: &'a ClientRequest) -> Option<&'a str> {
        match &self.unreadable {
            Some(unreadable) => unreadable.target(),
            None => methods::target(request).map(|target| target.name),
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Returns the place of the text of the answer's result.
    pub(crate) fn answer(&self) -> &AnswerText {
        &self.answer
    }
}
