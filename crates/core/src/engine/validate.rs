//! `ml_validate_model`: the result of one small live call.

use std::time::Instant;

use serde_json::{json, Value};
use surface::functions;

use super::call::Input;
use super::Engine;
use crate::catalog::model::{Backend, ModelType};
use crate::providers::chat::{GenerateOptions, Question};
use crate::providers::rerank::Ranking;
use crate::providers::table::provider;
use mysql_ml_base::error::{Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::role::Role;

/// The text that is embedded.
const TEXT: &str = "mysql-ml";

/// Tokens that a local model generates.
const PROBE_TOKENS: u64 = 4;

impl Engine {
    /// Makes one uncached call and returns its result as a JSON object. A failing model is not an error of this
    /// function; KILL, an unknown model and a missing privilege are.
    pub fn validate(&self, model_id: &str, interrupt: &dyn Interrupt) -> Result<String> {
        let call = self.call(functions::ml_validate_model, model_id, interrupt)?;
        let model = call.model();
        let started = Instant::now();
        let (capability, found) = if model.backend() == Backend::Local && model.model_type == ModelType::Reranking {
            let ranking = Ranking { query: TEXT, documents: &[TEXT], top: 1 };
            let ranked = self.reranker(model).and_then(|reranker| reranker.rerank(&call, &ranking, interrupt));
            ("rerank", ranked.map(|_| json!({})))
        } else if model.backend() == Backend::Local && !model.model_type.embeds() {
            let options = GenerateOptions { max_tokens: Some(PROBE_TOKENS), ..GenerateOptions::default() };
            let found = self.generator(model).generate(&call, &Question::prompt(TEXT, options), None, interrupt);
            let found = match found {
                // Cut after a few tokens: the model works.
                Err(e) if e.kind() == Kind::Response => Ok(json!({})),
                other => other.map(|_| json!({})),
            };
            ("generate", found)
        } else if model.model_type.embeds() {
            let found = self
                .embed(&call, Input::Text(TEXT), Role::Document, None, interrupt)
                .map(|bytes| json!({"dimensions": bytes.len() / 4}));
            ("embedding", found)
        } else {
            let probe = provider(model.api).probe(model);
            let known = probe.is_some();
            let body = probe.unwrap_or_else(|| "{}".into());
            let found = call.counted(self.predictor(model).predict(&call, &body, interrupt)).map(|_| json!({}));
            let found = match found {
                // The model's input is unknown; a refusal of an empty body proves that it exists.
                Err(e) if !known && matches!(e.kind(), Kind::Provider(400 | 405 | 415 | 422)) => {
                    Ok(json!({"note": "the endpoint answers, and refuses an empty request", "answer": e.message()}))
                }
                other => other,
            };
            (if model.model_type == ModelType::Reranking { "rerank" } else { "generate" }, found)
        };
        let latency = started.elapsed().as_micros() as f64 / 1000.0;
        let mut result = json!({
            "model_id": model_id,
            "provider": model.provider.as_str(),
            "model_type": model.model_type.as_str(),
            "capability": capability,
        });
        let more = match found {
            Ok(more) => json!({"ok": true, "latency_ms": latency, "details": more}),
            Err(e) if matches!(e.kind(), Kind::Interrupted(_) | Kind::Server(_)) => return Err(e),
            Err(e) => json!({"ok": false, "latency_ms": latency, "error": e.message()}),
        };
        if let (Some(result), Value::Object(mut more)) = (result.as_object_mut(), more) {
            if let Some(Value::Object(details)) = more.remove("details") {
                more.extend(details);
            }
            result.extend(more);
        }
        Ok(result.to_string())
    }
}
