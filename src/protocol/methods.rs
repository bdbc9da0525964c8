use rmcp::model::*;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A method of a request that a client sends.
pub(super) struct Method {
    pub(super) name: &'static str,
    /// The members of the params that name the request's target, as JSON pointers.
    pub(super) target: &'static [&'static str],
    /// Finds the first member of params that does not fit the method.
    pub(super) misfit: fn(&Value) -> Option<Misfit>,
}

/// A member of params that does not fit.
pub(super) struct Misfit {
    /// `params`, or `params.` and the member's path.
    pub(super) path: String,
    /// The reason. It may quote the member, so it is only for the sender.
    pub(super) why: String,
}

macro_rules! methods {
    ($($Method:ident($Params:ty) $target:expr;)*) => {
        /// All methods of client requests for which rmcp has a type.
        static METHODS: &[Method] = &[$(Method {
            name: $Method::VALUE,
            target: &$target,
            misfit: misfit::<$Params>,
        }),*];
    };
}

methods! {
    PingRequestMethod(Anything) [];
    InitializeResultMethod(InitializeRequestParams) [];
    DiscoverRequestMethod(DiscoverRequestParams) [];
    CompleteRequestMethod(CompleteRequestParams) ["/ref/name", "/ref/uri"];
    SetLevelRequestMethod(SetLevelRequestParams) [];
    GetPromptRequestMethod(GetPromptRequestParams) ["/name"];
    ListPromptsRequestMethod(PaginatedRequestParams) [];
    ListResourcesRequestMethod(PaginatedRequestParams) [];
    ListResourceTemplatesRequestMethod(PaginatedRequestParams) [];
    ReadResourceRequestMethod(ReadResourceRequestParams) ["/uri"];
    SubscriptionsListenRequestMethod(SubscriptionsListenRequestParams) [];
    SubscribeRequestMethod(SubscribeRequestParams) ["/uri"];
    UnsubscribeRequestMethod(UnsubscribeRequestParams) ["/uri"];
    CallToolRequestMethod(CallToolRequestParams) ["/name"];
    ListToolsRequestMethod(PaginatedRequestParams) [];
    GetTaskMethod(GetTaskParams) ["/taskId"];
    UpdateTaskMethod(UpdateTaskParams) ["/taskId"];
    CancelTaskMethod(CancelTaskParams) ["/taskId"];
    ListSkillsRequestMethod(PaginatedRequestParams) [];
    GetSkillRequestMethod(GetSkillRequestParams) ["/uri"];
    ReadResourceDirectoryRequestMethod(ReadResourceDirectoryRequestParams) ["/uri"];
}

/// Params of which nothing is read.
type Anything = serde::de::IgnoredAny;

/// Returns the method of this name, if the protocol has it.
pub(super) fn named(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

fn misfit<P: DeserializeOwned>(params: &Value) -> Option<Misfit> {
    let error = serde_path_to_error::deserialize::<_, P>(params).err()?;
    let path = error.path().to_string();
    Some(Misfit {
        path: match path.as_str() {
            "." => "params".to_owned(),
            index if index.starts_with('[') => format!("params{index}"),
            member => format!("params.{member}"),
        },
        why: error.into_inner().to_string(),
    })
}

impl Method {
    /// Returns the request's target, as far as these params name one.
    pub(super) fn target_in(&self, params: &Value) -> Option<String> {
        let named = self.target.iter().find_map(|at| params.pointer(at));
        named.and_then(Value::as_str).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rmcp_types_every_method_of_the_table() {
        for method in METHODS {
            let good = json!({
                "protocolVersion": "2025-11-25", "capabilities": {},
                "clientInfo": { "name": "a", "version": "0" },
                "ref": { "type": "ref/prompt", "name": "p" },
                "argument": { "name": "a", "value": "" },
                "level": "info", "name": "n", "uri": "u:x", "taskId": "t",
                "notifications": {}, "inputResponses": {},
            });
            let request = json!({ "method": method.name, "params": good });
            let read: ClientRequest = serde_json::from_value(request).unwrap();
            assert_eq!(read.method(), method.name);
            let custom = matches!(read, ClientRequest::CustomRequest(_));
            assert!(!custom, "{} is a custom method to rmcp", method.name);
        }
    }

    #[test]
    fn a_misfit_is_named_by_its_path() {
        let method = named("subscriptions/listen").unwrap();
        let params = json!({ "notifications": { "resourceSubscriptions": ["a", 5] } });
        let misfit = (method.misfit)(&params).unwrap();
        assert_eq!(misfit.path, "params.notifications.resourceSubscriptions[1]");
        assert_eq!(misfit.why, "invalid type: integer `5`, expected a string");
        assert!((method.misfit)(&json!({ "notifications": {} })).is_none());
    }
}
