//! `ai.answer`: the search for the sources of an answer, and the question about them.

use surface::functions;

use super::fulltext::take_columns;
use super::options::Options;
use super::retrieval::Purpose;
use crate::jobs::Jobs;
use crate::mysql::sql::refuse_inside_user_functions;
use crate::mysql::statement::ProcessState;
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Reservation;
use mysql_ml_core::ai::answer::{self, MOST_SOURCES};
use mysql_ml_core::ai::Answer;
use mysql_ml_core::catalog::default_model::DefaultModel;
use mysql_ml_core::catalog::members::{self, Members};
use mysql_ml_core::engine::{About, AskOptions, Asked};
use mysql_ml_core::providers::chat::GenerateOptions;

/// Sources of an answer by default.
const SOURCES: u64 = 5;

impl Jobs {
    /// Begins the search for the sources of an answer. Returns whether it needs a transaction of its own. Checks all options,
    /// also those of [`Self::answer`].
    pub fn begin_answer(
        &self,
        question: &str,
        table: &str,
        options: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<bool> {
        self.engine.may_call(functions::ai_answer_begin, interrupt)?;
        must_be_a_text(question)?;
        let mut members = members::of(options)?;
        let column = members::text(&mut members, "column")?
            .ok_or_else(|| Error::invalid("option column is missing; name the column of vectors to search"))?;
        let rows = members::number(&mut members, "k", 1, MOST_SOURCES as u64)?.unwrap_or(SOURCES);
        let columns = take_columns(&mut members, "source_column")?;
        let search = members::take(&mut members, "search", "an object of options of ai.search", |value| match value {
            serde_json::Value::Object(members) => Some(members),
            _ => None,
        })?;
        let (options, ..) = read(members, "column, k, source_column, search, ")?;
        let search = Options::read(search.unwrap_or_default(), rows)?;
        if !search.columns.is_empty() {
            return Err(Error::invalid(
                "option columns of the search does nothing here; name the sources' text with source_column",
            ));
        }
        let purpose = Purpose::Sources { columns, characters: options.max_source_characters };
        self.begin(table, &column, question.as_bytes(), rows, search, purpose, interrupt)
    }

    /// Answers a question from a JSON array of sources: a JSON object with `answered`, `answer`, `citations`, `sources`,
    /// `reason`, `model`.
    pub fn answer(
        &self,
        question: &str,
        sources: &str,
        options: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        self.engine.may_call(functions::ai_answer_begin, interrupt)?;
        refuse_inside_user_functions()?;
        must_be_a_text(question)?;
        let (options, ask, generate) = read(members::of(options)?, "")?;
        let _share = Reservation::take(sources.len().saturating_mul(4), "the sources")?;
        let sources = answer::read_sources(sources, &options)?;
        if sources.is_empty() && options.only_from_sources {
            return Ok(answer::refused("there is no source", &sources, options.model_id.as_deref()));
        }
        let task = answer::task(sources.len(), &options, generate)?;
        let model = self.engine.model_or_default(options.model_id.as_deref(), DefaultModel::Llm, interrupt)?;
        let _state = ProcessState::set(c"waiting for a model: ai_answer");
        let text = answer::text(question, &sources)?;
        let about = About { text: &text, images: None };
        match self.engine.ask(functions::ai_answer_begin, Some(&model), &task, &about, ask, interrupt)? {
            Asked::Answered(said, _) => match &*said {
                Answer::Json(document) => answer::cited(document, &sources, &options, &model),
                _ => Err(Error::internal("an answer that is no JSON")),
            },
            Asked::Failed(error, _) => Ok(answer::refused(error.message(), &sources, Some(&model))),
            Asked::Noted => Err(Error::invalid("ai_answer cannot be called inside ai.query; call it alone")),
        }
    }
}

fn must_be_a_text(question: &str) -> Result<()> {
    if question.trim().is_empty() {
        return Err(Error::invalid("question is empty; give a text"));
    }
    Ok(())
}

/// The options of a model's answer.
const GENERATION: [&str; 5] = ["max_tokens", "temperature", "top_p", "seed", "system"];

/// The options of an answer, of its question, and of its generation. `others`: names of options that were taken before.
fn read(mut members: Members, others: &str) -> Result<(answer::Options, AskOptions, GenerateOptions)> {
    let options = answer::Options::take(&mut members)?;
    let ask = AskOptions::take(&mut members)?;
    let (generation, unknown): (Members, Members) =
        members.into_iter().partition(|(name, _)| GENERATION.contains(&name.as_str()));
    let accepted = format!("{others}{}, on_error, cache_answers, {}", answer::OPTIONS, GENERATION.join(", "));
    members::none_left(&unknown, &accepted)?;
    Ok((options, ask, GenerateOptions::from_map(generation)?))
}
