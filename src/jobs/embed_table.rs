//! `ml_embed_table`: embeds the rows of a table that lack a vector.

use std::sync::Arc;

use surface::functions;

use super::table_job::{must_fit, Options, Summary, TableWork};
use super::Jobs;
use crate::mysql::meaning::Meaning;
use crate::mysql::sql::As;
use crate::tables::layout::Writes;
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::role::Role;
use mysql_ml_core::catalog::members;
use mysql_ml_core::engine::pipeline::texts::Texts;

/// Reads the argument `options`.
fn read_options(text: Option<&str>) -> Result<Options> {
    let mut members = members::of(text)?;
    let batch_size = members::number(&mut members, "batch_size", 1, 10_000)?;
    let mut options = Options::take(&mut members)?;
    options.batch_size = batch_size;
    members::none_left(&members, "batch_size, concurrency, max_rows, on_error, max_error_ratio, where, hash_column")?;
    Ok(options)
}

impl Jobs {
    /// Embeds the rows of a table that lack a vector or whose text changed; see docs/functions.md. Returns a JSON
    /// object with the counts.
    pub fn embed_table(
        &self,
        arguments: [&str; 4],
        options: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        let mut options = read_options(options)?;
        options.meaning = Meaning::of_caller();
        self.embed_rows(As::Caller, arguments, options, interrupt).map(|summary| summary.to_json().to_string())
    }

    /// The same with parsed options and the rights of `account`. The caller needs EXECUTE too.
    pub(super) fn embed_rows(
        &self,
        account: As,
        arguments: [&str; 4],
        options: Options,
        interrupt: &dyn Interrupt,
    ) -> Result<Summary> {
        let call = self.engine.call(functions::ml_embed_table, arguments[0], interrupt)?;
        call.model().must_embed()?;
        let work = TableWork {
            function: functions::ml_embed_table,
            writes: Writes::Vectors,
            call,
            work: Texts::new(Role::Document),
            input: Box::new(|text| text),
            bytes: |layout, vector: Arc<[u8]>| must_fit(layout, vector.len() / 4).map(|()| vector),
            // The cache finds equal texts.
            repeats: false,
        };
        self.run_job(account, work, arguments, options, interrupt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let options =
            read_options(Some(r#"{"batch_size": 10, "on_error": "stop", "where": "id > 3", "max_rows": null}"#));
        let options = options.unwrap();
        assert_eq!((options.batch_size, options.stop_on_error, options.max_rows), (Some(10), true, None));
        assert_eq!(read_options(None).unwrap(), Options::default());
        for bad in
            [r#"{"batch": 1}"#, r#"{"batch_size": 0}"#, r#"{"on_error": "ignore"}"#, r#"{"where": ""}"#, "[]", "x"]
        {
            assert!(read_options(Some(bad)).is_err(), "{bad}");
        }
    }
}
