//! `ml_embedding_agg(model_id, key, content)`.

use std::ffi::CStr;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::named::{bind, Bound};
use crate::abi::args::{Args, Setup};
use crate::abi::function::{AggregateFunction, BytesFunction, SqlFunction};
use crate::engine::gather::{Gather, MAX_TEXTS};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::server::sql::refuse_inside_user_functions;
use crate::server::statement::{ProcessState, StatementInterrupt};

const PARAMETERS: &[&[&str]] = &[&["model_id"], &["key"], &["content", "contents"]];
const STATE: &CStr = c"waiting for a model: ml_embedding_agg";

/// `ml_embedding_agg(model_id, key, content)`: an aggregate. The embeddings of a group's texts, as utf8mb4 text of a JSON
/// object: for each key the base64 of little-endian 32-bit floats, or null for a NULL text. Of rows with the same key one
/// is kept, as by JSON_OBJECTAGG. NULL for a group without rows or with a NULL model. A NULL key is an error, and a text
/// that fails is, unless the model's option `on_error` is `inline`; then an object with the member `error` stands in its
/// place. Requests are under way while the server reads the rows.
pub struct EmbeddingAgg {
    bound: Bound,
    group: Option<Group>,
    /// The finished group's; it may be asked for more than once, as by HAVING.
    result: Option<String>,
    /// The only row of a group that nobody asked for; see [`refuse_rollup`].
    abandoned: Option<FirstRow>,
}

#[derive(PartialEq)]
struct FirstRow {
    key: String,
    content: Option<Arc<str>>,
}

/// The group that is being read.
struct Group {
    model_id: String,
    texts: Gather<'static>,
    /// The number of each key's text; `None` for NULL.
    keys: Vec<(String, Option<u64>)>,
    first: FirstRow,
}

impl SqlFunction for EmbeddingAgg {
    const NAME: &'static str = "ml_embedding_agg";

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, PARAMETERS, 3, false)?;
        setup.returns_text(0x3fff_ffff)?;
        Ok(EmbeddingAgg { bound, group: None, result: None, abandoned: None })
    }
}

impl AggregateFunction for EmbeddingAgg {
    fn clear(&mut self) -> Result<()> {
        self.abandoned = self.group.take().filter(|g| g.keys.len() == 1).map(|g| g.first);
        self.result = None;
        Ok(())
    }

    fn add(&mut self, args: &Args<'_>) -> Result<()> {
        let Some(model_id) = self.bound.text(args, 0, PARAMETERS)? else { return Ok(()) };
        refuse_inside_user_functions()?;
        let Some(key) = self.bound.text(args, 1, PARAMETERS)? else {
            return Err(Error::invalid("a key is NULL; a member of a JSON object needs a name"));
        };
        let content: Option<Arc<str>> = self.bound.text(args, 2, PARAMETERS)?.map(Arc::from);
        let interrupt = StatementInterrupt::current();
        let group = match &mut self.group {
            Some(group) if group.model_id == model_id => group,
            Some(_) => return Err(Error::invalid("model_id is not the same for all rows of the group")),
            None => {
                let first = FirstRow { key: key.to_owned(), content: content.clone() };
                refuse_rollup(self.abandoned.take(), &first)?;
                let texts = Gather::new(Engine::global(), model_id, &interrupt)?;
                self.group.insert(Group { model_id: model_id.to_owned(), texts, keys: Vec::new(), first })
            }
        };
        if group.keys.len() == MAX_TEXTS {
            return Err(Error::new(Kind::TooLarge, format!("a group has more than {MAX_TEXTS} rows; split it")));
        }
        let number = match content {
            Some(content) => {
                let _state = ProcessState::set(STATE);
                Some(group.texts.push(content, &interrupt)?)
            }
            None => None,
        };
        group.keys.push((key.to_owned(), number));
        Ok(())
    }
}

/// WITH ROLLUP gives all levels the state of one function: each begins its group and adds the first row in turn. The
/// results would be wrong, and nothing else tells.
fn refuse_rollup(abandoned: Option<FirstRow>, first: &FirstRow) -> Result<()> {
    match abandoned {
        Some(row) if row == *first => Err(Error::invalid(
            "the server cannot compute loadable aggregates WITH ROLLUP; use UNION ALL with a query of the whole",
        )),
        _ => Ok(()),
    }
}

impl BytesFunction for EmbeddingAgg {
    fn call(&mut self, _args: &Args<'_>) -> Result<Option<&[u8]>> {
        let Some(group) = self.group.take() else { return Ok(self.result.as_deref().map(str::as_bytes)) };
        let _state = ProcessState::set(STATE);
        let place = |number: u64| {
            let key = group.keys.iter().find(|(_, n)| *n == Some(number)).map_or("", |(key, _)| key.as_str());
            format!("key '{}'", crate::error::cut(key, 60))
        };
        let answers = group.texts.finish(place, &StatementInterrupt::current())?;
        let object: Map<String, Value> = group
            .keys
            .iter()
            .map(|(key, number)| (key.clone(), number.map_or(Value::Null, |n| answers.value(n))))
            .collect();
        Ok(Some(self.result.insert(Value::Object(object).to_string()).as_bytes()))
    }
}
