//! Properties of cuts.

use std::sync::Arc;

use proptest::prelude::*;
use rmcp::model::{
    CallToolResult, ContentBlock, ReadResourceResult, Resource, ResourceContents, ServerResult,
};
use serde_json::{Value, json};

use super::{parts::Parts, shrink::NOTE_MEMBER, *};
use crate::{
    McpRequest,
    budget::{MediaTokens, ResultLimits, TokenCounter, Tokenizer},
    caller::Era,
    wire::{
        Reading, Source,
        answers::{Expected, ReadResult},
    },
};

const MODEL: &str = "gpt-5";

fn fitter(policy: FitPolicy) -> Fitter {
    let counter = Arc::new(Tokenizer::for_model(MODEL));
    let media = MediaTokens::for_model(MODEL);
    Fitter::new(counter, media, ResultLimits::default(), policy)
}

fn count(text: &str) -> usize {
    Tokenizer::for_model(MODEL).count(text)
}

fn rest() -> Rest {
    Rest {
        note: "Call `read_result` with id \"r1\" for the rest.".to_owned(),
        uri: Some("result://r1".to_owned()),
    }
}

fn to_fit(result: impl Into<ServerResult>, share: usize, schema: Option<Value>) -> ToFit {
    let schema = schema.map(|schema| Arc::new(OutputSchema::new(schema)));
    let result = Lossless::new(result.into());
    let rest = Some(rest());
    ToFit {
        result,
        share,
        schema,
        rest,
    }
}

/// Returns the cost of a result, counted anew.
fn cost(result: &Lossless<ServerResult>) -> usize {
    let parts = Parts::of(result, &MediaTokens::for_model(MODEL));
    let repeats = parts.repeats(&ResultLimits::default());
    let counter = Tokenizer::for_model(MODEL);
    parts.measure(&repeats, usize::MAX, &counter).sum.tokens
}

async fn fitted(policy: FitPolicy, to_fit: ToFit) -> Fitted {
    let share = to_fit.share;
    let fitted = fitter(policy).fit(to_fit).await.unwrap();
    assert_eq!(fitted.cost, cost(&fitted.result), "{:?}", fitted.result);
    if fitted.cut.is_some() {
        assert!(
            fitted.cost <= share,
            "{} of {share}: {:?}",
            fitted.cost,
            fitted.result
        );
    }
    fitted
}

fn tool(result: &Lossless<ServerResult>) -> &CallToolResult {
    match &**result {
        ServerResult::CallToolResult(tool) => tool,
        other => panic!("no tool result: {other:?}"),
    }
}

fn texts(result: &Lossless<ServerResult>) -> Vec<&str> {
    let blocks = tool(result).content.iter();
    blocks
        .filter_map(|block| Some(block.as_text()?.text.as_str()))
        .collect()
}

fn links(result: &Lossless<ServerResult>) -> Vec<&Resource> {
    let links = tool(result).content.iter().filter_map(|block| match block {
        ContentBlock::ResourceLink(link) => Some(link),
        _ => None,
    });
    links.collect()
}

fn structured(value: Value) -> CallToolResult {
    let mut result = CallToolResult::success(vec![ContentBlock::text(value.to_string())]);
    result.structured_content = Some(value);
    result
}

fn rows(count: usize) -> Value {
    let row = |id: usize| json!({ "id": id, "name": format!("row {id}"), "tags": ["a", "b"] });
    json!({ "total": count, "rows": (0..count).map(row).collect::<Vec<_>>() })
}

fn rows_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "total": { "type": "integer" },
            "rows": {
                "type": "array",
                "minItems": 3,
                "items": {
                    "type": "object",
                    "properties": { "id": { "type": "integer" }, "name": { "type": "string" } },
                    "required": ["id", "name"],
                },
            },
        },
        "required": ["total", "rows"],
    })
}

#[tokio::test]
async fn a_result_within_its_share_stays_as_it_came() {
    let result = structured(rows(3));
    let fitted = fitted(FitPolicy::default(), to_fit(result.clone(), 1_000, None)).await;
    assert_eq!(tool(&fitted.result), &result);
    assert_eq!(fitted.cost, count(&rows(3).to_string()));
    assert!(fitted.cut.is_none());
}

#[tokio::test]
async fn plain_text_is_cut_with_a_note_and_a_link() {
    let text = "A line of a long text.\n".repeat(2_000);
    let result = CallToolResult::success(vec![ContentBlock::text(text.as_str())]);
    let fitted = fitted(FitPolicy::default(), to_fit(result, 500, None)).await;
    let total = count(&text);
    let [now] = texts(&fitted.result)[..] else {
        panic!("{:?}", fitted.result);
    };
    let (kept, note) = now.split_once("[TRUNCATED: ").unwrap();
    assert!(text.starts_with(kept) && kept.len() > 1_400, "{now}");
    assert!(
        note.contains(" tokens → ") && note.ends_with("id \"r1\" for the rest.]"),
        "{note}"
    );
    assert_eq!(links(&fitted.result)[0].uri, "result://r1");
    let cut = fitted.cut.unwrap();
    assert!(
        cut.is_estimate && cut.total.abs_diff(total) < total / 20,
        "{}",
        cut.total
    );
    assert_eq!(texts(&cut.original), [text]);
}

#[tokio::test]
async fn json_text_is_minified_before_anything_is_lost() {
    let pretty = serde_json::to_string_pretty(&rows(40)).unwrap();
    let share = count(&rows(40).to_string()) + 200;
    assert!(count(&pretty) > share);
    let result = CallToolResult::success(vec![ContentBlock::text(pretty)]);
    let fitted = fitted(FitPolicy::default(), to_fit(result, share, None)).await;
    assert_eq!(texts(&fitted.result)[0], rows(40).to_string());
}

#[tokio::test]
async fn json_text_is_cut_by_its_structure_and_stays_json() {
    let pretty = serde_json::to_string_pretty(&rows(900)).unwrap();
    let result = CallToolResult::success(vec![ContentBlock::text(pretty)]);
    let fitted = fitted(FitPolicy::default(), to_fit(result, 2_000, None)).await;
    let texts = texts(&fitted.result);
    let now: Value = serde_json::from_str(texts[0]).unwrap();
    assert_eq!(now["total"], 900);
    let kept = now["rows"].as_array().unwrap();
    assert_eq!(
        kept[..],
        rows(900)["rows"].as_array().unwrap()[..kept.len()]
    );
    assert!(fitted.cost > 1_700, "{}", fitted.cost);
    let said = format!("{} of 900 items of /content/0/text/rows", kept.len());
    assert!(texts[1].contains(&said), "{}", texts[1]);
}

#[tokio::test]
async fn structured_content_stays_valid_and_its_text_repeats_it() {
    let schema = rows_schema();
    let to_fit = to_fit(structured(rows(900)), 1_000, Some(schema.clone()));
    let fitted = fitted(FitPolicy::default(), to_fit).await;
    let now = tool(&fitted.result).structured_content.as_ref().unwrap();
    assert!(OutputSchema::new(schema).is_valid(now));
    assert!(
        now[NOTE_MEMBER]
            .as_str()
            .unwrap()
            .starts_with("[TRUNCATED: "),
        "{now}"
    );
    assert!(now["rows"].as_array().unwrap().len() > 20, "{now}");
    let text: Value = serde_json::from_str(texts(&fitted.result)[0]).unwrap();
    assert_eq!(text, *now);
    assert!(texts(&fitted.result)[1].starts_with("[TRUNCATED: "));
}

#[tokio::test]
async fn what_a_cut_does_not_change_leaves_as_it_came() {
    let rows: Vec<String> = (0..900)
        .map(|id| format!("{{\"id\":{id},\"n\":1.500e400}}"))
        .collect();
    let text = format!(
        "{{\"x\":1.50,\"content\":[{{\"type\":\"text\",\"text\":\"kept\",\"y\":1e999}}],\
         \"structuredContent\":{{\"total\":900.00,\"rows\":[{}]}},\"isError\":false}}",
        rows.join(",")
    );
    let request = McpRequest::call_tool("rows").build();
    let reading = ReadResult {
        expected: Expected::of(&request.message),
        era: Era::Modern,
    };
    let result = reading.read(text.as_bytes()).unwrap();
    let source = Source::new(text.into(), Reading::Result(reading));
    let mut to_fit = to_fit(result.clone(), 1_000, None);
    to_fit.result = Lossless::from_source(result, Some(source));
    let fitted = fitted(FitPolicy::default(), to_fit).await;
    let now = String::from_utf8(fitted.result.text().unwrap().to_vec()).unwrap();
    let start = r#"{"x":1.50,"content":[{"type":"text","text":"kept","y":1e999},{"type":"text","#;
    assert!(now.starts_with(start), "{now}");
    let rows = r#""structuredContent":{"total":900.00,"rows":[{"id":0,"n":1.500e400},{"id":1,"#;
    assert!(
        now.contains(rows) && now.ends_with(r#""isError":false}"#),
        "{now}"
    );
}

#[tokio::test]
async fn a_schema_that_permits_no_cut_leads_to_a_tool_error_or_to_text_alone() {
    let fixed = json!({
        "type": "object",
        "properties": { "rows": { "type": "array", "minItems": 900, "items": {
            "required": ["id", "name", "tags"],
        } } },
        "required": ["rows"],
    });
    let (result, schema) = (structured(rows(900)), Some(fixed));
    let mut alone = result.clone();
    alone.content.clear();
    let error = FitPolicy::default();
    let fitted_error = fitted(error, to_fit(result.clone(), 1_000, schema.clone())).await;
    let now = tool(&fitted_error.result);
    assert_eq!(now.is_error, Some(true));
    assert!(now.structured_content.is_none());
    assert!(fitted_error.cut.unwrap().became_error && now.content.len() >= 2);

    let dropping = FitPolicy {
        on_misfit: OnSchemaMisfit::DropStructured,
        ..FitPolicy::default()
    };
    let text_alone = fitted(dropping, to_fit(result, 1_000, schema.clone())).await;
    let now = tool(&text_alone.result);
    assert_ne!(now.is_error, Some(true));
    assert!(now.structured_content.is_none());
    assert!(serde_json::from_str::<Value>(texts(&text_alone.result)[0]).is_ok());
    assert!(text_alone.cut.unwrap().dropped_structured);

    let fitted = fitted(dropping, to_fit(alone, 1_000, schema)).await;
    let now: Value = serde_json::from_str(texts(&fitted.result)[0]).unwrap();
    assert_eq!(now["total"], 900);
}

#[tokio::test]
async fn one_of_text_and_structured_content_is_dropped_if_so_configured() {
    for (repeated, has_structured, texts_count) in [
        (RepeatedText::Both, true, 2),
        (RepeatedText::Structured, true, 1),
        (RepeatedText::Text, false, 2),
    ] {
        let policy = FitPolicy {
            repeated,
            ..FitPolicy::default()
        };
        let fitted = fitted(policy, to_fit(structured(rows(900)), 1_000, None)).await;
        let now = tool(&fitted.result);
        assert_eq!(
            now.structured_content.is_some(),
            has_structured,
            "{repeated:?}"
        );
        assert_eq!(texts(&fitted.result).len(), texts_count, "{repeated:?}");
        assert_ne!(now.is_error, Some(true));
    }
}

#[tokio::test]
async fn text_repeats_structured_content_in_several_forms() {
    let value = rows(40);
    let list = json!({ "result": value["rows"] });
    let pretty = serde_json::to_string_pretty(&value).unwrap();
    let sorted = json!({ "rows": value["rows"], "total": 40 });
    let each = value["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(Value::to_string);
    for (texts, structured) in [
        (vec![pretty], value.clone()),
        (vec![sorted.to_string()], value.clone()),
        (vec![value["rows"].to_string()], list.clone()),
        (each.collect(), list),
        (vec!["a text".to_owned()], json!({ "result": "a text" })),
    ] {
        let once =
            count(&structured.to_string()).max(texts.iter().map(|text| count(text)).max().unwrap());
        let blocks = texts.into_iter().map(ContentBlock::text);
        let mut result = CallToolResult::success(blocks.collect());
        result.structured_content = Some(structured);
        let fitted = fitted(FitPolicy::default(), to_fit(result, 10_000, None)).await;
        assert_eq!(fitted.cost, once);
    }
}

#[tokio::test]
async fn an_image_is_kept_whole_or_replaced_by_a_link() {
    let data = "A".repeat(100_000);
    let long = "word ".repeat(5_000);
    let blocks = vec![
        ContentBlock::image(data, "image/png"),
        ContentBlock::text(long),
    ];
    let result = CallToolResult::success(blocks);
    let kept = fitted(FitPolicy::default(), to_fit(result.clone(), 4_000, None)).await;
    assert!(matches!(
        tool(&kept.result).content[0],
        ContentBlock::Image(_)
    ));
    let replaced = fitted(FitPolicy::default(), to_fit(result, 1_000, None)).await;
    let links = links(&replaced.result);
    assert_eq!(links[0].uri, "result://r1?pointer=/content/0");
    assert_eq!(links[0].mime_type.as_deref(), Some("image/png"));
    assert!(replaced.cost > 700, "{}", replaced.cost);
}

#[tokio::test]
async fn many_small_blocks_keep_the_first_ones() {
    let blocks = (0..5_000).map(|index| ContentBlock::text(format!("block {index}")));
    let result = CallToolResult::success(blocks.collect());
    let fitted = fitted(FitPolicy::default(), to_fit(result, 1_000, None)).await;
    let texts = texts(&fitted.result);
    assert!(
        texts.len() > 150 && texts[0] == "block 0",
        "{}",
        texts.len()
    );
    let said = format!("{} of 5000 parts of /content", texts.len() - 1);
    assert!(texts.last().unwrap().contains(&said), "{:?}", texts.last());
}

#[tokio::test]
async fn errors_tasks_and_views_of_apps_are_never_cut() {
    let long = "word ".repeat(5_000);
    let error = CallToolResult::error(vec![ContentBlock::text(long.as_str())]);
    let fitted_error = fitted(FitPolicy::default(), to_fit(error.clone(), 1_000, None)).await;
    assert_eq!(tool(&fitted_error.result), &error);
    assert!(fitted_error.cost > 1_000 && fitted_error.cut.is_none());

    let view = ReadResourceResult::new(vec![ResourceContents::text(long, "ui://view")]);
    let fitted = fitted(FitPolicy::default(), to_fit(view.clone(), 1_000, None)).await;
    assert!(matches!(&*fitted.result, ServerResult::ReadResourceResult(read) if *read == view));
    assert_eq!((fitted.cost, fitted.cut.is_none()), (0, true));
}

#[tokio::test]
async fn a_resource_is_cut_in_place() {
    let long = "A line of a long text.\n".repeat(2_000);
    for (contents, has_text) in [
        (ResourceContents::text(long, "file:///log"), true),
        (
            ResourceContents::text(rows(2_000).to_string(), "file:///rows"),
            true,
        ),
        (
            ResourceContents::blob("A".repeat(100_000), "file:///blob"),
            false,
        ),
    ] {
        let result = ReadResourceResult::new(vec![contents]);
        let fitted = fitted(FitPolicy::default(), to_fit(result, 800, None)).await;
        let ServerResult::ReadResourceResult(read) = &*fitted.result else {
            panic!("{:?}", fitted.result);
        };
        let ResourceContents::TextResourceContents { text, .. } = &read.contents[0] else {
            panic!("{read:?}");
        };
        assert!(text.contains("[TRUNCATED: "), "{text}");
        assert!((fitted.cost > 600) == has_text, "{}: {text}", fitted.cost);
    }
}

#[tokio::test]
async fn a_result_beyond_the_limits_is_refused_and_returned() {
    let blocks = (0..10_001).map(|_| ContentBlock::text("x"));
    let result = CallToolResult::success(blocks.collect());
    let unfit = fitter(FitPolicy::default())
        .fit(to_fit(result, 100, None))
        .await
        .unwrap_err();
    assert_eq!(
        unfit.reason,
        UnfitReason::TooManyBlocks {
            found: 10_001,
            max: 10_000
        }
    );
    assert_eq!(tool(&unfit.original.unwrap()).content.len(), 10_001);

    let result = CallToolResult::success(vec![ContentBlock::text("word ".repeat(1_000))]);
    let unfit = fitter(FitPolicy::default())
        .fit(to_fit(result, 10, None))
        .await
        .unwrap_err();
    assert_eq!(unfit.reason, UnfitReason::NoRoom { share: 10 });
}

#[tokio::test]
async fn a_counter_that_panics_fails_the_result_and_no_other() {
    struct Failing;
    impl TokenCounter for Failing {
        fn count(&self, _text: &str) -> usize {
            panic!("the counter is broken")
        }
    }
    let media = MediaTokens::for_model(MODEL);
    let fitter = Fitter::new(
        Arc::new(Failing),
        media,
        ResultLimits::default(),
        FitPolicy::default(),
    );
    for _ in 0..8 {
        let result = CallToolResult::success(vec![ContentBlock::text("word ".repeat(5_000))]);
        let unfit = fitter.fit(to_fit(result, 10, None)).await.unwrap_err();
        assert_eq!(unfit.reason, UnfitReason::CounterFailed);
    }
}

/// Any JSON, with strings of several scripts.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
        ("[a-z日本é😀\"\\\\\n]{1,8}", 1_usize..400).prop_map(|(part, n)| part.repeat(n).into()),
    ];
    leaf.prop_recursive(5, 200, 12, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..12).prop_map(Value::from),
            proptest::collection::vec(("[a-z/~\"]{1,6}", inner), 0..12)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_policy() -> impl Strategy<Value = FitPolicy> {
    let kept = prop_oneof![
        Just(KeptText::Head),
        Just(KeptText::Tail),
        Just(KeptText::Both)
    ];
    let repeated = prop_oneof![
        Just(RepeatedText::Both),
        Just(RepeatedText::Structured),
        Just(RepeatedText::Text)
    ];
    let on_misfit = prop_oneof![
        Just(OnSchemaMisfit::ToolError),
        Just(OnSchemaMisfit::DropStructured)
    ];
    (kept, repeated, on_misfit).prop_map(|(kept_text, repeated, on_misfit)| FitPolicy {
        kept_text,
        repeated,
        on_misfit,
        charge: Charge::Count,
    })
}

/// Returns a schema that a value satisfies, and that fixes some of its parts.
fn schema_of(value: &Value, seed: u64) -> Value {
    let fixes = seed.is_multiple_of(3);
    match value {
        Value::Object(members) => {
            let inner = members.iter().zip(1..);
            let properties: serde_json::Map<_, _> = inner
                .map(|((name, value), index)| (name.clone(), schema_of(value, seed / 3 + index)))
                .collect();
            let required = members
                .keys()
                .enumerate()
                .filter(|(index, _)| index % 2 == 0 || fixes);
            let required: Vec<_> = required.map(|(_, name)| name).collect();
            json!({
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": !fixes,
            })
        }
        Value::Array(elements) => {
            let min = if fixes { elements.len().min(3) } else { 0 };
            json!({ "type": "array", "minItems": min })
        }
        Value::String(text) if fixes => json!({ "type": "string", "enum": [text] }),
        Value::String(text) if seed % 3 == 1 => {
            json!({ "type": "string", "maxLength": text.chars().count(), "minLength": 0 })
        }
        Value::String(_) => json!({ "type": "string" }),
        _ => json!({}),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn cut_text_is_within_its_share_and_consists_of_the_original(
        parts in proptest::collection::vec("\\PC{0,200}|[=\n ]{0,300}|[日本語😀👩‍👩‍👧]{0,100}", 1..30),
        share in 150_usize..2_000,
        policy in any_policy(),
    ) {
        let text = parts.join("\n");
        let counter = Tokenizer::for_model(MODEL);
        if let Some(cut) = super::text::cut(&text, policy.kept_text, "[NOTE]", share, &counter) {
            prop_assert!(cut.tokens <= share);
            prop_assert_eq!(counter.count(&cut.text), cut.tokens);
            let (head, tail) = (&text[..cut.head], &text[text.len() - cut.tail..]);
            prop_assert!(cut.text.starts_with(head) && cut.text.ends_with(tail));
            let rest = &text[cut.head..text.len() - cut.tail];
            prop_assert_eq!(format!("{head}{rest}{tail}"), text);
        }
    }

    #[test]
    fn a_cut_result_is_valid_and_within_its_share(
        value in any_json(),
        more in "\\PC{0,2000}",
        repeats in any::<bool>(),
        share in 200_usize..1_500,
        policy in any_policy(),
        seed in any::<u64>(),
        has_schema in any::<bool>(),
    ) {
        let text = if repeats { serde_json::to_string_pretty(&value).unwrap() } else { more };
        let schema = has_schema.then(|| schema_of(&value, seed));
        let mut result = CallToolResult::success(vec![ContentBlock::text(text.as_str())]);
        result.structured_content = Some(value.clone());
        let fitter = fitter(policy);
        let to_fit = to_fit(result, share, schema.clone());
        let fitted = fitter.fit_now(to_fit);
        let Ok(fitted) = fitted else {
            return Err(TestCaseError::fail("no room"));
        };
        let now = tool(&fitted.result);
        prop_assert!(fitted.cost <= share, "{} of {}: {:?}", fitted.cost, share, now);
        prop_assert_eq!(fitted.cost, cost(&fitted.result));
        match (&now.structured_content, &schema) {
            (Some(structured), Some(schema)) => {
                prop_assert!(OutputSchema::new(schema.clone()).is_valid(structured));
            }
            (None, Some(_)) => prop_assert!(
                now.is_error == Some(true) || policy.on_misfit == OnSchemaMisfit::DropStructured
            ),
            _ => {}
        }
        if let Some(cut) = fitted.cut {
            prop_assert_eq!(tool(&cut.original).structured_content.as_ref(), Some(&value));
            prop_assert_eq!(texts(&cut.original), [text]);
        }
    }

    #[test]
    fn json_text_stays_json(value in any_json(), share in 120_usize..1_000, policy in any_policy()) {
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let result = CallToolResult::success(vec![ContentBlock::text(pretty)]);
        if let Ok(fitted) = fitter(policy).fit_now(to_fit(result, share, None)) {
            prop_assert!(fitted.cost <= share);
            let text = texts(&fitted.result)[0];
            let is_json = serde_json::from_str::<Value>(text).is_ok();
            // A single number or string is text like any.
            prop_assert!(is_json || !(value.is_object() || value.is_array()), "{}", text);
        }
    }
}
