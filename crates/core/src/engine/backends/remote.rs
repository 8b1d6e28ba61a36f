//! The backend of endpoints: the provider's code makes the request and reads the answer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{Held, Reservation};
use mysql_ml_base::role::Role;
use mysql_ml_base::vector;

use super::{encoded, must_not_be_zero, By, Embed, Generate, Predict, Rerank};
use crate::catalog::model::{Model, ModelType, ProviderId};
use crate::catalog::options::StructuredOutput;
use crate::engine::call::{Call, Input};
use crate::engine::rate_limit::tokens_in;
use crate::engine::requester::{must_not_be_an_error, unpacked, Request, Requester, Sending};
use crate::engine::route::StandIns;
use crate::engine::store::Store;
use crate::engine::transforms::{call_output_function, call_request_functions, transform_functions};
use crate::json::numbers::unreadable;
use crate::providers::chat::{Form, Question};
use crate::providers::custom::Custom;
use crate::providers::rerank::{self, Ranking, Scored};
use crate::providers::table::provider;
use crate::providers::usage::{self, Usage};
use crate::providers::Provider;

/// Estimated tokens of an image: Gemini's figure for a small one.
pub(in crate::engine) const IMAGE_TOKENS: u64 = 258;

/// Beyond this many registrations the table is emptied and learnt again.
const MAX_LEARNT: usize = 4096;

/// Learnt forms of requests that differ from the default of the host, by the registration's fingerprint.
#[derive(Default)]
struct Learnt(Mutex<HashMap<[u8; 32], Form>>);

impl Learnt {
    fn of(&self, fingerprint: &[u8; 32]) -> Option<Form> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(fingerprint).copied()
    }

    fn keep(&self, fingerprint: [u8; 32], form: Form) {
        let mut learnt = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if learnt.len() >= MAX_LEARNT {
            learnt.clear();
        }
        learnt.insert(fingerprint, form);
    }
}

/// The backend of all endpoints.
pub(in crate::engine) struct Remote {
    pub requester: Requester,
    learnt: Learnt,
}

/// The code for a model's requests and answers. Transforms in a registration replace the provider's own shapes.
pub(in crate::engine) fn api_of(model: &Model) -> &'static dyn Provider {
    if model.input.is_some() {
        &Custom
    } else {
        provider(model.api)
    }
}

impl Remote {
    /// Sends with `requester`.
    pub fn new(requester: Requester) -> Self {
        Remote { requester, learnt: Learnt::default() }
    }

    fn store(&self) -> &dyn Store {
        self.requester.store()
    }

    /// What the header functions make of `argument`.
    fn headers<'a>(&'a self, call: &'a Call, argument: &'a str, interrupt: &'a dyn Interrupt) -> Result<Headers<'a>> {
        let (own, _) = call_request_functions(self.store(), call, None, argument, interrupt)?;
        Ok(Headers { own, call, argument, store: self.store(), interrupt })
    }
}

impl Predict for Remote {
    fn predict(&self, call: &Call, body: &str, interrupt: &dyn Interrupt) -> Result<Held<String>> {
        let headers = self.headers(call, body, interrupt)?;
        let make = |call: &Call| {
            let request = provider(call.model().api).predict_request(call.model(), body)?;
            Request::new(call, headers.of(call)?, request)
        };
        let route = self.requester.route(call, StandIns::SameApi);
        let deadline = Instant::now() + call.time();
        let sending = Sending { route: &route, first: None, tokens: tokens_in(body), deadline, make: &make };
        self.requester.send(&sending, interrupt, |call, answer| {
            let usage = usage_of(&answer.body)?;
            // The meaning of a member `error` of a custom service is known to its caller only.
            if call.model().api != ProviderId::Custom {
                must_not_be_an_error(answer, call.model())?;
            }
            call.meter.used(0, usage);
            let text = String::from_utf8(std::mem::take(&mut answer.body))
                .map_err(|_| Error::response("the endpoint's answer is not valid UTF-8"))?;
            Ok((Held::new(text, std::mem::take(&mut answer.share)), usage.all()))
        })
    }
}

impl Embed for Remote {
    fn embed(
        &self,
        call: &Call,
        input: Input<'_>,
        role: Role,
        limit: Option<Instant>,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<u8>> {
        let model = call.model();
        if let (Input::Image(image), true) = (input, model.input.is_some()) {
            // Transforms in a registration receive the image as base64.
            let text = image.base64()?;
            let _text = Reservation::take(text.len().saturating_mul(3), "the text")?;
            return self.embed(call, Input::Text(&text), Role::Document, limit, interrupt);
        }
        let (input_fn, output_fn) = transform_functions(model);
        let (text, tokens) = match input {
            Input::Text(text) => (text, tokens_in(text)),
            Input::Image(_) => ("", IMAGE_TOKENS),
        };
        let own_input = input_fn.filter(|_| matches!(input, Input::Text(_)));
        let (own, body) = call_request_functions(self.store(), call, own_input, text, interrupt)?;
        let headers = Headers { own, call, argument: text, store: self.store(), interrupt };
        let make = |call: &Call| {
            let (api, model) = (api_of(call.model()), call.model());
            let body = match (input, &body) {
                (Input::Text(_), Some(body)) => body.clone().into_bytes(),
                (Input::Text(text), None) => api.embedding_request(model, &[text], role)?,
                (Input::Image(image), _) => api.image_request(model, image)?,
            };
            Request::new(call, headers.of(call)?, body)
        };
        let deadline = Instant::now() + call.time();
        let deadline = limit.map_or(deadline, |limit| deadline.min(limit));
        let route = self.requester.route(call, StandIns::All);
        let sending = Sending { route: &route, first: None, tokens, deadline, make: &make };
        if let (Some(output), Input::Text(_)) = (output_fn, input) {
            let answer = self.requester.send(&sending, interrupt, |call, answer| {
                must_not_be_an_error(answer, call.model())?;
                Ok((std::mem::take(&mut answer.body), None))
            })?;
            call.meter.used(1, Usage::default());
            let vector = vector::from_bytes(&call_output_function(self.store(), call, output, &answer, interrupt)?);
            must_not_be_zero(&vector)?;
            return encoded(model, vector);
        }
        let bytes = self.requester.send(&sending, interrupt, |call, answer| {
            let (api, model) = (api_of(call.model()), call.model());
            let _unpacked = unpacked(&answer.body)?;
            let read = match input {
                Input::Text(_) => api.read_embeddings(model, &answer.body, 1)?,
                Input::Image(_) => api.read_image_embedding(model, &answer.body)?,
            };
            call.meter.used(1, Usage { input: read.tokens, output: None });
            let vector = read.vectors.into_iter().next();
            let vector = vector.ok_or_else(|| Error::response("the endpoint answered without a vector"))?;
            must_not_be_zero(&vector)?;
            Ok((encoded(model, vector)?, read.tokens))
        })?;
        route.check_width(route.last(), bytes.len())?;
        Ok(bytes)
    }
}

/// What the header functions make, for the call's own model and for models that stand in.
struct Headers<'a> {
    own: Option<String>,
    call: &'a Call,
    argument: &'a str,
    store: &'a dyn Store,
    interrupt: &'a dyn Interrupt,
}

impl Headers<'_> {
    /// The headers of a target's request.
    fn of(&self, call: &Call) -> Result<Option<String>> {
        if call.model().model_id == self.call.model().model_id {
            return Ok(self.own.clone());
        }
        Ok(call_request_functions(self.store, call, None, self.argument, self.interrupt)?.0)
    }
}

/// The most forms of one request that are tried one after another.
const MAX_FORMS: usize = 3;

impl Remote {
    /// The form of a model's requests: the learnt one, else that of its provider.
    pub fn form(&self, model: &Model) -> Result<Form> {
        match self.learnt.of(&model.fingerprint) {
            Some(learnt) => Ok(learnt),
            None => form_of(model),
        }
    }

    /// Keeps a form that an endpoint took after it had refused another.
    pub fn learn_form(&self, model: &Model, form: Form) {
        self.learnt.keep(model.fingerprint, form);
    }
}

impl Generate for Remote {
    fn generate(
        &self,
        call: &Call,
        question: &Question,
        limit: Option<Instant>,
        interrupt: &dyn Interrupt,
    ) -> Result<(Held<String>, By)> {
        let deadline = Instant::now() + call.time();
        let deadline = limit.map_or(deadline, |limit| deadline.min(limit));
        let route = self.requester.route(call, StandIns::All);
        let own = self.form(route.call(0)?.model())?;
        // The form decides about the text that header functions see, which is made once.
        let body = own.request(question)?;
        // Services count an image by its size in pixels, not by its bytes.
        let texts = body.len().saturating_sub(question.images.encoded()) as u64;
        let tokens = (texts / 4).max(1) + IMAGE_TOKENS * question.images.len() as u64;
        let headers = self.headers(call, &body, interrupt)?;
        let ask = |first: Option<(usize, Form)>| {
            // After a refusal, another form for the endpoint that gave it.
            let form_for = |model: &Model| match first {
                Some((_, form)) => Ok(form),
                None => self.form(model),
            };
            let make = |call: &Call| {
                let form = form_for(call.model())?;
                let made = if form == own { None } else { Some(form.request(question)?) };
                let body = made.as_ref().unwrap_or(&body);
                let request = provider(call.model().api).predict_request(call.model(), body)?;
                Request::new(call, headers.of(call)?, request)
            };
            let only = first.map(|(target, _)| target);
            let sending = Sending { route: &route, first: only, tokens, deadline, make: &make };
            self.requester.send(&sending, interrupt, |call, answer| {
                // Tokens are spent even if the answer is unusable.
                let usage = usage_of(&answer.body)?;
                call.meter.used(0, usage);
                let _unpacked = unpacked(&answer.body)?;
                let text = form_of(call.model())?.chat.read(&answer.body)?;
                Ok((Held::new(text, std::mem::take(&mut answer.share)), usage.all()))
            })
        };
        let refused = ask(None);
        let target = route.last();
        let model = route.call(target)?.model();
        let by = if route.is_stand_in(target) { By::StandIn } else { By::Model };
        let first = self.form(model)?;
        let (mut form, mut answered) = (first, None);
        for _ in 1..MAX_FORMS {
            // A gateway hides its model, and thereby the parameters that the model takes.
            let error = answered.as_ref().unwrap_or(&refused).as_ref().err();
            let Some(other) =
                error.and_then(|error| form.after_refusal(question, error)).filter(|other| *other != first)
            else {
                break;
            };
            form = other;
            answered = Some(ask(Some((target, other))));
        }
        let answered = match answered {
            None => refused,
            // Both names were refused: the first error is about the host's own.
            Some(Err(error)) if form.after_refusal(question, &error).is_some() => refused,
            Some(answered) => {
                if route.last() == target {
                    self.learn_form(model, form);
                }
                answered
            }
        };
        answered.map(|text| (text, by))
    }
}

impl Remote {
    /// The scores of the documents of one request. `deadline`: that of the call.
    fn rank(
        &self,
        call: &Call,
        ranking: &Ranking<'_>,
        deadline: Instant,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Scored>> {
        let headers = self.headers(call, ranking.query, interrupt)?;
        let tokens = ranking.documents.iter().fold(tokens_in(ranking.query), |sum, text| sum + tokens_in(text));
        let make = |call: &Call| {
            let body = api_of(call.model()).rerank_request(call.model(), ranking)?;
            Request::new(call, headers.of(call)?, body)
        };
        let route = self.requester.route(call, StandIns::All);
        let sending = Sending { route: &route, first: None, tokens, deadline, make: &make };
        self.requester.send(&sending, interrupt, |call, answer| {
            must_not_be_an_error(answer, call.model())?;
            let usage = usage_of(&answer.body)?;
            call.meter.used(0, usage);
            let _unpacked = unpacked(&answer.body)?;
            let scores = rerank::read(&answer.body, ranking.documents.len(), ranking.top)?;
            Ok((scores, usage.all()))
        })
    }
}

/// The most documents of one ranking request. An error if `given` are more and scores of several requests cannot be
/// compared.
pub(in crate::engine) fn documents_in_a_request(model: &Model, given: usize) -> Result<usize> {
    let limits = api_of(model).rank_limits(model);
    if given > limits.documents && !limits.separable {
        return Err(Error::new(
            Kind::TooLarge,
            format!(
                "documents has {given} texts; provider {} ranks at most {} in one request, and scores of several requests cannot be compared: rank fewer",
                model.provider.as_str(),
                limits.documents
            ),
        ));
    }
    Ok(match model.options.batch_size {
        Some(size) if limits.separable => usize::try_from(size).unwrap_or(usize::MAX).max(1),
        _ => limits.documents,
    })
}

impl Rerank for &Remote {
    fn rerank(&self, call: &Call, ranking: &Ranking<'_>, interrupt: &dyn Interrupt) -> Result<Vec<Scored>> {
        let ranked = || {
            let size = documents_in_a_request(call.model(), ranking.documents.len())?;
            let deadline = Instant::now() + call.time();
            let mut scores = Vec::with_capacity(ranking.documents.len());
            let mut begin = 0;
            for documents in ranking.documents.chunks(size) {
                let part = Ranking { documents, top: ranking.top.min(documents.len()), ..*ranking };
                let read = self.rank(call, &part, deadline, interrupt)?;
                scores.extend(read.into_iter().map(|s| Scored { index: begin + s.index, ..s }));
                begin += documents.len();
            }
            Ok(scores)
        };
        call.meter.called();
        call.counted(ranked())
    }
}

/// The tokens that an answer reports; an error if it is not JSON.
fn usage_of(answer: &[u8]) -> Result<Usage> {
    usage::of_answer(answer).map_err(|e| unreadable(&e, answer))
}

/// The form of a model's requests; an error if no chat shape is known.
pub(in crate::engine) fn form_of(model: &Model) -> Result<Form> {
    let generates = matches!(model.model_type, ModelType::Llm | ModelType::Generic);
    let chat = provider(model.api).chat(model).filter(|_| generates && model.input.is_none()).ok_or_else(|| {
        Error::invalid(format!(
            "how a model of provider {} and model_type {} is asked for a text is not known; call ml_predict_row with its own JSON",
            model.provider.as_str(),
            model.model_type.as_str()
        ))
    })?;
    Ok(Form::new(chat, model.options.structured_output.unwrap_or(StructuredOutput::JsonSchema)))
}
