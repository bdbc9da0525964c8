//! The definitions of the tools.

use std::{sync::Arc, time::Duration};

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use super::OwnTool;

/// Returns the definitions of the tools, for calls that wait this long by default and at most.
pub(in crate::delegate) fn definitions(wait: Duration, max_wait: Duration) -> Arc<[Tool]> {
    let wait_s = json!({
        "type": "number", "minimum": 0, "maximum": max_wait.as_secs_f64(),
        "description": format!(
            "The seconds to wait for the end. {} by default. The work goes on after it.",
            wait.as_secs_f64()
        ),
    });
    let tools = OwnTool::ALL.map(|tool| definition(tool, &wait_s));
    tools.into()
}

fn definition(tool: OwnTool, wait_s: &Value) -> Tool {
    let (description, input, output) = match tool {
        OwnTool::DelegateTask => (
            "Hands a task to another agent and waits for its answer. If the task takes longer than \
             `wait_s`, the result has the id of its plan: call task_status with it. See list_agents \
             for the agents and their capabilities.",
            delegate_input(wait_s),
            task_output(),
        ),
        OwnTool::RunPlan => (
            "Hands several tasks to other agents. A task starts as soon as the tasks in its `after` \
             have ended, and gets their answers as context; independent tasks run at the same time. \
             If the plan takes longer than `wait_s`, the result has its id: call task_status with it.",
            plan_input(wait_s),
            plan_output(),
        ),
        OwnTool::TaskStatus => (
            "Returns the state of a plan, after waiting for a change of it, or for its end with \
             `until: \"end\"`. With `task`, it returns the whole answer of one task.",
            json!({
                "plan": plan_id(), "task": { "type": "string", "description": "The id of a task of the plan." },
                "until": {
                    "enum": ["change", "end"],
                    "description": "The event to wait for. `change` by default.",
                },
                "wait_s": wait_s,
            }),
            plan_output(),
        ),
        OwnTool::CancelTask => (
            "Cancels a plan, or one task of it. Its agents are told to stop. Results that are there \
             are kept.",
            json!({
                "plan": plan_id(),
                "task": { "type": "string", "description": "The id of the only task to cancel." },
            }),
            plan_output(),
        ),
        OwnTool::AnswerTask => (
            "Answers the question of an agent, whose task is `input_required` until then.",
            json!({
                "plan": plan_id(),
                "task": { "type": "string", "description": "The id of the task." },
                "answer": {
                    "description": "The answer: a value for each property of the question's schema, or \
                                    the value itself if it has one property.",
                },
                "answers": {
                    "type": "object",
                    "description": "The answers to several questions, by their keys, in place of \
                                    `answer`.",
                },
                "decline": { "type": "boolean", "description": "`true` to refuse an answer." },
            }),
            plan_output(),
        ),
        OwnTool::ListAgents => (
            "Returns the agents that tasks can be handed to, with their capabilities and load.",
            json!({}),
            agents_output(),
        ),
    };
    let required: &[&str] = match tool {
        OwnTool::DelegateTask => &["description"],
        OwnTool::RunPlan => &["tasks"],
        OwnTool::TaskStatus | OwnTool::CancelTask => &["plan"],
        OwnTool::AnswerTask => &["plan", "task"],
        OwnTool::ListAgents => &[],
    };
    let input = object(json!({
        "type": "object", "properties": input, "required": required, "additionalProperties": false,
    }));
    let mut definition = Tool::new(tool.name(), description, input);
    definition.output_schema = Some(Arc::new(object(output)));
    let reads = matches!(tool, OwnTool::TaskStatus | OwnTool::ListAgents);
    let mut annotations = ToolAnnotations::new().read_only(reads).open_world(!reads);
    if !reads {
        annotations = annotations.destructive(!matches!(tool, OwnTool::AnswerTask));
    }
    let is_repeatable = reads || tool == OwnTool::CancelTask;
    definition.annotations = Some(annotations.idempotent(is_repeatable));
    definition
}

fn plan_id() -> Value {
    json!({ "type": "string", "description": "The id of the plan, from an earlier result." })
}

/// The properties that `delegate_task` and the tasks of `run_plan` share.
fn task_properties() -> JsonObject {
    object(json!({
        "description": { "type": "string", "description": "The task, complete in itself." },
        "capability": {
            "type": "string", "description": "The capability that its agent must have. See list_agents.",
        },
        "agent": { "type": "string", "description": "The only agent that may do it." },
        "context": { "type": "string", "description": "What its agent has to know beside it." },
        "thread": {
            "type": "string",
            "description": "The thread of an earlier answer, to go on in it. Also give its `agent`.",
        },
        "priority": {
            "type": "integer",
            "description": "Of the tasks that wait for an agent, higher ones start first. 0 by default.",
        },
        "deadline_s": {
            "type": "number", "exclusiveMinimum": 0,
            "description": "The seconds after which it fails.",
        },
        "retries": {
            "type": "integer", "minimum": 0, "maximum": 100,
            "description": "Further attempts after failures. 2 by default.",
        },
        "idempotent": {
            "type": "boolean",
            "description": "`true` if it does no harm when it is done twice: it is then also tried \
                            again if its agent may have done it.",
        },
    }))
}

fn limits() -> JsonObject {
    object(json!({
        "max_tokens": { "type": "integer", "minimum": 1, "description": "The most tokens to use." },
        "max_cost": { "type": "number", "exclusiveMinimum": 0, "description": "The highest cost." },
    }))
}

fn delegate_input(wait_s: &Value) -> Value {
    let mut properties = task_properties();
    properties.insert(
        "id".to_owned(),
        json!({ "type": "string", "description": "A short name for it. `task` by default." }),
    );
    properties.extend(limits());
    properties.insert("wait_s".to_owned(), wait_s.clone());
    Value::Object(properties)
}

fn plan_input(wait_s: &Value) -> Value {
    let mut task = object(json!({
        "id": { "type": "string", "description": "Its id, unique to the plan." },
        "after": {
            "type": "array", "items": { "type": "string" },
            "description": "The ids of the tasks that have to end before it.",
        },
        "follow_up_of": {
            "type": "string",
            "description": "The id of a task whose agent goes on with this one in the same thread.",
        },
        "on_failure": {
            "enum": ["fail_dependents", "skip_dependents", "continue"],
            "description": "What becomes of the tasks after it if it is not completed. They fail by \
                            default; with `continue` they get its error as context.",
        },
        "budget_share": {
            "type": "number", "exclusiveMinimum": 0, "maximum": 1,
            "description": "Its part of `max_tokens`.",
        },
    }));
    task.extend(task_properties());
    let mut properties = object(json!({
        "tasks": {
            "type": "array", "minItems": 1,
            "items": {
                "type": "object", "properties": task, "required": ["id", "description"],
                "additionalProperties": false,
            },
        },
        "max_time_s": {
            "type": "number", "exclusiveMinimum": 0,
            "description": "The seconds after which the plan stops. What is done is kept.",
        },
    }));
    properties.extend(limits());
    properties.insert("wait_s".to_owned(), wait_s.clone());
    Value::Object(properties)
}

/// The properties of a task in a result.
fn task_result_properties() -> JsonObject {
    object(json!({
        "id": { "type": "string" },
        "status": {
            "enum": [
                "pending", "ready", "running", "input_required", "complete", "failed", "cancelled",
                "skipped", "rejected",
            ],
        },
        "agent": { "type": "string" },
        "attempts": { "type": "integer" },
        "answer": { "type": "string" },
        "answer_bytes": {
            "type": "integer", "description": "The length of the whole answer, if it is cut here.",
        },
        "structured": { "description": "The structured content of the agent's result." },
        "thread": { "type": "string" },
        "error": { "type": "string" },
        "progress": { "type": "string" },
        "seconds": { "type": "number" },
        "questions": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "key": { "type": "string" }, "kind": { "type": "string" },
                    "message": { "type": "string" }, "schema": { "type": "object" },
                    "url": { "type": "string" },
                },
                "required": ["key", "kind"],
            },
        },
    }))
}

fn task_output() -> Value {
    let mut properties = task_result_properties();
    properties.extend(plan_result_properties());
    json!({ "type": "object", "properties": properties, "required": ["plan", "id", "status"] })
}

fn plan_result_properties() -> JsonObject {
    object(json!({
        "plan": { "type": "string", "description": "The id of the plan." },
        "next": { "type": "string", "description": "What to do next." },
    }))
}

fn plan_output() -> Value {
    let mut properties = object(json!({
        "state": {
            "enum": ["running", "stopping", "complete", "incomplete", "released"],
            "description": "`incomplete`: all tasks have ended, and not all are complete.",
        },
        "reason": { "type": "string" },
        "done": { "type": "integer", "description": "The number of tasks that have ended." },
        "total": { "type": "integer" },
        "tokens": { "type": "integer" },
        "cost": { "type": "number" },
        "tasks": {
            "type": "array",
            "items": {
                "type": "object", "properties": task_result_properties(),
                "required": ["id", "status"],
            },
        },
    }));
    properties.extend(plan_result_properties());
    json!({
        "type": "object", "properties": properties,
        "required": ["plan", "state", "done", "total", "tasks"],
    })
}

fn agents_output() -> Value {
    json!({
        "type": "object",
        "properties": {
            "agents": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": { "type": "string" },
                        "capabilities": { "type": "array", "items": { "type": "string" } },
                        "running": { "type": "integer" },
                        "max_concurrent": { "type": "integer" },
                        "cost": { "type": "number" },
                    },
                    "required": ["name", "capabilities"],
                },
            },
        },
        "required": ["agents"],
    })
}

fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}
