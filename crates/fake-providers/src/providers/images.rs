//! Images in chats: each provider's form, checked. The answer has `(MIME_TYPE, N bytes)` or `(URL)` before the text.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde_json::Value;

use super::strict::{self, nullable, optional, required, Kind, Member, Object, Violation};

/// What a provider's blocks may be besides texts; the text that stands for a block.
pub(super) type Blocks = fn(&Value, &str) -> Result<String, Violation>;

/// The MIME type by the first bytes.
fn kind_of(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// What a model sees of an image in base64. `named`: the MIME type in the request, if the form has one.
pub(super) fn seen(data: &str, named: Option<&str>) -> Result<String, &'static str> {
    let bytes = STANDARD.decode(data).map_err(|_| "invalid base64 data")?;
    let kind = kind_of(&bytes).ok_or("Could not process image")?;
    if named.is_some_and(|named| named != kind) {
        return Err("the image appears to be of another media type than the specified one");
    }
    Ok(format!("({kind}, {} bytes) ", bytes.len()))
}

/// What a model sees of a URL: `https:`, or `data:` with base64.
pub(super) fn seen_url(url: &str) -> Result<String, &'static str> {
    if url.starts_with("https://") {
        return Ok(format!("({url}) "));
    }
    let (kind, data) = url
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(";base64,"))
        .ok_or("Expected a base64-encoded data URL with an image MIME type, or an https URL")?;
    seen(data, Some(kind))
}

/// Blocks of `OpenAI`'s form: `image_url`.
pub(super) fn image_urls(block: &Value, place: &str) -> Result<String, Violation> {
    const IMAGE: &[Member] = &[required("type", Kind::Text), required("image_url", Kind::Object)];
    const URL: &[Member] = &[required("url", Kind::Text), nullable("detail", Kind::Text)];
    let type_place = strict::join(place, "type");
    match block.get("type").and_then(Value::as_str) {
        Some("image_url") => {}
        Some("input_audio" | "file" | "refusal" | "document") => return Ok(String::new()),
        Some(other) => {
            let message = format!(
                "Invalid value: '{other}'. Supported values are: 'text', 'image_url', 'input_audio', 'refusal', and 'file'."
            );
            return Err(Violation::value(type_place, message));
        }
        None => return Err(Violation::missing(type_place)),
    }
    let block = strict::object(block, place, IMAGE)?;
    let place = strict::join(place, "image_url");
    let image = strict::object(block.get("image_url").unwrap_or(&Value::Null), &place, URL)?;
    seen_url(image.text("url").unwrap_or_default())
        .map_err(|why| Violation::value(strict::join(&place, "url"), format!("Invalid image_url: {why}.")))
}

/// Anthropic's blocks: `image` with a source.
pub(super) fn anthropic(block: &Value, place: &str) -> Result<String, Violation> {
    const IMAGE: &[Member] =
        &[required("type", Kind::Text), required("source", Kind::Object), nullable("cache_control", Kind::Object)];
    const BASE64: &[Member] =
        &[required("type", Kind::Text), required("media_type", Kind::Text), required("data", Kind::Text)];
    const URL: &[Member] = &[required("type", Kind::Text), required("url", Kind::Text)];
    match block.get("type").and_then(Value::as_str) {
        Some("image") => {}
        Some("document" | "tool_use" | "tool_result" | "thinking" | "redacted_thinking") => return Ok(String::new()),
        Some(other) => {
            let message = format!("Input tag '{other}' found using 'type' does not match any of the expected tags");
            return Err(Violation::value(place, message));
        }
        None => return Err(Violation::missing(strict::join(place, "type"))),
    }
    let block = strict::object(block, place, IMAGE)?;
    let place = strict::join(place, "source");
    let source = block.get("source").unwrap_or(&Value::Null);
    match source.get("type").and_then(Value::as_str) {
        Some("base64") => {
            let source = strict::object(source, &place, BASE64)?;
            seen(source.text("data").unwrap_or_default(), source.text("media_type"))
        }
        Some("url") => seen_url(strict::object(source, &place, URL)?.text("url").unwrap_or_default()),
        _ => return Err(Violation::value(strict::join(&place, "type"), "Input should be 'base64' or 'url'")),
    }
    .map_err(|why| Violation::value(place, why))
}

/// Blocks of an interface that has texts only.
pub(super) fn none(_block: &Value, place: &str) -> Result<String, Violation> {
    Err(Violation::value(place, "only text is supported"))
}

/// Gemini's parts: `inlineData` and `fileData`.
pub(super) fn gemini(part: Object<'_>, place: &str) -> Result<String, Violation> {
    const INLINE: &[Member] = &[required("mimeType", Kind::Text), required("data", Kind::Text)];
    const FILE: &[Member] = &[required("mimeType", Kind::Text), required("fileUri", Kind::Text)];
    if let Some(data) = part.get("inlineData") {
        let place = strict::join(place, "inlineData");
        let data = strict::object(data, &place, INLINE)?;
        return seen(data.text("data").unwrap_or_default(), data.text("mimeType")).map_err(|_| {
            Violation::value(
                place,
                "Unable to process input image. Please retry or report in \
                https://developers.generativeai.google/guide/troubleshooting",
            )
        });
    }
    let Some(file) = part.get("fileData") else { return Ok(String::new()) };
    let place = strict::join(place, "fileData");
    let file = strict::object(file, &place, FILE)?;
    let uri = file.text("fileUri").unwrap_or_default();
    match uri.starts_with("gs://") || uri.starts_with("https://") {
        true => Ok(format!("({uri}) ")),
        false => Err(Violation::value(place, "Invalid or unsupported file uri")),
    }
}

/// Bedrock's block `image`, which has bytes.
pub(super) fn converse(image: &Value, place: &str) -> Result<String, Violation> {
    const IMAGE: &[Member] = &[required("format", Kind::Text), required("source", Kind::Object)];
    let image = strict::object(image, place, IMAGE)?;
    let format = image.text("format").unwrap_or_default();
    if !["png", "jpeg", "gif", "webp"].contains(&format) {
        let message = format!(
            "1 validation error detected: Value '{format}' at '{place}.format' failed to satisfy constraint: Member must \
             satisfy enum value set: [png, jpeg, gif, webp]"
        );
        return Err(Violation::value(place, message));
    }
    let place = strict::join(place, "source");
    let source = image.get("source").unwrap_or(&Value::Null);
    let source =
        strict::object(source, &place, &[optional("bytes", Kind::Text), optional("s3Location", Kind::Object)])?;
    seen(source.text("bytes").unwrap_or_default(), Some(&format!("image/{format}")))
        .map_err(|why| Violation::value(place, format!("The model returned the following errors: {why}")))
}

/// Ollama's list of images in base64.
pub(super) fn ollama(images: &[Value], place: &str) -> Result<String, Violation> {
    let mut said = String::new();
    for (index, image) in images.iter().enumerate() {
        let place = format!("{place}.{index}");
        let data = image.as_str().ok_or_else(|| Violation::kind(place.clone(), Kind::Text))?;
        said += &seen(data, None).map_err(|why| Violation::value(place, format!("invalid image input: {why}")))?;
    }
    Ok(said)
}

/// The prompt of a server of open models, whose images are Markdown.
pub(super) fn markdown(prompt: &str) -> Result<String, Violation> {
    let (mut said, mut rest) = (String::new(), prompt);
    while let Some((before, after)) = rest.split_once("![](") {
        let Some((url, tail)) = after.split_once(')') else { break };
        let seen = seen_url(url).map_err(|why| Violation::value("inputs", format!("Input validation error: {why}")))?;
        said += before;
        said += &seen;
        rest = tail;
    }
    Ok(said + rest)
}
