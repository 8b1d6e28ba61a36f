//! The name of a stored function, with or without its schema.

use std::fmt;

use mysql_ml_base::error::{Error, Result};

/// A stored function's name; identifiers are at most 64 characters and without `.`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FunctionName {
    /// The schema, if one was given.
    pub schema: Option<String>,
    /// The function.
    pub name: String,
}

impl FunctionName {
    /// Reads `f`, `schema.f`, and either part in backquotes.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let kind = match text.chars().next() {
            Some('{' | '[') => Some(("a template", "json:")),
            Some('$') => Some(("a path", "path:")),
            _ => None,
        };
        if let Some((what, prefix)) = kind {
            return Err(Error::invalid(format!(
                "'{}' is not the name of a stored function but looks like {what}; write {prefix} before it",
                mysql_ml_base::error::cut(text, 60)
            )));
        }
        let (schema, name) = match text.split_once('.') {
            Some((schema, name)) => (Some(identifier(schema, text)?), identifier(name, text)?),
            None => (None, identifier(text, text)?),
        };
        Ok(FunctionName { schema, name })
    }
}

fn identifier(part: &str, whole: &str) -> Result<String> {
    let part = part.trim();
    let bare = part.strip_prefix('`').and_then(|p| p.strip_suffix('`')).unwrap_or(part);
    let bad = bare.is_empty()
        || bare.chars().count() > 64
        || bare.chars().any(|c| c.is_control() || matches!(c, '.' | '`' | '(' | ')'));
    if bad {
        return Err(Error::invalid(format!(
            "'{}' is not the name of a stored function; write function or schema.function",
            mysql_ml_base::error::cut(whole, 80)
        )));
    }
    Ok(bare.to_owned())
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_and_without_schema() {
        assert_eq!(FunctionName::parse("`my db`.f").unwrap().to_string(), "my db.f");
        assert_eq!(FunctionName::parse("f").unwrap().schema, None);
        for bad in ["", "a.b.c", "f(x)", "a.", "x`y"] {
            assert!(FunctionName::parse(bad).is_err(), "{bad}");
        }
    }
}
