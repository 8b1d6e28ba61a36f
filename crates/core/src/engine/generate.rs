//! `ml_generate`: a text for a prompt.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::status::Activity;
use super::{counted_as, tokens_in, Engine};
use crate::catalog::model::{check_id, Model, ModelType};
use crate::catalog::settings::Settings;
use crate::engine::store::{ResolvedModel, Routine};
use crate::providers::chat::{Chat, GenerateOptions};
use crate::providers::{provider, usage};
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{Held, Reservation};

/// More registrations than this are forgotten and learnt again.
const MAX_LEARNT: usize = 4096;

/// The shapes that endpoints want otherwise than their hosts let expect, by the fingerprint of the registration.
#[derive(Default)]
pub struct Learnt(Mutex<HashMap<[u8; 32], Chat>>);

impl Learnt {
    fn of(&self, fingerprint: &[u8; 32]) -> Option<Chat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(fingerprint).copied()
    }

    fn keep(&self, fingerprint: [u8; 32], chat: Chat) {
        let mut learnt = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if learnt.len() >= MAX_LEARNT {
            learnt.clear();
        }
        learnt.insert(fingerprint, chat);
    }
}

impl Engine {
    /// The model's answer to a prompt, as text.
    pub fn generate(
        &self,
        model_id: &str,
        prompt: &str,
        options: &GenerateOptions,
        interrupt: &dyn Interrupt,
    ) -> Result<Held<String>> {
        let _prompt = Reservation::take(prompt.len().saturating_mul(4), "the prompt")?;
        check_id("model_id", model_id)?;
        let settings = self.settings(interrupt)?;
        let resolved = self.registry.model(self.store.as_ref(), Routine::GENERATE, model_id, &settings, interrupt)?;
        let activity = self.status.of(counted_as(&resolved.model));
        activity.called();
        let generated = self.generated(&resolved, prompt, options, &settings, &activity, interrupt);
        if let Err(error) = &generated {
            activity.failed(error);
        }
        generated.map_err(|e| e.context(&format!("model '{model_id}'")))
    }

    fn generated(
        &self,
        resolved: &Arc<ResolvedModel>,
        prompt: &str,
        options: &GenerateOptions,
        settings: &Arc<Settings>,
        activity: &Activity,
        interrupt: &dyn Interrupt,
    ) -> Result<Held<String>> {
        let model = &resolved.model;
        if super::local::is_here(model) {
            if options.system.is_some() {
                return Err(Error::invalid(
                    "T5 takes no system; leave the option system out, or write it into the prompt",
                ));
            }
            let text = self.generate_locally(resolved, prompt, options, settings, activity, interrupt)?;
            return Ok(Held::new(text, Reservation::default()));
        }
        let chat = match self.learnt.of(&model.fingerprint) {
            Some(learnt) => learnt,
            None => chat_of(model)?,
        };
        let ask = |chat: Chat, limit: Option<Instant>| -> Result<(Result<Held<String>>, Instant)> {
            let body = chat.request(prompt, options)?;
            let request = provider(model.speaks).predict_request(model, &body)?;
            let (headers, _) = self.functions(resolved, None, &body, interrupt)?;
            let mut request = self.request(resolved, headers, request, tokens_in(&body), settings)?;
            request.deadline = limit.unwrap_or(request.deadline);
            let deadline = request.deadline;
            let answered = self.send(request, activity, interrupt, |answer| {
                // Tokens are spent whether the answer is of use or not.
                let usage =
                    usage::of_answer(&answer.body).map_err(|e| crate::json::numbers::unreadable(&e, &answer.body))?;
                activity.used(0, usage);
                let tokens = match (usage.input, usage.output) {
                    (None, None) => None,
                    (input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
                };
                let _unpacked = super::send::unpacked(&answer.body)?;
                Ok((Held::new(chat.read(&answer.body)?, std::mem::take(&mut answer.share)), tokens))
            });
            Ok((answered, deadline))
        };
        let (answered, deadline) = ask(chat, None)?;
        // A gateway hides which model is behind it, and so by which name it wants the limit of tokens.
        let other = answered.as_ref().err().filter(|_| options.max_tokens.is_some());
        let Some(other) = other.and_then(|error| chat.with_other_limit(error)) else { return answered };
        let (again, _) = ask(other, Some(deadline))?;
        match &again {
            Err(error) if other.with_other_limit(error).is_some() => answered,
            _ => {
                self.learnt.keep(model.fingerprint, other);
                again
            }
        }
    }
}

/// How a model is asked for a text; an error where the library does not know.
fn chat_of(model: &Model) -> Result<Chat> {
    let generates = matches!(model.model_type, ModelType::Llm | ModelType::Generic);
    provider(model.speaks).chat(model).filter(|_| generates && model.input.is_none()).ok_or_else(|| {
        Error::invalid(format!(
            "how a model of provider {} and model_type {} is asked for a text is not known; call ml_predict_row with its own JSON",
            model.provider.as_str(),
            model.model_type.as_str()
        ))
    })
}
