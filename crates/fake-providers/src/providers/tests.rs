#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::{json, Value};

use crate::endpoint::Endpoint;

mod google;
mod models;
mod structured;

/// Sends a request. Returns status and body; a body that is no JSON becomes a JSON string.
fn send(endpoint: &Endpoint, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, Value) {
    let (status, _, body) = send_raw(endpoint, method, path, headers, body);
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into()))
}

fn send_raw(
    endpoint: &Endpoint,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, ureq::http::HeaderMap, Vec<u8>) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = ureq::http::Request::builder().method(method).uri(endpoint.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response =
        if body.is_empty() { agent.run(request.body(()).unwrap()) } else { agent.run(request.body(body).unwrap()) }
            .unwrap();
    let bytes = response.body_mut().read_to_vec().unwrap();
    (response.status().as_u16(), response.headers().clone(), bytes)
}

/// Posts JSON with these headers.
fn post(endpoint: &Endpoint, path: &str, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
    let headers = [&[("Content-Type", "application/json")], headers].concat();
    send(endpoint, "POST", path, &headers, body.to_string().as_bytes())
}

/// Asserts that a request is refused with this status and a body that contains this text.
fn refused(endpoint: &Endpoint, path: &str, headers: &[(&str, &str)], body: &Value, status: u16, text: &str) {
    let (got, answer) = post(endpoint, path, headers, body);
    let answer = answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
    assert!(got == status && answer.contains(text), "{path} {body}: {got} {answer}, expected {status} {text}");
}

/// The object with a member added or replaced.
fn with(object: &Value, name: &str, value: impl Into<Value>) -> Value {
    let mut object = object.clone();
    object[name] = value.into();
    object
}

/// The object without a member.
fn without(object: &Value, name: &str) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove(name);
    object
}

fn floats(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn said(role: &str, text: &str) -> Value {
    json!([{"role": role, "content": text}])
}
