//! What a call does: resolve the model, look into the cache, build the request, send it, read the answer.
//!
//! Runs without a server: the registry is a trait ([`crate::engine::store::Store`]), so unit tests need no mysqld.

mod batch;
pub mod bulk;
#[cfg(feature = "local")]
mod fetch;
mod flights;
pub mod gather;
mod generate;
mod image;
mod local;
mod lookup;
mod pacing;
pub mod registry;
mod send;
pub mod status;
pub mod store;
mod validate;

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use ureq::http::{header, HeaderName};

use self::generate::Learnt;
#[cfg(feature = "local")]
use self::local::Local;
use self::lookup::Lookups;
use self::pacing::Gates;
use self::registry::Registry;
use self::send::{unpacked, Outside, Request};
use self::status::{Activity, Status};
use crate::cache::disk::DiskCache;
use crate::cache::memory::MemoryCache;
use crate::catalog::function_name::FunctionName;
use crate::catalog::model::{check_id, InputTransform, Model, OutputTransform, ProviderId};
use crate::catalog::settings::Settings;
use crate::credentials::keyring::Keyring;
use crate::engine::store::{ResolvedModel, Routine, Store};
use crate::http::leaked_key;
use crate::providers::custom::Custom;
use crate::providers::google::target;
use crate::providers::provider;
use crate::providers::usage::{self, Usage};
use crate::registration::endpoint_url::{cloud_of, url_of};
use crate::registration::google_presets;
use crate::registration::Registration;
use mysql_ml_base::account::Account;
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{Held, Reservation};
use mysql_ml_base::role::Role;
use mysql_ml_base::shares::Share;
use mysql_ml_base::vector;
use mysql_ml_base::workers::{Config, Workers};

/// Requests in progress at once. One model has a quarter for each account, half for all; more queue until their deadline.
const MAX_HTTP_THREADS: usize = 1024;

/// Requests that wait for a thread.
const MAX_WAITING_REQUESTS: usize = 8192;

/// The engine: one per process.
pub struct Engine {
    store: Box<dyn Store>,
    registry: Registry,
    outside: Arc<Outside>,
    workers: Workers,
    cache: MemoryCache,
    disk: DiskCache,
    lookups: Lookups,
    status: Status,
    gates: Gates,
    learnt: Learnt,
    #[cfg(feature = "local")]
    local: Local,
}

impl Engine {
    /// An engine over any registry and keyring.
    pub fn new(store: Box<dyn Store>, keyring: Box<dyn Keyring>) -> Self {
        Engine {
            store,
            registry: Registry::default(),
            outside: Arc::new(Outside::new(keyring)),
            workers: Workers::new(Config {
                name: "mysql_ml-http",
                max_threads: MAX_HTTP_THREADS,
                max_waiting: MAX_WAITING_REQUESTS,
                idle: Duration::from_secs(10),
                stack: 2 << 20,
                on_start: || Ok(()),
                on_stop: || {},
            }),
            cache: MemoryCache::default(),
            disk: DiskCache::default(),
            lookups: Lookups::default(),
            status: Status::default(),
            gates: Gates::default(),
            learnt: Learnt::default(),
            #[cfg(feature = "local")]
            local: Local::default(),
        }
    }

    /// The share that work of the account in force with a model has of threads and other places, here and for models
    /// inside the server: one account's slow model holds up neither its other models nor other accounts.
    pub fn share(&self, model: &Model) -> Result<Share> {
        let account = self.store.caller()?.to_string().into();
        Ok(Share { account: Some(account), source: Some(format!("model '{}'", counted_as(model)).into()) })
    }

    /// The registry's cache, for what changes registrations.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The server's own error where the account in force may not execute the routine.
    pub fn may_call(&self, routine: Routine, interrupt: &dyn Interrupt) -> Result<()> {
        self.store.check(routine, interrupt)
    }

    /// The settings in force.
    pub fn settings(&self, interrupt: &dyn Interrupt) -> Result<Arc<Settings>> {
        self.settings_in_force(interrupt).map(|(settings, _)| settings)
    }

    /// A registered model, for a function that the caller may execute.
    pub fn model(
        &self,
        function: Routine,
        model_id: &str,
        settings: &Settings,
        interrupt: &dyn Interrupt,
    ) -> Result<Arc<ResolvedModel>> {
        self.registry.model(self.store.as_ref(), function, model_id, settings, interrupt)
    }

    /// The counters of all models, as a JSON document.
    pub fn status_json(&self) -> String {
        let (entries, bytes) = self.cache.size();
        let cache = json!({"entries": entries, "bytes": bytes, "disk": self.disk.status()});
        self.status.to_json(cache, self.local_status())
    }

    /// Sets the counters to zero.
    pub fn reset_status(&self) {
        self.status.reset();
        self.disk.reset_status();
        mysql_ml_base::memory::reset_status();
    }

    /// The vector of `text`, as the bytes of a VECTOR. `function` is the one that was called, on whose stored routine
    /// the caller needs EXECUTE.
    pub fn embedding(
        &self,
        function: Routine,
        model_id: &str,
        text: &str,
        role: Role,
        interrupt: &dyn Interrupt,
    ) -> Result<Arc<[u8]>> {
        let (settings, resolved) = self.resolve(function, model_id, text, interrupt)?;
        must_embed(&resolved.model)?;
        let activity = self.status.of(counted_as(&resolved.model));
        activity.called();
        self.looked_up(&resolved, text, role, &settings, &activity, interrupt)
            .map_err(|e| e.context(&format!("model '{model_id}'")))
    }

    /// The settings and the model of a call. Where there is none, the `other` argument is looked at: the two are easily
    /// given in each other's place.
    fn resolve(
        &self,
        function: Routine,
        model_id: &str,
        other: &str,
        interrupt: &dyn Interrupt,
    ) -> Result<(Arc<Settings>, Arc<ResolvedModel>)> {
        let settings = self.settings(interrupt)?;
        let find = |id: &str| {
            check_id("model_id", id)?;
            self.registry.model(self.store.as_ref(), function, id, &settings, interrupt)
        };
        match find(model_id) {
            Ok(resolved) => Ok((settings, resolved)),
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Invalid) && find(other).is_ok() => {
                Err(Error::invalid(format!(
                    "the first argument is not a registered model, but the second one, '{}', is; give the model's id first",
                    cut(other, 120)
                )))
            }
            Err(e) => Err(e),
        }
    }

    /// `limit`: until when it may take at most, where it began before.
    #[allow(clippy::too_many_arguments)]
    fn embed(
        &self,
        resolved: &Arc<ResolvedModel>,
        text: &str,
        role: Role,
        settings: &Arc<Settings>,
        activity: &Activity,
        limit: Option<Instant>,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<u8>> {
        let result = self.embed_uncounted(resolved, text, role, settings, activity, limit, interrupt);
        result.map_err(|error| {
            activity.failed(&error);
            of_text(error, text)
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn embed_uncounted(
        &self,
        resolved: &Arc<ResolvedModel>,
        text: &str,
        role: Role,
        settings: &Arc<Settings>,
        activity: &Activity,
        limit: Option<Instant>,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<u8>> {
        let model = &resolved.model;
        let _text = Reservation::take(text.len().saturating_mul(3), "the text")?;
        // Transforms in a registration replace the provider's own shapes.
        let api = if model.input.is_some() { &Custom } else { provider(model.speaks) };
        let normalize = model.options.normalize == Some(true);
        let to_bytes = |mut vector: Vec<f32>| {
            if normalize {
                vector::normalize(&mut vector);
            }
            vector::to_bytes(&vector)
        };
        let here = if local::is_here(model) {
            Some(self.embed_locally(resolved, text, role, settings, activity, limit, interrupt))
        } else {
            api.embed_here(model, text)
        };
        let bytes = match here {
            Some(vector) => {
                let bytes = to_bytes(vector?)?;
                activity.used(1, Usage::default());
                bytes
            }
            None => {
                let (input_fn, output_fn) = transform_functions(model);
                let (headers, body) = self.functions(resolved, input_fn, text, interrupt)?;
                let body = match body {
                    Some(body) => body.into_bytes(),
                    None => api.embedding_request(model, &[text], role)?,
                };
                let mut request = self.request(resolved, headers, body, tokens_in(text), settings)?;
                if let Some(limit) = limit {
                    request.deadline = request.deadline.min(limit);
                }
                match output_fn {
                    Some(output) => {
                        let answer = self.send(request, activity, interrupt, |answer| {
                            send::must_not_be_an_error(answer, model)?;
                            Ok((std::mem::take(&mut answer.body), None))
                        })?;
                        activity.used(1, Usage::default());
                        let bytes = self.output(resolved, output, &answer, interrupt)?;
                        send::must_not_be_zero(&vector::from_bytes(&bytes))?;
                        if normalize {
                            to_bytes(vector::from_bytes(&bytes))?
                        } else {
                            bytes
                        }
                    }
                    None => self.send(request, activity, interrupt, |answer| {
                        let _unpacked = unpacked(&answer.body)?;
                        let read = api.read_embeddings(model, &answer.body, 1)?;
                        activity.used(1, Usage { input: read.tokens, output: None });
                        let vector = read.vectors.into_iter().next();
                        let vector = vector.ok_or_else(|| Error::response("the endpoint answered without a vector"))?;
                        send::must_not_be_zero(&vector)?;
                        Ok((to_bytes(vector)?, read.tokens))
                    })?,
                }
            }
        };
        check_width(&bytes, model.options.dimensions)?;
        Ok(bytes)
    }

    fn request(
        &self,
        resolved: &Arc<ResolvedModel>,
        header_json: Option<String>,
        body: Vec<u8>,
        tokens: u64,
        settings: &Arc<Settings>,
    ) -> Result<Request> {
        let share = Reservation::take(body.len().saturating_mul(2), "the request")?;
        Self::request_in(share, resolved, header_json, body, tokens, settings)
    }

    /// The same, with memory that was taken for it.
    fn request_in(
        mut share: Reservation,
        resolved: &Arc<ResolvedModel>,
        header_json: Option<String>,
        body: Vec<u8>,
        tokens: u64,
        settings: &Arc<Settings>,
    ) -> Result<Request> {
        let timeout = resolved.model.options.timeout_ms.map_or(settings.timeout, Duration::from_millis);
        // It is copied once, out of the buffer it was written into.
        let body: Arc<[u8]> = body.into();
        share.shrink_to(body.len());
        Ok(Request {
            resolved: Arc::clone(resolved),
            headers: header_json.as_deref().map(read_headers).transpose()?.unwrap_or_default(),
            body,
            _share: share,
            settings: Arc::clone(settings),
            timeout,
            deadline: Instant::now() + timeout,
            tokens,
        })
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
        let _statement =
            Reservation::take(argument.len().saturating_mul(4), "the call of the input transform function")?;
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
        let _statement = Reservation::take(text.len().saturating_mul(4), "the call of the output transform function")?;
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
    pub fn predict(&self, model_id: &str, body: &str, interrupt: &dyn Interrupt) -> Result<Held<String>> {
        let _body = Reservation::take(body.len().saturating_mul(2), "request_body")?;
        let (settings, resolved) = self.resolve(Routine::PREDICT_ROW, model_id, body, interrupt)?;
        let activity = self.status.of(counted_as(&resolved.model));
        activity.called();
        self.answer(&resolved, body, &settings, &activity, interrupt)
            .map_err(|e| e.context(&format!("model '{model_id}'")))
    }

    fn answer(
        &self,
        resolved: &Arc<ResolvedModel>,
        body: &str,
        settings: &Arc<Settings>,
        activity: &Activity,
        interrupt: &dyn Interrupt,
    ) -> Result<Held<String>> {
        let answered = || {
            check_json(body)?;
            let request = provider(resolved.model.speaks).predict_request(&resolved.model, body)?;
            let (headers, _) = self.functions(resolved, None, body, interrupt)?;
            let request = self.request(resolved, headers, request, tokens_in(body), settings)?;
            self.send(request, activity, interrupt, |answer| {
                let usage =
                    usage::of_answer(&answer.body).map_err(|e| crate::json::numbers::unreadable(&e, &answer.body))?;
                // What a service of one's own means by a member called error is for its caller to say.
                if resolved.model.speaks != ProviderId::Custom {
                    send::must_not_be_an_error(answer, &resolved.model)?;
                }
                activity.used(0, usage);
                let text = String::from_utf8(std::mem::take(&mut answer.body))
                    .map_err(|_| Error::response("the endpoint's answer is not valid UTF-8"))?;
                let tokens = match (usage.input, usage.output) {
                    (None, None) => None,
                    (input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
                };
                Ok((Held::new(text, std::mem::take(&mut answer.share)), tokens))
            })
        };
        let result = answered();
        if let Err(error) = &result {
            activity.failed(error);
        }
        result
    }

    /// The URL that a registration with these arguments would be called at.
    pub fn request_url(
        &self,
        registration: &Registration,
        location: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        let settings = self.settings(interrupt)?;
        let mut model = registration.to_model(None, Account::library(), "")?;
        model.options.location = location.map(str::to_owned);
        let mut cloud = cloud_of(&model, &settings);
        if model.speaks == ProviderId::Google && target::needs_project(&model) && cloud.project.is_none() {
            let known = cloud.clone();
            cloud = self.outside(&settings, interrupt, move |credentials, http| {
                let mut cloud = known;
                credentials.google().complete(&mut cloud, None, http)?;
                Ok(cloud)
            })?;
        }
        url_of(&model, &cloud).map(String::from)
    }
}

/// What decides a model's answers: its registration; for some the cloud project that the settings name; of one inside
/// the server its files, of which `stamp` tells.
fn fingerprint(resolved: &ResolvedModel, settings: &Settings, stamp: impl FnOnce() -> String) -> [u8; 32] {
    let model = &resolved.model;
    if local::is_here(model) {
        let mut hash = Sha256::new();
        hash.update(model.fingerprint);
        hash.update(stamp());
        return hash.finalize().into();
    }
    if model.speaks != ProviderId::Google {
        return model.fingerprint;
    }
    let cloud = cloud_of(model, settings);
    let mut hash = Sha256::new();
    hash.update(model.fingerprint);
    for part in [cloud.project, cloud.location] {
        hash.update([u8::from(part.is_some())]);
        hash.update(part.unwrap_or_default());
        hash.update([0]);
    }
    hash.finalize().into()
}

/// The id that a model is counted under. Models that nobody registered have any number of ids.
fn counted_as(model: &Model) -> &str {
    if model.listed && model.speaks == ProviderId::Google && !google_presets::LISTED.contains(&model.model_id.as_str())
    {
        "(other models of Google)"
    } else {
        &model.model_id
    }
}

/// An error for a model that does not embed.
pub fn must_embed(model: &Model) -> Result<()> {
    if model.model_type.embeds() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "model '{}' has model_type {}; call ml_predict_row, or register it as text_embedding",
        model.model_id,
        model.model_type.as_str()
    )))
}

/// An error for a vector of another width than the model's option says.
fn check_width(bytes: &[u8], wanted: Option<u64>) -> Result<()> {
    match wanted {
        Some(wanted) if bytes.len() as u64 != wanted * 4 => Err(Error::response(format!(
            "the model answered with {} dimensions, but the model's option dimensions is {wanted}; correct one of them",
            bytes.len() / 4
        ))),
        _ => Ok(()),
    }
}

/// The error of a text that the provider refused, with what is the matter where that is plain.
fn of_text(error: Error, text: &str) -> Error {
    match error.kind() {
        Kind::Provider(400 | 422) if text.trim().is_empty() => Error::new(
            error.kind(),
            format!("{}; the text is empty: leave such rows out, or give NULL with NULLIF(text, '')", error.message()),
        ),
        _ => error,
    }
}

/// What a text costs at least, before the provider counts: some four bytes a token.
fn tokens_in(text: &str) -> u64 {
    (text.len() as u64 / 4).max(1)
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

/// What a header function may return, in bytes.
const MAX_HEADERS: usize = 1 << 20;

/// What a header function returned, as headers.
fn read_headers(json: &str) -> Result<Vec<(HeaderName, SecretString)>> {
    let shape = || Error::invalid("the header function must return a JSON object of header names and text values");
    if json.len() > MAX_HEADERS {
        return Err(Error::new(Kind::TooLarge, "the header function returned more than 1 MiB; headers are short"));
    }
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
                Error::invalid(format!(
                    "the header function returned '{}', which is not a header name",
                    leaked_key::shown(&name, 60)
                ))
            })?;
            let reserved = [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION];
            let method = ["x-http-method-override", "x-http-method", "x-method-override"].contains(&name.as_str());
            if reserved.contains(&name) || name == header::CONTENT_TYPE || method {
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
        .map_err(|e| crate::json::numbers::unreadable(&e, answer))?;
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
