//! A table's layout: key, vector column, digest column, and the expression to embed.

use serde_json::{Map, Value};

use super::expression::{is_of_word, Code};
use crate::mysql::meaning::Meaning;
use crate::mysql::session::{hex_literal, Row, Session};
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::vector::MAX_DIMENSIONS;
use mysql_ml_core::json::check_document;

/// A table with a column for vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// The columns of the key, in its order.
    pub key: Vec<KeyColumn>,
    /// The index of the key.
    pub index: String,
    /// The column of the vectors or answers. Of several, the first one, by whose name the job is known.
    pub embedding: String,
    /// What it takes.
    pub takes: Takes,
    /// The columns of an answer's fields, in the table's order; empty if one column takes the whole answer.
    pub fields: Vec<FieldColumn>,
    /// The column with the digest of the embedded text.
    pub hash: Option<HashColumn>,
    /// The text to embed, as SQL.
    pub content: String,
    /// The columns used in the text.
    pub sources: Vec<SourceColumn>,
    /// Whether all written columns can be NULL.
    pub nullable: bool,
    /// ON UPDATE CURRENT_TIMESTAMP columns, which writes of vectors must leave unchanged.
    pub touched: Vec<String>,
    /// Session variables that affect the expression.
    pub meaning: Meaning,
    /// Whether the expression is the same for all rows.
    pub constant: bool,
}

/// The values that a column takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Vectors of at most these dimensions.
    Vectors(usize),
    /// Texts, JSON documents or numbers, as text.
    Values,
}

/// A column that takes one field of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldColumn {
    /// The field's name.
    pub field: String,
    /// The column's name.
    pub column: String,
    /// The form of its values.
    pub kind: FieldKind,
}

/// The form in which a column takes a value of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// As JSON.
    Json,
    /// As a whole number; true and false as 1 and 0.
    Whole,
    /// As a number; true and false as 1 and 0.
    Number,
    /// As a text; JSON other than texts as it is written.
    Text,
}

impl FieldKind {
    /// The form for a column's type.
    fn of(data_type: &str) -> Option<Self> {
        Some(match data_type {
            "json" => FieldKind::Json,
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => FieldKind::Whole,
            "float" | "double" | "decimal" => FieldKind::Number,
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set" => FieldKind::Text,
            _ => return None,
        })
    }
}

/// The most columns of one answer.
const MAX_FIELDS: usize = 100;

/// The fields and columns that an argument names as a JSON object, in any order; `None` for a column's name.
pub fn fields_of(output: &str) -> Result<Option<Vec<(String, String)>>> {
    if !output.trim_start().starts_with('{') {
        return Ok(None);
    }
    let wrong = || {
        Error::invalid(format!(
            "output_column is neither a column nor a JSON object of at most {MAX_FIELDS} fields with their columns, such as '{{\"name\": \"customer\"}}'"
        ))
    };
    check_document("output_column", output)?;
    let fields: Map<String, Value> = serde_json::from_str(output).map_err(|_| wrong())?;
    if fields.is_empty() || fields.len() > MAX_FIELDS {
        return Err(wrong());
    }
    let pair = |(field, column)| match column {
        Value::String(column) => Ok((field, column)),
        _ => Err(wrong()),
    };
    fields.into_iter().map(pair).collect::<Result<_>>().map(Some)
}

/// What a job writes, which decides the columns and expressions that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// Vectors. The text is a column or an expression.
    Vectors,
    /// Answers. The text may also be a template with `{column}`.
    Answers,
}

impl Writes {
    /// The argument that holds the text.
    fn argument(self) -> &'static str {
        match self {
            Writes::Vectors => "content_column",
            Writes::Answers => "prompt",
        }
    }
}

/// A column used in the text; not a generated one.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceColumn {
    /// Its name.
    pub name: String,
    /// Whether its values are text: different texts may compare equal, as by case.
    pub text: bool,
}

/// A column of the key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyColumn {
    /// Its name.
    pub name: String,
    /// The literal form of its values.
    pub kind: KeyKind,
}

/// The literal form of a value that compares with its column like the value itself.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyKind {
    /// Digits.
    Number,
    /// A double's digits.
    Double,
    /// Text, compared by this character set and collation.
    Text {
        /// The column's character set.
        charset: String,
        /// Its collation.
        collation: String,
    },
    /// Bytes.
    Binary,
    /// A date or time, with the type of its cast.
    Temporal(&'static str),
}

/// The column of a digest.
#[derive(Debug, Clone, PartialEq)]
pub struct HashColumn {
    /// Its name.
    pub name: String,
    /// Whether it holds 32 bytes; otherwise 64 hexadecimal digits.
    pub binary: bool,
}

/// A column as the server describes it.
pub(super) struct Column {
    pub name: String,
    pub data_type: String,
    length: Option<u64>,
    pub charset: Option<String>,
    pub collation: Option<String>,
    nullable: bool,
    /// Its generation expression; empty for other columns.
    generation: String,
    pub column_type: String,
    /// Whether it is ON UPDATE CURRENT_TIMESTAMP.
    touched: bool,
}

fn read_column(row: &Row) -> Result<Column> {
    let text = |i| row.get::<Option<String>>(i);
    Ok(Column {
        name: row.get(0)?,
        data_type: row.get::<String>(1)?.to_ascii_lowercase(),
        length: row.get(2)?,
        charset: text(3)?,
        collation: text(4)?,
        nullable: row.get::<String>(5)? == "YES",
        generation: row.get(6)?,
        column_type: row.get(7)?,
        touched: row.get::<Option<u64>>(10)?.unwrap_or(0) > 0,
    })
}

/// Schema, name and columns of a base table, as the server spells them. An error for a view.
pub(super) fn columns_of(s: &mut Session, table: &str) -> Result<(String, String, Vec<Column>)> {
    let (mut schema, mut table) = parse_table(table)?;
    let rows = s
        .query(
            "SELECT COLUMN_NAME, DATA_TYPE, CHARACTER_OCTET_LENGTH, CHARACTER_SET_NAME, COLLATION_NAME, IS_NULLABLE, \
             IFNULL(GENERATION_EXPRESSION, ''), COLUMN_TYPE, TABLE_SCHEMA, TABLE_NAME, \
             INSTR(EXTRA, 'on update CURRENT_TIMESTAMP') FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
            &[schema.as_str().into(), table.as_str().into()],
        )?
        .rows;
    let Some(row) = rows.first() else {
        return Err(Error::new(
            Kind::NotFound,
            format!(
                "table {schema}.{table} does not exist, or you may not see it; check its name and your rights (a temporary table is seen by its own session only)"
            ),
        ));
    };
    // Names as the server spells them, if it ignores case.
    (schema, table) = (row.get(8)?, row.get(9)?);
    let columns: Vec<Column> = rows.iter().map(read_column).collect::<Result<_>>()?;
    let kind = s.query(
        "SELECT TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
        &[schema.as_str().into(), table.as_str().into()],
    )?;
    let kind: Option<String> = kind.rows.first().map(|row| row.get(0)).transpose()?;
    if kind.is_some_and(|kind| kind != "BASE TABLE") {
        return Err(Error::invalid(format!(
            "{schema}.{table} is a view; vectors are kept in tables: name the table behind it"
        )));
    }
    Ok((schema, table, columns))
}

/// A `schema.table`; either part may be in backquotes.
pub fn parse_table(text: &str) -> Result<(String, String)> {
    let bad = || {
        Error::invalid(format!(
            "table '{}' is not a table's name; write schema.table, also for a table of the current schema",
            cut(text, 80)
        ))
    };
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let (part, after) = match rest.strip_prefix('`') {
            Some(quoted) => {
                // A backquote of the name itself is doubled.
                let (mut name, mut rest) = (String::new(), quoted);
                loop {
                    let (piece, after) = rest.split_once('`').ok_or_else(bad)?;
                    name.push_str(piece);
                    rest = after;
                    match after.strip_prefix('`') {
                        Some(more) => rest = more,
                        None => break,
                    }
                    name.push('`');
                }
                (name, rest)
            }
            None => {
                let (name, after) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
                (name.to_owned(), after)
            }
        };
        if part.is_empty() || part.len() > 256 || part.chars().any(char::is_control) {
            return Err(bad());
        }
        parts.push(part);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => break,
            None => return Err(bad()),
        }
    }
    match <[String; 2]>::try_from(parts) {
        Ok([schema, table]) => Ok((schema, table)),
        Err(_) => Err(bad()),
    }
}

/// An identifier in backquotes.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

impl Layout {
    /// The table's name as SQL.
    pub fn name(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }

    /// The columns that are written, but for that of the digest.
    pub fn outputs(&self) -> Vec<&str> {
        match self.fields.as_slice() {
            [] => vec![self.embedding.as_str()],
            fields => fields.iter().map(|field| field.column.as_str()).collect(),
        }
    }

    /// What is written, for errors.
    pub fn noun(&self) -> &'static str {
        match self.takes {
            Takes::Vectors(_) => "vector",
            Takes::Values => "answer",
        }
    }

    /// Looks up a table with the session's rights and tries the expression, after setting `meaning` in the session.
    /// `content` is a column or an expression, `filter` a condition.
    #[allow(clippy::too_many_arguments)]
    pub fn look_up(
        s: &mut Session,
        table: &str,
        content: &str,
        embedding: &str,
        hash_column: Option<&str>,
        filter: Option<&str>,
        meaning: &Meaning,
        writes: Writes,
    ) -> Result<Self> {
        let layout = Self::describe(s, table, content, embedding, hash_column, filter, meaning, writes)?;
        layout.meaning.set_in(s)?;
        layout.probe(s)?;
        if layout.constant {
            return Err(Error::invalid(format!(
                "{} names no column, so that every row would get the same {}; name a column, or an expression of columns",
                writes.argument(),
                layout.noun()
            )));
        }
        Ok(layout)
    }

    /// Reads the server's metadata of a table with the session's rights. Touches neither the table nor the expression.
    #[allow(clippy::too_many_arguments)]
    pub fn describe(
        s: &mut Session,
        table: &str,
        content: &str,
        embedding: &str,
        hash_column: Option<&str>,
        filter: Option<&str>,
        meaning: &Meaning,
        writes: Writes,
    ) -> Result<Self> {
        let (schema, table, columns) = columns_of(s, table)?;
        let find = |name: &str| columns.iter().find(|c| is_named(&c.name, name));
        let missing = |name: &str| {
            Error::new(
                Kind::NotFound,
                format!("table {schema}.{table} has no column '{}'; check its name", cut(name, 64)),
            )
        };
        let named = if writes == Writes::Answers { fields_of(embedding)? } else { None };
        let (targets, fields) = match named {
            None => (vec![find(embedding).ok_or_else(|| missing(embedding))?], Vec::new()),
            Some(named) => columns_of_fields(named, &columns, &schema, &table)?,
        };
        let target = targets.first().ok_or_else(|| missing(embedding))?;
        let mut takes = Takes::Values;
        for target in &targets {
            takes = match writes {
                Writes::Vectors if !target.generation.is_empty() => {
                    return Err(Error::invalid(format!(
                        "column {} is generated; vectors cannot be written to it",
                        target.name
                    )));
                }
                Writes::Vectors => Takes::Vectors(vector_width(target, &schema, &table)?),
                Writes::Answers => must_take_values(target, &schema, &table)?,
            };
        }
        let hash = match hash_column {
            Some(name) => Some(find(name).ok_or_else(|| missing(name))?),
            None => targets.iter().find_map(|target| find(&format!("{}_hash", target.name))),
        };
        if let Some(hash) = hash.filter(|hash| targets.iter().any(|target| target.name == hash.name)) {
            return Err(Error::invalid(format!("column {} cannot keep both a value and a digest", hash.name)));
        }
        let hash = hash.map(hash_kind).transpose()?;
        if let Some(target) = targets.iter().find(|target| !target.nullable && hash.is_none()) {
            return Err(Error::invalid(format!(
                "column {} is NOT NULL, so rows without a vector cannot be found; allow NULL, or name a hash_column",
                target.name
            )));
        }
        let (index, key) = key_of(s, &schema, &table, &columns)?;
        let mut meaning = meaning.clone();
        let mut constant = false;
        let template = match writes {
            Writes::Vectors => None,
            Writes::Answers => template(content, &columns),
        };
        let content = match (find(content), template) {
            (Some(column), _) => quoted(&column.name),
            (None, Some(template)) => template,
            (None, None) => {
                constant = understand(writes.argument(), content, &columns, &mut meaning)?;
                // On its own line, so that a trailing comment ends.
                format!("(\n{content}\n)")
            }
        };
        if let Some(filter) = filter {
            understand_condition(filter, &columns, &mut meaning)?;
        }
        // In a zone with daylight saving time, two times can have the same text.
        if columns.iter().any(|c| c.data_type == "timestamp" && key.iter().any(|k| k.name == c.name)) {
            meaning.forget_time_zone();
        }
        let sources = sources_of(&content, &columns);
        let (embedding, nullable) = (target.name.clone(), targets.iter().all(|target| target.nullable));
        let touched = columns.iter().filter(|c| c.touched).map(|c| c.name.clone()).collect();
        Ok(Layout {
            schema,
            table,
            key,
            index,
            embedding,
            takes,
            fields,
            hash,
            content,
            sources,
            nullable,
            touched,
            meaning,
            constant,
        })
    }

    /// Tries the expression, so that its errors appear before anything is sent.
    fn probe(&self, s: &mut Session) -> Result<()> {
        let probe = format!("SELECT CAST({} AS CHAR CHARACTER SET utf8mb4) FROM {} LIMIT 0", self.content, self.name());
        s.run(probe.as_bytes()).map(|_| ()).map_err(|e| match e.kind() {
            Kind::Server(_) if !crate::mysql::error_numbers::is_locked(&e) => Error::invalid(match self.takes {
                Takes::Vectors(_) => format!("content_column: {}; give a column or an expression", e.message()),
                Takes::Values => {
                    format!("prompt: {}; give a column, an expression, or a text with {{column}} in it", e.message())
                }
            }),
            _ => e,
        })
    }

    /// The server's error if the session may not write vectors; no row is touched. Returns a note about columns that
    /// will change because the account may not set them.
    pub fn must_be_writable(&mut self, s: &mut Session) -> Result<Option<String>> {
        let hash = self.hash.as_ref().map(|hash| hash.name.as_str());
        let written: Vec<&str> = self.outputs().into_iter().chain(hash).collect();
        let mut set = |columns: &[&str]| {
            let sets: Vec<String> = columns.iter().map(|c| format!("{0} = {0}", quoted(c))).collect();
            s.run(format!("UPDATE {} SET {} WHERE FALSE", self.name(), sets.join(", ")).as_bytes()).map(|_| ())
        };
        set(&written)?;
        let touched: Vec<&str> = self.touched.iter().map(String::as_str).collect();
        if touched.is_empty() || set(&touched).is_ok() {
            return Ok(None);
        }
        let names = touched.join(", ");
        self.touched.clear();
        Ok(Some(format!("{names} is set to the time of the write, because you may not update it")))
    }

    /// A note about changes of the text that no trigger on the table sees.
    pub fn unnoticed(&self, s: &mut Session) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let words = Code::of(&self.content, !self.meaning.has_mode("NO_BACKSLASH_ESCAPES")).words;
        let has = |name: &str| words.iter().any(|word| word.names(name));
        let has_keyword = |keyword: &str| words.iter().any(|word| word.is_keyword(keyword));
        // A digest detects such changes in a run over all rows.
        let noticed = if self.hash.is_some() { "noticed by ai.refresh_embeddings only" } else { "not noticed" };
        if has_keyword("SELECT") || has_keyword("TABLE") {
            notes.push(format!("content_column reads other rows, whose changes are {noticed}"));
        }
        let functions = s.query(
            "SELECT ROUTINE_SCHEMA, ROUTINE_NAME FROM information_schema.ROUTINES \
             WHERE ROUTINE_TYPE = 'FUNCTION' AND SQL_DATA_ACCESS <> 'NO SQL' AND ROUTINE_SCHEMA NOT IN ('sys')",
            &[],
        )?;
        for row in &functions.rows {
            let (schema, name): (String, String) = (row.get(0)?, row.get(1)?);
            if has(&schema) && has(&name) {
                notes.push(format!("content_column calls {schema}.{name}; changes of what that reads are {noticed}"));
            }
        }
        let cascades = s.query(
            "SELECT DISTINCT k.COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE k \
             JOIN information_schema.REFERENTIAL_CONSTRAINTS r ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA \
             AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME AND r.TABLE_NAME = k.TABLE_NAME \
             WHERE k.TABLE_SCHEMA = ? AND k.TABLE_NAME = ? \
             AND (r.UPDATE_RULE IN ('CASCADE', 'SET NULL') OR r.DELETE_RULE = 'SET NULL')",
            &[self.schema.as_str().into(), self.table.as_str().into()],
        )?;
        let mut by_cascade = Vec::new();
        for row in &cascades.rows {
            let name: String = row.get(0)?;
            if self.sources.iter().any(|source| source.name == name) {
                by_cascade.push(name);
            }
        }
        // With a digest the event finds them: the table has changed.
        if !by_cascade.is_empty() && self.hash.is_none() {
            // Some servers lack this variable.
            let fired = s.query("SHOW GLOBAL VARIABLES LIKE 'enable\\_cascade\\_triggers'", &[])?;
            if fired.rows.first().map_or(Ok(String::new()), |row| row.get::<String>(1))? != "ON" {
                notes.push(format!(
                    "changes of {} by a foreign key's cascade are not noticed while enable_cascade_triggers is OFF",
                    by_cascade.join(", ")
                ));
            }
        }
        Ok(notes)
    }
}

/// Refuses expressions that other sessions would evaluate differently, or that do not depend on the row.
///
/// A stored routine does not know the sql_mode of its caller. If an expression is valid in one mode only, that mode
/// is set. Otherwise `a || b` could be OR, which gives 0 or 1, and an expression without a column would be equal for
/// all rows.
///
/// Returns whether the expression is the same for all rows, unless the server finds it wrong.
fn understand(what: &str, content: &str, columns: &[Column], meaning: &mut Meaning) -> Result<bool> {
    let code = Code::of(content, !meaning.has_mode("NO_BACKSLASH_ESCAPES"));
    refuse_user_variables(what, &code)?;
    let names_some = understand_quotes(what, &code, columns, meaning)?;
    if code.has_bars && !meaning.has_mode("PIPES_AS_CONCAT") {
        meaning.add_mode("PIPES_AS_CONCAT");
    }
    Ok(!names_some && !code.code.contains('('))
}

/// The same for a condition, where `a || b` may be OR.
fn understand_condition(filter: &str, columns: &[Column], meaning: &mut Meaning) -> Result<()> {
    const WHAT: &str = "option where";
    let code = Code::of(filter, !meaning.has_mode("NO_BACKSLASH_ESCAPES"));
    refuse_user_variables(WHAT, &code)?;
    understand_quotes(WHAT, &code, columns, meaning).map(|_| ())
}

/// Decides whether double quotes contain names or literals. Returns whether a column is named.
fn understand_quotes(what: &str, code: &Code, columns: &[Column], meaning: &mut Meaning) -> Result<bool> {
    let has_names = columns.iter().any(|c| mentions(&code.code, &c.name));
    let Some(name) =
        code.in_double_quotes.iter().find(|text| columns.iter().any(|c| c.name.eq_ignore_ascii_case(text)))
    else {
        return Ok(has_names);
    };
    if meaning.has_mode("ANSI_QUOTES") {
        return Ok(true);
    }
    if has_names {
        let name = cut(name, 64);
        return Err(Error::invalid(format!(
            "{what}: \"{name}\" is a text in this sql_mode, and also the name of a column; write `{name}` for the column or '{name}' for the text, or call the function without a schema in a session with ANSI_QUOTES"
        )));
    }
    meaning.add_mode("ANSI_QUOTES");
    Ok(true)
}

/// Refuses user variables: they exist in their own session only.
fn refuse_user_variables(what: &str, code: &Code) -> Result<()> {
    if !code.names_user_variable() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{what} names a user variable, which only your own session knows; write its value into the expression"
    )))
}

/// The columns that an expression names, including those behind generated columns. May include a name that occurs only
/// in a literal.
fn sources_of(expression: &str, columns: &[Column]) -> Vec<SourceColumn> {
    let mut named = vec![false; columns.len()];
    let mut expressions = vec![expression];
    while let Some(expression) = expressions.pop() {
        for (column, named) in columns.iter().zip(&mut named) {
            if !*named && mentions(expression, &column.name) {
                *named = true;
                expressions.push(&column.generation);
            }
        }
    }
    let sources = columns.iter().zip(named).filter(|(column, named)| *named && column.generation.is_empty());
    let text = |c: &Column| c.charset.is_some() || matches!(c.data_type.as_str(), "json" | "enum" | "set");
    sources.map(|(column, _)| SourceColumn { name: column.name.clone(), text: text(column) }).collect()
}

/// Whether the name occurs in the expression as a whole word.
fn mentions(expression: &str, name: &str) -> bool {
    // A backquote in a name is doubled in SQL.
    let (expression, name) = (expression.to_lowercase(), name.to_lowercase().replace('`', "``"));
    let word = is_of_word;
    expression.match_indices(&name).any(|(at, found)| {
        let before = expression.get(..at).and_then(|t| t.chars().next_back());
        let after = expression.get(at + found.len()..).and_then(|t| t.chars().next());
        !name.chars().all(word) || !(before.is_some_and(word) || after.is_some_and(word))
    })
}

/// Whether an argument names the column, bare or in backquotes.
pub fn is_named(column: &str, argument: &str) -> bool {
    column.eq_ignore_ascii_case(&unquoted(argument))
}

/// A name without its backquotes, if it has any.
pub fn unquoted(argument: &str) -> String {
    let argument = argument.trim();
    let unquoted = argument.strip_prefix('`').and_then(|a| a.strip_suffix('`')).map(|a| a.replace("``", "`"));
    unquoted.unwrap_or_else(|| argument.to_owned())
}

/// The widest vector of a column, in dimensions.
pub(super) fn vector_width(column: &Column, schema: &str, table: &str) -> Result<usize> {
    let bytes = match column.data_type.as_str() {
        "vector" => {
            let digits = column.column_type.trim_start_matches(|c: char| !c.is_ascii_digit());
            digits.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap_or(2048) * 4
        }
        "varbinary" | "blob" | "mediumblob" | "longblob" => column.length.unwrap_or(65_535),
        other => {
            return Err(Error::invalid(format!(
                "column {} of {schema}.{table} is of type {other}; vectors go into VECTOR, VARBINARY or BLOB columns",
                column.name
            )))
        }
    };
    Ok(usize::try_from(bytes / 4).unwrap_or(MAX_DIMENSIONS).min(MAX_DIMENSIONS))
}

/// An error for a column that takes no answers.
fn must_take_values(column: &Column, schema: &str, table: &str) -> Result<Takes> {
    const TYPES: [&str; 18] = [
        "char",
        "varchar",
        "tinytext",
        "text",
        "mediumtext",
        "longtext",
        "json",
        "enum",
        "tinyint",
        "smallint",
        "mediumint",
        "int",
        "bigint",
        "float",
        "double",
        "decimal",
        "bit",
        "set",
    ];
    if !TYPES.contains(&column.data_type.as_str()) {
        return Err(Error::invalid(format!(
            "column {} of {schema}.{table} is of type {}; answers go into text, JSON and number columns",
            column.name, column.data_type
        )));
    }
    if !column.generation.is_empty() {
        return Err(Error::invalid(format!("column {} is generated; answers cannot be written to it", column.name)));
    }
    Ok(Takes::Values)
}

/// The columns that fields go into, in the table's order, with the fields.
fn columns_of_fields<'c>(
    named: Vec<(String, String)>,
    columns: &'c [Column],
    schema: &str,
    table: &str,
) -> Result<(Vec<&'c Column>, Vec<FieldColumn>)> {
    let mut found: Vec<(&Column, FieldColumn)> = Vec::new();
    for column in columns {
        for (field, name) in named.iter().filter(|(_, name)| is_named(&column.name, name)) {
            let Some(kind) = FieldKind::of(&column.data_type) else {
                return Err(Error::invalid(format!(
                    "column {} of {schema}.{table} is of type {}; fields go into text, JSON and number columns",
                    column.name, column.data_type
                )));
            };
            if found.last().is_some_and(|(last, _)| last.name == column.name) {
                return Err(Error::invalid(format!(
                    "two fields go into column {}, '{}' is one of them; name another column",
                    column.name,
                    cut(name, 64)
                )));
            }
            found.push((column, FieldColumn { field: field.clone(), column: column.name.clone(), kind }));
        }
    }
    let missing = named.iter().find(|(field, _)| !found.iter().any(|(_, target)| target.field == *field));
    if let Some((_, name)) = missing {
        return Err(Error::new(
            Kind::NotFound,
            format!("table {schema}.{table} has no column '{}'; check its name", cut(name, 64)),
        ));
    }
    Ok(found.into_iter().unzip())
}

/// The expression of a template: its text, with the values of columns in the places of their `{name}`. `None` if it names
/// no column so. NULL if one of the values is.
fn template(text: &str, columns: &[Column]) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut named = false;
    let mut rest = text;
    let mut literal = String::new();
    while let Some((before, after)) = rest.split_once('{') {
        literal.push_str(before);
        let column = after
            .split_once('}')
            .and_then(|(name, after)| columns.iter().find(|c| is_named(&c.name, name)).map(|column| (column, after)));
        match column {
            Some((column, after)) => {
                parts.push(literal_of(&std::mem::take(&mut literal)));
                parts.push(format!("CAST({} AS CHAR CHARACTER SET utf8mb4)", quoted(&column.name)));
                named = true;
                rest = after;
            }
            None => {
                literal.push('{');
                rest = after;
            }
        }
    }
    literal.push_str(rest);
    parts.push(literal_of(&literal));
    named.then(|| format!("CONCAT({})", parts.join(", ")))
}

/// A text as a SQL literal that no character can leave.
fn literal_of(text: &str) -> String {
    format!("_utf8mb4 {}", hex_literal(text.as_bytes()))
}

fn hash_kind(column: &Column) -> Result<HashColumn> {
    let length = column.length.unwrap_or(0);
    let binary = match column.data_type.as_str() {
        "binary" | "varbinary" if length >= 32 => true,
        "char" | "varchar" if length >= 64 => false,
        _ => {
            return Err(Error::invalid(format!(
                "column {} cannot keep a digest; declare it BINARY(32) or CHAR(64)",
                column.name
            )))
        }
    };
    if binary && column.data_type == "binary" && length != 32 {
        return Err(Error::invalid(format!("column {} pads a digest; declare it BINARY(32)", column.name)));
    }
    Ok(HashColumn { name: column.name.clone(), binary })
}

/// The primary key, or the first unique key without NULLs.
pub(super) fn key_of(
    s: &mut Session,
    schema: &str,
    table: &str,
    columns: &[Column],
) -> Result<(String, Vec<KeyColumn>)> {
    let rows = s
        .query(
            "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND NON_UNIQUE = 0 \
             ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX",
            &[schema.into(), table.into()],
        )?
        .rows;
    let mut indexes: Vec<(String, Option<Vec<KeyColumn>>)> = Vec::new();
    for row in &rows {
        let index: String = row.get(0)?;
        let column: Option<String> = row.get(1)?;
        let part: Option<u64> = row.get(2)?;
        if indexes.last().is_none_or(|(name, _)| *name != index) {
            indexes.push((index, Some(Vec::new())));
        }
        let Some((_, parts)) = indexes.last_mut() else { continue };
        let found = column.and_then(|name| columns.iter().find(|c| c.name == name)).filter(|c| !c.nullable);
        match (found.and_then(key_column), part, parts.as_mut()) {
            (Some(column), None, Some(parts)) => parts.push(column),
            // A key over expressions, prefixes or NULLs does not identify rows by its columns.
            _ => *parts = None,
        }
    }
    indexes.into_iter().find_map(|(name, parts)| parts.filter(|p| !p.is_empty()).map(|p| (name, p))).ok_or_else(|| {
        Error::invalid(format!(
            "table {schema}.{table} has no primary key, nor a unique key without NULLs; add one, so that each row can be identified"
        ))
    })
}

fn key_column(column: &Column) -> Option<KeyColumn> {
    let kind = match column.data_type.as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "year" | "bit" | "enum" | "set" => {
            KeyKind::Number
        }
        "float" | "double" => KeyKind::Double,
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
            KeyKind::Text { charset: column.charset.clone()?, collation: column.collation.clone()? }
        }
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => KeyKind::Binary,
        "date" => KeyKind::Temporal("DATE"),
        "time" => KeyKind::Temporal("TIME(6)"),
        "datetime" | "timestamp" => KeyKind::Temporal("DATETIME(6)"),
        _ => return None,
    };
    Some(KeyColumn { name: column.name.clone(), kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, data_type: &str, generation: &str) -> Column {
        Column {
            name: name.into(),
            data_type: data_type.into(),
            length: None,
            charset: (data_type == "text").then(|| "utf8mb4".into()),
            collation: None,
            nullable: true,
            generation: generation.into(),
            column_type: data_type.into(),
            touched: false,
        }
    }

    #[test]
    fn columns_are_named_in_backquotes_or_without() {
        assert!(is_named("Body", " `body` ") && is_named("a`b", "`a``b`") && is_named("a`b", "a`b"));
        assert!(!is_named("body", "body`") && !is_named("a``b", "`a``b`"));
    }

    #[test]
    fn the_columns_behind_an_expression_are_found() {
        let columns = [
            column("id", "int", ""),
            column("title", "text", ""),
            column("Title2", "text", ""),
            column("a b", "text", ""),
            column("both", "text", "concat(`title`,`twice`)"),
            column("twice", "text", "concat(`Title2`,`both`)"),
            column("doc", "json", ""),
        ];
        let names = |e: &str| sources_of(e, &columns).iter().map(|s| s.name.clone()).collect::<Vec<_>>().join(",");
        assert_eq!(names("`title`"), "title");
        assert_eq!(names("(\nCONCAT(TITLE2, ' ', t.`a b`)\n)"), "Title2,a b");
        assert_eq!(names("`both`"), "title,Title2", "generated columns may even name each other");
        assert_eq!(names("'x'"), "");
        assert!(mentions("CONCAT(`a``b`)", "A`b") && !mentions("CONCAT(`ab`)", "a`b"));
        assert!(sources_of("id + doc", &columns).iter().map(|s| s.text).eq([false, true]));
    }

    #[test]
    fn tables_are_named_with_their_schema() {
        let ok = |text: &str, s: &str, t: &str| assert_eq!(parse_table(text).unwrap(), (s.to_owned(), t.to_owned()));
        ok("shop.docs", "shop", "docs");
        ok("`my shop`.`a.b`", "my shop", "a.b");
        ok(" shop.`docs` ", "shop", "docs");
        ok("`a``b`.```c```", "a`b", "`c`");
        for bad in ["docs", "", "a.b.c", "a.", ".b", "`a.b", "`a`b.c"] {
            assert!(parse_table(bad).is_err(), "{bad}");
        }
    }
}
