//! Readers of the options of a call. Each takes its member out of a JSON object, so that unknown ones are left; null is as
//! good as no member.

use serde_json::{Map, Value};

use mysql_ml_base::error::{cut, Error, Result};

/// The members of an object of options.
pub type Members = Map<String, Value>;

/// Takes a member that `read` accepts; an error with what it `takes` for any other value.
pub fn take<T>(
    members: &mut Members,
    name: &str,
    takes: &str,
    read: impl FnOnce(Value) -> Option<T>,
) -> Result<Option<T>> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => read(value).map(Some).ok_or_else(|| Error::invalid(format!("option {name} takes {takes}"))),
    }
}

/// The members of an object of options; none for NULL and blank text.
pub fn of(options: Option<&str>) -> Result<Members> {
    match options {
        Some(text) if !text.trim().is_empty() => super::options::parse_object(text),
        _ => Ok(Members::new()),
    }
}

/// An error if a member is left.
pub fn none_left(members: &Members, accepted: &str) -> Result<()> {
    match members.keys().next() {
        None => Ok(()),
        Some(other) => Err(Error::invalid(format!("option '{}' is not known; accepted: {accepted}", cut(other, 60)))),
    }
}

/// A whole number from `min` to `max`.
pub fn number(members: &mut Members, name: &str, min: u64, max: u64) -> Result<Option<u64>> {
    let takes = format!("a whole number from {min} to {max}");
    take(members, name, &takes, |value| value.as_u64().filter(|n| (min..=max).contains(n)))
}

/// True or false.
pub fn flag(members: &mut Members, name: &str) -> Result<Option<bool>> {
    take(members, name, "true or false", |value| value.as_bool())
}

/// A text that is not blank.
pub fn text(members: &mut Members, name: &str) -> Result<Option<String>> {
    take(members, name, "a text", |value| match value {
        Value::String(text) if !text.trim().is_empty() => Some(text),
        _ => None,
    })
}

/// The most concurrent requests of a call.
pub fn concurrency(members: &mut Members) -> Result<Option<u64>> {
    number(members, "concurrency", 1, 64)
}

/// The part of failed inputs beyond which a call fails.
pub fn max_error_ratio(members: &mut Members) -> Result<Option<f64>> {
    let ratio = |value: Value| value.as_f64().filter(|ratio| (0.0..=1.0).contains(ratio));
    take(members, "max_error_ratio", "a number from 0 to 1", ratio)
}

/// Whether the caches keep answers.
pub fn cache_answers(members: &mut Members) -> Result<Option<bool>> {
    flag(members, "cache_answers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_taken_and_checked() {
        let object =
            r#"{"a": 5, "concurrency": 64, "max_error_ratio": 1, "cache_answers": false, "t": "x", "n": null}"#;
        let mut members: Members = serde_json::from_str(object).unwrap();
        assert_eq!(number(&mut members, "a", 1, 5).unwrap(), Some(5));
        assert_eq!(concurrency(&mut members).unwrap(), Some(64));
        assert_eq!(max_error_ratio(&mut members).unwrap(), Some(1.0));
        assert_eq!(cache_answers(&mut members).unwrap(), Some(false));
        assert_eq!(text(&mut members, "t").unwrap().as_deref(), Some("x"));
        assert_eq!((flag(&mut members, "n").unwrap(), text(&mut members, "none").unwrap()), (None, None));
        assert!(members.is_empty());
        for (bad, takes) in [
            (r#"{"concurrency": 65}"#, "a whole number from 1 to 64"),
            (r#"{"concurrency": 1.5}"#, "a whole number from 1 to 64"),
            (r#"{"max_error_ratio": 1.1}"#, "a number from 0 to 1"),
            (r#"{"max_error_ratio": "1"}"#, "a number from 0 to 1"),
            (r#"{"cache_answers": 1}"#, "true or false"),
            (r#"{"t": " "}"#, "a text"),
        ] {
            let mut members: Members = serde_json::from_str(bad).unwrap();
            let readers = [
                concurrency(&mut members).err(),
                max_error_ratio(&mut members).err(),
                cache_answers(&mut members).err(),
                text(&mut members, "t").err(),
            ];
            let errors: Vec<Error> = readers.into_iter().flatten().collect();
            assert!(
                matches!(errors.as_slice(), [error] if error.message().ends_with(&format!("takes {takes}"))),
                "{bad}: {errors:?}"
            );
        }
    }
}
