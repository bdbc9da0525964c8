//! Properties of cuts.

use proptest::prelude::*;

use super::*;

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
        if let Some(cut) = text::cut(&text, policy.kept_text, "[NOTE]", share, &counter) {
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
