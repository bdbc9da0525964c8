use std::sync::Arc;

use futures::future::BoxFuture;
use rmcp::model::{InputRequests, InputResponses};

use crate::{
    Audience, CallContext, Error,
    delegate::{agent::introduced, hops::Hops},
};

/// The request that a plan comes from.
#[derive(Clone)]
pub(in crate::delegate) struct Origin {
    /// A background context for the caller, in which agents are called.
    pub(in crate::delegate) caller: Arc<CallContext>,
    pub(in crate::delegate) owner: Owner,
    /// `true` if the process itself has submitted the plan.
    pub(in crate::delegate) is_process: bool,
    /// The hops that led to the request.
    pub(in crate::delegate) hops: Hops,
    /// The caller, if it can be asked.
    pub(in crate::delegate) asker: Option<Arc<dyn Asker>>,
}

/// The audience that a plan belongs to, as a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::delegate) struct Owner(pub(in crate::delegate) Arc<[u8]>);

impl Owner {
    pub(in crate::delegate) fn of(context: &CallContext) -> Self {
        Self(Audience::of(context).to_bytes().into())
    }
}

/// A caller that agents' questions are passed up to.
pub(in crate::delegate) trait Asker: Send + Sync + 'static {
    /// Asks the caller. Returns `None` if it cannot answer: the question is kept.
    fn ask<'a>(
        &'a self,
        task: &'a str,
        requests: &'a InputRequests,
    ) -> BoxFuture<'a, Option<InputResponses>>;
}

impl Origin {
    /// Returns the origin of a plan of this process.
    pub(super) fn of_process() -> Self {
        let caller = CallContext::background();
        Self {
            owner: Owner::of(&caller),
            is_process: true,
            caller: Arc::new(introduced(caller)),
            hops: Hops::default(),
            asker: None,
        }
    }

    /// Returns the origin of a plan that a request asks for.
    pub(in crate::delegate) fn of(context: &CallContext) -> Result<Self, Error> {
        Ok(Self {
            owner: Owner::of(context),
            is_process: false,
            hops: Hops::read(&context.meta)?.unwrap_or_default(),
            caller: Arc::new(introduced(context.to_background())),
            asker: None,
        })
    }
}
