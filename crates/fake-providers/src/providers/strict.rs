//! Reads JSON objects with exactly the members that an interface knows.

use serde_json::{Map, Value};

use super::call::Call;
use super::dialogue::Dialogue;
use super::images::Blocks;

/// The type of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Flag,
    Whole,
    Number,
    List,
    Object,
    TextOrList,
    Any,
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Flag => value.is_boolean(),
            Self::Whole => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::List => value.is_array(),
            Self::Object => value.is_object(),
            Self::TextOrList => value.is_string() || value.is_array(),
            Self::Any => true,
        }
    }

    /// The type's name in error messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Flag => "boolean",
            Self::Whole => "integer",
            Self::Number => "number",
            Self::List => "array",
            Self::Object => "object",
            Self::TextOrList => "string or array",
            Self::Any => "value",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Required,
    Optional,
    /// May be absent or null.
    Nullable,
}

/// A member that an object may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    name: &'static str,
    kind: Kind,
    presence: Presence,
}

/// A required member.
pub(super) const fn required(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, presence: Presence::Required }
}

/// An optional member that must not be null.
pub(super) const fn optional(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, presence: Presence::Optional }
}

/// An optional member that may be null.
pub(super) const fn nullable(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, presence: Presence::Nullable }
}

/// The fault of a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    Method,
    ContentType(String),
    Syntax(String),
    NotAnObject,
    Missing,
    Unknown,
    Type(Kind),
    /// The service's message.
    Value(String),
    /// The request asked to be answered with this status.
    Status(u16),
}

/// A fault and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Violation {
    /// The path of the member: `messages.0.role`.
    pub(super) place: String,
    pub(super) fault: Fault,
}

impl Violation {
    fn new(place: impl Into<String>, fault: Fault) -> Self {
        Self { place: place.into(), fault }
    }

    /// A member with a forbidden value.
    pub(super) fn value(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(place, Fault::Value(message.into()))
    }

    /// A member of the wrong type.
    pub(super) fn kind(place: impl Into<String>, kind: Kind) -> Self {
        Self::new(place, Fault::Type(kind))
    }

    /// The place in the notation of most services: `messages[0].role`.
    pub(super) fn indexed_place(&self) -> String {
        let mut out = String::new();
        for part in self.place.split('.') {
            if part.parse::<usize>().is_ok() {
                out += &format!("[{part}]");
            } else {
                if !out.is_empty() {
                    out.push('.');
                }
                out += part;
            }
        }
        out
    }

    /// A member that there is not.
    pub(super) fn unknown(place: impl Into<String>) -> Self {
        Self::new(place, Fault::Unknown)
    }

    /// A failure that the request itself asks for.
    pub(super) fn status(status: u16) -> Self {
        Self::new("", Fault::Status(status))
    }

    /// A required member that is missing.
    pub(super) fn missing(place: impl Into<String>) -> Self {
        Self::new(place, Fault::Missing)
    }
}

/// A checked object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object<'a>(&'a Map<String, Value>);

impl<'a> Object<'a> {
    /// A member that is present and not null.
    pub(super) fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str)
    }

    pub(super) fn flag(self, name: &str) -> Option<bool> {
        self.get(name).and_then(Value::as_bool)
    }

    pub(super) fn whole(self, name: &str) -> Option<i64> {
        self.get(name).map(|value| value.as_i64().unwrap_or(i64::MAX))
    }

    pub(super) fn number(self, name: &str) -> Option<f64> {
        self.get(name).and_then(Value::as_f64)
    }

    pub(super) fn list(self, name: &str) -> Option<&'a [Value]> {
        self.get(name).and_then(Value::as_array).map(Vec::as_slice)
    }

    /// A text that must be one of these; None if it is missing.
    pub(super) fn choice(self, name: &'static str, allowed: &[&str]) -> Result<Option<&'a str>, Violation> {
        match self.text(name) {
            Some(given) if !allowed.contains(&given) => {
                let message = format!("Invalid value: '{given}'. Supported values are: '{}'.", allowed.join("', '"));
                Err(Violation::value(name, message))
            }
            other => Ok(other),
        }
    }

    /// A width that must be one of these; None if it is missing.
    pub(super) fn width(self, name: &'static str, allowed: &[i64]) -> Result<Option<usize>, Violation> {
        let Some(given) = self.whole(name) else {
            return Ok(None);
        };
        let width = usize::try_from(given).ok().filter(|_| allowed.contains(&given));
        width.map(Some).ok_or_else(|| {
            Violation::value(name, format!("invalid {name}: {given} is not supported, must be one of {allowed:?}"))
        })
    }
}

/// The JSON of a POST request with a JSON content type.
pub(super) fn body(call: &Call<'_>) -> Result<Value, Violation> {
    let given = call.header("content-type").unwrap_or_default();
    let media = given.split(';').next().unwrap_or_default().trim();
    if call.request.method == "POST" && !media.eq_ignore_ascii_case("application/json") {
        return Err(Violation::new("", Fault::ContentType(given.to_owned())));
    }
    body_of_any_type(call)
}

/// The JSON of a POST request, for services that ignore the content type.
pub(super) fn body_of_any_type(call: &Call<'_>) -> Result<Value, Violation> {
    if call.request.method != "POST" {
        return Err(Violation::new("", Fault::Method));
    }
    serde_json::from_slice(call.request.body).map_err(|error| Violation::new("", Fault::Syntax(error.to_string())))
}

/// Joins the place of an object and the name of its member.
pub(super) fn join(place: &str, name: &str) -> String {
    if place.is_empty() {
        name.to_owned()
    } else {
        format!("{place}.{name}")
    }
}

/// Checks that a value is an object with these members only.
pub(super) fn object<'a>(value: &'a Value, place: &str, members: &[Member]) -> Result<Object<'a>, Violation> {
    let Value::Object(map) = value else {
        return Err(Violation::new(place, Fault::NotAnObject));
    };
    if let Some(unknown) = map.keys().find(|key| !members.iter().any(|member| member.name == *key)) {
        return Err(Violation::new(join(place, unknown), Fault::Unknown));
    }
    for member in members {
        match (map.get(member.name), member.presence) {
            (None, Presence::Required) => return Err(Violation::missing(join(place, member.name))),
            (None, _) | (Some(Value::Null), Presence::Nullable) => {}
            (Some(value), _) if member.kind.fits(value) && !value.is_null() => {}
            (Some(_), _) => return Err(Violation::kind(join(place, member.name), member.kind)),
        }
    }
    Ok(Object(map))
}

/// The texts of a member that is a text or a list of texts.
pub(super) fn texts(value: Option<&Value>, place: &str) -> Result<Vec<String>, Violation> {
    match value {
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(items)) => items
            .iter()
            .enumerate()
            .map(|(index, item)| match item.as_str() {
                Some(text) => Ok(text.to_owned()),
                None => Err(Violation::kind(format!("{place}.{index}"), Kind::Text)),
            })
            .collect(),
        Some(_) => Err(Violation::kind(place, Kind::TextOrList)),
        None => Err(Violation::missing(place)),
    }
}

/// The text of a message's content: a text, or a list of blocks. `others`: reads blocks that are no text.
pub(super) fn content(value: &Value, place: &str, others: Blocks) -> Result<String, Violation> {
    const BLOCK: &[Member] =
        &[required("type", Kind::Text), required("text", Kind::Text), nullable("cache_control", Kind::Object)];
    let blocks = match value {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(blocks) => blocks,
        _ => return Err(Violation::kind(place, Kind::TextOrList)),
    };
    let mut said = String::new();
    for (index, block) in blocks.iter().enumerate() {
        let place = format!("{place}.{index}");
        match block.get("type").and_then(Value::as_str) {
            Some("text") => said.push_str(object(block, &place, BLOCK)?.text("text").unwrap_or_default()),
            Some(_) => said.push_str(&others(block, &place)?),
            None => return Err(Violation::missing(join(&place, "type"))),
        }
    }
    Ok(said)
}

/// Checks messages and returns them as a dialogue. `others`: reads blocks that are no text.
pub(super) fn conversation(
    messages: &[Value],
    roles: &[&str],
    more: &[Member],
    others: Blocks,
) -> Result<Dialogue, Violation> {
    let members = [&[required("role", Kind::Text), nullable("content", Kind::TextOrList)], more].concat();
    let mut dialogue = Dialogue::default();
    for (index, message) in messages.iter().enumerate() {
        let place = format!("messages.{index}");
        let object = object(message, &place, &members)?;
        let role = object.text("role").unwrap_or_default();
        if !roles.contains(&role) {
            let message = format!("Invalid value: '{role}'. Supported values are: '{}'.", roles.join("', '"));
            return Err(Violation::value(join(&place, "role"), message));
        }
        let place = join(&place, "content");
        match object.get("content") {
            Some(value) => dialogue.say(role, content(value, &place, others)?),
            // A message with tool calls only has no text.
            None if object.get("tool_calls").is_some() => dialogue.say(role, String::new()),
            None => return Err(Violation::missing(place)),
        }
    }
    if messages.is_empty() {
        return Err(Violation::value("messages", "at least one message is required"));
    }
    Ok(dialogue)
}

/// The message of a requested failure, as of the routes `/status/CODE`.
pub(super) fn failure(status: u16) -> String {
    format!("status {status} for testing")
}
