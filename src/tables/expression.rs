//! Scans the text of a caller's expression.

use std::iter::Peekable;
use std::str::Chars;

/// An expression without string literals and comments.
#[derive(Debug, Default, PartialEq)]
pub struct Code {
    /// The rest: literals become `''`, names in backquotes stay.
    pub code: String,
    /// Its words, in their order.
    pub words: Vec<Word>,
    /// Contents of double quotes: literals, or names with ANSI_QUOTES.
    pub in_double_quotes: Vec<String>,
    /// Whether `||` occurs outside all parentheses.
    pub has_bars: bool,
}

/// A word outside of string literals and comments: a keyword, a name or a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    /// The word, without quotes.
    pub text: String,
    /// What it stands in.
    pub quotes: Quotes,
    /// Whether a parenthesis follows, as after the name of a function.
    pub calls: bool,
}

/// What a word stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quotes {
    /// Nothing: it may be a keyword.
    None,
    /// Backquotes: it is a name.
    Back,
    /// Double quotes: a literal, or a name with ANSI_QUOTES.
    Double,
}

impl Word {
    /// Whether it is this keyword.
    pub fn is_keyword(&self, keyword: &str) -> bool {
        self.quotes == Quotes::None && self.text.eq_ignore_ascii_case(keyword)
    }

    /// Whether it is this name, or this keyword.
    pub fn names(&self, name: &str) -> bool {
        self.quotes != Quotes::Double && self.text.eq_ignore_ascii_case(name)
    }

    /// Whether it calls this function, however it is quoted: only a name stands before a parenthesis.
    pub fn calls(&self, function: &str) -> bool {
        self.calls && self.text.eq_ignore_ascii_case(function)
    }
}

/// Whether a character belongs to a name without quotes.
pub fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

impl Code {
    /// Scans an expression. `backslash`: whether backslashes escape in literals.
    pub fn of(expression: &str, backslash: bool) -> Self {
        let mut found = Code::default();
        let mut chars = expression.chars().peekable();
        let mut depth = 0_usize;
        let mut in_word = false;
        while let Some(c) = chars.next() {
            let goes_on = std::mem::replace(&mut in_word, is_of_word(c));
            match c {
                '\'' => {
                    quoted(&mut chars, c, backslash);
                    found.code.push_str("''");
                }
                '"' => {
                    let text = quoted(&mut chars, c, backslash);
                    found.code.push_str("''");
                    found.word(text.clone(), Quotes::Double);
                    found.in_double_quotes.push(text);
                }
                '`' => {
                    let name = quoted(&mut chars, c, false);
                    found.code.push_str(&format!("`{}`", name.replace('`', "``")));
                    found.word(name, Quotes::Back);
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
                c if is_of_word(c) => {
                    match found.words.last_mut().filter(|_| goes_on) {
                        Some(word) => word.text.push(c),
                        None => found.word(c.to_string(), Quotes::None),
                    }
                    found.code.push(c);
                }
                _ => {
                    match c {
                        '(' => {
                            depth += 1;
                            let is_name = found.code.trim_end().ends_with(|c| is_of_word(c) || matches!(c, '`' | '\''));
                            found.words.last_mut().into_iter().for_each(|word| word.calls |= is_name);
                        }
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

    fn word(&mut self, text: String, quotes: Quotes) {
        self.words.push(Word { text, quotes, calls: false });
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
        assert_eq!(code(r#"CONCAT(a, 'b''@c', "d\"e", `f``g`)"#), "CONCAT(a, '', '', `f``g`)");
        assert_eq!(code("a -- b\n+ c # d\n* /* e */ f--g"), "a  + c  *   f--g");
        assert_eq!(code("a /*! + b */"), "a /*! + b */");
        assert_eq!(Code::of(r"'a\' OR b", false).code, "'' OR b");
        assert_eq!(code("'never ends"), "''");
        assert_eq!(Code::of(r#"IF("a" = 'x', "b""c", d)"#, true).in_double_quotes, ["a", "b\"c"]);
    }

    #[test]
    fn texts_and_comments_are_no_words() {
        let words = |e: &str| {
            let code = Code::of(e, true);
            let word = |w: Word| format!("{}{}", w.text, if w.calls { "()" } else { "" });
            code.words.into_iter().filter(|w| w.quotes != Quotes::Double).map(word).collect::<Vec<_>>()
        };
        assert_eq!(words("CONCAT(title, 'SELECT \\' x', `a b`.f (1))"), ["CONCAT()", "title", "a b", "f()", "1"]);
        assert_eq!(words("(select'x'from t)"), ["select", "from", "t"]);
        assert_eq!(words("a/* b */c -- d\n`e``f`\"g\"h"), ["a", "c", "e`f", "h"]);
        assert_eq!(words("'unended"), Vec::<String>::new());
        assert_eq!(words("a + (b) IN (1)"), ["a", "b", "IN()", "1"]);
    }

    #[test]
    fn functions_are_called_by_their_names_in_any_quotes() {
        for e in ["SLEEP(1)", "sleep /* x */ (1)", "SLEEP((1))", "`SLEEP`(1)", "`s`.`Sleep` (1)", "\"SLEEP\"(1)"] {
            assert!(Code::of(e, true).words.iter().any(|word| word.calls("SLEEP")), "{e}");
        }
        for e in ["sleep", "`sleep` + (1)", "'SLEEP'(1)", "sleep2(1)", "t.sleep, (1)"] {
            assert!(!Code::of(e, true).words.iter().any(|word| word.calls("SLEEP")), "{e}");
        }
        let word = |e: &str| Code::of(e, true).words.remove(0);
        assert!(word("into").is_keyword("INTO") && !word("`into`").is_keyword("INTO") && word("`into`").names("INTO"));
        assert!(!word("\"into\"").names("INTO"));
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
