//! The order of outgoing messages.

use rmcp::{
    RoleServer,
    model::{
        JsonRpcMessage, NumberOrString, ProgressNotification, ProgressNotificationParam,
        ProgressToken,
    },
    transport::Transport,
};
use rmcp_layers::Lines;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::common::soon;

#[tokio::test]
async fn messages_leave_in_the_order_in_which_they_were_sent_whoever_waits_first() {
    let (near, far) = tokio::io::duplex(64);
    let (read, write) = tokio::io::split(near);
    let mut lines = Lines::from((read, write));
    let mut sent = Vec::new();
    for step in 0..20 {
        let token = ProgressToken(NumberOrString::Number(1));
        let params = ProgressNotificationParam::new(token, f64::from(step));
        let progress = JsonRpcMessage::notification(ProgressNotification::new(params).into());
        sent.push(Transport::<RoleServer>::send(&mut lines, progress));
    }
    for sending in sent.into_iter().rev() {
        tokio::spawn(sending);
    }
    let mut heard = BufReader::new(far).lines();
    for step in 0..20 {
        let line = soon("a message", heard.next_line()).await.unwrap().unwrap();
        let message: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(message["params"]["progress"], json!(f64::from(step)));
    }
}
