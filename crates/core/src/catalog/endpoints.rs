//! The model's options `endpoints`, `hedge_after_ms` and `fallback`: where requests go, as options name it.

use serde_json::{Map, Value};

use super::ids::check_id;
use crate::http::leaked_key;

/// The most endpoints of a model.
pub const MAX_ENDPOINTS: usize = 16;

/// The largest weight of an endpoint.
const MAX_WEIGHT: u64 = 1000;

/// One endpoint of a model. What it does not name is that of the registration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointOption {
    /// Its name in `ml_status`; `None`: its number, from 1.
    pub name: Option<String>,
    /// Its URL.
    pub url: Option<String>,
    /// Its part of the requests; 0: only if no endpoint with a weight can be used.
    pub weight: u64,
    /// Its secret.
    pub secret: EndpointSecret,
    /// The cloud's location (region) in its URL.
    pub location: Option<String>,
    /// The cloud project in its URL.
    pub project: Option<String>,
    /// The most requests of this server to it within any minute.
    pub requests_per_minute: Option<u64>,
    /// The same for tokens, as estimated before sending.
    pub tokens_per_minute: Option<u64>,
    /// The most concurrent requests of this server to it.
    pub max_in_flight: Option<u64>,
}

/// The secret that authorizes requests to an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum EndpointSecret {
    /// That of the registration.
    #[default]
    Registration,
    /// None: requests have no key.
    None,
    /// A registered secret.
    Registered(String),
}

impl EndpointOption {
    /// Its name, or its number.
    pub fn name(&self, index: usize) -> String {
        self.name.clone().unwrap_or_else(|| (index + 1).to_string())
    }
}

/// What the option `endpoints` takes, for errors.
pub const TAKES: &str = "an array of 1 to 16 objects, each with some of url, name (no two alike), weight (0 to 1000), secret (a registered secret's id, or null for none), location, project, requests_per_minute, tokens_per_minute and max_in_flight; one weight at least is above 0";

/// Reads the option `endpoints`; `None` if it is not accepted.
pub fn read(value: &Value, place: &mut Vec<EndpointOption>) -> Option<()> {
    let items = value.as_array().filter(|items| (1..=MAX_ENDPOINTS).contains(&items.len()))?;
    let read: Vec<EndpointOption> = items.iter().map(|item| endpoint(item.as_object()?)).collect::<Option<_>>()?;
    let names: Vec<String> = read.iter().enumerate().map(|(i, endpoint)| endpoint.name(i)).collect();
    let alike = names.iter().enumerate().any(|(i, name)| names.iter().take(i).any(|other| other == name));
    if alike || read.iter().all(|endpoint| endpoint.weight == 0) {
        return None;
    }
    *place = read;
    Some(())
}

fn endpoint(members: &Map<String, Value>) -> Option<EndpointOption> {
    let mut endpoint = EndpointOption { weight: 1, ..EndpointOption::default() };
    for (name, value) in members {
        match name.as_str() {
            "name" => endpoint.name = Some(word(value)?),
            "url" => endpoint.url = Some(text(value, 2048)?),
            "weight" => endpoint.weight = value.as_u64().filter(|weight| *weight <= MAX_WEIGHT)?,
            "secret" if value.is_null() => endpoint.secret = EndpointSecret::None,
            "secret" => {
                let id = value.as_str().filter(|id| check_id("secret", id).is_ok())?;
                leaked_key::in_text(id).is_none().then_some(())?;
                endpoint.secret = EndpointSecret::Registered(id.to_owned());
            }
            "location" | "region" => endpoint.location = Some(word(value)?),
            "project" => endpoint.project = Some(word(value)?),
            "requests_per_minute" => endpoint.requests_per_minute = Some(number(value, 1_000_000_000)?),
            "tokens_per_minute" => endpoint.tokens_per_minute = Some(number(value, 1_000_000_000_000)?),
            "max_in_flight" => endpoint.max_in_flight = Some(number(value, 10_000)?),
            _ => return None,
        }
    }
    Some(endpoint)
}

fn number(value: &Value, max: u64) -> Option<u64> {
    value.as_u64().filter(|n| (1..=max).contains(n))
}

fn text(value: &Value, max: usize) -> Option<String> {
    let text = value.as_str().filter(|t| !t.is_empty() && t.len() <= max && !t.chars().any(char::is_control))?;
    Some(text.to_owned())
}

/// A name without characters that have a meaning in a URL.
fn word(value: &Value) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    text(value, 100).filter(|t| t.chars().all(plain))
}

/// When a call that has no answer yet is sent to another endpoint too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeAfter {
    /// After this many ms.
    Milliseconds(u64),
    /// After the time in which this percentage of the model's requests is answered.
    Percentile(u8),
}

/// Reads the option `hedge_after_ms`; `None` if it is not accepted.
pub fn read_hedge(value: &Value, place: &mut Option<HedgeAfter>) -> Option<()> {
    *place = Some(match value {
        Value::String(text) => {
            let percent = text.strip_prefix('p').and_then(|digits| digits.parse::<u8>().ok());
            HedgeAfter::Percentile(percent.filter(|p| (50..=99).contains(p))?)
        }
        number => HedgeAfter::Milliseconds(number.as_u64().filter(|n| (1..=600_000).contains(n))?),
    });
    Some(())
}

/// Reads the option `fallback`; `None` if it is not accepted.
pub fn read_fallback(value: &Value, place: &mut Option<String>) -> Option<()> {
    let id = value.as_str().filter(|id| check_id("fallback", id).is_ok() && leaked_key::in_text(id).is_none())?;
    *place = Some(id.to_owned());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoints(value: &Value) -> Option<Vec<EndpointOption>> {
        let mut place = Vec::new();
        read(value, &mut place).map(|()| place)
    }

    #[test]
    fn an_endpoint_has_a_number_and_a_weight_unless_it_says_otherwise() {
        let read = endpoints(&json!([{}, {"url": "https://h/v1", "weight": 0, "secret": null, "region": "eu"},
            {"name": "c", "secret": "s", "max_in_flight": 4}]))
        .unwrap();
        let names: Vec<String> = read.iter().enumerate().map(|(i, e)| e.name(i)).collect();
        assert_eq!(names, ["1", "2", "c"]);
        assert_eq!(read.iter().map(|e| e.weight).collect::<Vec<_>>(), [1, 0, 1]);
        assert_eq!(read[0].secret, EndpointSecret::Registration);
        assert_eq!((&read[1].secret, read[1].location.as_deref()), (&EndpointSecret::None, Some("eu")));
        assert_eq!(read[2].secret, EndpointSecret::Registered("s".into()));
    }

    #[test]
    fn endpoints_that_cannot_be_meant_are_refused() {
        for bad in [
            json!([]),
            json!({}),
            json!([1]),
            json!([{"weight": 0}]),
            json!([{"weight": 1001}]),
            json!([{"wieght": 1}]),
            json!([{"name": "2"}, {}]),
            json!([{"name": "a b"}]),
            json!([{"secret": ""}]),
            json!([{"secret": "sk-proj-abcdefghijklmnopqrstuvwxyz"}]),
            json!([{"location": "us/../x"}]),
            json!([{"max_in_flight": 0}]),
            json!(vec![json!({}); MAX_ENDPOINTS + 1]),
        ] {
            assert_eq!(endpoints(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_hedge_is_after_a_time_or_a_percentile() {
        let read = |value: Value| {
            let mut place = None;
            read_hedge(&value, &mut place).and(place)
        };
        assert_eq!(read(json!(50)), Some(HedgeAfter::Milliseconds(50)));
        assert_eq!(read(json!("p95")), Some(HedgeAfter::Percentile(95)));
        for bad in [json!(0), json!("95"), json!("p100"), json!("p49"), json!(1.5), json!(true)] {
            assert_eq!(read(bad.clone()), None, "{bad}");
        }
    }
}
