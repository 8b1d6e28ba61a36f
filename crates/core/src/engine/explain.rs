//! `ai_explain_request`: the request that a call would send.

use std::sync::Arc;

use serde_json::{json, Map, Value};
use surface::functions;

use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::role::Role;

use super::asking::About;
use super::backends::remote::{api_of, documents_in_a_request};
use super::call::Call;
use super::requester::Request;
use super::rerank::read_documents;
use super::target;
use super::transforms::{call_request_functions, transform_functions};
use super::Engine;
use crate::ai::{rerank, Task};
use crate::catalog::default_model::DefaultModel;
use crate::catalog::model::{Backend, ModelType, ProviderId};
use crate::http::display_url;
use crate::providers::chat::Question;
use crate::providers::google::target::needs_project;
use crate::providers::image::Source;
use crate::providers::rerank::Ranking;
use crate::providers::table::provider;
use crate::registration::checked_url;
use crate::registration::endpoint_url::{cloud_of, url_of};

/// Stands for a Google project that only credentials name.
const PROJECT: &str = "PROJECT";

/// A call to explain.
pub enum Explained<'a> {
    /// A question of a task about a text and images. `greedy`: temperature 0 where the options set none.
    Task {
        /// The task.
        task: &'a Task,
        /// The text and the images.
        about: About<'a>,
        /// Whether the temperature is 0 where the options set none.
        greedy: bool,
    },
    /// The embedding of a text.
    Embedding {
        /// The text.
        text: &'a str,
        /// Its role.
        role: Role,
    },
    /// A ranking of documents.
    Ranking {
        /// The query.
        query: &'a str,
        /// A JSON array of texts.
        documents: &'a str,
        /// The most documents in the result; `None` for all.
        top_n: Option<usize>,
    },
}

impl Engine {
    /// The first request of a call, as a JSON object: `url`, `headers`, `body`. The value of a header is null unless the
    /// provider's documentation fixes it. Sends nothing, and reads neither keys nor credentials.
    pub fn explain(
        &self,
        model_id: Option<&str>,
        default: DefaultModel,
        explained: &Explained<'_>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        let model_id = self.model_or_default(model_id, default, interrupt)?;
        let call = self.call(functions::ai_explain_request, &model_id, interrupt)?;
        if matches!(explained, Explained::Embedding { .. }) {
            call.model().must_embed()?;
        }
        // Requests are divided among endpoints: the first one's is shown.
        let first = call.resolved.endpoints.iter().zip(&call.model().options.endpoints).position(|(_, o)| o.weight > 0);
        let at = match first.and_then(|i| call.resolved.endpoints.get(i)) {
            Some(resolved) => Call { resolved: Arc::clone(resolved), ..call.clone() },
            None => call.clone(),
        };
        self.explained(&at, explained, &targets(&call), interrupt)
            .map_err(|e| e.context(&format!("model '{}'", call.model().model_id)))
    }

    /// `targets`: further members.
    fn explained(
        &self,
        call: &Call,
        explained: &Explained<'_>,
        targets: &str,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        let model = call.model();
        if model.backend() != Backend::Remote {
            return Err(Error::invalid("the model runs inside the server: its calls send no request"));
        }
        let mut requests = 1;
        let mut notes = Vec::new();
        let (headers, body) = match explained {
            Explained::Task { task, about, greedy } => {
                let (message, _message) = about.message()?.into_parts();
                if message.images.iter().any(|image| matches!(image.source, Source::Bytes(_))) {
                    notes.push("images are shown by length and digest; the request has their base64".to_owned());
                }
                let images = message.images.shown();
                let question = Question { greedy: *greedy, images, ..task.question(message) };
                self.question_body(call, &question, interrupt)?
            }
            Explained::Embedding { text, role } => {
                // Such a function runs with its definer's rights: what it writes is for the endpoint only.
                if transform_functions(model).0.is_some() {
                    return Err(Error::invalid(
                        "the model's input function makes the body, which is not shown; call the function to see it",
                    ));
                }
                let (headers, _) = call_request_functions(self.store.as_ref(), call, None, text, interrupt)?;
                (headers, api_of(model).embedding_request(model, &[text], *role)?)
            }
            Explained::Ranking { query, documents, top_n } => {
                let (documents, _share) = read_documents(documents)?.into_parts();
                let documents: Vec<&str> = documents.iter().map(AsRef::as_ref).collect();
                let parts: Vec<&[&str]> = match model.model_type {
                    ModelType::Reranking => documents.chunks(documents_in_a_request(model, documents.len())?).collect(),
                    _ => rerank::parts(&documents),
                };
                requests = parts.len();
                let first = *parts.first().ok_or_else(|| {
                    Error::invalid("documents is empty: such a call sends no request and gives an empty array")
                })?;
                if model.model_type == ModelType::Reranking {
                    let top = top_n.unwrap_or(first.len()).min(first.len());
                    let ranking = Ranking { query, documents: first, top };
                    let body = api_of(model).rerank_request(model, &ranking)?;
                    (call_request_functions(self.store.as_ref(), call, None, query, interrupt)?.0, body)
                } else {
                    let question = rerank::task(first.len())?.question(rerank::text(query, first)?.into());
                    self.question_body(call, &question, interrupt)?
                }
            }
        };
        let request = Request::new(call, headers, body)?;
        let mut cloud = cloud_of(model, &call.settings);
        let unknown = model.api == ProviderId::Google && needs_project(model) && cloud.project.is_none();
        if unknown {
            cloud.project = Some(PROJECT.to_owned());
        }
        let url = url_of(model, &cloud)?;
        let mut headers = Map::from_iter([("content-type".to_owned(), Value::from("application/json"))]);
        for (name, value) in target::header_names(&request, &url)? {
            headers.insert(name.to_string(), value.into());
        }
        if unknown {
            notes.push(format!("{PROJECT} stands for the project of the server's Google credentials"));
        }
        if requests > 1 {
            notes.push(format!("the first of {requests} requests"));
        }
        let body = std::str::from_utf8(&request.body).map_err(|_| Error::internal("a request that is not UTF-8"))?;
        let note = match notes.is_empty() {
            true => String::new(),
            false => format!(",\"note\":{}", Value::from(notes.join("; "))),
        };
        Ok(format!(
            "{{\"url\":{},\"headers\":{},\"body\":{body}{note}{targets}}}",
            json!(url.as_str()),
            Value::Object(headers)
        ))
    }

    /// The result of the header function and the body for a question.
    fn question_body(
        &self,
        call: &Call,
        question: &Question,
        interrupt: &dyn Interrupt,
    ) -> Result<(Option<String>, Vec<u8>)> {
        let body = self.remote.form(call.model())?.request(question)?;
        let request = provider(call.model().api).predict_request(call.model(), &body)?;
        let (headers, _) = call_request_functions(self.store.as_ref(), call, None, &body, interrupt)?;
        Ok((headers, request))
    }
}

/// The members of a request that may go elsewhere: `endpoints` and `fallback`.
fn targets(call: &Call) -> String {
    let mut members = String::new();
    if !call.resolved.endpoints.is_empty() {
        let options = &call.model().options.endpoints;
        let shown = call.resolved.endpoints.iter().zip(options).enumerate().map(|(i, (at, option))| {
            let url = checked_url(&at.model, &call.settings).ok();
            json!({"name": option.name(i), "url": url.as_ref().map(display_url), "weight": option.weight})
        });
        members.push_str(&format!(",\"endpoints\":{}", Value::from_iter(shown)));
    }
    if let Some(fallback) = &call.fallback {
        let ids = fallback.calls.iter().map(|call| call.model().model_id.as_str());
        members.push_str(&format!(",\"fallback\":{}", Value::from_iter(ids)));
    }
    members
}
