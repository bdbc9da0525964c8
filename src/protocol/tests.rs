//! The tables against the specification, and against rmcp's types.

use rmcp::model::{ClientNotification, ClientRequest, ServerNotification, ServerResult};
use serde_json::{Value, json};

use super::{
    lists::ListKind,
    methods::{self, Effect, Method},
    notifications,
    results::{self, Empty},
    target::TargetKind,
};

#[allow(
    dead_code,
    reason = "tests over real transports use the rest of the list"
)]
#[expect(unreachable_pub, reason = "a test binary shares the file")]
#[path = "../../tests/common/specification.rs"]
mod specification;

fn params(of: &specification::Method) -> Value {
    serde_json::from_str(&format!("{{{}}}", of.params)).unwrap()
}

/// A request of this method, read by rmcp.
fn request(of: &specification::Method) -> ClientRequest {
    let request = json!({ "method": of.name, "params": params(of) });
    serde_json::from_value(request).unwrap()
}

fn result(of: &specification::Method, method: Method) -> ServerResult {
    let empty = matches!(method.empty_result(), Empty::Object);
    let text = match empty {
        true => "{}".to_owned(),
        false => format!(r#"{{"resultType":"complete",{}}}"#, of.result),
    };
    let mut from = serde_json::Deserializer::from_str(&text);
    let read = method.read_result(&mut from);
    read.unwrap_or_else(|error| panic!("{method:?}: {error}"))
}

/// The methods of the specification, with their rows in the table.
fn rows() -> impl Iterator<Item = (&'static specification::Method, Method)> {
    specification::METHODS.iter().map(|of| {
        let method = Method::named(of.name).unwrap_or_else(|| panic!("`{}` has no row", of.name));
        (of, method)
    })
}

#[test]
fn every_method_of_the_specification_has_a_row_and_no_other_has() {
    for (of, method) in rows() {
        assert_eq!(method.name(), of.name);
        assert_eq!(method.row().is_removed, of.is_removed, "{method:?}");
        let is_repeatable = method.row().effect != Effect::Acts;
        assert_eq!(is_repeatable, of.is_repeatable, "{method:?}");
        assert_eq!(method.has_cache_hints(), of.has_cache_hints, "{method:?}");
    }
    assert_eq!(Method::ALL.len(), specification::METHODS.len());
    assert_eq!(Method::named("tools/run"), None);
}

#[test]
fn every_method_reads_to_its_own_request() {
    for (of, method) in rows() {
        let read = request(of);
        assert_eq!(Method::of(&read), Some(method), "by rmcp");
        assert_eq!(read.method(), method.name());
        let read = method.read_request(&params(of)).unwrap();
        assert_eq!(Method::of(&read), Some(method), "by the table");
    }
}

#[test]
fn every_result_reads_to_the_result_of_its_own_method() {
    for (of, method) in rows() {
        let result = result(of, method);
        assert!(method.has_result(&result), "{method:?} {result:?}");
        if let Empty::Result(empty) = method.empty_result() {
            let empty = method.read_result(empty()).unwrap();
            assert!(method.has_result(&empty), "{method:?} {empty:?}");
        }
    }
}

#[test]
fn the_columns_of_a_row_agree() {
    for (of, method) in rows() {
        let (row, mut request, mut result) = (method.row(), request(of), result(of, method));
        let target = methods::target(&request).map(|target| target.name.to_owned());
        assert_eq!(target.is_some(), row.target.is_some(), "{method:?}");
        assert_eq!(
            target.as_deref(),
            method.target_in(&params(of)),
            "{method:?}"
        );
        assert!(target.is_some() || !row.is_mirrored, "{method:?}");
        methods::set_target(&mut request, "other".to_owned());
        let other = methods::target(&request).map(|target| target.name);
        assert_eq!(other, row.target.map(|_| "other"), "{method:?}");
        // A whole list is read page by page, and only lists have items.
        let is_paged = methods::page_params(&request).is_some();
        assert_eq!(row.list, ListKind::of(&result), "{method:?}");
        assert_eq!(
            is_paged,
            row.list.is_some() && row.target.is_none(),
            "{method:?}"
        );
        assert_eq!(row.list.is_some(), is_list(&result), "{method:?}");
        let has_round = methods::round(&mut request).is_some();
        assert_eq!(has_round, row.has_rounds, "{method:?}");
        // A request that a server answers at once has no other effect.
        assert!(!row.is_quick || row.effect != Effect::Acts, "{method:?}");
        // `ttlMs` and `cacheScope` are found where they are on the wire.
        let mut json = serde_json::to_value(&result).unwrap();
        json["ttlMs"] = 5.into();
        json["cacheScope"] = "public".into();
        result = method.read_result(json).unwrap_or(result);
        let has_hints = matches!(results::cache_hints(&mut result), (Some(5), Some(_)));
        assert_eq!(has_hints, method.has_cache_hints(), "{method:?}");
        assert!(!has_hints || row.effect == Effect::Reads, "{method:?}");
    }
}

fn is_list(result: &ServerResult) -> bool {
    let json = serde_json::to_value(result).unwrap();
    [
        "tools",
        "prompts",
        "resources",
        "resourceTemplates",
        "skills",
    ]
    .iter()
    .any(|member| json.get(member).is_some_and(Value::is_array))
}

#[test]
fn a_completion_has_the_target_that_it_refers_to() {
    let params = |reference| json!({ "ref": reference, "argument": { "name": "a", "value": "" } });
    for (reference, kind) in [
        (
            json!({ "type": "ref/prompt", "name": "x" }),
            TargetKind::Prompt,
        ),
        (
            json!({ "type": "ref/resource", "uri": "x" }),
            TargetKind::Resource,
        ),
    ] {
        let read = Method::Complete.read_request(&params(reference)).unwrap();
        let target = methods::target(&read).unwrap();
        assert_eq!((target.kind, target.name), (kind, "x"));
    }
}

#[test]
fn a_later_round_is_a_request_with_answers_or_a_state() {
    for (of, method) in rows().filter(|(_, method)| method.row().has_rounds) {
        let mut read = request(of);
        assert!(!methods::is_later_round(&read), "{method:?}");
        let round = methods::round(&mut read).unwrap();
        *round.input_responses = Some(Default::default());
        assert!(methods::is_later_round(&read), "{method:?}");
        let round = methods::round(&mut read).unwrap();
        (*round.input_responses, *round.request_state) = (None, Some("s".to_owned()));
        assert!(methods::is_later_round(&read), "{method:?}");
    }
}

#[test]
fn a_misfit_is_named_by_its_path() {
    let params = json!({ "notifications": { "resourceSubscriptions": ["a", 5] } });
    let misfit = Method::Listen.read_request(&params).unwrap_err();
    assert_eq!(misfit.path, "params.notifications.resourceSubscriptions[1]");
    assert_eq!(misfit.why, "invalid type: integer `5`, expected a string");
    assert!(
        Method::Listen
            .read_request(&json!({ "notifications": {} }))
            .is_ok()
    );
}

#[test]
fn every_notification_of_the_specification_has_a_row_and_reads_to_its_own_type() {
    let mut all: Vec<_> = notifications::METHODS
        .iter()
        .flat_map(|(_, names)| *names)
        .collect();
    all.sort_unstable();
    let known = [
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/message",
        "notifications/progress",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/resources/updated",
        "notifications/roots/list_changed",
        "notifications/subscriptions/acknowledged",
        "notifications/tasks",
        "notifications/tools/list_changed",
    ];
    assert_eq!(all, known.iter().collect::<Vec<_>>());
    let params = json!({
        "requestId": 1, "progressToken": 1, "progress": 1, "level": "info", "data": 1,
        "uri": "u:x", "notifications": {}, "taskId": "t", "status": "working",
        "createdAt": "2026-01-01T00:00:00Z", "lastUpdatedAt": "2026-01-01T00:00:00Z",
        "ttlMs": null,
    });
    for (side, names) in notifications::METHODS {
        for name in *names {
            let message = json!({ "method": name, "params": params });
            if *side != "server" {
                let read: ClientNotification = serde_json::from_value(message.clone()).unwrap();
                let is_custom = matches!(read, ClientNotification::CustomNotification(_));
                assert!(!is_custom, "{name} is a custom notification to rmcp");
                assert_eq!(notifications::client_method(&read), *name);
                assert!(notifications::is_of_client(name));
            }
            if *side != "client" {
                let read: ServerNotification = serde_json::from_value(message).unwrap();
                let is_custom = matches!(read, ServerNotification::CustomNotification(_));
                assert!(!is_custom, "{name} is a custom notification to rmcp");
            }
        }
    }
}

#[test]
fn a_change_of_a_list_is_asked_for_by_its_own_member() {
    use notifications::Change;
    use rmcp::model::SubscriptionFilter;
    for change in Change::ALL {
        let notification = change.notification();
        assert_eq!(Change::of(&notification), Some(change));
        let wanted: Vec<_> = [
            "toolsListChanged",
            "promptsListChanged",
            "resourcesListChanged",
        ]
        .into_iter()
        .filter(|member| {
            let filter = json!({ *member: true });
            let filter: SubscriptionFilter = serde_json::from_value(filter).unwrap();
            change.is_in(&filter)
        })
        .collect();
        let own = format!("{change:?}ListChanged").to_lowercase();
        assert_eq!(wanted.len(), 1);
        assert_eq!(wanted[0].to_lowercase(), own);
    }
}
