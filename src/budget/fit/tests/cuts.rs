//! Cuts of each kind of result.

use super::*;

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

    // The layer knows by its request that a resource is a view. Its contents may say so falsely.
    let contents = ResourceContents::text(long, "ui://view");
    let claimed = ReadResourceResult::new(vec![contents.clone()]);
    let cut = fitted(FitPolicy::default(), to_fit(claimed, 1_000, None)).await;
    assert!(cut.cut.is_some() && cut.cost > 0);

    let view = CallToolResult::success(vec![ContentBlock::resource(contents)]);
    let fitted = fitted(FitPolicy::default(), to_fit(view.clone(), 1_000, None)).await;
    assert_eq!(tool(&fitted.result), &view);
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

#[tokio::test]
async fn a_long_run_of_few_tokens_is_not_cut() {
    let run = "=".repeat(200_000);
    let result = CallToolResult::success(vec![ContentBlock::text(run.as_str())]);
    let whole = fitted(FitPolicy::default(), to_fit(result, 10_000, None)).await;
    assert!(whole.cut.is_none());
    assert_eq!(
        (whole.cost, texts(&whole.result)),
        (200_000 / 64, vec![&*run])
    );
}
