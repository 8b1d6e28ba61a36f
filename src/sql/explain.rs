//! `ai_explain_request(function_name, arguments)`: the request that a call would send.

use serde_json::{Map, Value};
use surface::{functions, Function};

use super::ai::{AiTask, AnalyzeSentiment, Classify, Extract, Generate, If, Rank, Summarize, Translate};
use super::command::command;
use super::named::goes_by;
use super::rerank::read_top_n;
use crate::jobs::engine;
use mysql_ml_base::error::{cut, Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::role::Role;
use mysql_ml_core::ai::{generate, Task};
use mysql_ml_core::catalog::default_model::DefaultModel;
use mysql_ml_core::catalog::options::parse_object;
use mysql_ml_core::engine::explain::Explained;
use mysql_ml_core::engine::About;
use mysql_ml_core::json::check_document;
use mysql_ml_core::providers::chat::GenerateOptions;

command! {
    /// A JSON object with `url`, `headers` and `body` of the request that `function_name` would send with `arguments`, a JSON
    /// object. Nothing is sent, and no key is read. NULL for a NULL argument.
    ExplainRequest = ai_explain_request, or_null |values, interrupt| {
        match (values.text(0), values.text(1)) {
            (Some(function), Some(arguments)) => explain(function, arguments, interrupt).map(Some),
            _ => Ok(None),
        }
    }
}

/// Makes the task of a function from its second argument and its options.
type MakeTask = fn(&str, &mut Map<String, Value>) -> Result<Task>;

/// What a function asks of a model.
enum Asks {
    Task(MakeTask),
    Generate,
    Embedding(Role),
    Ranking,
}

static EXPLAINED: [(&Function, Asks); 13] = [
    (functions::ai_generate, Asks::Task(Generate::task)),
    (functions::ai_if, Asks::Task(If::task)),
    (functions::ai_rank, Asks::Task(Rank::task)),
    (functions::ai_classify, Asks::Task(Classify::task)),
    (functions::ai_extract, Asks::Task(Extract::task)),
    (functions::ai_summarize, Asks::Task(Summarize::task)),
    (functions::ai_analyze_sentiment, Asks::Task(AnalyzeSentiment::task)),
    (functions::ai_translate, Asks::Task(Translate::task)),
    (functions::ai_rerank, Asks::Ranking),
    (functions::ai_embedding, Asks::Embedding(Role::Document)),
    (functions::ml_generate, Asks::Generate),
    (functions::ml_embedding, Asks::Embedding(Role::Document)),
    (functions::ml_query_embedding, Asks::Embedding(Role::Query)),
];

fn explain(name: &str, arguments: &str, interrupt: &dyn Interrupt) -> Result<String> {
    let (function, asks) = find(name)?;
    let arguments = Arguments::read(function, arguments)?;
    let model_id = arguments.text("model_id");
    let engine = engine();
    match asks {
        Asks::Task(make) => {
            let mut options = arguments.text("options").map(parse_object).transpose()?.unwrap_or_default();
            // It decides about the answer and is not sent.
            options.remove("on_error");
            let between = function.parameters.get(1).filter(|p| !p.optional).map_or("", |p| p.name);
            let task = make(arguments.text(between).unwrap_or_default(), &mut options)?;
            let images = arguments.text("images").map(str::as_bytes);
            let about = About { text: arguments.first()?, images };
            let explained = Explained::Task { task: &task, about, greedy: true };
            engine.explain(model_id, DefaultModel::Llm, &explained, interrupt)
        }
        Asks::Generate => {
            let options = arguments.text("options").map(GenerateOptions::parse).transpose()?.unwrap_or_default();
            let task = generate::task(options)?;
            let about = About { text: arguments.required("prompt")?, images: None };
            let explained = Explained::Task { task: &task, about, greedy: false };
            engine.explain(Some(arguments.required("model_id")?), DefaultModel::Llm, &explained, interrupt)
        }
        Asks::Embedding(role) => {
            let explained = Explained::Embedding { text: arguments.required("content")?, role: *role };
            if function.name != functions::ai_embedding.name {
                arguments.required("model_id")?;
            }
            engine.explain(model_id, DefaultModel::Embedding, &explained, interrupt)
        }
        Asks::Ranking => {
            let top_n = arguments.text("top_n").map(read_top_n).transpose()?;
            let (query, documents) = (arguments.required("query")?, arguments.required("documents")?);
            let explained = Explained::Ranking { query, documents, top_n };
            engine.explain(model_id, DefaultModel::Reranker, &explained, interrupt)
        }
    }
}

/// The name of the stored function: `ai.if`.
fn stored_name(function: &Function) -> String {
    function.routine_name().map_or(function.name.to_owned(), |(schema, name)| format!("{schema}.{name}"))
}

/// The function by the name of its stored or loadable form.
fn find(name: &str) -> Result<&'static (&'static Function, Asks)> {
    let wanted = name.trim().replace('`', "");
    let found = EXPLAINED.iter().find(|(function, _)| {
        wanted.eq_ignore_ascii_case(function.name) || wanted.eq_ignore_ascii_case(&stored_name(function))
    });
    found.ok_or_else(|| {
        let all: Vec<String> = EXPLAINED.iter().map(|(function, _)| stored_name(function)).collect();
        Error::invalid(format!("function_name '{}' cannot be explained; accepted: {}", cut(name, 60), all.join(", ")))
    })
}

/// The arguments of a call, as texts.
struct Arguments {
    function: &'static Function,
    texts: Vec<Option<String>>,
}

impl Arguments {
    /// Reads a JSON object of a function's arguments. Values other than texts are their own JSON.
    fn read(function: &'static Function, json: &str) -> Result<Self> {
        check_document("arguments", json)?;
        let members: Map<String, Value> = serde_json::from_str(json).map_err(|_| {
            Error::invalid("arguments is not a JSON object; give the function's arguments by their names, such as '{\"prompt\": \"x\"}'")
        })?;
        let mut texts: Vec<Option<String>> = vec![None; function.parameters.len()];
        for (name, value) in members {
            let place = function.parameters.iter().position(|parameter| goes_by(parameter, &name));
            let slot = place.and_then(|place| texts.get_mut(place)).ok_or_else(|| {
                let names: Vec<&str> = function.parameters.iter().map(|p| p.name).collect();
                Error::invalid(format!(
                    "argument '{}' is not one of {}; accepted: {}",
                    cut(&name, 60),
                    stored_name(function),
                    names.join(", ")
                ))
            })?;
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text,
                other => other.to_string(),
            };
            if slot.replace(text).is_some() {
                return Err(Error::invalid(format!("argument '{}' is given twice; give it once", cut(&name, 60))));
            }
        }
        let arguments = Arguments { function, texts };
        for parameter in function.parameters.iter().filter(|p| !p.optional && p.name != "model_id") {
            arguments.required(parameter.name)?;
        }
        Ok(arguments)
    }

    fn text(&self, name: &str) -> Option<&str> {
        let place = self.function.parameters.iter().position(|parameter| parameter.name == name)?;
        self.texts.get(place)?.as_deref()
    }

    fn first(&self) -> Result<&str> {
        self.required(self.function.parameter(0))
    }

    fn required(&self, name: &str) -> Result<&str> {
        self.text(name).ok_or_else(|| {
            Error::invalid(format!("argument {name} is missing or null; give it: a call with NULL sends no request"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_both_names() {
        for name in ["ai.if", "AI_IF", " ai.`if` ", "mysql.ml_embedding", "ml_embedding"] {
            assert!(find(name).is_ok(), "{name}");
        }
        let error = find("ai.forecast").err().unwrap();
        assert!(error.message().contains("accepted: ai.generate, ai.if"), "{error}");
    }

    #[test]
    fn arguments_have_the_functions_names() {
        let read = |json: &str| Arguments::read(functions::ai_classify, json);
        let arguments = read(r#"{"text": "x", "labels": ["a"], "model_id": null}"#).unwrap();
        assert_eq!((arguments.first().unwrap(), arguments.text("labels")), ("x", Some(r#"["a"]"#)));
        assert_eq!(arguments.text("model_id"), None);
        for (bad, says) in [
            (r#"{"text": "x"}"#, "labels is missing"),
            (r#"{"text": null, "labels": []}"#, "input is missing"),
            (r#"{"text": "x", "input": "y", "labels": []}"#, "given twice"),
            (r#"{"text": "x", "labels": [], "temperature": 1}"#, "accepted: input, labels, model_id, options"),
            ("[]", "object"),
        ] {
            let error = read(bad).err().unwrap();
            assert!(error.message().contains(says), "{bad}: {error}");
        }
    }
}
