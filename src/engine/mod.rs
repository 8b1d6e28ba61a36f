//! What a call does: resolve the model, look into the cache, build the request, send it, read the answer.
//!
//! Runs without a server: the registry is a trait ([`crate::models::store::Store`]), so unit tests need no mysqld.

pub mod registry;

use std::sync::Arc;
use std::time::{Duration, Instant};

use once_cell::sync::Lazy;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use ureq::http::{header, HeaderName};

use self::registry::Registry;
use crate::cache::memory::{Key, MemoryCache};
use crate::credentials;
use crate::error::{cut, Error, Result};
use crate::http::{Answer, Call, Client};
use crate::models::endpoint_url::url_of;
use crate::models::function_name::FunctionName;
use crate::models::model::{check_id, InputTransform, Model, ModelType, OutputTransform};
use crate::models::secret::SecretPath;
use crate::models::settings::Settings;
use crate::models::sql_store::SqlStore;
use crate::models::store::{ResolvedModel, Store};
use crate::providers::custom::Custom;
use crate::providers::provider;
use crate::threads::interrupt::{CancelToken, Interrupt};
use crate::threads::workers::{Config, Workers};
use crate::vector;

/// Calls in progress at once; more queue until their deadline.
const MAX_HTTP_THREADS: usize = 256;

/// How much longer than its deadline a call is waited for, so that the worker's own error is the one shown.
const GRACE: Duration = Duration::from_millis(500);

/// The engine: one per process.
pub struct Engine {
    store: Box<dyn Store>,
    registry: Registry,
    client: Arc<Client>,
    workers: Workers,
    cache: MemoryCache,
}

impl Engine {
    /// The engine of the server this library is loaded into.
    pub fn global() -> &'static Engine {
        static ENGINE: Lazy<Engine> = Lazy::new(|| Engine::new(Box::new(SqlStore)));
        &ENGINE
    }

    /// An engine over any registry.
    pub fn new(store: Box<dyn Store>) -> Self {
        Engine {
            store,
            registry: Registry::default(),
            client: Arc::default(),
            workers: Workers::new(Config {
                name: "mysql_ml-http",
                max_threads: MAX_HTTP_THREADS,
                idle: Duration::from_secs(10),
                stack: 2 << 20,
                on_start: || Ok(()),
                on_stop: || {},
            }),
            cache: MemoryCache::default(),
        }
    }

    /// The registry's cache, for what changes registrations.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The settings in force.
    pub fn settings(&self, interrupt: &dyn Interrupt) -> Result<Arc<Settings>> {
        self.registry.settings(self.store.as_ref(), interrupt)
    }

    /// The vector of `text`, as the bytes of a VECTOR.
    pub fn embedding(&self, model_id: &str, text: &str, interrupt: &dyn Interrupt) -> Result<Arc<[u8]>> {
        check_id("model_id", model_id)?;
        let settings = self.settings(interrupt)?;
        let resolved = self.registry.model(self.store.as_ref(), "ml_embedding", model_id, &settings, interrupt)?;
        let model = &resolved.model;
        if model.model_type != ModelType::TextEmbedding {
            return Err(Error::invalid(format!(
                "model '{model_id}' has model_type generic; call ml_predict_row, or register it as text_embedding"
            )));
        }
        let cache = self.cache.sized(settings.cache_memory);
        let key = cache.as_ref().map(|_| Key::new(&model.fingerprint, text));
        if let Some(hit) = cache.as_ref().zip(key.as_ref()).and_then(|(cache, key)| cache.get(key)) {
            return Ok(hit);
        }
        let context = |e: Error| e.context(&format!("model '{model_id}'"));
        let bytes: Arc<[u8]> = self.embed(&resolved, text, &settings, interrupt).map_err(context)?.into();
        if let Some((cache, key)) = cache.zip(key) {
            cache.insert(key, Arc::clone(&bytes));
        }
        Ok(bytes)
    }

    fn embed(
        &self,
        resolved: &Arc<ResolvedModel>,
        text: &str,
        settings: &Arc<Settings>,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<u8>> {
        let model = &resolved.model;
        // Transforms in a registration replace the provider's own shapes.
        let api = if model.input.is_some() { &Custom } else { provider(model.provider) };
        let bytes = match api.embed_here(model, text) {
            Some(vector) => vector::to_bytes(&vector?)?,
            None => {
                let (input_fn, output_fn) = transform_functions(model);
                let (headers, body) = self.functions(resolved, input_fn, text, interrupt)?;
                let body = match body {
                    Some(body) => body.into_bytes(),
                    None => api.embedding_request(model, text)?,
                };
                let answer = self.send(resolved, headers, body, settings, interrupt)?;
                match output_fn {
                    Some(output) => self.output(resolved, output, &answer.body, interrupt)?,
                    None => vector::to_bytes(&api.read_embedding(model, &answer.body)?)?,
                }
            }
        };
        match model.options.dimensions {
            Some(wanted) if bytes.len() as u64 != wanted * 4 => Err(Error::response(format!(
                "the endpoint answered with {} dimensions, but the model's option dimensions is {wanted}; correct one of them",
                bytes.len() / 4
            ))),
            _ => Ok(bytes),
        }
    }

    /// Calls the header and input functions that the model names.
    fn functions(
        &self,
        resolved: &Arc<ResolvedModel>,
        input_fn: Option<&FunctionName>,
        argument: &str,
        interrupt: &dyn Interrupt,
    ) -> Result<(Option<String>, Option<String>)> {
        let header_fn = resolved.model.header_fn.as_ref();
        if header_fn.is_none() && input_fn.is_none() {
            return Ok((None, None));
        }
        let (headers, body) = self.store.call_input_functions(resolved, header_fn, input_fn, argument, interrupt)?;
        let null = |role: &str, name: Option<&FunctionName>| {
            let name = name.map(ToString::to_string).unwrap_or_default();
            Error::invalid(format!("the {role} function {name} returned NULL; it must return a JSON document"))
        };
        if header_fn.is_some() && headers.is_none() {
            return Err(null("header", header_fn));
        }
        if input_fn.is_some() && body.is_none() {
            return Err(null("input transform", input_fn));
        }
        Ok((headers, body))
    }

    fn output(
        &self,
        resolved: &Arc<ResolvedModel>,
        output: &FunctionName,
        answer: &[u8],
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<u8>> {
        let text = json_text(answer)?;
        let bytes = self.store.call_output_function(resolved, output, text, interrupt)?.ok_or_else(|| {
            Error::response(format!(
                "the output transform function {output} returned NULL for the answer: {}",
                cut(text, 120)
            ))
        })?;
        vector::check_bytes(&bytes).map_err(|e| e.context(&format!("output transform function {output}")))?;
        Ok(bytes)
    }

    /// The model's answer to `body`, a JSON document.
    pub fn predict(&self, model_id: &str, body: &str, interrupt: &dyn Interrupt) -> Result<String> {
        check_id("model_id", model_id)?;
        let settings = self.settings(interrupt)?;
        let resolved = self.registry.model(self.store.as_ref(), "ml_predict_row", model_id, &settings, interrupt)?;
        let context = |e: Error| e.context(&format!("model '{model_id}'"));
        let request = check_json(body)
            .and_then(|()| provider(resolved.model.provider).predict_request(&resolved.model, body))
            .map_err(context)?;
        let (headers, _) = self.functions(&resolved, None, body, interrupt).map_err(context)?;
        let answer = self.send(&resolved, headers, request, &settings, interrupt).map_err(context)?;
        json_text(&answer.body).map(str::to_owned).map_err(context)
    }

    /// Sends a request on a worker and waits for the answer.
    fn send(
        &self,
        resolved: &Arc<ResolvedModel>,
        header_json: Option<String>,
        body: Vec<u8>,
        settings: &Arc<Settings>,
        interrupt: &dyn Interrupt,
    ) -> Result<Answer> {
        let model = &resolved.model;
        let url = url_of(model)?;
        if let Some(secret) = &resolved.secret {
            secret.check_url(&url)?;
        }
        let headers = match header_json {
            Some(json) => read_headers(&json)?,
            None => Vec::new(),
        };
        let timeout = model.options.timeout_ms.map_or(settings.timeout, Duration::from_millis);
        let deadline = Instant::now() + timeout;
        let cancel = CancelToken::default();
        let pending = {
            let (client, settings, cancel) = (Arc::clone(&self.client), Arc::clone(settings), cancel.clone());
            let resolved = Arc::clone(resolved);
            self.workers.run(move || {
                let call = Call {
                    url,
                    // Here and not on the statement's thread: a secret's file may be on a mount that hangs.
                    headers: with_secret(headers, resolved.secret.as_ref().map(|s| &s.path))?,
                    body,
                    deadline,
                    connect_timeout: settings.connect_timeout,
                    max_retries: resolved.model.options.max_retries.unwrap_or(settings.max_retries),
                    max_response: settings.max_response,
                };
                client.send(&call, &settings, &cancel)
            })?
        };
        let result = pending.wait(interrupt, deadline + GRACE);
        if result.is_err() {
            // Nobody waits any more: the worker and the connection are free again within its next slice.
            cancel.cancel();
        }
        result
    }
}

/// Adds the model's key as a bearer token, unless a header function authorized the request already.
fn with_secret(
    mut headers: Vec<(HeaderName, SecretString)>,
    secret: Option<&SecretPath>,
) -> Result<Vec<(HeaderName, SecretString)>> {
    let authorized = headers.iter().any(|(name, _)| *name == header::AUTHORIZATION);
    if let Some(path) = secret.filter(|_| !authorized) {
        let key = credentials::read(path)?;
        headers.push((header::AUTHORIZATION, format!("Bearer {}", key.expose_secret()).into()));
    }
    Ok(headers)
}

/// The stored functions among the model's transforms.
fn transform_functions(model: &Model) -> (Option<&FunctionName>, Option<&FunctionName>) {
    let input = match &model.input {
        Some(InputTransform::Function(name)) => Some(name),
        _ => None,
    };
    let output = match &model.output {
        Some(OutputTransform::Function(name)) => Some(name),
        _ => None,
    };
    (input, output)
}

/// What a header function returned, as headers.
fn read_headers(json: &str) -> Result<Vec<(HeaderName, SecretString)>> {
    let shape = || Error::invalid("the header function must return a JSON object of header names and text values");
    let Ok(Value::Object(map)) = serde_json::from_str::<Value>(json) else { return Err(shape()) };
    if map.len() > 100 {
        return Err(Error::invalid("the header function returned more than 100 headers"));
    }
    map.into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| {
            let value = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(b) => b.to_string(),
                _ => return Err(shape()),
            };
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                Error::invalid(format!("the header function returned '{}', which is not a header name", cut(&name, 60)))
            })?;
            let reserved = [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION];
            if reserved.contains(&name) || name == header::CONTENT_TYPE {
                return Err(Error::invalid(format!("the header function may not set the header {name}")));
            }
            Ok((name, SecretString::from(value)))
        })
        .collect()
}

/// Checks that a request body is JSON, without building it.
fn check_json(body: &str) -> Result<()> {
    serde_json::from_str::<serde::de::IgnoredAny>(body)
        .map(|_| ())
        .map_err(|e| Error::invalid(format!("request_body is not valid JSON: {e}")))
}

/// The answer as JSON text in UTF-8.
fn json_text(answer: &[u8]) -> Result<&str> {
    serde_json::from_slice::<serde::de::IgnoredAny>(answer)
        .map_err(|e| crate::providers::numbers::unreadable(&e, answer))?;
    std::str::from_utf8(answer).map_err(|_| Error::response("the endpoint's answer is not valid UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_functions_results_become_headers() {
        let headers = read_headers(r#"{"x-api-key":"k","anthropic-version":"2023-06-01","n":1,"skip":null}"#).unwrap();
        assert_eq!(headers.len(), 3);
        for bad in ["[]", "{\"a b\":\"x\"}", "{\"a\":[]}", "{\"Host\":\"evil\"}", "nonsense"] {
            assert!(read_headers(bad).is_err(), "{bad}");
        }
    }
}
