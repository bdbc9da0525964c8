/// The kind of item that a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetKind {
    Tool,
    Prompt,
    Resource,
    Skill,
    Task,
    /// The prompt or the resource that a completion refers to.
    Reference,
}

impl TargetKind {
    /// Returns the members of params that name such a target, as JSON pointers.
    pub(crate) fn members(self) -> &'static [&'static str] {
        match self {
            Self::Tool | Self::Prompt => &["/name"],
            Self::Resource | Self::Skill => &["/uri"],
            Self::Task => &["/taskId"],
            Self::Reference => &["/ref/name", "/ref/uri"],
        }
    }
}

impl TargetKind {
    /// Returns the member of params that names such a target, if it is one of params themselves.
    #[cfg(feature = "http-server")]
    pub(crate) fn member(self) -> Option<&'static str> {
        let [member] = self.members() else {
            return None;
        };
        member.strip_prefix('/')
    }
}

/// The item that a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// The kind. It is never [`Reference`](TargetKind::Reference): a reference is to a prompt or a
    /// resource.
    pub(crate) kind: TargetKind,
    /// The name of a tool or prompt, the URI of a resource or skill, or the id of a task.
    pub(crate) name: &'a str,
}

impl<'a> Target<'a> {
    pub(super) fn new(kind: TargetKind, name: &'a str) -> Self {
        Self { kind, name }
    }
}
