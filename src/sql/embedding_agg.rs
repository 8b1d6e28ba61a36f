//! `ml_embedding_agg(model_id, key, content)`.

use std::collections::BTreeMap;
use std::ffi::CStr;

use serde_json::Value;
use surface::{functions, Function};

use super::named::{bind, Bound};
use super::rollup::refuse_rollup;
use crate::jobs::engine;
use crate::mysql::ffi::args::{Args, Setup};
use crate::mysql::ffi::function::{AggregateFunction, BytesFunction, SqlFunction};
use crate::mysql::sql::refuse_inside_user_functions;
use crate::mysql::statement::{push_warning, ProcessState, StatementInterrupt};
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::memory::Held;
use mysql_ml_core::engine::ordered::MAX_TEXTS;
use mysql_ml_core::engine::vectors::VectorBatch;
use mysql_ml_core::json::length::encoded_length;

/// Bytes of a key's entry besides its text, in the list of rows and in the order of the result.
const BESIDE_A_KEY: usize = 160;
/// Bytes of a key's quotes, its colon and its comma, in the result.
const QUOTES_AND_SIGNS: usize = 4;
const STATE: &CStr = c"waiting for a model: ml_embedding_agg";

/// `ml_embedding_agg(model_id, key, content)`: an aggregate that embeds a group's texts. Returns utf8mb4 JSON text:
/// an object with the base64 of little-endian 32-bit floats for each key, or null for a NULL text. Of rows with the
/// same key the last one counts, as with JSON_OBJECTAGG. NULL for a group without rows or with a NULL model.
///
/// A NULL key is an error. A failed text fails the statement; with the model's option `on_error` null or an object with
/// the member `error` takes its place, and a warning has the number of such texts and the first error. Requests are sent while the server still reads rows.
pub struct EmbeddingAgg {
    bound: Bound,
    group: Option<Group>,
    /// The result of the finished group; the server may request it more than once, for example for HAVING.
    result: Option<Held<String>>,
    /// The only row of a group whose result the server did not request; see [`refuse_rollup`].
    abandoned: Option<FirstRow>,
}

#[derive(PartialEq)]
struct FirstRow {
    key: String,
    content: Option<String>,
}

/// The group in progress.
struct Group {
    model_id: String,
    texts: VectorBatch<'static>,
    /// Number of rows so far.
    rows: usize,
    /// The number of each key's text; `None` for a NULL text. Of rows with the same key the last one counts.
    keys: BTreeMap<String, Option<u64>>,
    first: FirstRow,
}

impl SqlFunction for EmbeddingAgg {
    const FUNCTION: &'static Function = functions::ml_embedding_agg;
    const IN_PASSES: bool = false;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, Self::FUNCTION)?;
        setup.returns_text(0x3fff_ffff)?;
        Ok(EmbeddingAgg { bound, group: None, result: None, abandoned: None })
    }
}

impl AggregateFunction for EmbeddingAgg {
    fn clear(&mut self) -> Result<()> {
        self.abandoned = self.group.take().filter(|g| g.rows == 1).map(|g| g.first);
        self.result = None;
        Ok(())
    }

    fn add(&mut self, args: &Args<'_>) -> Result<()> {
        let Some(model_id) = self.bound.text(args, 0)? else { return Ok(()) };
        refuse_inside_user_functions()?;
        let Some(key) = self.bound.text(args, 1)? else {
            return Err(Error::invalid("a key is NULL; a member of a JSON object needs a name"));
        };
        let content = self.bound.text(args, 2)?;
        let interrupt = StatementInterrupt::current();
        let group = match &mut self.group {
            Some(group) if group.model_id == model_id => group,
            Some(_) => return Err(Error::invalid("model_id is not the same for all rows of the group")),
            None => {
                let first = FirstRow { key: key.to_owned(), content: content.map(str::to_owned) };
                refuse_rollup(self.abandoned.take(), &first)?;
                let texts = VectorBatch::new(engine(), model_id, &interrupt)?;
                self.group.insert(Group { model_id: model_id.to_owned(), texts, rows: 0, keys: BTreeMap::new(), first })
            }
        };
        if group.rows == MAX_TEXTS {
            return Err(Error::new(Kind::TooLarge, format!("a group has more than {MAX_TEXTS} rows; split it")));
        }
        group.rows += 1;
        let known = group.keys.contains_key(key);
        if !known {
            group.texts.spend(key.len() + BESIDE_A_KEY)?;
        }
        // The replaced row leaves its place first: together they might not fit.
        let replaced = group.keys.get(key).copied().flatten();
        group.texts.expect_less(usize::from(replaced.is_some()));
        group
            .texts
            .expect(usize::from(content.is_some()), if known { 0 } else { encoded_length(key) + QUOTES_AND_SIGNS })?;
        let number = content.map(|content| group.texts.number(content)).transpose()?;
        group.keys.insert(key.to_owned(), number);
        let _state = ProcessState::set(STATE);
        group.texts.send(&interrupt)?;
        Ok(())
    }
}

impl BytesFunction for EmbeddingAgg {
    fn call(&mut self, _args: &Args<'_>) -> Result<Option<&[u8]>> {
        let Some(group) = self.group.take() else { return Ok(self.result.as_ref().map(AsRef::as_ref)) };
        let _state = ProcessState::set(STATE);
        let place = |number: u64| {
            let key = group.keys.iter().find(|(_, n)| **n == Some(number)).map_or("", |(key, _)| key.as_str());
            format!("key '{}'", mysql_ml_base::error::cut(key, 60))
        };
        let answers = group.texts.finish(place, &StatementInterrupt::current())?;
        let beside = group.keys.keys().map(|key| encoded_length(key) + QUOTES_AND_SIGNS).sum::<usize>() + 2;
        let answered = answers.write(beside, group.keys.values().copied(), |result, value| {
            for (i, (key, number)) in group.keys.iter().enumerate() {
                result.push(if i == 0 { '{' } else { ',' });
                result.push_str(&Value::from(key.as_str()).to_string());
                result.push(':');
                value(*number, result);
            }
            result.push('}');
        })?;
        answered.warning().inspect(|warning| push_warning(Self::FUNCTION.name, warning));
        Ok(Some(self.result.insert(answered.json).as_bytes()))
    }
}
