//! Model options: the JSON object that `ml_set_model_options` patches.

use serde_json::{Map, Value};

use crate::error::{cut, Error, Result};
use crate::vector::MAX_DIMENSIONS;

/// The options of one model, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelOptions {
    /// The time one call may take, all tries together.
    pub timeout_ms: Option<u64>,
    /// How often a failed request is sent again.
    pub max_retries: Option<u64>,
    /// The width of the vectors: asked of providers that can shorten, checked for all.
    pub dimensions: Option<u64>,
}

/// An option's name and range.
struct Spec {
    name: &'static str,
    min: u64,
    max: u64,
}

const SPECS: [Spec; 3] = [
    Spec { name: "timeout_ms", min: 1, max: 3_600_000 },
    Spec { name: "max_retries", min: 0, max: 10 },
    Spec { name: "dimensions", min: 1, max: MAX_DIMENSIONS as u64 },
];

impl ModelOptions {
    /// Reads a stored object.
    pub fn from_json(text: Option<&str>) -> Result<Self> {
        match text {
            None => Ok(Self::default()),
            Some(text) => Self::from_map(&parse_object(text)?),
        }
    }

    /// Reads an object; unknown and wrongly typed options are errors.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self> {
        let mut options = Self::default();
        for (name, value) in map {
            let spec = SPECS.iter().find(|s| s.name == name).ok_or_else(|| {
                Error::invalid(format!(
                    "option '{}' is not known; accepted: {}",
                    cut(name, 60),
                    SPECS.map(|s| s.name).join(", ")
                ))
            })?;
            let number = value.as_u64().filter(|n| (spec.min..=spec.max).contains(n)).ok_or_else(|| {
                Error::invalid(format!(
                    "option {} is {}; it takes a whole number from {} to {}",
                    spec.name,
                    cut(&value.to_string(), 60),
                    spec.min,
                    spec.max
                ))
            })?;
            match spec.name {
                "timeout_ms" => options.timeout_ms = Some(number),
                "max_retries" => options.max_retries = Some(number),
                _ => options.dimensions = Some(number),
            }
        }
        Ok(options)
    }
}

/// Applies `patch` (RFC 7396: null removes a key) to the stored object; the result must pass `check` and is `None`
/// where nothing is left.
pub fn merge(
    stored: Option<&str>,
    patch: &str,
    check: impl FnOnce(&Map<String, Value>) -> Result<()>,
) -> Result<Option<String>> {
    let mut map = match stored {
        None => Map::new(),
        Some(text) => parse_object(text)?,
    };
    for (name, value) in parse_object(patch)? {
        if value.is_null() {
            map.remove(&name);
        } else {
            map.insert(name, value);
        }
    }
    check(&map)?;
    Ok((!map.is_empty()).then(|| Value::Object(map).to_string()))
}

/// Reads a JSON object.
pub fn parse_object(text: &str) -> Result<Map<String, Value>> {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Error::invalid("options must be a JSON object, e.g. '{\"timeout_ms\": 5000}'")),
        Err(e) => Err(Error::invalid(format!("options are not valid JSON: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(stored: Option<&str>, patch: &str) -> Result<Option<String>> {
        super::merge(stored, patch, |map| ModelOptions::from_map(map).map(|_| ()))
    }

    #[test]
    fn a_patch_sets_keeps_and_removes() {
        let merged = merge(Some(r#"{"timeout_ms":5,"dimensions":8}"#), r#"{"timeout_ms":null,"max_retries":1}"#);
        assert_eq!(merged.unwrap().unwrap(), r#"{"dimensions":8,"max_retries":1}"#);
        assert_eq!(merge(Some(r#"{"dimensions":8}"#), r#"{"dimensions":null}"#).unwrap(), None);
    }

    #[test]
    fn unknown_and_wrongly_typed_options_are_refused() {
        for patch in
            [r#"{"timeout":1}"#, r#"{"timeout_ms":"1"}"#, r#"{"timeout_ms":0}"#, r#"{"dimensions":16384}"#, "[]", "{"]
        {
            assert!(merge(None, patch).is_err(), "{patch}");
        }
    }
}
