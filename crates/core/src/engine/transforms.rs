//! The stored functions of a registration: they make headers and requests, and read answers.

use secrecy::SecretString;
use serde_json::Value;
use ureq::http::{header, HeaderName};

use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Reservation;
use mysql_ml_base::vector;

use super::call::Call;
use super::store::Store;
use crate::catalog::function_name::FunctionName;
use crate::catalog::model::{InputTransform, Model, OutputTransform};
use crate::http::leaked_key;

/// Calls the header and input functions that the model names.
pub(super) fn call_request_functions(
    store: &dyn Store,
    call: &Call,
    input_fn: Option<&FunctionName>,
    argument: &str,
    interrupt: &dyn Interrupt,
) -> Result<(Option<String>, Option<String>)> {
    let header_fn = call.model().header_fn.as_ref();
    if header_fn.is_none() && input_fn.is_none() {
        return Ok((None, None));
    }
    let _statement = Reservation::take(argument.len().saturating_mul(4), "the call of the input transform function")?;
    let (headers, body) = store.call_input_functions(&call.resolved, header_fn, input_fn, argument, interrupt)?;
    let null = |role: &str, name: Option<&FunctionName>| {
        let name = name.map(ToString::to_string).unwrap_or_default();
        Error::invalid(format!("the {role} function {name} returned NULL; it must return a JSON document"))
    };
    if header_fn.is_some() && headers.is_none() {
        return Err(null("header", header_fn));
    }
    if input_fn.is_some() && body.is_none() {
        return Err(null("input transform", input_fn));
    }
    Ok((headers, body))
}

/// Calls the output function on an answer: the bytes of a vector.
pub(super) fn call_output_function(
    store: &dyn Store,
    call: &Call,
    output: &FunctionName,
    answer: &[u8],
    interrupt: &dyn Interrupt,
) -> Result<Vec<u8>> {
    let text = json_text(answer)?;
    let _statement = Reservation::take(text.len().saturating_mul(4), "the call of the output transform function")?;
    let bytes = store.call_output_function(&call.resolved, output, text, interrupt)?.ok_or_else(|| {
        Error::response(format!(
            "the output transform function {output} returned NULL for the answer: {}",
            cut(text, 120)
        ))
    })?;
    vector::check_bytes(&bytes).map_err(|e| e.context(&format!("output transform function {output}")))?;
    Ok(bytes)
}

/// The stored functions among the model's transforms.
pub(super) fn transform_functions(model: &Model) -> (Option<&FunctionName>, Option<&FunctionName>) {
    let input = match &model.input {
        Some(InputTransform::Function(name)) => Some(name),
        _ => None,
    };
    let output = match &model.output {
        Some(OutputTransform::Function(name)) => Some(name),
        _ => None,
    };
    (input, output)
}

/// The largest result of a header function, bytes.
const MAX_HEADERS: usize = 1 << 20;

/// The headers in a header function's result.
pub(super) fn read_headers(json: &str) -> Result<Vec<(HeaderName, SecretString)>> {
    let shape = || Error::invalid("the header function must return a JSON object of header names and text values");
    if json.len() > MAX_HEADERS {
        return Err(Error::new(Kind::TooLarge, "the header function returned more than 1 MiB; headers are short"));
    }
    let Ok(Value::Object(map)) = serde_json::from_str::<Value>(json) else { return Err(shape()) };
    if map.len() > 100 {
        return Err(Error::invalid("the header function returned more than 100 headers"));
    }
    map.into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| {
            let value = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(b) => b.to_string(),
                _ => return Err(shape()),
            };
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                Error::invalid(format!(
                    "the header function returned '{}', which is not a header name",
                    leaked_key::display(&name, 60)
                ))
            })?;
            let reserved = [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION];
            let method = ["x-http-method-override", "x-http-method", "x-method-override"].contains(&name.as_str());
            if reserved.contains(&name) || name == header::CONTENT_TYPE || method {
                return Err(Error::invalid(format!("the header function may not set the header {name}")));
            }
            Ok((name, SecretString::from(value)))
        })
        .collect()
}

/// The answer as JSON text in UTF-8.
fn json_text(answer: &[u8]) -> Result<&str> {
    serde_json::from_slice::<serde::de::IgnoredAny>(answer)
        .map_err(|e| crate::json::numbers::unreadable(&e, answer))?;
    std::str::from_utf8(answer).map_err(|_| Error::response("the endpoint's answer is not valid UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_functions_results_become_headers() {
        let headers = read_headers(r#"{"x-api-key":"k","anthropic-version":"2023-06-01","n":1,"skip":null}"#).unwrap();
        assert_eq!(headers.len(), 3);
        for bad in ["[]", "{\"a b\":\"x\"}", "{\"a\":[]}", "{\"Host\":\"evil\"}", "nonsense"] {
            assert!(read_headers(bad).is_err(), "{bad}");
        }
    }
}
