//! Members that come and go.

use super::*;

#[tokio::test]
async fn removing_a_member_does_not_redirect_anothers_changes() {
    let (one, other) = (Shop::with("one", &["a"]), Shop::with("other", &["b"]));
    let gateway = Gateway::builder()
        .member("one", one.piped())
        .member("other", other.piped())
        .build()
        .unwrap();
    let mut client = Client::legacy("l", gateway.clone()).await;
    let uris = ["one+file:///a", "other+file:///a"];
    for uri in uris {
        let params = SubscribeRequestParams::new(uri);
        client.peer.subscribe(params).await.unwrap();
    }
    for (shop, uri) in [(&one, uris[0]), (&other, uris[1])] {
        let params = ResourceUpdatedNotificationParam::new("file:///a");
        shop.tell(ResourceUpdatedNotification::new(params)).await;
        assert_eq!(
            client.hear("an update").await,
            Heard::Updated(uri.to_owned())
        );
    }
    gateway.handle().remove("one");
    assert_eq!(client.hear("the lists' change").await, Heard::Tools);
    let params = ResourceUpdatedNotificationParam::new("file:///a");
    one.tell(ResourceUpdatedNotification::new(params.clone()))
        .await;
    other.tell(ResourceUpdatedNotification::new(params)).await;
    assert_eq!(
        client.hear("the other's update").await,
        Heard::Updated(uris[1].to_owned())
    );
    other.stock(&["c"]).await;
    assert_eq!(client.hear("a change").await, Heard::Tools);
    let tools = client.peer.list_tools(None).await.unwrap().tools;
    assert_eq!(names(&tools), ["other__c"]);
}

#[tokio::test]
async fn callers_are_notified_when_members_are_added_replaced_and_removed() {
    let (_, _, gateway) = two();
    let handle: GatewayHandle = gateway.handle();
    let third = |name, tools: &[&str]| Member::new("third", Shop::with(name, tools).piped());
    let of_a_newer_caller = McpClient::new(gateway.clone());
    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    let mut changes = of_a_newer_caller.listen(filter).await.unwrap();
    assert_eq!(changes.accepted().tools_list_changed, Some(true));
    let mut client = Client::legacy("l", gateway.clone()).await;
    // The session's listen opens beside its first requests.
    client.peer.list_tools(None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    while client.heard.try_recv().is_ok() {}
    type Step<'a> = (&'a str, &'a dyn Fn(), &'a [&'a str]);
    let steps: [Step<'_>; 3] = [
        (
            "an addition",
            &|| handle.add(third("3", &["t"])).unwrap(),
            &["third__t"],
        ),
        (
            "a replacement",
            &|| handle.replace(third("4", &["u"])).unwrap(),
            &["third__u"],
        ),
        ("a removal", &|| assert!(handle.remove("third")), &[]),
    ];
    for (what, step, has) in steps {
        step();
        assert_eq!(client.hear(what).await, Heard::Tools);
        let change = soon(what, changes.next()).await.unwrap().unwrap();
        assert!(matches!(
            change,
            ServerNotification::ToolListChangedNotification(_)
        ));
        let tools = client.peer.list_tools(None).await.unwrap().tools;
        assert_eq!(&names(&tools)[4..], has, "{what}");
    }
    assert!(!handle.remove("third"));
    assert!(handle.add(down("one")).is_err());
    assert!(handle.replace(down("nobody")).is_err());
}

#[tokio::test]
async fn members_that_are_down_at_the_start_are_picked_up_when_they_come() {
    let up = Shop::with("up", &["a"]);
    let late = Shop::with("late", &["b"]);
    let open = Arc::new(Mutex::new(false));
    let (gate, shop) = (open.clone(), late.clone());
    let upstream = Upstream::builder().name("late").transport(move || {
        let pipe = gate.lock().unwrap().then(|| pipe_to(shop.clone()));
        async move { pipe.ok_or_else(|| io::Error::other("not yet")) }
    });
    let gateway = Gateway::builder()
        .member("up", up.piped())
        .member("late", upstream)
        .build()
        .unwrap();
    let mut client = Client::legacy("l", gateway.clone()).await;
    let tools = client.peer.list_tools(None).await.unwrap().tools;
    assert_eq!(names(&tools), ["up__a"]);
    *open.lock().unwrap() = true;
    while client.hear("the late member's tools").await != Heard::Tools {}
    let tools = client.peer.list_tools(None).await.unwrap().tools;
    assert_eq!(names(&tools), ["up__a", "late__b"]);
}

#[tokio::test]
async fn a_notification_that_reaches_no_server_makes_no_member_connected() {
    let down = Upstream::builder()
        .name("down")
        .transport(|| async { Err::<tokio::io::DuplexStream, _>(io::Error::other("not there")) });
    let gateway = Gateway::builder()
        .member("down", down)
        .member("up", Shop::with("up", &["a"]).piped())
        .build()
        .unwrap();
    call(&gateway, "down__x").await.unwrap_err();
    let initialized = ClientNotification::InitializedNotification(Default::default());
    let context = McpRequest::list_tools().into_parts().1;
    let request = McpRequest::notification(initialized, context);
    gateway.clone().oneshot(request).await.unwrap();
    let members = gateway.handle().members();
    let down = members.iter().find(|member| &*member.name == "down");
    let state = &down.unwrap().state;
    assert!(matches!(state, MemberState::Failed { .. }), "{state:?}");
}
