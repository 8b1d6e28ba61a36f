//! `ai.generate_table`: asks a language model about the rows of a table, and writes the answers into a column.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{json, Value};
use surface::functions;

use super::rights::refuse_temporary_table;
use super::table_job::{Options, TableWork};
use super::Jobs;
use crate::mysql::meaning::Meaning;
use crate::mysql::sql::{with_session, As, SessionKind};
use crate::tables::layout::{Layout, Writes};
use crate::tables::statements;
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_core::ai::{classify, decide, extract, generate, score, sentiment, summarize, translate, Answer, Task};
use mysql_ml_core::catalog::members::{self, Members};
use mysql_ml_core::catalog::options::parse_object;
use mysql_ml_core::engine::pipeline::questions::Questions;
use mysql_ml_core::engine::{AskOptions, Packing};
use mysql_ml_core::providers::chat::GenerateOptions;

/// The longest time that the measuring of a dry run may take. KILL ends it too.
const MEASURE_WITHIN: Duration = Duration::from_secs(3600);

/// Bytes of a token, as estimated.
const BYTES_OF_TOKEN: u64 = 4;

/// The parsed argument `options`.
struct TableOptions {
    task: Task,
    ask: AskOptions,
    packing: Packing,
    dry_run: bool,
    job: Options,
}

/// Takes a JSON document out of the members, as text.
fn document(members: &mut Members, name: &str, task: &str) -> Result<String> {
    match members.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(value @ (Value::Array(_) | Value::Object(_))) => Ok(value.to_string()),
        _ => Err(Error::invalid(format!("task {task} needs the option {name}"))),
    }
}

fn read_options(options: Option<&str>) -> Result<TableOptions> {
    let mut members = match options {
        Some(text) if !text.trim().is_empty() => parse_object(text)?,
        _ => Members::new(),
    };
    let dry_run = members::flag(&mut members, "dry_run")?.unwrap_or(false);
    let job = Options::take(&mut members)?;
    let packing = Packing::take(&mut members)?;
    let cache_answers = members::cache_answers(&mut members)?;
    let name = members::text(&mut members, "task")?.unwrap_or_else(|| "generate".to_owned());
    let answer = |members: &mut Members| GenerateOptions::from_map(std::mem::take(members));
    let task = match name.as_str() {
        "generate" => generate::task(answer(&mut members)?)?,
        "if" => decide::task(answer(&mut members)?)?,
        "rank" => score::task(answer(&mut members)?)?,
        "classify" => {
            let labels = document(&mut members, "labels", &name)?;
            let multi = members::flag(&mut members, "multi")?.unwrap_or(false);
            let examples = members.remove("examples");
            classify::task(&labels, multi, examples.as_ref(), answer(&mut members)?)?
        }
        "extract" => extract::task(&document(&mut members, "fields", &name)?, answer(&mut members)?)?,
        "summarize" => summarize::task(answer(&mut members)?)?,
        "sentiment" => sentiment::task(answer(&mut members)?)?,
        "translate" => {
            let language = members::text(&mut members, "language")?
                .ok_or_else(|| Error::invalid("task translate needs the option language"))?;
            translate::task(&language, answer(&mut members)?)?
        }
        other => {
            return Err(Error::invalid(format!(
            "task '{}' is not known; accepted: generate, if, rank, classify, extract, summarize, sentiment, translate",
            mysql_ml_base::error::cut(other, 60)
        )))
        }
    };
    Ok(TableOptions { task, ask: AskOptions { on_error: None, cache_answers }, packing, dry_run, job })
}

/// The text that is written for an answer.
fn written(answer: Answer) -> Result<Arc<[u8]>> {
    let text = match answer {
        Answer::Unknown => return Err(Error::response("the model says that it cannot tell; the column stays NULL")),
        Answer::Decision(yes) => u8::from(yes).to_string(),
        Answer::Number(number) => number.to_string(),
        Answer::Text(text) | Answer::Json(text) => text,
    };
    Ok(text.into_bytes().into())
}

impl Jobs {
    /// Asks about the rows whose output column is NULL or whose text changed; see docs/ai-functions.md. Returns a JSON
    /// object with the counts; with `dry_run` what would be asked.
    pub fn generate_table(
        &self,
        model_id: Option<&str>,
        [table, prompt, output]: [&str; 3],
        options: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        let options = read_options(options)?;
        let call = self.engine.call_of_llm(functions::ai_generate_table, model_id, interrupt)?;
        let model_id = call.model().model_id.clone();
        let meaning = Meaning::of_caller();
        let work = Questions::new(Arc::new(options.task.clone()), options.ask.cache_answers);
        let work = work.packed(options.packing, call.model())?;
        if options.dry_run {
            let measured = measure([table, prompt, output], &options, meaning, interrupt)?;
            return Ok(measured.to_string());
        }
        let mut job = options.job;
        job.meaning = meaning;
        let work = TableWork {
            function: functions::ai_generate_table,
            writes: Writes::Answers,
            call,
            input: Box::new(work.asker()),
            work,
            bytes: |_, answer| written(answer),
            repeats: options.task.repeats(),
        };
        let summary = self.run_job(As::Caller, work, [&model_id, table, prompt, output], job, interrupt)?;
        Ok(summary.to_json().to_string())
    }
}

/// What a job would ask.
fn measure(
    [table, prompt, output]: [&str; 3],
    options: &TableOptions,
    meaning: Meaning,
    interrupt: &dyn Interrupt,
) -> Result<Value> {
    refuse_temporary_table(table)?;
    let (table, prompt, output) = (table.to_owned(), prompt.to_owned(), output.to_owned());
    let (hash, filter) = (options.job.hash_column.clone(), options.job.filter.clone());
    let until = Instant::now() + MEASURE_WITHIN;
    let (rows, distinct, bytes) =
        with_session(&As::Caller, SessionKind::CallerStatement, interrupt, until, move |s| {
            let filter = filter.as_deref();
            let layout =
                Layout::look_up(s, &table, &prompt, &output, hash.as_deref(), filter, &meaning, Writes::Answers)?;
            let result = s.run(statements::measure(&layout, filter).as_bytes())?;
            let row = result.rows.first().ok_or_else(|| Error::internal("a count without a row"))?;
            Ok((row.get::<u64>(0)?, row.get::<u64>(1)?, row.get::<u64>(2)?))
        })?;
    let asked = if options.task.repeats() { distinct } else { rows };
    let around = options.task.question("".into()).bytes() as u64;
    // The bytes are those of distinct texts.
    let texts = bytes.saturating_mul(asked).checked_div(distinct).unwrap_or(0);
    let requests = options.packing.requests(asked, texts);
    Ok(json!({
        "rows": rows,
        "distinct_inputs": distinct,
        "requests": requests,
        "tokens": (texts.saturating_add(around.saturating_mul(requests))).div_ceil(BYTES_OF_TOKEN),
        "note": "a dry run: nothing was sent; tokens of the requests are estimated at 4 bytes each, without answers and repetitions",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        for good in [
            "{}",
            r#"{"task": "if", "concurrency": 3, "max_error_ratio": 0.5, "where": "id > 1"}"#,
            r#"{"task": "classify", "labels": ["a", "b"], "multi": true}"#,
            r#"{"task": "extract", "fields": {"a": "integer"}, "temperature": 0.5}"#,
            r#"{"task": "translate", "language": "German", "dry_run": true, "cache_answers": true}"#,
        ] {
            assert!(read_options(Some(good)).is_ok(), "{good}");
        }
        for bad in [
            r#"{"task": "dance"}"#,
            r#"{"task": "classify"}"#,
            r#"{"task": "extract"}"#,
            r#"{"task": "translate"}"#,
            r#"{"task": 1}"#,
            r#"{"colour": "red"}"#,
            r#"{"dry_run": 1}"#,
            r#"{"max_error_ratio": 2}"#,
            r#"{"labels": ["a"]}"#,
            "[]",
        ] {
            assert!(read_options(Some(bad)).is_err(), "{bad}");
        }
    }
}
