/// The settings of cuts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FitPolicy {
    pub(crate) kept_text: KeptText,
    pub(crate) repeated: RepeatedText,
    pub(crate) on_misfit: OnSchemaMisfit,
    pub(crate) charge: Charge,
}

/// The part of a long text that is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeptText {
    /// The start of the text.
    #[default]
    Head,
    /// The end of the text, such as the last lines of a log.
    Tail,
    /// The start and the end, half of the share each.
    Both,
}

/// The parts that are kept of a result whose text merely repeats its `structuredContent`. Only one
/// of both is charged, because hosts show the model only one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepeatedText {
    /// Both. If they are cut, both have the same JSON.
    #[default]
    Both,
    /// `structuredContent`. The text is dropped when the result is cut.
    Structured,
    /// The text. `structuredContent` is dropped when the result is cut, if the tool shows no output
    /// schema.
    Text,
}

/// The answer where no cut of `structuredContent` is valid by the tool's output schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnSchemaMisfit {
    /// A tool error without `structuredContent`. Clients accept it, and the output schema stays in
    /// `tools/list`.
    #[default]
    ToolError,
    /// `structuredContent` is dropped. The layer hides the output schemas of tools that it may cut,
    /// because clients refuse a result without `structuredContent` of a tool with a schema.
    DropStructured,
}

/// The way in which the cost of a result that fits is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Charge {
    /// By counting.
    #[default]
    Count,
    /// By [`TokenCounter::estimate`](super::super::TokenCounter::estimate), if the result is shorter
    /// in bytes than its share. Longer results are counted.
    Estimate,
}
