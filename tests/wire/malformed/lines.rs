//! A caller's malformed messages over lines.

use std::time::Duration;

use serde_json::Value;

use super::{Answer, Holding, Row, misfit, rows};
use crate::peers::{Caller, LEGACY, MODERN};

/// The time in which a message is answered.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn each_malformed_message_has_its_answer_over_lines() {
    let mut wrong = Vec::new();
    for revision in [LEGACY, MODERN] {
        for row in rows() {
            let Some(message) = row.in_revision(revision) else {
                continue;
            };
            let name = row.name();
            let answered = tokio::spawn(async move { answer(revision, &row, &message).await });
            let fault = match tokio::time::timeout(SOON, answered).await {
                Ok(fault) => fault.unwrap_or_else(|panic| Some(panic.to_string())),
                Err(_) => Some("no answer".to_owned()),
            };
            wrong.extend(fault.map(|fault| format!("{revision} {name}: {fault}")));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

async fn connect(revision: &str, holding: &Holding) -> Caller {
    match revision {
        LEGACY => Caller::legacy(holding.stack()).await,
        _ => Caller::modern(holding.stack()),
    }
}

/// Returns what is wrong with the answer to a message, or with the connection after it.
async fn answer(revision: &str, row: &Row, message: &[u8]) -> Option<String> {
    let holding = Holding::new();
    let mut caller = connect(revision, &holding).await;
    let hold = caller.send("tools/call", r#""name":"hold""#).await;
    caller.write_bytes(message).await;
    let fault = match &row.lines {
        Answer::None => None,
        expected => misfit(&caller.line().await, &row.id, expected),
    };
    let next = caller.send("tools/list", "").await;
    let line = caller.line().await;
    let after: Value = serde_json::from_str(&line).unwrap();
    if after["id"] != next || after.get("result").is_none() {
        let after = &line[..line.len().min(400)];
        return Some(format!("{} and then {after}", fault.unwrap_or_default()));
    }
    holding.release();
    let held: Value = serde_json::from_str(&caller.line().await).unwrap();
    if held["id"] != hold || held.get("result").is_none() {
        return Some(format!("another call is answered {held}"));
    }
    fault
}

/// The handshake follows a malformed first message.
#[tokio::test]
async fn a_malformed_first_message_does_not_end_the_connection() {
    let mut wrong = Vec::new();
    for row in rows().iter().filter(|row| row.message.len() < 1_000_000) {
        let Some(message) = row.in_revision(LEGACY) else {
            continue;
        };
        let handshake = async move {
            let mut caller = Caller::modern(Holding::new().stack());
            caller.write_bytes(&message).await;
            caller.initialize_with("{}").await;
        };
        match tokio::time::timeout(SOON, tokio::spawn(handshake)).await {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => wrong.push(format!("{}: {panic}", row.name())),
            Err(_) => wrong.push(format!("{}: no answer", row.name())),
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
