//! Requests and notifications to all members.

use std::sync::Arc;

use futures::future::join_all;
use rmcp::model::EmptyResult;

use super::{
    active_members::{ActiveMembers, only},
    lists::listed_member::ListedMember,
    shared::Shared,
};
use crate::{Error, McpRequest, McpResponse, ServedBy, context::OnlyDeclared};

impl Shared {
    /// Sends the same request to every member, and returns the answers that come in time.
    pub(super) async fn ask_members<'a>(
        &self,
        members: &'a ActiveMembers,
        request: &McpRequest,
    ) -> Vec<(&'a Arc<ListedMember>, Result<McpResponse, Error>)> {
        let timeout = self.rules.list_timeout;
        let asked = members.list.iter().map(|member| {
            let mut request = request.clone();
            self.map_visibility(member, &mut request.context);
            let call = member.call(request);
            async move {
                let answer = tokio::time::timeout(timeout, call).await;
                (
                    member,
                    answer.unwrap_or_else(|_| Err(Error::timeout(timeout))),
                )
            }
        });
        join_all(asked).await
    }

    /// Sends the same request to every member. It succeeds if one member answers; members that do
    /// not know the method, or cannot be reached, are ignored then.
    pub(super) async fn broadcast(
        &self,
        members: &ActiveMembers,
        mut request: McpRequest,
    ) -> Result<McpResponse, Error> {
        request.context.extensions.remove::<ServedBy>();
        if members.list.len() > 1 {
            request.context.extensions.insert(OnlyDeclared);
        }
        let answers = self.ask_members(members, &request).await;
        let any = answers.iter().any(|(_, answer)| answer.is_ok());
        match answers.into_iter().find_map(|(_, answer)| answer.err()) {
            Some(error) if !any => Err(error),
            _ => Ok(McpResponse::new(EmptyResult {})),
        }
    }

    /// Forwards a client's notification to every member.
    pub(super) async fn notify_all(&self, mut request: McpRequest) -> Result<McpResponse, Error> {
        let members = self.members();
        if let Some(owner) = self.unseal_task_of_notification(&mut request.context) {
            let Some(member) = members.get(&owner) else {
                return Ok(McpResponse::new(EmptyResult {}));
            };
            self.map_visibility(member, &mut request.context);
            return member.call(request).await;
        }
        match only(members.list.iter()) {
            Some(member) => {
                self.map_visibility(member, &mut request.context);
                member.call(request).await
            }
            None => self.broadcast(&members, request).await,
        }
    }
}
