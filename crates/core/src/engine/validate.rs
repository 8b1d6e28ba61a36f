//! `ml_validate_model`: the result of one small live call.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{json, Value};
use surface::functions;

use super::call::{Call, Input};
use super::Engine;
use crate::catalog::model::{Backend, ModelType};
use crate::providers::chat::{GenerateOptions, Question};
use crate::providers::rerank::Ranking;
use crate::providers::table::provider;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::role::Role;
use mysql_ml_base::vector::from_bytes;

/// The text that is embedded.
const TEXT: &str = "mysql-ml";

/// Tokens that a local model generates.
const PROBE_TOKENS: u64 = 4;

/// The least cosine of two vectors of one text by the same model. Servers round differently, by some 1e-3 at the most.
const SAME: f64 = 0.99;

/// The result of a probe of one place.
struct Probed {
    capability: &'static str,
    /// Details, or the error.
    found: Result<Value>,
    latency_ms: f64,
    /// The vector, of a model that embeds.
    vector: Option<Vec<f32>>,
}

impl Engine {
    /// Makes one uncached call, and one to each endpoint and fallback, and returns the result as a JSON object. A failing
    /// model is not an error of this function; KILL, an unknown model and a missing privilege are.
    pub fn validate(&self, model_id: &str, interrupt: &dyn Interrupt) -> Result<String> {
        let call = self.call(functions::ml_validate_model, model_id, interrupt)?;
        let model = call.model();
        let endpoints = call.resolved.endpoints.len();
        // What is compared with the first vector: each place, its name and its list in the result.
        let mut places: Vec<(&str, String, Call)> = Vec::new();
        for (i, option) in model.options.endpoints.iter().enumerate().take(endpoints) {
            places.push(("endpoints", option.name(i), call.at(i)));
        }
        let fallbacks = call.fallback.as_ref();
        for other in fallbacks.iter().flat_map(|fallback| &fallback.calls) {
            places.push(("fallback", other.model().model_id.clone(), other.clone()));
        }
        let mut first = (endpoints == 0).then(|| self.probe(&call.alone(), interrupt)).transpose()?;
        let mut failed = first.as_ref().and_then(|probed| probed.found.as_ref().err().cloned());
        let mut lists: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (list, name, at) in places {
            let mut probed = self.probe(&at, interrupt)?;
            if let (Ok(_), Some(Probed { vector: Some(first), .. }), Some(vector)) =
                (&probed.found, &first, &probed.vector)
                && let Err(error) = must_be_the_same(first, vector)
            {
                probed.found = Err(error);
            }
            let place = if list == "fallback" { format!("fallback '{name}'") } else { format!("endpoint '{name}'") };
            let mut entry = json!({"name": name, "ok": probed.found.is_ok(), "latency_ms": probed.latency_ms});
            match &probed.found {
                Ok(details) => {
                    merge(&mut entry, details.clone());
                }
                Err(error) => {
                    merge(&mut entry, json!({"error": error.message()}));
                    failed.get_or_insert(error.clone().context(&place));
                }
            }
            lists.entry(list).or_default().push(entry);
            // The first that works is the measure of the others.
            if first.as_ref().is_none_or(|first| first.found.is_err() && endpoints > 0 && list == "endpoints") {
                first = Some(probed);
            }
        }
        if let Some(error) = fallbacks.and_then(|fallback| fallback.broken.as_ref()) {
            failed.get_or_insert(error.clone());
        }
        let first = first.ok_or_else(|| Error::internal("a model without a place"))?;
        let mut result = json!({
            "model_id": model_id,
            "provider": model.provider.as_str(),
            "model_type": model.model_type.as_str(),
            "capability": first.capability,
            "ok": failed.is_none(),
            "latency_ms": first.latency_ms,
        });
        if let Ok(details) = first.found {
            merge(&mut result, details);
        }
        if let Some(error) = failed {
            merge(&mut result, json!({"error": error.message()}));
        }
        merge(&mut result, json!(lists));
        Ok(result.to_string())
    }

    /// One uncached call. An error only if the statement cannot go on.
    fn probe(&self, call: &Call, interrupt: &dyn Interrupt) -> Result<Probed> {
        let model = call.model();
        let started = Instant::now();
        let mut vector = None;
        let (capability, found) = if model.backend() == Backend::Local && model.model_type == ModelType::Reranking {
            let ranking = Ranking { query: TEXT, documents: &[TEXT], top: 1 };
            let ranked = self.reranker(model).and_then(|reranker| reranker.rerank(call, &ranking, interrupt));
            ("rerank", ranked.map(|_| json!({})))
        } else if model.backend() == Backend::Local && !model.model_type.embeds() {
            let options = GenerateOptions { max_tokens: Some(PROBE_TOKENS), ..GenerateOptions::default() };
            let found = self.generator(model).generate(call, &Question::prompt(TEXT, options), None, interrupt);
            let found = match found {
                // Cut after a few tokens: the model works.
                Err(e) if e.kind() == Kind::Response => Ok(json!({})),
                other => other.map(|_| json!({})),
            };
            ("generate", found)
        } else if model.model_type.embeds() {
            let found = self.embed(call, Input::Text(TEXT), Role::Document, None, interrupt).map(|bytes| {
                vector = Some(from_bytes(&bytes));
                json!({"dimensions": bytes.len() / 4})
            });
            ("embedding", found)
        } else {
            let probe = provider(model.api).probe(model);
            let known = probe.is_some();
            let body = probe.unwrap_or_else(|| "{}".into());
            let found = call.counted(self.predictor(model).predict(call, &body, interrupt)).map(|_| json!({}));
            let found = match found {
                // The model's input is unknown; a refusal of an empty body proves that it exists.
                Err(e) if !known && matches!(e.kind(), Kind::Provider(400 | 405 | 415 | 422)) => {
                    Ok(json!({"note": "the endpoint answers, and refuses an empty request", "answer": e.message()}))
                }
                other => other,
            };
            (if model.model_type == ModelType::Reranking { "rerank" } else { "generate" }, found)
        };
        let latency_ms = started.elapsed().as_micros() as f64 / 1000.0;
        match found {
            Err(e) if matches!(e.kind(), Kind::Interrupted(_) | Kind::Server(_)) => Err(e),
            found => Ok(Probed { capability, found, latency_ms, vector }),
        }
    }
}

/// Adds the members of one object to another.
fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}

/// An error if two vectors of one text are not of the same model.
fn must_be_the_same(first: &[f32], vector: &[f32]) -> Result<()> {
    if first.len() != vector.len() {
        return Err(Error::response(format!(
            "it answered with {} dimensions and another place with {}; all must serve the same model",
            vector.len(),
            first.len()
        )));
    }
    let (mut dot, mut a, mut b) = (0.0, 0.0, 0.0);
    for (x, y) in first.iter().zip(vector) {
        let (x, y) = (f64::from(*x), f64::from(*y));
        (dot, a, b) = (dot + x * y, a + x * x, b + y * y);
    }
    let cosine = dot / (a * b).sqrt();
    if cosine >= SAME {
        return Ok(());
    }
    Err(Error::response(format!(
        "its vector of a text differs from that of another place (cosine similarity {cosine:.3}); all must serve the same model in the same revision"
    )))
}
