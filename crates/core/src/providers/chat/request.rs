//! Request bodies of the chat shapes.

use serde_json::{json, Value};

use super::structured::{closed, gemini, in_words, response_format};
use super::{Chat, Form, Question, MAX_TOKENS};
use crate::catalog::options::StructuredOutput;
use mysql_ml_base::error::{Error, Result};

/// Sets a member of an object, if there is a value.
fn set(object: &mut Value, name: &str, value: Option<Value>) {
    if let (Some(object), Some(value)) = (object.as_object_mut(), value) {
        object.insert(name.to_owned(), value);
    }
}

fn none(shape: &str, option: &str) -> Error {
    Error::invalid(format!("{shape} takes no {option}; leave the option {option} out"))
}

/// The system message: the task, the caller's own system prompt, and the schema where the API takes none.
fn system(question: &Question, schema_in_words: bool) -> Option<String> {
    let schema = question.schema.as_ref().filter(|_| schema_in_words).map(|schema| in_words(schema.text()));
    let parts = [question.instruction.as_deref(), question.options.system.as_deref(), schema.as_deref()];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}

/// The messages after the system's, as role and text.
fn turns(question: &Question) -> Vec<(&'static str, String)> {
    let mut turns = vec![("user", question.text.to_string())];
    if let Some(rejected) = &question.rejected {
        turns.push(("assistant", rejected.answer.to_string()));
        turns.push(("user", Question::correction(rejected)));
    }
    turns
}

/// Turns in the form that most APIs share.
fn messages(system: Option<&str>, turns: &[(&str, String)]) -> Value {
    let system = system.map(|text| json!({"role": "system", "content": text}));
    let turns = turns.iter().map(|(role, text)| json!({"role": role, "content": text}));
    system.into_iter().chain(turns).collect()
}

impl Form {
    /// The request body for a question, without what [`Provider::predict_request`](crate::providers::Provider::predict_request)
    /// adds.
    pub fn request(self, question: &Question) -> Result<String> {
        let options = &question.options;
        let defaulted = (question.greedy && self.default_temperature).then_some(0.0);
        let heat = options.temperature.or(defaulted).map(|t| if t == 0.0 { Value::from(0) } else { Value::from(t) });
        let (limit, top) = (options.max_tokens.map(Value::from), options.top_p.map(Value::from));
        let seed = options.seed.map(Value::from);
        // The schema in the API's own form, or in words.
        let native = question.schema.as_ref().filter(|_| self.structured == StructuredOutput::JsonSchema);
        let native = native.map(|schema| schema.document());
        let object = question.schema.as_ref().filter(|_| self.structured == StructuredOutput::JsonObject);
        let system = system(question, native.is_none());
        let turns = turns(question);
        let mut inner = json!({});
        let body = match self.chat {
            Chat::OpenAi { limit: limit_name, seed: seed_name } => {
                let mut body = json!({"messages": messages(system.as_deref(), &turns)});
                set(&mut body, limit_name, limit);
                set(&mut body, "temperature", heat);
                set(&mut body, "top_p", top);
                set(&mut body, seed_name, seed);
                set(&mut body, "response_format", native.map(response_format));
                set(&mut body, "response_format", object.map(|_| json!({"type": "json_object"})));
                body
            }
            Chat::Cohere => {
                let mut body = json!({"messages": messages(system.as_deref(), &turns)});
                set(&mut body, "max_tokens", limit);
                set(&mut body, "temperature", heat);
                set(&mut body, "p", top);
                set(&mut body, "seed", seed);
                let schema = native.map(|schema| json!({"type": "json_object", "json_schema": schema}));
                set(&mut body, "response_format", schema);
                set(&mut body, "response_format", object.map(|_| json!({"type": "json_object"})));
                body
            }
            Chat::Anthropic => {
                if seed.is_some() {
                    return Err(none("Anthropic's API", "seed"));
                }
                let mut body = json!({"messages": messages(None, &turns)});
                set(&mut body, "max_tokens", Some(limit.unwrap_or_else(|| MAX_TOKENS.into())));
                set(&mut body, "system", system.map(Value::from));
                set(&mut body, "temperature", heat);
                set(&mut body, "top_p", top);
                let schema = native.map(|schema| json!({"format": {"type": "json_schema", "schema": closed(schema)}}));
                set(&mut body, "output_config", schema);
                body
            }
            Chat::Gemini => {
                let turn = |(role, text): &(&str, String)| {
                    let role = if *role == "assistant" { "model" } else { role };
                    json!({"role": role, "parts": [{"text": text}]})
                };
                let mut body = json!({"contents": turns.iter().map(turn).collect::<Value>()});
                set(&mut body, "systemInstruction", system.map(|s| json!({"parts": [{"text": s}]})));
                set(&mut inner, "maxOutputTokens", limit);
                set(&mut inner, "temperature", heat);
                set(&mut inner, "topP", top);
                set(&mut inner, "seed", seed);
                if let Some((member, schema)) = native.map(gemini) {
                    set(&mut inner, member, Some(schema));
                }
                set(
                    &mut inner,
                    "responseMimeType",
                    native.or(object.map(|s| s.document())).map(|_| "application/json".into()),
                );
                set(&mut body, "generationConfig", Some(inner).filter(|i| *i != json!({})));
                body
            }
            Chat::Ollama => {
                let mut body = json!({"messages": messages(system.as_deref(), &turns)});
                set(&mut inner, "num_predict", limit);
                set(&mut inner, "temperature", heat);
                set(&mut inner, "top_p", top);
                set(&mut inner, "seed", seed);
                set(&mut body, "options", Some(inner).filter(|i| *i != json!({})));
                set(&mut body, "format", native.cloned());
                set(&mut body, "format", object.map(|_| "json".into()));
                body
            }
            Chat::TextGeneration => {
                if options.system.is_some() {
                    return Err(none("Hugging Face's text generation", "system"));
                }
                // One text: the task, the data, and an answer to correct.
                let texts = system.into_iter().chain(turns.into_iter().map(|(_, text)| text));
                inner = json!({"return_full_text": false});
                set(&mut inner, "max_new_tokens", limit);
                set(&mut inner, "temperature", heat.filter(|t| *t != json!(0)));
                set(&mut inner, "top_p", top);
                set(&mut inner, "seed", seed);
                set(&mut inner, "grammar", native.map(|schema| json!({"type": "json", "value": schema})));
                json!({"inputs": texts.collect::<Vec<_>>().join("\n\n"), "parameters": inner})
            }
            Chat::Converse => {
                if seed.is_some() {
                    return Err(none("Bedrock's Converse API", "seed"));
                }
                let turn = |(role, text): &(&str, String)| json!({"role": role, "content": [{"text": text}]});
                let mut body = json!({"messages": turns.iter().map(turn).collect::<Value>()});
                set(&mut body, "system", system.map(|s| json!([{"text": s}])));
                set(&mut inner, "maxTokens", limit);
                set(&mut inner, "temperature", heat);
                set(&mut inner, "topP", top);
                set(&mut body, "inferenceConfig", Some(inner).filter(|i| *i != json!({})));
                let schema = native.map(|schema| {
                    let schema = json!({"name": "answer", "schema": closed(schema).to_string()});
                    json!({"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}})
                });
                set(&mut body, "outputConfig", schema);
                body
            }
        };
        Ok(body.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::schema::Schema;
    use crate::providers::chat::{GenerateOptions, Rejected};

    const SHAPES: [Chat; 8] = [
        Chat::COMPATIBLE,
        Chat::OpenAi { limit: "max_completion_tokens", seed: "random_seed" },
        Chat::Anthropic,
        Chat::Gemini,
        Chat::Cohere,
        Chat::Ollama,
        Chat::TextGeneration,
        Chat::Converse,
    ];

    fn form(chat: Chat) -> Form {
        Form::new(chat, StructuredOutput::JsonSchema)
    }

    fn request(chat: Chat, options: GenerateOptions) -> Result<String> {
        form(chat).request(&Question::prompt("hi", options))
    }

    #[test]
    fn plain_requests() {
        let golden = [
            r#"{"messages":[{"content":"hi","role":"user"}]}"#,
            r#"{"messages":[{"content":"hi","role":"user"}]}"#,
            r#"{"max_tokens":4096,"messages":[{"content":"hi","role":"user"}]}"#,
            r#"{"contents":[{"parts":[{"text":"hi"}],"role":"user"}]}"#,
            r#"{"messages":[{"content":"hi","role":"user"}]}"#,
            r#"{"messages":[{"content":"hi","role":"user"}]}"#,
            r#"{"inputs":"hi","parameters":{"return_full_text":false}}"#,
            r#"{"messages":[{"content":[{"text":"hi"}],"role":"user"}]}"#,
        ];
        for (shape, golden) in SHAPES.into_iter().zip(golden) {
            assert_eq!(request(shape, GenerateOptions::default()).unwrap(), golden, "{shape:?}");
        }
    }

    #[test]
    fn requests_with_every_option_that_the_shape_takes() {
        let all = r#"{"max_tokens":5,"temperature":0.5,"top_p":0.25,"seed":7,"system":"be brief"}"#;
        let golden = [
            r#"{"max_tokens":5,"messages":[{"content":"be brief","role":"system"},{"content":"hi","role":"user"}],"seed":7,"temperature":0.5,"top_p":0.25}"#,
            r#"{"max_completion_tokens":5,"messages":[{"content":"be brief","role":"system"},{"content":"hi","role":"user"}],"random_seed":7,"temperature":0.5,"top_p":0.25}"#,
            r#"{"max_tokens":5,"messages":[{"content":"hi","role":"user"}],"system":"be brief","temperature":0.5,"top_p":0.25}"#,
            r#"{"contents":[{"parts":[{"text":"hi"}],"role":"user"}],"generationConfig":{"maxOutputTokens":5,"seed":7,"temperature":0.5,"topP":0.25},"systemInstruction":{"parts":[{"text":"be brief"}]}}"#,
            r#"{"max_tokens":5,"messages":[{"content":"be brief","role":"system"},{"content":"hi","role":"user"}],"p":0.25,"seed":7,"temperature":0.5}"#,
            r#"{"messages":[{"content":"be brief","role":"system"},{"content":"hi","role":"user"}],"options":{"num_predict":5,"seed":7,"temperature":0.5,"top_p":0.25}}"#,
            r#"{"inputs":"hi","parameters":{"max_new_tokens":5,"return_full_text":false,"seed":7,"temperature":0.5,"top_p":0.25}}"#,
            r#"{"inferenceConfig":{"maxTokens":5,"temperature":0.5,"topP":0.25},"messages":[{"content":[{"text":"hi"}],"role":"user"}],"system":[{"text":"be brief"}]}"#,
        ];
        for (shape, golden) in SHAPES.into_iter().zip(golden) {
            let mut options = GenerateOptions::parse(all).unwrap();
            if matches!(shape, Chat::Anthropic | Chat::Converse) {
                assert!(request(shape, options.clone()).unwrap_err().message().contains("no seed"));
                options.seed = None;
            }
            if shape == Chat::TextGeneration {
                assert!(request(shape, options.clone()).unwrap_err().message().contains("no system"));
                options.system = None;
            }
            assert_eq!(request(shape, options.clone()).unwrap(), golden, "{shape:?}");
        }
    }

    /// A question with a schema and a rejected answer.
    fn typed() -> Question {
        let schema = json!({
            "type": "object",
            "properties": {"n": {"type": "number", "maximum": 1}},
            "required": ["n"],
            "additionalProperties": false
        });
        Question {
            instruction: Some("Count.".into()),
            text: "one".into(),
            schema: Some(std::sync::Arc::new(Schema::new(schema).unwrap())),
            rejected: None,
            options: Default::default(),
            greedy: true,
        }
    }

    #[test]
    fn a_schema_goes_in_each_apis_own_form() {
        let schema = r#"{"additionalProperties":false,"properties":{"n":{"maximum":1,"type":"number"}},"required":["n"],"type":"object"}"#;
        let closed =
            r#"{"additionalProperties":false,"properties":{"n":{"type":"number"}},"required":["n"],"type":"object"}"#;
        let open = r#"{"properties":{"n":{"maximum":1,"type":"NUMBER"}},"required":["n"],"type":"OBJECT"}"#;
        let messages = r#""messages":[{"content":"Count.","role":"system"},{"content":"one","role":"user"}]"#;
        let format = format!(
            r#""response_format":{{"json_schema":{{"name":"answer","schema":{schema},"strict":true}},"type":"json_schema"}}"#
        );
        let golden = [
            format!(r#"{{{messages},{format},"temperature":0}}"#),
            format!(r#"{{{messages},{format},"temperature":0}}"#),
            format!(
                r#"{{"max_tokens":4096,"messages":[{{"content":"one","role":"user"}}],"output_config":{{"format":{{"schema":{closed},"type":"json_schema"}}}},"system":"Count.","temperature":0}}"#
            ),
            format!(
                r#"{{"contents":[{{"parts":[{{"text":"one"}}],"role":"user"}}],"generationConfig":{{"responseMimeType":"application/json","responseSchema":{open},"temperature":0}},"systemInstruction":{{"parts":[{{"text":"Count."}}]}}}}"#
            ),
            format!(
                r#"{{{messages},"response_format":{{"json_schema":{schema},"type":"json_object"}},"temperature":0}}"#
            ),
            format!(r#"{{"format":{schema},{messages},"options":{{"temperature":0}}}}"#),
            format!(
                r#"{{"inputs":"Count.\n\none","parameters":{{"grammar":{{"type":"json","value":{schema}}},"return_full_text":false}}}}"#
            ),
            format!(
                r#"{{"inferenceConfig":{{"temperature":0}},"messages":[{{"content":[{{"text":"one"}}],"role":"user"}}],"outputConfig":{{"textFormat":{{"structure":{{"jsonSchema":{{"name":"answer","schema":{}}}}},"type":"json_schema"}}}},"system":[{{"text":"Count."}}]}}"#,
                Value::from(closed)
            ),
        ];
        for (shape, golden) in SHAPES.into_iter().zip(golden) {
            assert_eq!(form(shape).request(&typed()).unwrap(), golden, "{shape:?}");
        }
    }

    #[test]
    fn an_api_without_schemas_gets_it_in_words() {
        for structured in [StructuredOutput::JsonObject, StructuredOutput::Prompt] {
            for shape in SHAPES {
                let body = Form::new(shape, structured).request(&typed()).unwrap();
                assert!(body.contains("conforms to this JSON Schema: {\\\"additional"), "{body}");
                assert!(!body.contains("json_schema"), "{body}");
            }
        }
        let body = Form::new(Chat::COMPATIBLE, StructuredOutput::JsonObject).request(&typed()).unwrap();
        assert!(body.contains(r#""response_format":{"type":"json_object"}"#), "{body}");
    }

    #[test]
    fn a_rejected_answer_goes_back_with_the_reason() {
        let rejected = Rejected { answer: "42".into(), reason: "it is no object".into() };
        let question = Question { rejected: Some(rejected), ..typed() };
        for shape in SHAPES {
            let body = form(shape).request(&question).unwrap();
            assert!(body.contains("it is no object") && body.contains("42"), "{body}");
        }
        let body = form(Chat::Gemini).request(&question).unwrap();
        assert!(body.contains(r#"{"parts":[{"text":"42"}],"role":"model"}"#), "{body}");
    }

    #[test]
    fn a_model_without_structured_output_is_given_the_schema_in_words() {
        use mysql_ml_base::error::Kind;
        for (chat, words) in [
            (
                Chat::COMPATIBLE,
                "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
            ),
            (Chat::Anthropic, "output_config: Extra inputs are not permitted"),
            (Chat::Converse, "extraneous key [outputConfig] is not permitted"),
        ] {
            let refusal = Error::new(Kind::Provider(400), words.to_owned());
            let other = form(chat).after_refusal(&typed(), &refusal).unwrap();
            assert_eq!(other.structured, StructuredOutput::Prompt);
            assert_eq!(other.after_refusal(&typed(), &refusal), None);
        }
    }

    #[test]
    fn the_default_temperature_is_left_out_where_it_was_refused() {
        let refusal = Error::new(
            mysql_ml_base::error::Kind::Provider(400),
            "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.".to_owned(),
        );
        let form = form(Chat::COMPATIBLE);
        let other = form.after_refusal(&typed(), &refusal).unwrap();
        assert!(!other.request(&typed()).unwrap().contains("temperature"));
        assert_eq!(other.after_refusal(&typed(), &refusal), None);
        // A temperature that the caller set is the caller's.
        let options = GenerateOptions { temperature: Some(0.0), ..Default::default() };
        let asked = Question { options: options.into(), ..typed() };
        assert_eq!(form.after_refusal(&asked, &refusal), None);
    }
}
