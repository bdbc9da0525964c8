//! The rest of a result that was cut.

use std::time::Duration;

use rmcp::model::*;
use rmcp_layers::{McpRequest, Upstream};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};

use super::{
    common::{Client, script::scripted_lines, soon, tool},
    office::*,
};

async fn cut(setup: &Setup, request: McpRequest) -> String {
    kept_id(&setup.ask(request).await.unwrap())
}

fn page(response: &rmcp_layers::McpResponse) -> Value {
    meta(response)["page"].clone()
}

/// Reads on by what each answer says, and returns all texts and the number of reads. Each read is in
/// a new window.
async fn read_all(setup: &Setup, mut arguments: Value) -> (String, usize) {
    let (mut all, mut reads) = (String::new(), 0);
    loop {
        let request = read(arguments);
        let conversation = setup.budget.conversation_of(&request).unwrap();
        setup.budget.reset(&conversation).await.unwrap();
        let response = setup.ask(request).await.unwrap();
        assert!(!is_error(&response), "{}", text(&response));
        let charged = report(&response).charged;
        assert!(charged <= USABLE * 3 / 10, "{charged}");
        all.push_str(&first(&response));
        reads += 1;
        assert!(reads < 1_000, "{}", page(&response));
        arguments = page(&response)["next"].clone();
        if arguments.is_null() {
            return (all, reads);
        }
    }
}

#[tokio::test]
async fn the_pages_of_a_kept_result_are_the_result_byte_for_byte() {
    let setup = Setup::new(layer().page_tokens(4_000));
    let id = cut(&setup, call("lines", 3_000)).await;
    let (all, reads) = read_all(&setup, json!({ "id": id })).await;
    assert_eq!(all, lines(3_000));
    assert!(reads > 5, "{reads}");
    assert_eq!(setup.budget.stats().reads, reads as u64);
}

#[tokio::test]
async fn reads_by_offset_are_the_result_byte_for_byte() {
    let setup = Setup::new(layer());
    let id = cut(&setup, call("lines", 2_000)).await;
    let (all, reads) = read_all(&setup, json!({ "id": id, "offset": 0, "limit": 5_001 })).await;
    assert_eq!(all, lines(2_000));
    assert!(reads >= lines(2_000).len() / 30_000, "{reads}");
}

#[tokio::test]
async fn a_page_says_where_it_is_and_how_to_go_on() {
    let setup = Setup::new(layer().page_tokens(1_000));
    let id = cut(&setup, call("lines", 2_000)).await;
    let response = setup
        .ask(read(json!({ "id": id, "page": 2 })))
        .await
        .unwrap();
    let says = page(&response);
    assert_eq!(
        (&says["page"], &says["next"]["page"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(says["total"], lines(2_000).len());
    let note = text(&response)[first(&response).len()..].to_owned();
    let of = &says["pages"];
    assert!(
        note.starts_with(&format!("[page 2 of {of}, bytes ")),
        "{note}"
    );
    assert!(
        note.ends_with(&format!(
            "Next: read_result {{\"id\":\"{id}\",\"page\":3}}]"
        )),
        "{note}"
    );
    let last = setup
        .ask(read(json!({ "id": id, "page": of })))
        .await
        .unwrap();
    assert_eq!(page(&last)["next"], Value::Null);
    assert!(lines(2_000).ends_with(&first(&last)));
}

#[tokio::test]
async fn a_read_without_a_range_is_one_page_and_never_all() {
    let setup = Setup::new(layer().page_tokens(1_000));
    let id = cut(&setup, call("lines", 5_000)).await;
    let response = setup.ask(read(json!({ "id": id }))).await.unwrap();
    assert!(
        report(&response).charged <= 1_500,
        "{}",
        report(&response).charged
    );
    assert_eq!(page(&response)["page"], 1);
    let uri = McpRequest::read_resource(format!("result://{id}"));
    let response = setup.ask(uri).await.unwrap();
    assert!(report(&response).charged <= 1_500);
}

#[tokio::test]
async fn a_result_is_read_by_its_uri_as_by_the_tool() {
    let setup = Setup::new(layer().page_tokens(1_500));
    let id = cut(&setup, call("lines", 1_000)).await;
    let (mut all, mut uri) = (String::new(), format!("result://{id}"));
    loop {
        let request = McpRequest::read_resource(uri.clone());
        let conversation = setup.budget.conversation_of(&request).unwrap();
        setup.budget.reset(&conversation).await.unwrap();
        let response = setup.ask(request).await.unwrap();
        let ServerResult::ReadResourceResult(read) = response.into_result() else {
            panic!("not a resource");
        };
        let ResourceContents::TextResourceContents {
            text,
            uri: read_uri,
            ..
        } = &read.contents[0]
        else {
            panic!("not a text");
        };
        assert_eq!(*read_uri, uri);
        all.push_str(text);
        match read.contents.get(1) {
            Some(ResourceContents::TextResourceContents { uri: next, .. }) => uri = next.clone(),
            _ => break,
        }
    }
    assert_eq!(all, lines(1_000));
}

#[tokio::test]
async fn resources_and_prompts_that_were_cut_are_kept_too() {
    let setup = Setup::new(layer());
    for request in [
        McpRequest::read_resource("file:///big"),
        McpRequest::get_prompt("story", JsonObject::new()),
    ] {
        let id = cut(&setup, request).await;
        let (all, _) = read_all(&setup, json!({ "id": id })).await;
        assert_eq!(all, lines(5_000));
    }
}

#[tokio::test]
async fn json_is_read_by_pointer() {
    let setup = Setup::new(layer());
    for request in [call("json", 2_000), call("items", 2_000)] {
        let id = cut(&setup, request).await;
        let item = read(json!({ "id": id, "pointer": "/items/1999/name" }));
        let item = setup.ask(item).await.unwrap();
        assert_eq!(first(&item), "item number 1999");
        let whole = read(json!({ "id": id, "pointer": "/items/7" }));
        let whole: Value = serde_json::from_str(&first(&setup.ask(whole).await.unwrap())).unwrap();
        assert_eq!(whole, json!({ "id": 7, "name": "item number 7" }));
        let nothing = read(json!({ "id": id, "pointer": "/items/2000" }));
        let nothing = setup.ask(nothing).await.unwrap();
        assert!(is_error(&nothing));
        assert!(
            text(&nothing).contains("it is an array of 2000 elements"),
            "{}",
            text(&nothing)
        );
    }
}

#[tokio::test]
async fn text_is_found_by_search() {
    let setup = Setup::new(layer());
    let id = cut(&setup, call("lines", 5_000)).await;
    let found = setup
        .ask(read(json!({ "id": id, "search": "line 4321:" })))
        .await
        .unwrap();
    let offset = lines(5_000).find("line 4321:").unwrap();
    assert!(
        first(&found).starts_with(&format!("offset {offset}: ")),
        "{}",
        first(&found)
    );
    assert_eq!(page(&found)["count"], 1);
    // More than one answer shows.
    let (mut all, mut arguments) = (0, json!({ "id": id, "search": "line 49" }));
    while !arguments.is_null() {
        let found = setup.ask(read(arguments)).await.unwrap();
        all += page(&found)["shown"].as_u64().unwrap();
        arguments = page(&found)["next"].clone();
    }
    assert_eq!(all, 111); // 49, 490 to 499 and 4900 to 4999
    let none = setup
        .ask(read(json!({ "id": id, "search": "nowhere" })))
        .await
        .unwrap();
    assert!(text(&none).contains("0 of 0 occurrences"));
}

#[tokio::test]
async fn wrong_reads_are_answered_with_the_remedy() {
    let setup = Setup::new(layer());
    let id = cut(&setup, call("lines", 2_000)).await;
    for (arguments, says) in [
        (json!({}), "give the `id`"),
        (
            json!({ "id": id, "page": 100_000 }),
            "there is no page 100000; the last page is",
        ),
        (json!({ "id": id, "offset": 10_000_000 }), "the text has"),
        (json!({ "id": id, "side": 1 }), "unknown field `side`"),
        (json!({ "id": "none" }), "there is no result with this id"),
    ] {
        let response = setup.ask(read(arguments)).await.unwrap();
        assert!(is_error(&response));
        assert!(text(&response).contains(says), "{}", text(&response));
        assert!(report(&response).charged > 0);
    }
    let request = McpRequest::read_resource(format!("result://{id}?page=100000"));
    let error = ErrorData::from(setup.ask(request).await.unwrap_err());
    assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
}

#[tokio::test]
async fn a_read_without_room_is_refused_as_a_call_is() {
    let setup = Setup::new(layer().max_fraction_of_tool("lines", 1.0));
    let id = cut(&setup, call("lines", 5_000)).await;
    let refused = setup.ask(read(json!({ "id": id }))).await.unwrap();
    assert!(
        is_error(&refused) && text(&refused).contains("used up"),
        "{}",
        text(&refused)
    );
}

#[tokio::test]
async fn a_page_that_costs_more_than_its_share_goes_on_where_it_ends() {
    let setup = Setup::new(layer().page_tokens(6_000));
    let id = cut(&setup, call("lines", 3_000)).await;
    setup.ask(call("lines", 3_000)).await.unwrap();
    let response = setup.ask(read(json!({ "id": id }))).await.unwrap();
    let says = page(&response);
    assert_eq!(says["next"]["offset"], says["end"], "{says}");
    assert_eq!(says["next"].get("page"), None);
    assert_eq!(
        first(&response),
        lines(3_000)[..says["end"].as_u64().unwrap() as usize]
    );
}

#[tokio::test]
async fn kept_results_expire_and_have_limits() {
    let builder = layer()
        .max_fraction(0.05)
        .kept_time_to_live(Duration::from_secs(60))
        .max_kept_bytes(400_000)
        .max_kept_item_bytes(200_000);
    let setup = Setup::new(builder);
    let size = lines(2_000).len();
    assert!((100_000..200_000).contains(&size), "{size}");
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(cut(&setup, call("lines", 2_000)).await);
    }
    let stats = setup.budget.stats();
    assert!(
        stats.kept_results < 4 && stats.kept_bytes <= 400_000,
        "{stats:?}"
    );
    assert!(is_error(
        &setup.ask(read(json!({ "id": ids[0] }))).await.unwrap()
    ));
    assert!(!is_error(
        &setup.ask(read(json!({ "id": ids[3] }))).await.unwrap()
    ));
    // Too long to be kept: it is cut, and promises nothing.
    let long = setup.ask(call("lines", 5_000)).await.unwrap();
    assert_eq!(meta(&long)["cut"].get("id"), None);
    assert!(!text(&long).contains("read_result"), "{}", text(&long));
}

#[tokio::test(start_paused = true)]
async fn a_kept_result_expires() {
    let setup = Setup::new(layer().kept_time_to_live(Duration::from_secs(60)));
    let id = cut(&setup, call("lines", 2_000)).await;
    tokio::time::advance(Duration::from_secs(61)).await;
    let late = setup.ask(read(json!({ "id": id }))).await.unwrap();
    assert!(is_error(&late) && text(&late).contains("there is no result with this id"));
    assert_eq!(setup.budget.stats().kept_results, 0);
}

#[tokio::test]
async fn without_kept_results_there_is_no_tool_and_no_resource() {
    let setup = Setup::new(layer().keep_results(false));
    let cut = setup.ask(call("lines", 5_000)).await.unwrap();
    assert!(!text(&cut).contains("read_result"));
    let listed = setup.ask(McpRequest::list_tools()).await.unwrap();
    let ServerResult::ListToolsResult(listed) = &*listed.result else {
        panic!("not a list");
    };
    assert!(listed.tools.iter().all(|tool| tool.name != "read_result"));
    // Its URIs are the server's own.
    let uri = "result://0123456789abcdef0123456789abcdef";
    setup.ask(McpRequest::read_resource(uri)).await.unwrap();
    assert_eq!(setup.office.events.count(uri), 1);
}

#[tokio::test]
async fn the_tool_has_the_name_that_it_is_given() {
    let setup = Setup::new(layer().read_tool("more".to_owned()));
    let cut = setup.ask(call("lines", 5_000)).await.unwrap();
    assert!(text(&cut).contains("Call more with"), "{}", text(&cut));
    let more = McpRequest::call_tool("more")
        .argument("id", kept_id(&cut))
        .build();
    assert!(!is_error(&setup.ask(more).await.unwrap()));
    let setup = Setup::new(layer().read_tool(None));
    let cut = setup.ask(call("lines", 5_000)).await.unwrap();
    let uri = format!("result://{}", kept_id(&cut));
    assert!(text(&cut).contains(&format!("Read the resource {uri} for the rest.")));
}

#[tokio::test]
async fn real_clients_of_both_eras_read_the_rest() {
    let setup = Setup::new(layer().page_tokens(3_000));
    let legacy = Client::legacy("legacy", setup.stack.clone()).await;
    let modern = Client::modern("modern", setup.stack.clone()).await;
    for client in [legacy, modern] {
        let listed = client.peer.list_all_tools().await.unwrap();
        assert_eq!(listed[0].name, "read_result");
        let cut = client.call(tool("lines", json!({ "count": 1_000 }))).await;
        let link = cut
            .content
            .iter()
            .find_map(|block| block.as_resource_link());
        let link = link.expect("a link to the full result").uri.clone();
        let says = cut.meta.as_ref().unwrap()["rmcp-layers/budget"].clone();
        assert_eq!(link, says["cut"]["uri"].as_str().unwrap());
        let read = client
            .call(tool("read_result", json!({ "id": says["cut"]["id"] })))
            .await;
        let text = &read.content[0].as_text().unwrap().text;
        assert!(lines(1_000).starts_with(text.as_str()) && !text.is_empty());
        let params = ReadResourceRequestParams::new(link);
        let read = client.peer.read_resource(params).await.unwrap();
        let ResourceContents::TextResourceContents { text: page, .. } = &read.contents[0] else {
            panic!("not a text");
        };
        assert!(lines(1_000).starts_with(page.as_str()) && !page.is_empty());
    }
}

#[tokio::test]
async fn a_blob_is_read_whole_if_it_fits_and_else_as_base64() {
    let setup = Setup::new(layer());
    for (bytes, is_whole) in [(300, true), (200_000, false)] {
        let id = cut(&setup, call("picture", bytes)).await;
        let conversation = setup.budget.conversation_of(&call("picture", 1)).unwrap();
        setup.budget.reset(&conversation).await.unwrap();
        let uri = format!("result://{id}?pointer=/content/2");
        let response = setup.ask(McpRequest::read_resource(uri)).await.unwrap();
        assert!(report(&response).charged <= USABLE * 3 / 10);
        let ServerResult::ReadResourceResult(read) = response.into_result() else {
            panic!("not a resource");
        };
        let data = data_encoding(bytes);
        match &read.contents[0] {
            ResourceContents::BlobResourceContents { blob, .. } => {
                assert!(is_whole && *blob == data);
            }
            ResourceContents::TextResourceContents { text, .. } => {
                assert!(!is_whole && !text.is_empty() && data.starts_with(text.as_str()));
            }
            other => panic!("not of a known kind: {other:?}"),
        }
    }
    let id = cut(&setup, call("picture", 300)).await;
    let image = read(json!({ "id": id, "pointer": "/content/1" }));
    let image = setup.ask(image).await.unwrap();
    let image = image.as_tool_result().unwrap().content[0]
        .as_image()
        .unwrap()
        .clone();
    assert_eq!(
        (image.data, &*image.mime_type),
        (data_encoding(300), "image/png")
    );
}

#[tokio::test]
async fn structured_content_is_kept_with_the_digits_that_came() {
    const NUMBER: &str = "0.10000000000000000000000001";
    let upstream = scripted_lines(Upstream::builder(), |request| {
        let result = match request["method"].as_str() {
            Some("tools/call") => {
                let numbers = [NUMBER; 20_000].join(", ");
                format!(r#"{{"content":[],"structuredContent":{{"numbers":[{numbers}]}}}}"#)
            }
            _ => r#"{"tools":[]}"#.to_owned(),
        };
        let id = &request["id"];
        Some(vec![format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#
        )])
    });
    let stack = layer().build().unwrap().layer(upstream);
    let ask = |request| soon("an answer", stack.clone().oneshot(request));
    let cut = ask(call("numbers", 1)).await.unwrap();
    assert!(!is_error(&cut) && report(&cut).saved > 10_000);
    let number = read(json!({ "id": kept_id(&cut), "pointer": "/numbers/19999" }));
    assert_eq!(first(&ask(number).await.unwrap()), NUMBER);
}

#[tokio::test]
async fn a_search_finds_what_any_text_of_the_result_has() {
    let upstream = scripted_lines(Upstream::builder(), |request| {
        let result = match request["method"].as_str() {
            Some("tools/call") => json!({ "content": [
                { "type": "text", "text": "a short text with a needle" },
                { "type": "text", "text": "x ".repeat(50_000) },
                { "type": "text", "text": "two needles: needle" },
            ] }),
            _ => json!({ "tools": [] }),
        };
        let id = &request["id"];
        Some(vec![
            json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string(),
        ])
    });
    let stack = layer().build().unwrap().layer(upstream);
    let ask = |request| soon("an answer", stack.clone().oneshot(request));
    let id = kept_id(&ask(call("texts", 1)).await.unwrap());
    let found = read(json!({ "id": id, "search": "needle" }));
    let found = ask(found).await.unwrap();
    assert_eq!(page(&found)["count"], 3, "{}", text(&found));
    for place in [
        "offset 20 of /content/0/text: ",
        "offset 4 of /content/2/text: ",
        "offset 13 of /content/2/text: ",
    ] {
        assert!(first(&found).contains(place), "{}", first(&found));
    }
    let rest = read(json!({ "id": id, "search": "needle", "offset": 26 }));
    assert_eq!(page(&ask(rest).await.unwrap())["count"], 2);
    let one = json!({ "id": id, "search": "needle", "pointer": "/content/0" });
    assert_eq!(page(&ask(read(one)).await.unwrap())["count"], 1);
}
