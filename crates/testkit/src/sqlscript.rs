//! Runs .sql files as the `mysql` command-line client does.
//!
//! The server takes one statement at a time, so the client splits a script. This parser follows the client's batch
//! mode: quotes, comments and `DELIMITER`.

use anyhow::Context as _;
use mysql::prelude::Queryable as _;

/// Characters of a failing statement in an error message.
const QUOTED_CHARACTERS: usize = 80;

/// One statement of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The statement without its delimiter and without the comments before it.
    pub text: String,
    /// The line of the script on which `text` begins, counted from 1.
    pub line: usize,
}

/// Splits a script into its statements.
///
/// Comments before a statement are dropped. Comments inside one stay, as do `/*! ... */` and `/*+ ... */` everywhere,
/// because they have a meaning for the server. A last statement without a delimiter counts, as in the client's batch
/// mode.
pub fn split(script: &str) -> Vec<Statement> {
    let mut statements = Vec::new();
    let mut delimiter = ";";
    let mut line = 1;
    let mut rest = script;
    loop {
        rest = advance(rest, blank_length(rest), &mut line);
        if rest.is_empty() {
            return statements;
        }
        if let Some((word, length)) = delimiter_command(rest) {
            delimiter = word;
            rest = advance(rest, length, &mut line);
            continue;
        }
        let length = statement_length(rest, delimiter);
        let text = rest.get(..length).unwrap_or(rest).trim_ascii_end();
        if !text.is_empty() {
            statements.push(Statement { text: text.to_owned(), line });
        }
        rest = advance(rest, length, &mut line);
        rest = rest.strip_prefix(delimiter).unwrap_or(rest);
    }
}

/// Runs every statement of a script and stops at the first that fails.
///
/// `name`: the script's name in errors, usually its path.
pub fn run(conn: &mut mysql::Conn, script: &str, name: &str) -> anyhow::Result<()> {
    for statement in split(script) {
        execute(conn, &statement.text).with_context(|| {
            let quoted: String = statement.text.chars().take(QUOTED_CHARACTERS).collect();
            format!("{name}, line {}: {quoted}", statement.line)
        })?;
    }
    Ok(())
}

/// Runs one statement to its end.
///
/// `query_drop` discards everything after the server's first answer, including the error of a later row or of a
/// procedure's later statement.
fn execute(conn: &mut mysql::Conn, text: &str) -> mysql::Result<()> {
    let mut result = conn.query_iter(text)?;
    while let Some(rows) = result.iter() {
        for row in rows {
            row?;
        }
    }
    Ok(())
}

/// The text after its first `length` bytes; counts the lines passed.
fn advance<'a>(text: &'a str, length: usize, line: &mut usize) -> &'a str {
    let (passed, rest) = text.split_at_checked(length).unwrap_or((text, ""));
    *line += passed.bytes().filter(|byte| *byte == b'\n').count();
    rest
}

/// The length of the white space and comments at the start.
fn blank_length(text: &str) -> usize {
    let mut rest = text;
    loop {
        rest = rest.trim_ascii_start();
        match comment_length(rest) {
            Some(length) => rest = rest.get(length..).unwrap_or(""),
            None => return text.len() - rest.len(),
        }
    }
}

/// The length of the comment at the start; `None` if there is none that may be skipped.
fn comment_length(text: &str) -> Option<usize> {
    if let Some(after) = text.strip_prefix("/*") {
        if after.starts_with(['!', '+']) {
            return None;
        }
        return Some(after.find("*/").map_or(text.len(), |at| at + 4));
    }
    // `5--1` is arithmetic: two hyphens begin a comment only before a space, a control character or the end.
    let dashes = text
        .strip_prefix("--")
        .is_some_and(|after| after.chars().next().is_none_or(|c| c == ' ' || c.is_ascii_control()));
    if dashes || text.starts_with('#') {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    None
}

/// The delimiter of a `DELIMITER` command at the start, and the length of the command's line.
fn delimiter_command(text: &str) -> Option<(&str, usize)> {
    const COMMAND: &str = "delimiter";
    let (word, after) = text.split_at_checked(COMMAND.len())?;
    if !word.eq_ignore_ascii_case(COMMAND) || !after.starts_with([' ', '\t']) {
        return None;
    }
    let length = text.find('\n').unwrap_or(text.len());
    let argument = text.get(COMMAND.len()..length)?;
    // The client reports a missing argument; here the line is left for the server to refuse.
    let delimiter = argument.split_ascii_whitespace().next()?;
    Some((delimiter, length))
}

/// The length of the statement at the start, without the delimiter.
fn statement_length(text: &str, delimiter: &str) -> usize {
    let mut rest = text;
    while !rest.is_empty() && !rest.starts_with(delimiter) {
        rest = rest.get(token_length(rest)..).unwrap_or("");
    }
    text.len() - rest.len()
}

/// The length of the token at the start: a quoted text, a comment or one character.
fn token_length(text: &str) -> usize {
    if let Some(length) = comment_length(text) {
        return length;
    }
    if text.starts_with("/*") {
        return conditional_comment_length(text);
    }
    match text.chars().next() {
        Some(quote @ ('\'' | '"' | '`')) => quoted_length(text, quote),
        Some(other) => other.len_utf8(),
        None => 0,
    }
}

/// The length of a `/*! ... */` or `/*+ ... */` at the start; a `*/` in its quotes does not end it.
fn conditional_comment_length(text: &str) -> usize {
    let mut rest = text.get(2..).unwrap_or("");
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("*/") {
            return text.len() - after.len();
        }
        let length = match first {
            '\'' | '"' | '`' => quoted_length(rest, first),
            other => other.len_utf8(),
        };
        rest = rest.get(length..).unwrap_or("");
    }
    text.len()
}

/// The length of the quoted text at the start, including both quotes.
///
/// A doubled quote needs no care: it parses as two adjacent quoted texts.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        if character == quote {
            return at + quote.len_utf8();
        }
        // Between backticks a backslash is an ordinary character.
        if character == '\\' && quote != '`' {
            characters.next();
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(script: &str) -> Vec<String> {
        split(script).into_iter().map(|s| s.text).collect()
    }

    #[test]
    fn splits_on_semicolons() {
        assert_eq!(texts("SELECT 1; SELECT 2;\nSELECT 3"), ["SELECT 1", "SELECT 2", "SELECT 3"]);
    }

    #[test]
    fn skips_empty_statements() {
        assert_eq!(texts(";; ;\n ; SELECT 1 ;; "), ["SELECT 1"]);
        assert!(split("").is_empty());
        assert!(split(" \r\n\t").is_empty());
    }

    #[test]
    fn knows_the_line_of_each_statement() {
        let script = "-- head\n\nSELECT\n  1;\n/* two\nlines */ SELECT 2;\r\nDELIMITER //\nSELECT 3//";
        let lines: Vec<usize> = split(script).iter().map(|s| s.line).collect();
        assert_eq!(lines, [3, 6, 8]);
    }

    #[test]
    fn keeps_semicolons_in_quotes() {
        for quoted in [
            "'a;b'",
            "\"a;b\"",
            "`a;b`",
            "'it''s; here'",
            "\"say \"\"x;\"\"\"",
            "`a``;b`",
            r"'it\'s; here'",
            r#""say \"x;\"""#,
            r"'a\\'",
            r"`a\`",
            "'ä;ö\\ü;'",
            "'-- ; no comment'",
            "'/* ; no comment'",
        ] {
            let script = format!("SELECT {quoted}; SELECT 2");
            assert_eq!(texts(&script), [format!("SELECT {quoted}"), "SELECT 2".to_owned()], "{quoted}");
        }
    }

    #[test]
    fn other_quotes_inside_quotes_are_text() {
        assert_eq!(texts(r#"SELECT '"'; SELECT "'"; SELECT `'"`; SELECT 1"#).len(), 4);
    }

    #[test]
    fn takes_unclosed_quotes_and_comments_to_the_end() {
        assert_eq!(texts("SELECT 'a; SELECT 2"), ["SELECT 'a; SELECT 2"]);
        assert_eq!(texts("SELECT 1 /* a; SELECT 2"), ["SELECT 1 /* a; SELECT 2"]);
        assert_eq!(texts("SELECT 1; /* a; SELECT 2"), ["SELECT 1"]);
        assert_eq!(texts(r"SELECT 'a\"), [r"SELECT 'a\"]);
    }

    #[test]
    fn drops_comments_before_statements() {
        let script = "# one; \n-- two;\n--\n--\tthree;\n/* four; */ /**/ SELECT 1; -- five\n# six";
        assert_eq!(texts(script), ["SELECT 1"]);
    }

    #[test]
    fn keeps_comments_inside_statements() {
        let script = "SELECT 1 -- one; it's\n + 1 # two; \"\n + 2 /* three; ` */; SELECT 2";
        let first = "SELECT 1 -- one; it's\n + 1 # two; \"\n + 2 /* three; ` */";
        assert_eq!(texts(script), [first, "SELECT 2"]);
    }

    #[test]
    fn two_hyphens_without_space_are_arithmetic() {
        assert_eq!(texts("SELECT 5--1; SELECT 2"), ["SELECT 5--1", "SELECT 2"]);
    }

    #[test]
    fn keeps_conditional_comments() {
        assert_eq!(texts("/*!40101 SET a = '*/;' */; SELECT 1"), ["/*!40101 SET a = '*/;' */", "SELECT 1"]);
        assert_eq!(texts("SELECT /*+ NO_ICP(t) */ 1; SELECT 2"), ["SELECT /*+ NO_ICP(t) */ 1", "SELECT 2"]);
    }

    #[test]
    fn follows_the_delimiter_command() {
        let script = "DELIMITER $$\nCREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END$$\n\
                      -- back\ndelimiter ;\nSELECT 3; SELECT 4;\nDelimiter // \r\nSELECT 5;//";
        assert_eq!(
            texts(script),
            ["CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END", "SELECT 3", "SELECT 4", "SELECT 5;",]
        );
    }

    #[test]
    fn delimiter_is_a_command_only_at_the_start() {
        assert_eq!(texts("SELECT 1 AS\ndelimiter ;SELECT 2"), ["SELECT 1 AS\ndelimiter", "SELECT 2"]);
        assert_eq!(texts("DELIMITERS;"), ["DELIMITERS"]);
        assert_eq!(texts("DELIMITER"), ["DELIMITER"]);
    }
}
