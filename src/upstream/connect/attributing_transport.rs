//! Finds the call that an answer without an `id` belongs to.

use std::{borrow::Cow, sync::Arc};

use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};

use crate::upstream::route::Routes;

/// A transport on which each answer has an `id`.
pub(in crate::upstream) struct AttributingTransport<T> {
    pub(in crate::upstream) inner: T,
    pub(in crate::upstream) routes: Arc<Routes>,
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for AttributingTransport<T> {
    type Error = T::Error;

    fn name() -> Cow<'static, str> {
        T::name()
    }

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            if let Some(failed) = self.routes.next_failed() {
                return Some(failed);
            }
            let message = self.inner.receive().await?;
            if let Some(named) = self.routes.withhold_unattributed(message) {
                return Some(named);
            }
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), T::Error>> + Send {
        self.inner.close()
    }
}
