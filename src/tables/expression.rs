//! Scans the text of a caller's expression.

use std::iter::Peekable;
use std::str::Chars;

/// An expression without string literals and comments.
#[derive(Debug, Default, PartialEq)]
pub struct Code {
    /// The rest: literals become `''`, names in backquotes stay.
    pub code: String,
    /// Contents of double quotes: literals, or names with ANSI_QUOTES.
    pub in_double_quotes: Vec<String>,
    /// Whether `||` occurs outside all parentheses.
    pub has_bars: bool,
}

impl Code {
    /// Scans an expression. `backslash`: whether backslashes escape in literals.
    pub fn of(expression: &str, backslash: bool) -> Self {
        let mut found = Code::default();
        let mut chars = expression.chars().peekable();
        let mut depth = 0_usize;
        while let Some(c) = chars.next() {
            match c {
                '\'' => {
                    quoted(&mut chars, c, backslash);
                    found.code.push_str("''");
                }
                '"' => {
                    found.in_double_quotes.push(quoted(&mut chars, c, backslash));
                    found.code.push_str("''");
                }
                '`' => {
                    let name = quoted(&mut chars, c, false);
                    found.code.push_str(&format!("`{name}`"));
                }
                '#' => line(&mut found, &mut chars),
                '-' if is_line_comment(&chars) => line(&mut found, &mut chars),
                '/' if chars.peek() == Some(&'*') && !matches!(chars.clone().nth(1), Some('!' | '+')) => {
                    let mut last = ' ';
                    chars.next();
                    for c in chars.by_ref() {
                        if (last, c) == ('*', '/') {
                            break;
                        }
                        last = c;
                    }
                    found.code.push(' ');
                }
                _ => {
                    match c {
                        '(' => depth += 1,
                        ')' => depth = depth.saturating_sub(1),
                        '|' if depth == 0 && chars.peek() == Some(&'|') => found.has_bars = true,
                        _ => {}
                    }
                    found.code.push(c);
                }
            }
        }
        found
    }

    /// Whether it names a user variable, `@x`, and not one of the server's, `@@x`.
    pub fn names_user_variable(&self) -> bool {
        let bytes = self.code.as_bytes();
        let at = |i: usize| bytes.get(i) == Some(&b'@');
        (0..bytes.len()).any(|i| at(i) && !at(i + 1) && !(i > 0 && at(i - 1)))
    }
}

/// `--` begins a comment if a blank or nothing follows.
fn is_line_comment(chars: &Peekable<Chars<'_>>) -> bool {
    let mut next = chars.clone();
    next.next() == Some('-') && next.next().is_none_or(|c| c.is_whitespace() || c.is_control())
}

fn line(found: &mut Code, chars: &mut Peekable<Chars<'_>>) {
    found.code.push(' ');
    chars.by_ref().find(|c| *c == '\n');
}

/// The text up to the closing quote; consumes the quote.
fn quoted(chars: &mut Peekable<Chars<'_>>, quote: char, backslash: bool) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        if c == quote && chars.next_if_eq(&quote).is_none() {
            break;
        }
        text.push(c);
        if c == '\\' && backslash {
            text.extend(chars.next());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_comments_are_no_code() {
        let code = |e: &str| Code::of(e, true).code;
        assert_eq!(code(r#"CONCAT(a, 'b''@c', "d\"e", `f``g`)"#), "CONCAT(a, '', '', `f`g`)");
        assert_eq!(code("a -- b\n+ c # d\n* /* e */ f--g"), "a  + c  *   f--g");
        assert_eq!(code("a /*! + b */"), "a /*! + b */");
        assert_eq!(Code::of(r"'a\' OR b", false).code, "'' OR b");
        assert_eq!(code("'never ends"), "''");
        assert_eq!(Code::of(r#"IF("a" = 'x', "b""c", d)"#, true).in_double_quotes, ["a", "b\"c"]);
    }

    #[test]
    fn bars_count_outside_of_parentheses() {
        assert!(Code::of("a || '(' || b", true).has_bars);
        assert!(!Code::of("IF(a || b, c, '||')", true).has_bars);
        assert!(!Code::of("a | b", true).has_bars);
    }

    #[test]
    fn user_variables_are_distinguished_from_system_variables() {
        let names = |e: &str| Code::of(e, true).names_user_variable();
        assert!(names("CONCAT(@x, a)") && names("@`x`") && names("a@b"));
        assert!(!names("CONCAT(@@sql_mode, '@x', a)"));
    }
}
