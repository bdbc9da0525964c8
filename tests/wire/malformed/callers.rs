//! The table of a caller's malformed messages, by their kind.

use super::{
    Answer::{self, None as Nothing, Result as Served},
    Row, error,
};
use crate::peers::{LEGACY, MODERN};

/// The limit of a message's length by default, and a bit more.
const TOO_LONG: usize = 17 * 1024 * 1024;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for part in [
        not_json(),
        not_a_message(),
        versions(),
        ids(),
        methods(),
        params(),
        meta(),
        notifications(),
        answers(),
        deep(),
        text(),
        twice(),
        long(),
    ] {
        rows.extend(part);
    }
    rows
}

fn row(message: impl AsRef<[u8]>, id: &str, answer: Answer) -> Row {
    Row::new(message.as_ref(), id, answer)
}

fn no_json() -> Answer {
    error(-32700, "not JSON")
}

fn no_message(member: &str) -> Answer {
    error(-32600, member)
}

fn misfit(path: &str) -> Answer {
    error(-32602, path)
}

/// A request for the tools, with this text in the place of its `id`.
fn with_id(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{{$m}}}}"#)
}

/// A call of a tool, with these arguments.
fn with_arguments(arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{$m,"name":"x","arguments":{arguments}}}}}"#
    )
}

/// Text that is not JSON. The `id` is told if it can be read.
fn not_json() -> Vec<Row> {
    let mut rows: Vec<_> = [
        ("{", ""),
        ("hello", ""),
        ("tru", ""),
        ("\"", ""),
        ("[", ""),
        ("}", ""),
        ("{]", ""),
        ("<html><body>502</body></html>", ""),
        ("Content-Length: 42", ""),
        ("\u{1f}\u{8b}\u{8}\u{0}", ""),
        ("{\u{0}\"\u{0}j\u{0}", ""),
        (r#"{'jsonrpc':'2.0','id':7,'method':'tools/list'}"#, ""),
        (r#"{jsonrpc:"2.0",id:7,method:"tools/list"}"#, ""),
        (r#"{"jsonrpc":"2.0","id":7,"method":"tools/list""#, "7"),
        (r#"{"jsonrpc":"2.0","id":7,"method":"tools/list",}"#, "7"),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":}"#,
            "7",
        ),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x""#,
            "7",
        ),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x}}"#,
            "7",
        ),
        (r#"{"jsonrpc":"2.0","id":7,"method":"tools/\xlist"}"#, "7"),
        (r#"{"jsonrpc":"2.0","id":7,"method":"tools/list\u12"}"#, "7"),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/\u{1}list\"}",
            "7",
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/\u{0}list\"}",
            "7",
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\"\u{0}}",
            "7",
        ),
        // The id may be in the part that is missing.
        (
            r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"x","#,
            "",
        ),
        (r#"{"jsonrpc":"2.0" "id":7,"method":"tools/list"}"#, ""),
        (r#"{"jsonrpc":"2.0","id":007,"method":"tools/list"}"#, ""),
        (r#"{"jsonrpc":"2.0","id":,"method":"tools/list"}"#, ""),
        (r#"{"jsonrpc":"2.0","id":x,"method":"tools/list"}"#, ""),
        (r#"{"jsonrpc":"2.0","id":7 7,"method":"tools/list"}"#, ""),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/initialized","#,
            "",
        ),
    ]
    .map(|(message, id)| row(message, id, no_json()))
    .into();
    for number in [
        "NaN",
        "Infinity",
        "-Infinity",
        "01",
        "+1",
        ".5",
        "1.",
        "0x10",
        "1e",
        "-",
        "1_0",
    ] {
        let message = with_arguments(&format!(r#"{{"a":{number}}}"#));
        rows.push(row(message, "7", no_json()));
    }
    let request = with_id("7");
    // Over lines, an object is looked for in a line that is not one message.
    for (before, after) in [
        ("\u{0}", ""),
        ("\u{1b}[0m", ""),
        ("", " x"),
        ("", "}"),
        ("", "\u{0}"),
    ] {
        let message = format!("{before}{request}{after}");
        rows.push(row(message, "7", Served).http(error(-32700, "")));
    }
    // Text before a request may be a log line that quotes it.
    rows.push(row(format!("log: {request}"), "", error(-32700, "")));
    rows.push(row(format!("/* a */ {request}"), "", error(-32700, "")));
    rows.push(row("", "", Nothing).http(error(-32700, "")));
    rows.push(row("  \t ", "", Nothing).http(error(-32700, "")));
    rows.push(row("\u{feff}", "", Nothing).http(error(-32700, "")));
    rows
}

/// JSON that is not a message, or a batch, which no supported revision has.
fn not_a_message() -> Vec<Row> {
    let request = with_id("7");
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    [
        "null".to_owned(),
        "5".to_owned(),
        "true".to_owned(),
        r#""text""#.to_owned(),
        "[]".to_owned(),
        "[1]".to_owned(),
        "[null]".to_owned(),
        "{}".to_owned(),
        r#"{"a":1}"#.to_owned(),
        format!("[{request}]"),
        format!("[{request},{request}]"),
        format!("[{notification}]"),
        // serde reads an array as the members of a structure, in their order.
        r#"["2.0",7,"tools/list",{}]"#.to_owned(),
        r#"["2.0",7,"tools/list",{},null,null]"#.to_owned(),
    ]
    .map(|message| row(message, "", no_message("")))
    .into()
}

fn versions() -> Vec<Row> {
    let with =
        |version: &str| format!(r#"{{{version}"id":7,"method":"tools/list","params":{{$m}}}}"#);
    let mut rows: Vec<_> = [
        "",
        r#""jsonrpc":null,"#,
        r#""jsonrpc":2,"#,
        r#""jsonrpc":2.0,"#,
        r#""jsonrpc":"","#,
        r#""jsonrpc":"2","#,
        r#""jsonrpc":"1.0","#,
        r#""jsonrpc":"2.0 ","#,
        r#""jsonrpc":"2.00","#,
        r#""jsonrpc":["2.0"],"#,
        r#""jsonrpc":{},"#,
        r#""jsonrpc":true,"#,
        r#""JSONRPC":"2.0","#,
        r#""jsonrpc":"2.0","jsonrpc":"2.0","#,
    ]
    .map(|version| row(with(version), "7", no_message("jsonrpc")))
    .into();
    rows.push(row(with(r#""jsonrpc":"2\u002e0","#), "7", Served));
    rows.push(row(with(r#""json\u0072pc":"2.0","#), "7", Served));
    rows.push(row(
        with(r#""jsonrpc" : "2.0" , "x":{"id":8},"#),
        "7",
        Served,
    ));
    rows
}

fn ids() -> Vec<Row> {
    let mut rows = Vec::new();
    // JSON-RPC 2.0, section 4: a string or a number.
    for id in [
        "0",
        "-0",
        "-1",
        "1.5",
        "7.0",
        "-0.0",
        "1e3",
        "1E+3",
        "1e-400",
        "1e999",
        "2147483648",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "1180591620717411303424",
        "123456789012345678901234567890.123456789012345678901234567890",
        r#""""#,
        r#"" ""#,
        r#""7""#,
        r#""null""#,
        r#""1.5""#,
        "\"\u{e9}\u{1f600}\"",
        r#""a \"quoted\" \\ one""#,
        r#""\u0001rmcp-layers/id:8""#,
    ] {
        rows.push(row(with_id(id), id, Served));
    }
    for length in [256, 300, 5_000, 100_000] {
        let id = format!(r#""{}""#, "x".repeat(length));
        rows.push(row(with_id(&id), &id, Served));
        let digits = "9".repeat(length);
        rows.push(row(with_id(&digits), &digits, Served));
    }
    for id in ["null", "true", "false", "[]", "[7]", "{}", r#"{"id":7}"#] {
        rows.push(row(with_id(id), "", no_message("id")));
    }
    rows.push(row(with_id(r#"7,"id":7"#), "7", no_message("id")));
    rows.push(row(with_id(r#"7,"id":8"#), "", no_message("id")));
    // The same, of requests that are refused for another reason.
    for id in ["1.5", r#""""#, "1180591620717411303424"] {
        let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":5}}"#);
        rows.push(row(message, id, no_message("method")));
        let message = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{$m,"name":5}}}}"#
        );
        rows.push(row(message, id, misfit("params.name")));
        let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","#);
        rows.push(row(message, id, no_json()));
    }
    rows
}

fn methods() -> Vec<Row> {
    let with =
        |method: &str| format!(r#"{{"jsonrpc":"2.0","id":7,"method":{method},"params":{{$m}}}}"#);
    let mut rows: Vec<_> = [
        "null",
        "5",
        "1.5",
        "true",
        "[]",
        "{}",
        r#"["tools/list"]"#,
        r#"{"name":"tools/list"}"#,
    ]
    .map(|method| row(with(method), "7", no_message("method")))
    .into();
    rows.push(row(
        r#"{"jsonrpc":"2.0","id":7}"#,
        "7",
        no_message("method"),
    ));
    rows.push(row(
        r#"{"jsonrpc":"2.0","id":7,"params":{}}"#,
        "7",
        no_message("method"),
    ));
    rows.push(row(
        r#"{"jsonrpc":"2.0","id":7,"Method":"tools/list"}"#,
        "7",
        no_message("method"),
    ));
    rows.push(row(r#"{"jsonrpc":"2.0"}"#, "", no_message("method")));
    rows.push(row(
        r#"{"jsonrpc":"2.0","params":{}}"#,
        "",
        no_message("method"),
    ));
    rows.push(row(
        r#"{"jsonrpc":"2.0","method":5}"#,
        "",
        no_message("method"),
    ));
    for method in [
        r#""tools""#,
        r#""tools/""#,
        r#""/tools/list""#,
        r#""TOOLS/LIST""#,
        r#""x/unknown""#,
        r#""rpc.discover""#,
        r#""__proto__""#,
        r#""sampling/createMessage""#,
        r#""roots/list""#,
        r#""elicitation/create""#,
    ] {
        rows.push(row(with(method), "7", error(-32601, "")));
    }
    // No header can mirror these.
    for method in [r#""""#, r#"" ""#, r#""tools/list ""#] {
        rows.push(row(with(method), "7", error(-32601, "")).only(LEGACY));
    }
    rows.push(row(with(r#""tools\/list""#), "7", Served));
    rows.push(row(with(r#""\u0074ools/list""#), "7", Served).only(LEGACY));
    for name in ["initialized", "cancelled", "progress", "roots/list_changed"] {
        let method = format!(r#""notifications/{name}""#);
        rows.push(row(with(&method), "7", no_message("without an id")));
    }
    rows
}

fn params() -> Vec<Row> {
    let with = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{params}}}"#)
    };
    let mut rows = Vec::new();
    for (method, members, path) in [
        ("tools/call", r#""name":["x"]"#, "params.name"),
        ("tools/call", r#""name":{}"#, "params.name"),
        ("tools/call", r#""name":true"#, "params.name"),
        (
            "tools/call",
            r#""name":"x","arguments":[]"#,
            "params.arguments",
        ),
        (
            "tools/call",
            r#""name":"x","arguments":"a""#,
            "params.arguments",
        ),
        (
            "tools/call",
            r#""name":"x","arguments":5"#,
            "params.arguments",
        ),
        (
            "tools/call",
            r#""name":"x","requestState":5"#,
            "params.requestState",
        ),
        (
            "tools/call",
            r#""name":"x","inputResponses":[]"#,
            "params.inputResponses",
        ),
        (
            "prompts/get",
            r#""name":"x","arguments":[]"#,
            "params.arguments",
        ),
        ("resources/read", r#""uri":["x:x"]"#, "params.uri"),
        (
            "completion/complete",
            r#""ref":{"type":"ref/x"},"argument":{"name":"a","value":""}"#,
            "params.ref.type",
        ),
        (
            "completion/complete",
            r#""ref":{"type":"ref/prompt"},"argument":{"name":"a","value":""}"#,
            "params.ref",
        ),
        (
            "completion/complete",
            r#""ref":{"type":"ref/prompt","name":"x"},"argument":{"name":"a"}"#,
            "params.argument",
        ),
        (
            "completion/complete",
            r#""ref":{"type":"ref/prompt","name":"x"},"argument":{"name":"a","value":5}"#,
            "params.argument.value",
        ),
        ("tools/list", r#""cursor":5"#, "params.cursor"),
        ("tools/list", r#""cursor":true"#, "params.cursor"),
        ("tools/list", r#""cursor":{}"#, "params.cursor"),
        ("tools/list", r#""cursor":["a"]"#, "params.cursor"),
        ("prompts/list", r#""cursor":1.5"#, "params.cursor"),
        ("resources/list", r#""cursor":[]"#, "params.cursor"),
        (
            "resources/templates/list",
            r#""cursor":-1"#,
            "params.cursor",
        ),
    ] {
        let params = format!("{{$m,{members}}}");
        rows.push(row(with(method, &params), "7", misfit(path)));
    }
    for level in [r#""loud""#, "5", r#""""#, r#""INFO""#] {
        let params = format!(r#"{{"level":{level}}}"#);
        let refused = row(
            with("logging/setLevel", &params),
            "7",
            misfit("params.level"),
        );
        rows.push(refused.only(LEGACY));
    }
    // No value is not a value of another type.
    rows.push(row(with("ping", "null"), "7", Served).only(LEGACY));
    rows.push(row(with("tools/list", "null"), "7", Served).only(LEGACY));
    rows.push(row(with("tools/call", "null"), "7", misfit("name")).only(LEGACY));
    rows.push(row(
        with("tools/list", r#"{$m,"cursor":null}"#),
        "7",
        Served,
    ));
    rows.push(row(
        with("tools/call", r#"{$m,"name":"x","arguments":null}"#),
        "7",
        Served,
    ));
    rows.push(row(
        with("tools/list", r#"{$m,"x":{"y":[1]},"":0}"#),
        "7",
        Served,
    ));
    for params in ["[]", "5", r#""x""#, "null", "true"] {
        rows.push(row(with("x/unknown", params), "7", error(-32601, "")).only(LEGACY));
    }
    rows
}

fn meta() -> Vec<Row> {
    let with = |meta: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"x","_meta":{meta}}}}}"#
        )
    };
    let mut rows = Vec::new();
    for meta in ["5", r#""x""#, "[]", "true", "[{}]"] {
        rows.push(row(with(meta), "7", misfit("params._meta")));
    }
    rows.push(row(with("null"), "7", Served).only(LEGACY));
    for token in ["1.5", "true", "[]", "{}", "1e3", "1e40"] {
        let meta = format!(r#"{{$i,"progressToken":{token}}}"#);
        rows.push(row(with(&meta), "7", misfit("params._meta.progressToken")));
    }
    for token in [r#""""#, "0", "-1", "9007199254740993", r#""a""#] {
        let meta = format!(r#"{{$i,"progressToken":{token}}}"#);
        rows.push(row(with(&meta), "7", Served));
    }
    rows.push(row(with(r#"{$i,"":null,"a":{"b":[1,{}]}}"#), "7", Served));
    for (member, value, answer) in [
        ("protocolVersion", "5", misfit("protocolVersion")),
        (
            "protocolVersion",
            "\"1999-01-01\"",
            error(-32022, "Unsupported"),
        ),
        ("clientCapabilities", "5", misfit("clientCapabilities")),
        ("clientCapabilities", "[]", misfit("clientCapabilities")),
        // It is optional, and for display only.
        ("clientInfo", "5", Served),
        ("clientInfo", "{}", Served),
    ] {
        let name = format!("io.modelcontextprotocol/{member}");
        let mut meta: serde_json::Map<_, _> =
            serde_json::from_str(&format!("{{{}}}", super::MODERN_META)).unwrap();
        meta.insert(name, serde_json::from_str(value).unwrap());
        let meta = serde_json::Value::Object(meta).to_string();
        rows.push(row(with(&meta), "7", answer).only(MODERN));
    }
    rows
}

/// Messages without an id. JSON-RPC 2.0, section 4.1: they are not answered.
fn notifications() -> Vec<Row> {
    let with = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
    };
    [
        with("tools/list", "{$m}"),
        with("tools/call", r#"{$m,"name":"x"}"#),
        with("tools/call", r#"{$m,"name":5}"#),
        with("tools/call", "[]"),
        with("x/unknown", "{}"),
        with("x/unknown", "[1]"),
        with("x/unknown", "5"),
        with("", "{}"),
        with("notifications/unknown", "null"),
        with("notifications/initialized", "[]"),
        with("notifications/initialized", r#"{"x":1}"#),
        with("notifications/roots/list_changed", "5"),
        with("notifications/progress", "{}"),
        with(
            "notifications/progress",
            r#"{"progressToken":"t","progress":"3"}"#,
        ),
        with(
            "notifications/progress",
            r#"{"progressToken":{},"progress":3}"#,
        ),
        with(
            "notifications/progress",
            r#"{"progressToken":"t","progress":1e999}"#,
        ),
        with("notifications/cancelled", "{}"),
        with("notifications/cancelled", "null"),
        with("notifications/cancelled", r#""hold""#),
        with("notifications/cancelled", r#"["hold"]"#),
        with("notifications/cancelled", r#"{"requestId":null}"#),
        with("notifications/cancelled", r#"{"requestId":{"id":"hold"}}"#),
        with("notifications/cancelled", r#"{"requestId":["hold"]}"#),
        with("notifications/cancelled", r#"{"requestId":900,"reason":5}"#),
        with("notifications/cancelled", r#"{"requestId":1.5}"#),
        with("notifications/cancelled", r#"{"requestId":"other"}"#),
        with("notifications/cancelled", r#"{"request_id":"hold"}"#),
        with("notifications/x", &nested(200)),
        with(
            "notifications/progress",
            &format!(
                r#"{{"progressToken":"t","progress":1,"x":{}}}"#,
                nested(200)
            ),
        ),
        with("notifications/tools/list_changed", "{}"),
    ]
    .map(|message| row(message, "", Nothing))
    .into()
}

/// Answers to no request.
fn answers() -> Vec<Row> {
    let mut rows: Vec<_> = [
        r#"{"jsonrpc":"2.0","id":99,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":"hold","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":"hold","result":null}"#,
        r#"{"jsonrpc":"2.0","id":99,"result":5}"#,
        r#"{"jsonrpc":"2.0","id":1.5,"result":[]}"#,
        r#"{"jsonrpc":"2.0","id":99,"error":{"code":-1,"message":"m"}}"#,
        r#"{"jsonrpc":"2.0","id":"hold","error":{"code":-1,"message":"m"}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"m"}}"#,
        r#"{"jsonrpc":"2.0","error":{"code":-1,"message":"m"}}"#,
        r#"{"jsonrpc":"2.0","id":"hold","error":"failed"}"#,
        r#"{"jsonrpc":"2.0","id":"hold","error":{"code":"x","message":5}}"#,
        r#"{"jsonrpc":"2.0","id":"hold","result":{"#,
    ]
    .map(|message| row(message, "", Nothing))
    .into();
    rows.push(row(
        r#"{"jsonrpc":"2.0","result":{}}"#,
        "",
        no_message("id"),
    ));
    rows.push(row(
        r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
        "",
        no_message("id"),
    ));
    rows.push(row(
        r#"{"jsonrpc":"2.0","id":[],"result":{}}"#,
        "",
        no_message("id"),
    ));
    let both = r#"{"jsonrpc":"2.0","id":99,"result":{},"error":{"code":-1,"message":"m"}}"#;
    rows.push(row(both, "99", no_message("result")));
    rows
}

/// Arrays in arrays.
pub(super) fn nested(depth: usize) -> String {
    format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth))
}

/// JSON of more levels than a value may have here: 128.
fn deep() -> Vec<Row> {
    let request = |member: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{{$m}},"x":{member}}}"#)
    };
    let mut rows = Vec::new();
    for depth in [200, 100_000] {
        rows.push(row(with_arguments(&nested(depth)), "7", misfit("params")));
        rows.push(row(request(&nested(depth)), "7", Served));
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        rows.push(row(
            with_id(&format!("{open}{close}")),
            "",
            no_message("id"),
        ));
        let method = format!(r#"{{"jsonrpc":"2.0","id":7,"method":{open}{close}}}"#);
        rows.push(row(method, "7", no_message("method")));
        rows.push(row(format!("{open}{close}"), "", no_message("")));
        rows.push(row(&open, "", no_json()));
        let cut = format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{}"#,
            r#"{"a":"#.repeat(depth)
        );
        rows.push(row(cut, "7", no_json()));
        let meta = format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"x","_meta":{}}}}}"#,
            nested(depth)
        );
        rows.push(row(meta, "7", misfit("params._meta")));
        let custom = format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"x/unknown","params":{}}}"#,
            nested(depth)
        );
        rows.push(row(custom, "7", misfit("params")));
    }
    rows.push(row(with_arguments(&nested(100)), "7", Served));
    rows
}

/// Text and numbers that Rust's types do not have.
fn text() -> Vec<Row> {
    let mut rows: Vec<_> = [
        r#"{"a":"cut \ud83d here"}"#,
        r#"{"a":"\udc00\ud800"}"#,
        r#"{"\ud800":1}"#,
        r#"{"a":"\u0000"}"#,
        r#"{"\u0000":"\u0000"}"#,
        r#"{"a":18446744073709551616,"b":-9223372036854775809}"#,
        r#"{"a":0.1000000000000000055511151231257827,"b":1e-400}"#,
        r#"{"a":-0,"b":-0.0,"c":1E5}"#,
        r#"{"":{"":[{}]}}"#,
        "{\"a\":\"\u{feff}\u{2028}\u{fffe}\"}",
    ]
    .map(|arguments| row(with_arguments(arguments), "7", Served))
    .into();
    let bytes = with_arguments(r#"{"a":"?","b":"?"}"#).into_bytes();
    let bytes: Vec<_> = bytes
        .into_iter()
        .map(|b| if b == b'?' { 0xff } else { b })
        .collect();
    rows.push(row(bytes, "7", Served));
    rows.push(row(with_id("\"cut \\ud83d\""), "\"cut \u{fffd}\"", Served));
    rows.push(row(format!("\u{feff}{}", with_id("7")), "7", Served));
    rows.push(row(format!(" \t{}\r", with_id("7")), "7", Served));
    let huge = format!("1{}", "0".repeat(400));
    for number in ["1e999", "-1e999", &huge] {
        let message = with_arguments(&format!(r#"{{"a":{number}}}"#));
        rows.push(row(message, "7", misfit("params")));
    }
    rows
}

/// Members that are given twice.
fn twice() -> Vec<Row> {
    let mut rows = Vec::new();
    for (members, at) in [
        (r#""method":"tools/list","method":"tools/list""#, "method"),
        (r#""method":"tools/list","method":"tools/call""#, "method"),
        (
            r#""method":"tools/list","params":{$m},"params":{$m}"#,
            "params",
        ),
    ] {
        let message = format!(r#"{{"jsonrpc":"2.0","id":7,{members}}}"#);
        rows.push(row(message, "7", no_message(at)));
    }
    for (params, path) in [
        (r#"{$m,"name":"x","name":"x"}"#, "params"),
        (
            r#"{$m,"name":"x","arguments":{},"arguments":{"a":1}}"#,
            "params",
        ),
        (r#"{$m,$m,"name":"x"}"#, "params"),
    ] {
        let message =
            format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}"#);
        rows.push(row(message, "7", misfit(path)));
    }
    // A header can mirror one of them only.
    let names =
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","name":"y"}}"#;
    rows.push(row(names, "7", misfit("params")).only(LEGACY));
    rows.push(row(with_id(r#"7,"x":1,"x":2"#), "7", Served));
    rows
}

/// Messages beyond the limit.
fn long() -> Vec<Row> {
    let long = "x".repeat(TOO_LONG);
    let call = with_arguments(&format!(r#"{{"a":"{long}"}}"#));
    let call_by = |id: &str| {
        format!(
            r#"{{"method":"tools/call","params":{{"name":"x","arguments":{{"a":"{long}"}}}},"jsonrpc":"2.0","id":{id}}}"#
        )
    };
    let told = r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"a":""#;
    let rows = [
        row(call, "7", no_message("16777216")),
        row(call_by("1.5"), "1.5", no_message("16777216")),
        row(call_by("{}"), "", no_message("16777216")),
        row(call_by(r#"7,"id":8"#), "", no_message("16777216")),
        row(&long, "", no_message("16777216")),
        row(format!(r#"{told}{long}"}}}}"#), "", Nothing),
        row(format!("[{long}]"), "", no_message("16777216")),
    ];
    // The revision makes no difference, and the messages take time.
    rows.map(|row| row.only(LEGACY)).into()
}
