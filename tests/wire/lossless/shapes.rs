//! Requests and results with JSON in every place that the schema leaves open.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::json::{Json, json, json_with_huge_numbers, object_of, shape};
use crate::peers::MODERN;

type Of = BoxedStrategy<Json>;
type Member = (&'static str, BoxedStrategy<Option<Json>>);

fn some(name: &'static str, value: Of) -> Member {
    (name, value.prop_map(Some).boxed())
}

fn maybe(name: &'static str, value: Of) -> Member {
    (name, option::weighted(0.4, value).boxed())
}

fn is(text: &'static str) -> Of {
    Just(Json::text(text)).boxed()
}

fn one_of(texts: &[&'static str]) -> Of {
    select(texts.to_vec()).prop_map(Json::text).boxed()
}

fn other() -> Of {
    json_with_huge_numbers()
}

fn of(members: Vec<Member>) -> Of {
    shape(members, other())
}

fn list(item: Of) -> Of {
    vec(item, 0..4).prop_map(Json::List).boxed()
}

/// Objects whose `name` member is another one each, behind a prefix.
fn named(item: Of, member: &'static str, prefix: &'static str) -> Of {
    list(item)
        .prop_map(move |mut list| {
            for (index, item) in list.elements_mut().iter_mut().enumerate() {
                *item.get_mut(member).unwrap() = Json::Text(format!("{prefix}{index}"));
            }
            list
        })
        .boxed()
}

fn meta() -> Member {
    maybe("_meta", object_of(json()))
}

const KNOWN: &[&str] = &["user", "assistant"];
const ANY: &[&str] = &["user", "assistant", "xrobot"];

fn annotations(audiences: &[&'static str]) -> Member {
    let audience = list(one_of(audiences));
    let priority = select(vec!["0.5", "1", "7", "1e2"]).prop_map(|it| Json::Word(it.to_owned()));
    let annotations = of(vec![
        maybe("audience", audience),
        maybe("priority", priority.boxed()),
        maybe("lastModified", is("2025-01-12T15:00:58Z")),
    ]);
    maybe("annotations", annotations)
}

fn icons() -> Member {
    let sizes = list(one_of(&["48x48", "any"]));
    let icon = of(vec![
        some("src", is("https://x.example/i.png")),
        maybe("mimeType", is("image/png")),
        maybe("sizes", sizes),
        maybe("theme", one_of(&["light", "dark"])),
    ]);
    maybe("icons", list(icon))
}

fn contents() -> Of {
    prop_oneof![
        of(vec![
            some("uri", is("xres:a")),
            some("text", is("t")),
            maybe("mimeType", is("text/plain")),
            meta(),
        ]),
        of(vec![
            some("uri", is("xres:b")),
            some("blob", is("AAAA")),
            meta(),
        ]),
        of(vec![some("uri", is("y:c")), some("xcontents", other())]),
    ]
    .boxed()
}

fn block() -> Of {
    let data = |kind| {
        of(vec![
            some("type", is(kind)),
            some("data", is("AAAA")),
            some("mimeType", is("x/y")),
            annotations(ANY),
            meta(),
        ])
    };
    let text = of(vec![
        some("type", is("text")),
        some("text", one_of(&["", "t", "{\"a\":1}"])),
        annotations(ANY),
        meta(),
    ]);
    let link = of(vec![
        some("type", is("resource_link")),
        some("name", is("n")),
        some("uri", is("xres:l")),
        maybe("title", is("T")),
        maybe("description", is("d")),
        annotations(ANY),
        icons(),
        meta(),
    ]);
    let embedded = of(vec![
        some("type", is("resource")),
        some("resource", contents()),
        annotations(ANY),
        meta(),
    ]);
    let unknown = of(vec![some("type", one_of(&["xnew", "video"])), meta()]);
    prop_oneof![3 => text, 1 => data("image"), 1 => data("audio"), 1 => link, 1 => embedded, 2 => unknown].boxed()
}

fn schema() -> Of {
    let property = of(vec![maybe("type", one_of(&["string", "number", "xtype"]))]);
    of(vec![
        some("type", is("object")),
        maybe("properties", object_of(property)),
        maybe("description", is("s")),
    ])
}

fn tool() -> Of {
    let hints = of(vec![
        maybe("title", is("H")),
        maybe("readOnlyHint", Just(Json::Word("true".to_owned())).boxed()),
    ]);
    let execution = of(vec![maybe("taskSupport", one_of(&["optional", "xnever"]))]);
    of(vec![
        some("name", is("t")),
        maybe("title", is("T")),
        maybe("description", is("d")),
        some("inputSchema", schema()),
        maybe("outputSchema", schema()),
        maybe("annotations", hints),
        maybe("execution", execution),
        icons(),
        meta(),
    ])
}

fn prompt() -> Of {
    let argument = of(vec![
        some("name", is("a")),
        maybe("required", Just(Json::Word("false".to_owned())).boxed()),
    ]);
    of(vec![
        some("name", is("p")),
        maybe("description", is("d")),
        maybe("arguments", list(argument)),
        icons(),
        meta(),
    ])
}

fn resource(uri: &'static str) -> Of {
    of(vec![
        some(uri, is("xres:r")),
        some("name", is("n")),
        maybe("mimeType", is("x/y")),
        annotations(KNOWN),
        icons(),
        meta(),
    ])
}

/// A request, and the result that the server has for it.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub method: &'static str,
    pub params: &'static str,
    pub result: Json,
}

fn exchange(
    revision: &str,
    method: &'static str,
    params: &'static str,
    mut members: Vec<Member>,
    has_hints: bool,
) -> BoxedStrategy<Exchange> {
    if revision == MODERN {
        members.push(some("resultType", is("complete")));
        if has_hints {
            members.push(some("ttlMs", Just(Json::number(60_000)).boxed()));
            members.push(some("cacheScope", is("private")));
        }
    }
    members.push(meta());
    let result = of(members);
    result
        .prop_map(move |result| Exchange {
            method,
            params,
            result,
        })
        .boxed()
}

pub fn calls(revision: &str) -> BoxedStrategy<Exchange> {
    let structured = match revision {
        MODERN => other(),
        _ => object_of(other()),
    };
    let members = vec![
        some("content", list(block())),
        maybe("structuredContent", structured),
        maybe("isError", Just(Json::Word("false".to_owned())).boxed()),
    ];
    exchange(revision, "tools/call", r#""name":"t""#, members, false)
}

pub fn lists(revision: &str) -> BoxedStrategy<Exchange> {
    let list = |method, member, items| {
        exchange(
            revision,
            method,
            r#""cursor":"c""#,
            vec![some(member, items), maybe("nextCursor", is("next"))],
            true,
        )
    };
    prop_oneof![
        list("tools/list", "tools", named(tool(), "name", "t")),
        list("prompts/list", "prompts", named(prompt(), "name", "p")),
        list(
            "resources/list",
            "resources",
            named(resource("uri"), "uri", "xres:r")
        ),
        list(
            "resources/templates/list",
            "resourceTemplates",
            named(resource("uriTemplate"), "uriTemplate", "xres:{r}")
        ),
    ]
    .boxed()
}

/// Lists of one page.
pub fn first_pages(revision: &str) -> BoxedStrategy<Exchange> {
    let whole = |exchange: Exchange| Exchange {
        params: "",
        result: exchange.result.filtered(|name| name != "nextCursor"),
        ..exchange
    };
    lists(revision).prop_map(whole).boxed()
}

/// First pages of a list of tools.
pub fn tools(revision: &str) -> BoxedStrategy<Exchange> {
    let tools = some("tools", named(tool(), "name", "t"));
    exchange(revision, "tools/list", "", vec![tools], true)
}

pub fn results(revision: &str) -> BoxedStrategy<Exchange> {
    let message = of(vec![
        some("role", one_of(&["user", "assistant"])),
        some("content", block()),
    ]);
    let completion = of(vec![
        some("values", list(one_of(&["a", "b"]))),
        maybe("total", Just(Json::number(2)).boxed()),
    ]);
    let get = vec![
        some("messages", list(message)),
        maybe("description", is("d")),
    ];
    let read = vec![some("contents", list(contents()))];
    let complete = vec![some("completion", completion)];
    let reference = r#""ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":""}"#;
    prop_oneof![
        4 => calls(revision),
        4 => lists(revision),
        1 => exchange(revision, "prompts/get", r#""name":"p""#, get, false),
        1 => exchange(revision, "resources/read", r#""uri":"xres:a""#, read, true),
        1 => exchange(revision, "completion/complete", reference, complete, false),
        1 => exchange(revision, "x/custom", r#""x":1"#, Vec::new(), false),
    ]
    .boxed()
}

/// Methods and params of requests, without `_meta`.
pub fn requests() -> BoxedStrategy<(&'static str, Json)> {
    let of = |members| shape(members, json());
    let call = of(vec![
        some("name", is("t")),
        maybe("arguments", object_of(json())),
        maybe("task", of(vec![])),
    ]);
    let get = of(vec![
        some("name", is("p")),
        maybe("arguments", object_of(one_of(&["", "a"]))),
    ]);
    let read = of(vec![some("uri", is("xres:a"))]);
    let page = of(vec![maybe("cursor", is("c"))]);
    prop_oneof![
        3 => call.prop_map(|params| ("tools/call", params)),
        1 => get.prop_map(|params| ("prompts/get", params)),
        1 => read.prop_map(|params| ("resources/read", params)),
        1 => page.prop_map(|params| ("tools/list", params)),
        1 => of(vec![]).prop_map(|params| ("x/custom", params)),
    ]
    .boxed()
}
