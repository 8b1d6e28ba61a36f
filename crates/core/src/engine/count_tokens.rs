//! `ai_count_tokens`: the tokens of a text.

use std::time::Instant;

use serde_json::json;
use surface::functions;

use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Reservation;

use super::backends::remote::form_of;
use super::call::Call;
use super::requester::{must_not_be_an_error, Request, Sending};
use super::route::StandIns;
use super::transforms::call_request_functions;
use super::Engine;
use crate::catalog::model::{Backend, ProviderId};
use crate::providers::chat::{counting, Chat};
use crate::providers::google::target::{model_name, needs_project};
use crate::providers::table::provider;
use crate::registration::endpoint_url::{cloud_of, url_of};

/// Bytes of a token, for estimates. English has some four; other languages may have more tokens or fewer.
const BYTES_A_TOKEN: usize = 4;

impl Engine {
    /// The tokens of a text for a model, as a JSON object: `tokens`, and whether the number is `exact`. It is for models
    /// inside the server, by their own tokenizers, and where the provider counts: Anthropic and Google's Gemini. Others,
    /// and endpoints that answer 404 or 405 to it, get an estimate, for which nothing else is sent.
    pub fn count_tokens(&self, model_id: &str, text: &str, interrupt: &dyn Interrupt) -> Result<String> {
        let call = self.call_beside(functions::ai_count_tokens, model_id, text, interrupt)?;
        let of_model = |e: Error| e.context(&format!("model '{model_id}'"));
        let counted = match (call.model().backend(), counting(&call)) {
            (Backend::Local, _) => Some(self.local.count_tokens(&call, text, interrupt).map_err(of_model)? as u64),
            // Services refuse a message without a text.
            (Backend::Remote, Some(chat)) if !text.is_empty() => {
                self.counted_by_the_provider(&call, chat, text, interrupt).map_err(of_model)?
            }
            _ => None,
        };
        let tokens = counted.unwrap_or(text.len().div_ceil(BYTES_A_TOKEN) as u64);
        Ok(json!({"tokens": tokens, "exact": counted.is_some()}).to_string())
    }

    /// The provider's count; `None` if its endpoint has no such service.
    fn counted_by_the_provider(
        &self,
        call: &Call,
        chat: Chat,
        text: &str,
        interrupt: &dyn Interrupt,
    ) -> Result<Option<u64>> {
        let model = call.model();
        let _text = Reservation::take(text.len().saturating_mul(3), "the text")?;
        let vertex = model.api == ProviderId::Google;
        let name = if vertex { Some(model_name(model)) } else { model.qualified_name.clone() };
        let body = chat.counting_request(name.as_deref(), text);
        let (headers, _) = call_request_functions(self.store.as_ref(), call, None, &body, interrupt)?;
        let make = |call: &Call| {
            let request = provider(call.model().api).predict_request(call.model(), &body)?;
            let mut request = Request::new(call, headers.clone(), request)?;
            request.counts = Some(chat);
            Ok(request)
        };
        call.meter.called();
        // Another model may count otherwise.
        let route = self.remote.requester.route(call, StandIns::None);
        let deadline = Instant::now() + call.time();
        let sending = Sending { route: &route, first: None, tokens: 0, deadline, make: &make };
        let counted = self.remote.requester.send(&sending, interrupt, |call, answer| {
            must_not_be_an_error(answer, call.model())?;
            Ok((counting::read_count(&answer.body)?, None))
        });
        match counted {
            Err(error) if matches!(error.kind(), Kind::Provider(404 | 405)) => Ok(None),
            counted => call.counted(counted).map(Some),
        }
    }
}

/// The shape of a model's API, if it counts tokens at a URL beside the model's own.
fn counting(call: &Call) -> Option<Chat> {
    let model = call.model();
    let chat = form_of(model).ok()?.chat;
    let mut cloud = cloud_of(model, &call.settings);
    if model.api == ProviderId::Google && needs_project(model) && cloud.project.is_none() {
        // The credentials name the real one when the request is sent.
        cloud.project = Some("project".to_owned());
    }
    chat.counting_url(&url_of(model, &cloud).ok()?).map(|_| chat)
}
