//! Request bodies of the chat shapes.

use serde_json::{json, Value};

use super::structured::{closed, gemini, in_words, response_format};
use super::{Chat, Form, Question, MAX_TOKENS};
use crate::catalog::options::StructuredOutput;
use crate::providers::image::{without_query, Image, Source};
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

/// A message after the system's.
struct Turn<'q> {
    role: &'static str,
    text: String,
    images: &'q [Image],
}

/// The messages after the system's.
fn turns(question: &Question) -> Vec<Turn<'_>> {
    let said = |role, text| Turn { role, text, images: &[] };
    let mut turns = vec![Turn { images: question.images.as_slice(), ..said("user", question.text.to_string()) }];
    if let Some(rejected) = &question.rejected {
        turns.push(said("assistant", rejected.answer.to_string()));
        turns.push(said("user", Question::correction(rejected)));
    }
    turns
}

impl Turn<'_> {
    /// Its parts, images first: that is what providers with a preference recommend. APIs refuse an empty text beside images.
    fn parts(&self, text: impl Fn(&str) -> Value, image: impl Fn(&Image) -> Result<Value>) -> Result<Value> {
        let said = (self.images.is_empty() || !self.text.is_empty()).then(|| Ok(text(&self.text)));
        self.images.iter().map(image).chain(said).collect()
    }

    /// Its content in the form that most APIs share: a text, or typed parts.
    fn content(&self, image: impl Fn(&Image) -> Result<Value>) -> Result<Value> {
        match self.images.is_empty() {
            true => Ok(self.text.as_str().into()),
            false => self.parts(|text| json!({"type": "text", "text": text}), image),
        }
    }
}

/// Turns in the form that most APIs share.
fn messages(system: Option<&str>, turns: &[Turn<'_>], message: impl Fn(&Turn<'_>) -> Result<Value>) -> Result<Value> {
    let system = system.map(|text| Ok(json!({"role": "system", "content": text})));
    system.into_iter().chain(turns.iter().map(message)).collect()
}

/// A message whose images are parts of type `image_url`.
fn with_image_urls(turn: &Turn<'_>) -> Result<Value> {
    let image = |image: &Image| Ok(json!({"type": "image_url", "image_url": {"url": image.url()?}}));
    Ok(json!({"role": turn.role, "content": turn.content(image)?}))
}

/// Anthropic's message.
fn anthropic(turn: &Turn<'_>) -> Result<Value> {
    let image = |image: &Image| {
        let source = match &image.source {
            Source::Url(url) => json!({"type": "url", "url": url}),
            _ => json!({"type": "base64", "media_type": image.mime_type, "data": image.base64()?}),
        };
        Ok(json!({"type": "image", "source": source}))
    };
    Ok(json!({"role": turn.role, "content": turn.content(image)?}))
}

/// Gemini's content.
fn gemini_content(turn: &Turn<'_>) -> Result<Value> {
    let image = |image: &Image| match &image.source {
        Source::Url(uri) if image.mime_type.is_empty() => Err(Error::invalid(format!(
            "Google's API needs the type of the image at {}; name its mime_type beside its url",
            without_query(uri)
        ))),
        Source::Url(uri) | Source::GoogleStorage(uri) => {
            Ok(json!({"fileData": {"mimeType": image.mime_type, "fileUri": uri}}))
        }
        _ => Ok(json!({"inlineData": {"mimeType": image.mime_type, "data": image.base64()?}})),
    };
    let role = if turn.role == "assistant" { "model" } else { turn.role };
    Ok(json!({"role": role, "parts": turn.parts(|text| json!({"text": text}), image)?}))
}

/// Ollama's message, with images beside the text.
fn ollama(turn: &Turn<'_>) -> Result<Value> {
    let mut message = json!({"role": turn.role, "content": turn.text});
    if !turn.images.is_empty() {
        let images: Value = turn.images.iter().map(Image::base64).collect::<Result<Vec<String>>>()?.into();
        set(&mut message, "images", Some(images));
    }
    Ok(message)
}

/// Bedrock's message.
fn converse(turn: &Turn<'_>) -> Result<Value> {
    let image = |image: &Image| {
        let format = image.mime_type.strip_prefix("image/").unwrap_or(&image.mime_type);
        Ok(json!({"image": {"format": format, "source": {"bytes": image.base64()?}}}))
    };
    Ok(json!({"role": turn.role, "content": turn.parts(|text| json!({"text": text}), image)?}))
}

/// The text of a message, with images as Markdown, as Hugging Face's servers take them.
fn markdown(turn: &Turn<'_>) -> Result<String> {
    let mut text = String::new();
    for image in turn.images {
        text.push_str(&format!("![]({})", image.url()?.replace(')', "%29")));
    }
    text.push_str(&turn.text);
    Ok(text)
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
                let mut body = json!({"messages": messages(system.as_deref(), &turns, with_image_urls)?});
                set(&mut body, limit_name, limit);
                set(&mut body, "temperature", heat);
                set(&mut body, "top_p", top);
                set(&mut body, seed_name, seed);
                set(&mut body, "response_format", native.map(response_format));
                set(&mut body, "response_format", object.map(|_| json!({"type": "json_object"})));
                body
            }
            Chat::Cohere => {
                let mut body = json!({"messages": messages(system.as_deref(), &turns, with_image_urls)?});
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
                let mut body = json!({"messages": messages(None, &turns, anthropic)?});
                set(&mut body, "max_tokens", Some(limit.unwrap_or_else(|| MAX_TOKENS.into())));
                set(&mut body, "system", system.map(Value::from));
                set(&mut body, "temperature", heat);
                set(&mut body, "top_p", top);
                let schema = native.map(|schema| json!({"format": {"type": "json_schema", "schema": closed(schema)}}));
                set(&mut body, "output_config", schema);
                body
            }
            Chat::Gemini => {
                let mut body = json!({"contents": messages(None, &turns, gemini_content)?});
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
                let mut body = json!({"messages": messages(system.as_deref(), &turns, ollama)?});
                set(&mut inner, "num_predict", limit);
                set(&mut inner, "temperature", heat);
                set(&mut inner, "top_p", top);
                set(&mut inner, "seed", seed);
                set(&mut body, "options", Some(inner).filter(|i| *i != json!({})));
                set(&mut body, "format", native.cloned());
                set(&mut body, "format", object.map(|_| "json".into()));
                body
            }
            Chat::TextGeneration { details } => {
                if options.system.is_some() {
                    return Err(none("Hugging Face's text generation", "system"));
                }
                // One text: the task, the data, and an answer to correct.
                let texts = system.into_iter().map(Ok).chain(turns.iter().map(markdown));
                inner = json!({"return_full_text": false});
                // Only they say that an answer was cut.
                set(&mut inner, "details", details.then(|| true.into()));
                set(&mut inner, "max_new_tokens", limit);
                set(&mut inner, "temperature", heat.filter(|t| *t != json!(0)));
                set(&mut inner, "top_p", top);
                set(&mut inner, "seed", seed);
                set(&mut inner, "grammar", native.map(|schema| json!({"type": "json", "value": schema})));
                json!({"inputs": texts.collect::<Result<Vec<_>>>()?.join("\n\n"), "parameters": inner})
            }
            Chat::Converse => {
                if seed.is_some() {
                    return Err(none("Bedrock's Converse API", "seed"));
                }
                let mut body = json!({"messages": messages(None, &turns, converse)?});
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
    use super::super::SHAPES;
    use super::*;
    use crate::json::schema::Schema;
    use crate::providers::chat::{GenerateOptions, Rejected};

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
            r#"{"inputs":"hi","parameters":{"details":true,"return_full_text":false}}"#,
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
            r#"{"inputs":"hi","parameters":{"details":true,"max_new_tokens":5,"return_full_text":false,"seed":7,"temperature":0.5,"top_p":0.25}}"#,
            r#"{"inferenceConfig":{"maxTokens":5,"temperature":0.5,"topP":0.25},"messages":[{"content":[{"text":"hi"}],"role":"user"}],"system":[{"text":"be brief"}]}"#,
        ];
        for (shape, golden) in SHAPES.into_iter().zip(golden) {
            let mut options = GenerateOptions::parse(all).unwrap();
            if matches!(shape, Chat::Anthropic | Chat::Converse) {
                assert!(request(shape, options.clone()).unwrap_err().message().contains("no seed"));
                options.seed = None;
            }
            if matches!(shape, Chat::TextGeneration { .. }) {
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
            images: Default::default(),
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
                r#"{{"inputs":"Count.\n\none","parameters":{{"details":true,"grammar":{{"type":"json","value":{schema}}},"return_full_text":false}}}}"#
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

    fn about(images: &str) -> Question {
        let images = crate::providers::image::Images::read(images.as_bytes()).unwrap();
        Question { images, ..Question::prompt("hi", GenerateOptions::default()) }
    }

    #[test]
    fn images_go_in_each_apis_own_form() {
        const GIF: &str = "R0lGODlhAQ==";
        let parts = format!(
            r#"{{"messages":[{{"content":[{{"image_url":{{"url":"data:image/gif;base64,{GIF}"}},"type":"image_url"}},{{"text":"hi","type":"text"}}],"role":"user"}}]}}"#
        );
        let golden = [
            parts.clone(),
            parts.clone(),
            format!(
                r#"{{"max_tokens":4096,"messages":[{{"content":[{{"source":{{"data":"{GIF}","media_type":"image/gif","type":"base64"}},"type":"image"}},{{"text":"hi","type":"text"}}],"role":"user"}}]}}"#
            ),
            format!(
                r#"{{"contents":[{{"parts":[{{"inlineData":{{"data":"{GIF}","mimeType":"image/gif"}}}},{{"text":"hi"}}],"role":"user"}}]}}"#
            ),
            parts,
            format!(r#"{{"messages":[{{"content":"hi","images":["{GIF}"],"role":"user"}}]}}"#),
            format!(
                r#"{{"inputs":"![](data:image/gif;base64,{GIF})hi","parameters":{{"details":true,"return_full_text":false}}}}"#
            ),
            format!(
                r#"{{"messages":[{{"content":[{{"image":{{"format":"gif","source":{{"bytes":"{GIF}"}}}}}},{{"text":"hi"}}],"role":"user"}}]}}"#
            ),
        ];
        for (shape, golden) in SHAPES.into_iter().zip(golden) {
            assert_eq!(form(shape).request(&about(GIF)).unwrap(), golden, "{shape:?}");
        }
    }

    #[test]
    fn a_url_is_passed_on_where_the_api_reads_it() {
        let question = about("https://h.example/cat(1).png");
        for shape in SHAPES {
            let request = form(shape).request(&question);
            let url = match shape {
                Chat::Ollama | Chat::Converse => {
                    assert!(request.unwrap_err().message().contains("give the bytes"), "{shape:?}");
                    continue;
                }
                Chat::OpenAi { .. } | Chat::Cohere => r#"{"image_url":{"url":"https://h.example/cat(1).png"}"#,
                Chat::Anthropic => r#"{"source":{"type":"url","url":"https://h.example/cat(1).png"}"#,
                Chat::Gemini => r#"{"fileData":{"fileUri":"https://h.example/cat(1).png","mimeType":"image/png"}}"#,
                Chat::TextGeneration { .. } => "![](https://h.example/cat(1%29.png)hi",
            };
            assert!(request.as_ref().unwrap().contains(url), "{request:?}");
        }
        let unnamed = form(Chat::Gemini).request(&about("https://h.example/cat")).unwrap_err();
        assert!(unnamed.message().contains("name its mime_type"), "{unnamed}");
        let storage = about("gs://bucket/cat.png");
        assert!(form(Chat::Gemini).request(&storage).unwrap().contains(r#""fileUri":"gs://bucket/cat.png""#));
        assert!(form(Chat::Anthropic).request(&storage).unwrap_err().message().contains("only Google's"));
    }

    #[test]
    fn an_image_stays_in_the_first_message_and_an_empty_text_is_left_out() {
        let rejected = Rejected { answer: "42".into(), reason: "no".into() };
        let question = Question { text: "".into(), rejected: Some(rejected), ..about("R0lGODlhAQ==") };
        for shape in SHAPES {
            let body = form(shape).request(&question).unwrap();
            assert_eq!(body.matches("R0lGODlhAQ==").count(), 1, "{body}");
            let empty = shape != Chat::Ollama && body.contains("\"text\":\"\"");
            assert!(!empty, "{body}");
        }
        let shown = Question { images: question.images.shown(), ..question };
        let body = form(Chat::COMPATIBLE).request(&shown).unwrap();
        assert!(body.contains("data:image/gif;base64,(7 bytes, SHA-256 "), "{body}");
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
