//! `ai_generate_table(model_id, table_name, prompt, output_column [, options])`.

use super::command::command;
use crate::jobs::Jobs;

command! {
    /// `ai_generate_table(model_id, table_name, prompt, output_column [, options])`: asks a language model about the rows
    /// whose output column is NULL, and writes the answers. Returns a JSON object with `embedded` (rows answered),
    /// `failed`, `skipped` and `seconds`; with the option `dry_run` what would be asked.
    GenerateTable = ai_generate_table, |v, interrupt| {
        let arguments = [v.required(1)?, v.required(2)?, v.required(3)?];
        Jobs::global().generate_table(v.text(0), arguments, v.text(4), interrupt)
    }
}
