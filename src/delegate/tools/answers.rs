//! Answers to questions of agents.

use rmcp::model::{ElicitRequestParams, InputRequest, InputRequests, InputResponses, JsonObject};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{long_call::client_result, util::schema::Schema};

/// The arguments of `answer_task`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::delegate) struct AnswerArguments {
    pub(in crate::delegate) plan: String,
    pub(in crate::delegate) task: String,
    answer: Option<Value>,
    answers: Option<JsonObject>,
    decline: Option<bool>,
}

/// Returns the responses to an agent's questions. An error says what is missing.
pub(in crate::delegate) fn responses(
    questions: &InputRequests,
    arguments: AnswerArguments,
) -> Result<InputResponses, String> {
    let keys = || {
        let keys = questions.keys().map(|key| format!("`{key}`"));
        keys.collect::<Vec<_>>().join(", ")
    };
    let AnswerArguments {
        answer,
        answers,
        decline,
        ..
    } = arguments;
    let mut given = match (answer, answers, decline.unwrap_or_default()) {
        (None, None, true) => {
            let declined = questions.iter().map(|(key, question)| {
                declined(question)
                    .map(|response| (key.clone(), response))
                    .map_err(|reason| format!("`{key}`: {reason}"))
            });
            return declined.collect();
        }
        (Some(answer), None, false) => match questions.keys().next() {
            Some(key) if questions.len() == 1 => JsonObject::from_iter([(key.clone(), answer)]),
            _ => {
                return Err(format!(
                    "there are several questions; give `answers` with {}",
                    keys()
                ));
            }
        },
        (None, Some(answers), false) => answers,
        (None, None, false) => {
            return Err("give `answer`, `answers` or `decline`".to_owned());
        }
        _ => return Err("give only one of `answer`, `answers` and `decline`".to_owned()),
    };
    let mut responses = InputResponses::new();
    for (key, question) in questions {
        let Some(answer) = given.shift_remove(key) else {
            return Err(format!(
                "the answer to `{key}` is missing; the questions are {}",
                keys()
            ));
        };
        let response = response(question, answer).map_err(|reason| format!("`{key}`: {reason}"))?;
        responses.insert(key.clone(), response);
    }
    match given.keys().next() {
        Some(unknown) => Err(format!(
            "there is no question `{unknown}`; the questions are {}",
            keys()
        )),
        None => Ok(responses),
    }
}

fn declined(question: &InputRequest) -> Result<Value, String> {
    match question {
        InputRequest::Elicitation(_) => Ok(json!({ "action": "decline" })),
        InputRequest::ListRoots(_) => Ok(json!({ "roots": [] })),
        _ => Err("it cannot be declined; answer it, or cancel the task".to_owned()),
    }
}

/// Returns the response with this answer. An answer that is a whole response stays as it is.
fn response(question: &InputRequest, answer: Value) -> Result<Value, String> {
    let response = match question {
        InputRequest::Elicitation(elicitation) => elicited(&elicitation.params, answer)?,
        InputRequest::CreateMessage(_) => match answer {
            Value::String(text) => json!({
                "role": "assistant", "content": { "type": "text", "text": text },
                "model": "unknown",
            }),
            answer => answer,
        },
        InputRequest::ListRoots(_) => match answer {
            Value::Array(roots) => json!({ "roots": roots }),
            answer => answer,
        },
        _ => answer,
    };
    let fits = client_result(question, response.clone());
    fits.map_err(|error| error.to_string())?;
    Ok(response)
}

fn elicited(question: &ElicitRequestParams, answer: Value) -> Result<Value, String> {
    if let Value::Object(answer) = &answer
        && answer.get("action").is_some_and(|action| {
            ["accept", "decline", "cancel"]
                .iter()
                .any(|known| action == known)
        })
        && answer
            .keys()
            .all(|key| ["action", "content", "_meta"].contains(&&**key))
    {
        return Ok(Value::Object(answer.clone()));
    }
    let ElicitRequestParams::FormElicitationParams {
        requested_schema, ..
    } = question
    else {
        return match answer {
            Value::Bool(false) => Ok(json!({ "action": "decline" })),
            _ => Ok(json!({ "action": "accept" })),
        };
    };
    let schema = serde_json::to_value(requested_schema).unwrap_or_default();
    let names: Vec<&String> = match schema.get("properties") {
        Some(Value::Object(properties)) => properties.keys().collect(),
        _ => Vec::new(),
    };
    let content = match (answer, &names[..]) {
        (Value::Object(content), _) => content,
        (answer, [name]) => JsonObject::from_iter([((*name).clone(), answer)]),
        (_, []) => JsonObject::new(),
        (_, names) => {
            let names = names.iter().map(|name| format!("`{name}`"));
            let names = names.collect::<Vec<_>>().join(", ");
            return Err(format!("give an object with {names}"));
        }
    };
    let content = Value::Object(content);
    if let Value::Object(schema) = &schema
        && let Ok(schema) = Schema::compile(schema)
        && let Some(failures) = schema.failures(&content)
    {
        return Err(format!(
            "the answer does not fit the question's schema:{failures}"
        ));
    }
    Ok(json!({ "action": "accept", "content": content }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(properties: Value) -> InputRequest {
        let request = json!({
            "method": "elicitation/create",
            "params": {
                "mode": "form", "message": "?",
                "requestedSchema": { "type": "object", "properties": properties },
            },
        });
        serde_json::from_value(request).unwrap()
    }

    fn answer(questions: &InputRequests, given: Value) -> Result<Value, String> {
        let mut arguments = json!({ "plan": "p", "task": "t" });
        arguments
            .as_object_mut()
            .unwrap()
            .extend(given.as_object().unwrap().clone());
        let responses = responses(questions, serde_json::from_value(arguments).unwrap())?;
        Ok(serde_json::to_value(responses).unwrap())
    }

    #[test]
    fn a_plain_answer_becomes_the_response_to_its_question() {
        let one = form(json!({ "name": { "type": "string" } }));
        let questions = InputRequests::from([("q".to_owned(), one)]);
        let accepted = json!({ "q": { "action": "accept", "content": { "name": "Ada" } } });
        for given in [
            json!({ "answer": "Ada" }),
            json!({ "answer": { "name": "Ada" } }),
            json!({ "answers": { "q": "Ada" } }),
            json!({ "answer": { "action": "accept", "content": { "name": "Ada" } } }),
        ] {
            assert_eq!(answer(&questions, given), Ok(accepted.clone()));
        }
        let declined = json!({ "q": { "action": "decline" } });
        assert_eq!(answer(&questions, json!({ "decline": true })), Ok(declined));
    }

    #[test]
    fn an_answer_that_does_not_fit_says_what_is_missing() {
        let two = json!({ "name": { "type": "string" }, "age": { "type": "integer" } });
        let questions = InputRequests::from([("q".to_owned(), form(two.clone()))]);
        let both = InputRequests::from([
            ("a".to_owned(), form(two.clone())),
            ("b".to_owned(), form(two)),
        ]);
        for (questions, given, says) in [
            (&questions, json!({ "answer": "Ada" }), "`name`, `age`"),
            (&questions, json!({ "answer": { "age": "old" } }), "/age"),
            (
                &questions,
                json!({ "answers": { "x": 1 } }),
                "`q` is missing",
            ),
            (
                &questions,
                json!({ "answers": { "q": {}, "x": 1 } }),
                "no question `x`",
            ),
            (&questions, json!({}), "give `answer`"),
            (&both, json!({ "answer": {} }), "`a`, `b`"),
        ] {
            let error = answer(questions, given).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
