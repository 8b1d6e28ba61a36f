//! `ai.generate_table`: asks a language model about the rows of a table, and writes the answers into a column.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{json, Value};
use surface::functions;

use super::rights::refuse_temporary_table;
use super::table_job::{Options, TableWork};
use super::Jobs;
use crate::mysql::meaning::Meaning;
use crate::mysql::sql::{with_session, As, SessionKind};
use crate::tables::layout::{fields_of, FieldColumn, FieldKind, Layout, Writes};
use crate::tables::{statements, values};
use mysql_ml_base::error::{cut, Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_core::ai::{classify, decide, extract, generate, score, sentiment, summarize, translate, Answer, Task};
use mysql_ml_core::catalog::members::{self, Members};
use mysql_ml_core::catalog::options::parse_object;
use mysql_ml_core::engine::pipeline::questions::Questions;
use mysql_ml_core::engine::{AskOptions, Packing};
use mysql_ml_core::json::scan::Scan;
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

/// The text that is written for an answer, or the texts for its fields.
fn written(layout: &Layout, answer: Answer) -> Result<Arc<[u8]>> {
    let text = match answer {
        Answer::Json(document) if !layout.fields.is_empty() => return fields(layout, &document),
        Answer::Unknown => return Err(Error::response("the model says that it cannot tell; the column stays NULL")),
        Answer::Decision(yes) => u8::from(yes).to_string(),
        Answer::Number(number) => number.to_string(),
        Answer::Text(text) | Answer::Json(text) => text,
    };
    Ok(text.into_bytes().into())
}

/// The values of a document's fields, in the order of their columns.
fn fields(layout: &Layout, document: &str) -> Result<Arc<[u8]>> {
    let mut found: HashMap<String, &str> = HashMap::new();
    let read = Scan::whole(document.as_bytes(), |scan| {
        scan.object(|name, scan| {
            let value = std::str::from_utf8(scan.raw()?).ok()?;
            found.insert(name.to_owned(), value);
            Some(())
        })
    });
    read.ok_or_else(|| Error::response("the answer is not a JSON object"))?;
    let value = |target: &FieldColumn| found.get(&target.field).map_or(Ok(None), |value| field(value, target));
    let values: Vec<Option<Cow<'_, str>>> = layout.fields.iter().map(value).collect::<Result<_>>()?;
    if layout.hash.is_none() && values.iter().all(Option::is_none) {
        return Err(Error::response(
            "the text states none of the fields; the columns stay NULL (with a hash_column that is an answer)",
        ));
    }
    Ok(values::joined(values.iter().map(|value| value.as_ref().map(|text| text.as_bytes()))).into())
}

/// The text that is written for a value of JSON; `None` for null.
fn field<'v>(value: &'v str, target: &FieldColumn) -> Result<Option<Cow<'v, str>>> {
    let text = match (value, target.kind) {
        ("null", _) => return Ok(None),
        (_, FieldKind::Json) => value.into(),
        ("true", FieldKind::Whole | FieldKind::Number) => "1".into(),
        ("false", FieldKind::Whole | FieldKind::Number) => "0".into(),
        _ if value.starts_with('"') => {
            let text: String = serde_json::from_str(value).map_err(|_| Error::response("a field is not valid JSON"))?;
            text.into()
        }
        _ => Cow::from(value),
    };
    // The server would round it.
    if target.kind == FieldKind::Whole && text.trim().parse::<f64>().is_ok_and(|number| number.fract() != 0.0) {
        return Err(Error::response(format!(
            "field '{}' is {}, and column {} takes whole numbers",
            cut(&target.field, 60),
            cut(&text, 60),
            target.column
        )));
    }
    Ok(Some(text))
}

/// An error if an argument names columns for fields that the task does not have.
fn must_have_fields(task: &Task, output: &str) -> Result<()> {
    let Some(named) = fields_of(output)? else { return Ok(()) };
    let fields = task.fields();
    match named.iter().find(|(field, _)| !fields.contains(&field.as_str())) {
        None => Ok(()),
        Some(_) if fields.is_empty() => Err(Error::invalid(
            "output_column names columns for fields, which the answers of this task do not have; give task extract, or one column",
        )),
        Some((field, _)) => Err(Error::invalid(format!(
            "output_column has the field '{}', which the task does not have; its fields are: {}",
            cut(field, 60),
            cut(&fields.join(", "), 200)
        ))),
    }
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
        must_have_fields(&options.task, output)?;
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
            bytes: written,
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
    fn a_field_has_the_form_of_its_column() {
        let of = |value: &str, kind| {
            let target = FieldColumn { field: "f".into(), column: "c".into(), kind };
            field(value, &target).map(|value| value.map(Cow::into_owned)).map_err(|e| e.message().to_owned())
        };
        for (value, [json, whole, number, text]) in [
            ("true", ["true", "1", "1", "true"]),
            ("false", ["false", "0", "0", "false"]),
            ("12345678901234567890", ["12345678901234567890"; 4]),
            ("-7.0", ["-7.0"; 4]),
            (r#""é \"x\"\n""#, [r#""é \"x\"\n""#, "é \"x\"\n", "é \"x\"\n", "é \"x\"\n"]),
            (r#"["a", 1.10]"#, [r#"["a", 1.10]"#; 4]),
            (r#""null""#, [r#""null""#, "null", "null", "null"]),
        ] {
            for (kind, expected) in [
                (FieldKind::Json, json),
                (FieldKind::Whole, whole),
                (FieldKind::Number, number),
                (FieldKind::Text, text),
            ] {
                assert_eq!(of(value, kind), Ok(Some(expected.to_owned())), "{value} {kind:?}");
            }
        }
        for kind in [FieldKind::Json, FieldKind::Whole, FieldKind::Number, FieldKind::Text] {
            assert_eq!(of("null", kind), Ok(None));
        }
        assert_eq!(of("1.5", FieldKind::Number), Ok(Some("1.5".into())));
        for rounded in ["1.5", r#""2.5""#] {
            assert!(of(rounded, FieldKind::Whole).unwrap_err().contains("takes whole numbers"));
        }
    }

    #[test]
    fn columns_belong_to_fields_of_the_task() {
        let task = extract::task(r#"{"name": "text", "year": "integer"}"#, GenerateOptions::default()).unwrap();
        for good in ["facts", r#"{"name": "n"}"#, r#" {"year": "y", "name": "`n`"} "#] {
            assert!(must_have_fields(&task, good).is_ok(), "{good}");
        }
        for bad in ["{}", r#"{"city": "c"}"#, r#"{"name": 1}"#, "{x", r#"{"name": null}"#] {
            assert!(must_have_fields(&task, bad).is_err(), "{bad}");
        }
        let task = decide::task(GenerateOptions::default()).unwrap();
        assert!(must_have_fields(&task, r#"{"answer": "a"}"#).unwrap_err().message().contains("task extract"));
    }

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
