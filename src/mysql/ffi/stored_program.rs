//! Refuses calls that crash MySQL 9.7 itself.
//!
//! The server parses an expression of a stored program again for each execution if it calls a loadable function of
//! any library. Such expressions are RETURN, SET, IF, WHILE, DEFAULT, and the SET of a trigger. From the second
//! execution on it accesses the expression's subqueries before it has resolved them. An aggregate, a window function
//! or a HAVING in one is then a NULL pointer (`sp_lex_instr::execute_expression` calls `restore_cmd_properties`).
//! docs/server-crash.c reproduces it without this library.
//!
//! An error during resolution prevents that, so every function's init refuses such a call. Undetectable here: a
//! subquery beside the call, and one behind the alias of an argument. In a CASE the first execution is refused, but the
//! server continues with NULL, and the second execution is not prevented.

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use super::args::Args;
use super::symbols::lookup;
use mysql_ml_base::error::{Error, Kind, Result};

/// Refuses a call in an expression of a stored program that has a subquery in an argument, or is itself in one.
pub fn refuse_subquery(args: &Args<'_>) -> Result<()> {
    // An argument without a value is a column, NULL, a subquery, or a function of one of them: only then the callers
    // are examined.
    let mut unknown = (0..args.len()).filter(|i| !args.is_known(*i)).peekable();
    if unknown.peek().is_none() {
        return Ok(());
    }
    let refused = match place() {
        Place::Statement => false,
        Place::Expression => unknown.any(|i| has_subquery(&args.name(i))),
        Place::Subquery => true,
    };
    if !refused {
        return Ok(());
    }
    Err(Error::new(
        Kind::Unsupported,
        "MySQL 9.7 may crash on a loadable function and a subquery in one expression of a stored function, procedure or \
         trigger; put the result of the subquery, or of the SELECT with the call in it, into a variable first: DECLARE v ...; SELECT ... INTO v",
    ))
}

/// The place of a call.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// In a statement, or unknown.
    Statement,
    /// In an expression of a stored program.
    Expression,
    /// In a subquery of such an expression.
    Subquery,
}

/// Functions of the server that identify a place.
struct Landmarks {
    execute_statement: usize,
    execute_program: usize,
    set_variables: usize,
    prepare_query: usize,
}

impl Landmarks {
    fn get() -> Option<&'static Landmarks> {
        static FOUND: OnceLock<Option<Landmarks>> = OnceLock::new();
        FOUND
            .get_or_init(|| {
                let address = |symbol| lookup(symbol).map(|a| a as usize);
                Some(Landmarks {
                    execute_statement: address("_Z21mysql_execute_commandP3THDb")?,
                    execute_program: address("_ZN7sp_head7executeEP3THDb")?,
                    set_variables: address("_Z17sql_set_variablesP3THDP4ListI12set_var_baseEb")?,
                    prepare_query: address("_ZN11Query_block7prepareEP3THDP14mem_root_dequeIP4ItemE")?,
                })
            })
            .as_ref()
    }
}

/// State of the walk over the callers.
struct Walk {
    landmarks: &'static Landmarks,
    in_query: bool,
    in_set: bool,
    found: Option<Place>,
}

unsafe extern "C" {
    // Functions of the unwinder that std is linked with.
    fn _Unwind_Backtrace(each: extern "C" fn(*mut c_void, *mut c_void) -> c_int, walk: *mut c_void) -> c_int;
    fn _Unwind_GetRegionStart(context: *mut c_void) -> usize;
}

/// `_URC_NO_REASON` and `_URC_END_OF_STACK`: go on, and stop.
const GO_ON: c_int = 0;
const STOP: c_int = 5;

extern "C" fn look(context: *mut c_void, walk: *mut c_void) -> c_int {
    // SAFETY: the unwinder passes its own context and the pointer that `place` passed to it.
    let (function, walk) = unsafe { (_Unwind_GetRegionStart(context), &mut *walk.cast::<Walk>()) };
    let landmarks = walk.landmarks;
    walk.in_query |= function == landmarks.prepare_query;
    walk.in_set |= function == landmarks.set_variables;
    if function == landmarks.execute_program {
        walk.found = Some(if walk.in_query { Place::Subquery } else { Place::Expression });
    } else if function == landmarks.execute_statement && !walk.in_set {
        walk.found = Some(Place::Statement);
    }
    if walk.found.is_some() {
        STOP
    } else {
        GO_ON
    }
}

/// Examines the calling functions of the server, innermost first. A statement ends the search before a stored program,
/// except SET, which is an expression there.
fn place() -> Place {
    let Some(landmarks) = Landmarks::get() else { return Place::Statement };
    let mut walk = Walk { landmarks, in_query: false, in_set: false, found: None };
    // SAFETY: `look` gets a pointer to `walk`, which outlives the call.
    unsafe { _Unwind_Backtrace(look, std::ptr::from_mut(&mut walk).cast()) };
    walk.found.unwrap_or(Place::Statement)
}

/// Whether the text of an expression contains a subquery: an opening parenthesis followed by the first word of a query.
fn has_subquery(text: &str) -> bool {
    let mut rest = text.as_bytes();
    let mut opened = false;
    while let Some((first, tail)) = rest.split_first() {
        rest = match first {
            b'(' => {
                opened = true;
                tail
            }
            b'\'' | b'"' | b'`' => {
                opened = false;
                // A doubled quote begins another literal at once, with the same effect.
                after_quote(tail, *first)
            }
            b'/' if tail.starts_with(b"*") => after(tail, b"*/"),
            b'#' => after(tail, b"\n"),
            b'-' if tail.starts_with(b"-") => after(tail, b"\n"),
            c if c.is_ascii_whitespace() => tail,
            c if c.is_ascii_alphabetic() => {
                let end = tail.iter().position(|c| !is_word(*c)).unwrap_or(tail.len());
                let word = rest.get(..=end).unwrap_or(rest);
                let begins = [&b"select"[..], b"with", b"table", b"values"];
                if opened && begins.iter().any(|keyword| word.eq_ignore_ascii_case(keyword)) {
                    return true;
                }
                opened = false;
                tail.get(end..).unwrap_or_default()
            }
            _ => {
                opened = false;
                // The rest of a name that begins with a digit, `_` or a letter beyond ASCII.
                let end =
                    if is_word(*first) { tail.iter().position(|c| !is_word(*c)).unwrap_or(tail.len()) } else { 0 };
                tail.get(end..).unwrap_or_default()
            }
        };
    }
    false
}

fn is_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$') || !c.is_ascii()
}

/// The text after the end of a literal; a backslash escapes the next byte.
fn after_quote(text: &[u8], quote: u8) -> &[u8] {
    let mut escaped = false;
    let end = text.iter().position(|c| {
        let ends = !escaped && *c == quote;
        escaped = !escaped && *c == b'\\' && quote != b'`';
        ends
    });
    end.and_then(|end| text.get(end + 1..)).unwrap_or_default()
}

fn after<'a>(text: &'a [u8], end: &[u8]) -> &'a [u8] {
    memchr::memmem::find(text, end).and_then(|at| text.get(at + end.len()..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subqueries_are_recognised_in_the_text_of_an_expression() {
        for text in [
            "(SELECT COUNT(*) FROM t)",
            "1 + ( /* c */ ( select 2))",
            "IF(EXISTS(\n\tSELECT 1), 1, 2)",
            "CONCAT('it''s (', (WITH w AS (SELECT 1) SELECT * FROM w))",
            "(TABLE t)",
            "(VALUES ROW(1))",
            "x IN (-- why\n SELECT 1)",
        ] {
            assert!(has_subquery(text), "{text}");
        }
    }

    #[test]
    fn a_look_alike_of_a_subquery_is_none() {
        for text in [
            "",
            "x",
            "'(SELECT 1)'",
            "CONCAT('a', \"(select \\\" (select 1)\")",
            "`(select`",
            "(selected + 1)",
            "f(x /* (select */, y)",
            "(1select)",
            "select_id",
            "é(x)",
        ] {
            assert!(!has_subquery(text), "{text}");
        }
    }

    #[test]
    fn outside_of_a_server_nothing_is_a_stored_program() {
        assert_eq!(place(), Place::Statement);
    }
}
