//! Ids of tasks of revision 2025-11-25: sealed in what a member sends, and opened in what a caller
//! sends.

use futures::future::BoxFuture;
use rmcp::model::{
    ClientResult, ErrorData, GetMeta, ServerNotification, ServerRequest, ServerResult,
};
use serde_json::Value;

use super::{
    members::active_member::ActiveMember, rewrite::Outward, seal::SealKind, shared::Shared,
};
use crate::{
    CallContext, Caller, CallerSink, Error, Lossless,
    protocol::{
        legacy_tasks::{self, Place},
        results,
    },
};

impl Outward {
    fn seal_id(&self, id: &mut String) -> bool {
        self.sealed(SealKind::Task, id)
    }

    /// Seals the ids of tasks in a result. `place` says where they are beside `_meta`.
    pub(super) fn seal_tasks(&self, result: &mut Lossless<ServerResult>, place: Option<Place>) {
        let is_typed = !matches!(**result, ServerResult::CustomResult(_));
        if is_typed && !has_related_task(result.as_read_mut()) {
            return;
        }
        if is_typed && result.source().is_none() {
            if let Some(Some(meta)) = results::meta(result)
                && let Some(id) = legacy_tasks::related(&mut meta.0)
            {
                self.seal_id(id);
            }
            return;
        }
        result.change_json(|json| {
            let meta = json.get_mut("_meta").and_then(Value::as_object_mut);
            let related = meta.and_then(legacy_tasks::related);
            let mut any = related.is_some_and(|id| self.seal_id(id));
            let ids = place.map(|place| legacy_tasks::ids_in(json, place));
            for id in ids.into_iter().flatten() {
                any |= self.seal_id(id);
            }
            any
        });
    }

    /// Seals the ids of tasks in a notification.
    pub(super) fn seal_task_of(&self, notification: &mut ServerNotification) {
        if let Some(id) = legacy_tasks::status_mut(notification) {
            self.seal_id(id);
        }
        if notification
            .get_meta()
            .0
            .0
            .contains_key(legacy_tasks::RELATED)
            && let Some(id) = legacy_tasks::related(&mut notification.get_meta_mut().0.0)
        {
            self.seal_id(id);
        }
    }

    /// Returns the caller for a call, with notifications rewritten, the ids of tasks sealed in the
    /// member's messages, and opened in the answers to its requests.
    pub(super) fn sealing_caller(&self, caller: &Caller) -> Caller {
        let sink = |inner| TaskSink {
            inner,
            outward: self.clone(),
        };
        match self.member.uris.is_set() {
            true => caller.wrap(sink),
            false => caller.wrap_listen(sink),
        }
    }

    /// Opens the id of a task in the `_meta` of an answer to the member. An id that is not sealed is
    /// the caller's own.
    fn open_task_of(&self, result: &mut ClientResult) {
        let meta = match result {
            ClientResult::ElicitResult(result) => result.meta.as_mut().map(|meta| &mut meta.0),
            ClientResult::ListRootsResult(result) => result.meta.as_mut().map(|meta| &mut meta.0),
            ClientResult::CustomResult(result) => {
                result.0.get_mut("_meta").and_then(Value::as_object_mut)
            }
            _ => None,
        };
        if let Some(id) = meta.and_then(legacy_tasks::related)
            && let Ok((member, own)) = self.seal.open(SealKind::Task, id, self.principal.as_ref())
            && member == *self.member.name
        {
            *id = own;
        }
    }
}

fn has_related_task(result: &mut ServerResult) -> bool {
    let meta = results::meta(result).and_then(|meta| meta.as_ref());
    meta.is_some_and(|meta| meta.0.contains_key(legacy_tasks::RELATED))
}

impl Shared {
    /// Opens the id of the task that a request belongs to. The task is the member's.
    pub(super) fn unseal_related_task(
        &self,
        member: &ActiveMember,
        context: &mut CallContext,
    ) -> Result<(), Error> {
        if !context.meta.0.0.contains_key(legacy_tasks::RELATED) {
            return Ok(());
        }
        let principal = context.principal().cloned();
        let Some(id) = legacy_tasks::related(&mut context.meta.0.0) else {
            return Ok(());
        };
        let (owner, own) = self.seal.open(SealKind::Task, id, principal.as_ref())?;
        if owner != *member.name {
            let message = "the related task belongs to another server than the request";
            return Err(ErrorData::invalid_params(message, None).into());
        }
        *id = own;
        Ok(())
    }

    /// Opens the id of the task that a caller's notification belongs to, and returns the name of
    /// its member. Returns `None` if it belongs to no task of a member.
    pub(super) fn unseal_task_of_notification(&self, context: &mut CallContext) -> Option<String> {
        let principal = context.principal().cloned();
        let notification = context.notification.as_deref_mut()?;
        if !notification
            .get_meta()
            .0
            .0
            .contains_key(legacy_tasks::RELATED)
        {
            return None;
        }
        let id = legacy_tasks::related(&mut notification.get_meta_mut().0.0)?;
        let opened = self.seal.open(SealKind::Task, id, principal.as_ref());
        let (member, own) = opened.ok()?;
        *id = own;
        Some(member)
    }
}

/// Seals and opens the ids of tasks in the messages between a member and a caller.
struct TaskSink {
    inner: Caller,
    outward: Outward,
}

impl CallerSink for TaskSink {
    fn notify(&self, mut notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        if self.outward.member.uris.is_set() {
            self.outward.notification_of_call(&mut notification);
        }
        self.outward.seal_task_of(&mut notification);
        Box::pin(self.inner.notify(notification))
    }

    fn request(&self, mut request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        let is_of_task = request.get_meta().0.0.contains_key(legacy_tasks::RELATED);
        if is_of_task && let Some(id) = legacy_tasks::related(&mut request.get_meta_mut().0.0) {
            self.outward.seal_id(id);
        }
        Box::pin(async move {
            let mut result = self.inner.request(request).await?;
            self.outward.open_task_of(&mut result);
            Ok(result)
        })
    }
}
