//! The requests of clients, written down from the specification: revisions 2025-11-25 and
//! 2026-07-28, and the extensions for tasks (SEP-2663) and skills (SEP-2640). It is the tests' own
//! list, beside the crate's table of methods.

/// A method of a request.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    pub name: &'static str,
    /// The members of params that fit it. Tools, prompts and tasks are named `x`. The URIs
    /// of resources and skills have the scheme `x`.
    pub params: &'static str,
    /// The members of a result that fits it, beside `resultType`.
    pub result: &'static str,
    /// `true` if revision 2026-07-28 removed it.
    pub is_removed: bool,
    /// `true` if its result has `ttlMs` and `cacheScope`.
    pub has_cache_hints: bool,
    /// `true` if the same request may be sent twice: it reads, or sets a value.
    pub is_repeatable: bool,
    pub handled_by: By,
}

/// The servers behind a gateway that handle a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The one with the request's target.
    Owner,
    /// All. Lists are merged.
    All,
    /// None: the gateway, or the top of the stack, answers.
    Gateway,
}

const fn method(name: &'static str, params: &'static str, result: &'static str) -> Method {
    Method {
        name,
        params,
        result,
        is_removed: false,
        has_cache_hints: false,
        is_repeatable: false,
        handled_by: By::Owner,
    }
}

impl Method {
    const fn removed(mut self) -> Self {
        self.is_removed = true;
        self
    }

    const fn cached(mut self) -> Self {
        self.has_cache_hints = true;
        self
    }

    const fn repeatable(mut self) -> Self {
        self.is_repeatable = true;
        self
    }

    const fn by(mut self, servers: By) -> Self {
        self.handled_by = servers;
        self
    }
}

pub const METHODS: [Method; 21] = [
    method("ping", "", "")
        .removed()
        .repeatable()
        .by(By::Gateway),
    method(
        "initialize",
        r#""protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"0"}"#,
        r#""protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"0"}"#,
    )
    .removed()
    .by(By::Gateway),
    method(
        "server/discover",
        "",
        r#""supportedVersions":["2026-07-28"],"capabilities":{},"ttlMs":0,"cacheScope":"private""#,
    )
    .cached()
    .repeatable()
    .by(By::Gateway),
    method(
        "completion/complete",
        r#""ref":{"type":"ref/prompt","name":"x"},"argument":{"name":"a","value":""}"#,
        r#""completion":{"values":["v"]}"#,
    )
    .repeatable(),
    method("logging/setLevel", r#""level":"info""#, "")
        .removed()
        .repeatable()
        .by(By::All),
    method("prompts/get", r#""name":"x""#, r#""messages":[]"#).repeatable(),
    method("prompts/list", "", r#""prompts":[{"name":"x"}]"#)
        .cached()
        .repeatable()
        .by(By::All),
    method("resources/list", "", r#""resources":[{"uri":"x:x","name":"x"}]"#)
        .cached()
        .repeatable()
        .by(By::All),
    method(
        "resources/templates/list",
        "",
        r#""resourceTemplates":[{"uriTemplate":"x:{+x}","name":"x"}]"#,
    )
    .cached()
    .repeatable()
    .by(By::All),
    method("resources/read", r#""uri":"x:x""#, r#""contents":[{"uri":"x:x","text":"t"}]"#)
        .cached()
        .repeatable(),
    method("resources/directory/read", r#""uri":"x:x""#, r#""resources":[]"#)
        .cached()
        .repeatable(),
    method("resources/subscribe", r#""uri":"x:x""#, "")
        .removed()
        .repeatable(),
    method("resources/unsubscribe", r#""uri":"x:x""#, "")
        .removed()
        .repeatable(),
    method(
        "subscriptions/listen",
        r#""notifications":{"toolsListChanged":true}"#,
        r#""_meta":{"io.modelcontextprotocol/subscriptionId":1}"#,
    )
    .by(By::All),
    method("tools/call", r#""name":"x""#, r#""content":[]"#),
    method(
        "tools/list",
        "",
        r#""tools":[{"name":"x","inputSchema":{"type":"object"}}]"#,
    )
    .cached()
    .repeatable()
    .by(By::All),
    method("tasks/get", r#""taskId":"x""#, TASK).repeatable(),
    method("tasks/update", r#""taskId":"x","inputResponses":{}"#, ""),
    method("tasks/cancel", r#""taskId":"x""#, ""),
    method(
        "skills/list",
        "",
        r#""skills":[{"uri":"x:/x/SKILL.md","frontmatter":{"name":"x","description":"x"},"resources":"dynamic"}]"#,
    )
    .cached()
    .repeatable()
    .by(By::All),
    method(
        "skills/get",
        r#""uri":"x:/x/SKILL.md""#,
        r#""skill":{"uri":"x:/x/SKILL.md","frontmatter":{"name":"x","description":"x"},"resources":"dynamic"}"#,
    )
    .cached()
    .repeatable(),
];

/// A task, as it is created and as it is read.
pub const TASK: &str = r#""taskId":"x","status":"working","createdAt":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:00Z","ttlMs":null"#;
