//! Images, to embed or as parts of a question, in the forms that providers accept.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use url::Url;

use mysql_ml_base::error::{cut, Error, Kind, Result};

/// The most bytes of an image, and of all images of a question.
pub const MAX_BYTES: usize = 20 << 20;

/// The most images of a question: no service that is known takes fewer than 5 or needs more than these.
pub const MAX_IMAGES: usize = 20;

/// The longest URI of an image.
const MAX_URI: usize = 2048;

/// The most bytes of an argument with the images of a question: base64 in JSON, with line breaks.
const MAX_ARGUMENT: usize = MAX_BYTES * 2;

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The image's place.
    pub source: Source,
    /// The MIME type, e.g. `image/png`; empty for a URL whose name does not show it.
    pub mime_type: String,
}

/// The place of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// A `gs://` URI in Google Cloud Storage, which Google's models read.
    GoogleStorage(String),
    /// An `https://` URL, which the provider reads.
    Url(String),
    /// A description that stands for the bytes where a request is only shown.
    Shown(String),
}

impl Image {
    /// Reads an argument: an image's bytes, the same in base64 (also as a `data:` URL), or a `gs://` URI. Without
    /// `mime_type` its first bytes decide the type.
    pub fn read(argument: &[u8], mime_type: Option<&str>) -> Result<Self> {
        let named = checked(mime_type)?;
        // Base64 is a third longer.
        check_size(argument.len(), MAX_BYTES / 3 * 4 + 1000)?;
        if let Some(uri) = argument.strip_prefix(b"gs://") {
            return google_storage(uri, named);
        }
        let bytes = match kind_of(argument) {
            Some(_) => argument.to_vec(),
            None => decoded(argument).unwrap_or_else(|| argument.to_vec()),
        };
        check_size(bytes.len(), MAX_BYTES)?;
        let told = kind_of(&bytes);
        match (named, told) {
            // Some providers refuse a non-standard MIME type such as image/jpg.
            (Some(_), Some(told)) => Ok(Image { source: Source::Bytes(bytes), mime_type: told.into() }),
            (None, Some(told)) => Ok(Image { source: Source::Bytes(bytes), mime_type: told.into() }),
            (Some(name), None) => Ok(Image { source: Source::Bytes(bytes), mime_type: name }),
            (None, None) => Err(Error::invalid(
                "the image is of no known kind; give the bytes of a JPEG, PNG, WebP, GIF or BMP file or their base64, or name its mime_type",
            )),
        }
    }

    /// Reads a URL of an image: `https://`, which the provider reads, `gs://` or `data:`. Nothing is fetched here.
    pub fn from_url(url: &str, mime_type: Option<&str>) -> Result<Self> {
        let url = url.trim();
        let begins = |scheme: &str| url.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
        if url.starts_with("gs://") || url.starts_with("data:") {
            return Self::read(url.as_bytes(), mime_type);
        }
        if !begins("https://") {
            return Err(Error::invalid(format!(
                "the image's URL '{}' is none of https://, gs:// and data:; give one of these, or the bytes of the image",
                without_query(url)
            )));
        }
        let parsed = Url::parse(url).ok().filter(|parsed| {
            url.len() <= MAX_URI && parsed.has_host() && parsed.username().is_empty() && parsed.password().is_none()
        });
        let parsed = parsed.ok_or_else(|| {
            Error::invalid(
                "the image's URL is not one, names a user, or is longer than 2048 bytes; write https://host/path",
            )
        })?;
        let mime_type = checked(mime_type)?.or_else(|| type_by_name(parsed.path()).map(str::to_owned));
        Ok(Image { source: Source::Url(parsed.into()), mime_type: mime_type.unwrap_or_default() })
    }

    /// A text that identifies the image, for cache keys.
    pub fn digest(&self) -> String {
        let (kind, bytes) = match &self.source {
            Source::Bytes(bytes) => ("bytes", bytes.as_slice()),
            Source::GoogleStorage(uri) => ("gs", uri.as_bytes()),
            Source::Url(url) => ("url", url.as_bytes()),
            Source::Shown(text) => ("shown", text.as_bytes()),
        };
        let digest = STANDARD.encode(Sha256::digest(bytes));
        format!("{kind} {} {digest}", self.mime_type)
    }

    /// Its bytes, for providers that cannot read `gs://`.
    pub fn bytes(&self) -> Result<&[u8]> {
        match &self.source {
            Source::Bytes(bytes) => Ok(bytes),
            Source::GoogleStorage(uri) => Err(Error::invalid(format!(
                "only Google's models read {}; give this one the bytes of the image",
                cut(uri, 100)
            ))),
            Source::Url(url) => Err(Error::invalid(format!(
                "the model's API takes the bytes of images and no URL, and {} is not fetched here; give the bytes of the image",
                without_query(url)
            ))),
            Source::Shown(_) => Err(Error::internal("the bytes of an image that is only shown")),
        }
    }

    /// Its bytes in base64.
    pub fn base64(&self) -> Result<String> {
        match &self.source {
            Source::Shown(text) => Ok(text.clone()),
            _ => Ok(STANDARD.encode(self.bytes()?)),
        }
    }

    /// Its URL: `https://`, or `data:` with its bytes.
    pub fn url(&self) -> Result<String> {
        match &self.source {
            Source::Url(url) => Ok(url.clone()),
            _ => self.data_url(),
        }
    }

    /// The same image with its length and SHA-256 in the place of its bytes.
    fn shown(&self) -> Image {
        let source = match &self.source {
            Source::Bytes(bytes) => {
                let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                Source::Shown(format!("({} bytes, SHA-256 {digest})", bytes.len()))
            }
            other => other.clone(),
        };
        Image { source, mime_type: self.mime_type.clone() }
    }

    /// Bytes that it adds to a request: those of its base64 or URI.
    fn encoded(&self) -> usize {
        match &self.source {
            Source::Bytes(bytes) => bytes.len().div_ceil(3).saturating_mul(4),
            Source::GoogleStorage(text) | Source::Url(text) | Source::Shown(text) => text.len(),
        }
    }

    /// The image as a `data:` URL.
    pub fn data_url(&self) -> Result<String> {
        Ok(format!("data:{};base64,{}", self.mime_type, self.base64()?))
    }
}

/// The images of a question, in their order; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Images {
    list: Arc<[Image]>,
    digest: [u8; 32],
}

impl Images {
    /// Reads an argument: what [`Image::read`] reads, an `https://` URL, an object with `data` in base64 or `url`, and
    /// perhaps `mime_type`, or a JSON array of such texts and objects. At most [`MAX_IMAGES`] with [`MAX_BYTES`] together.
    pub fn read(argument: &[u8]) -> Result<Self> {
        let begin = argument.iter().find(|byte| !byte.is_ascii_whitespace());
        let list = match begin {
            Some(b'[' | b'{') => {
                if argument.len() > MAX_ARGUMENT {
                    return Err(too_large(argument.len()));
                }
                let mut reader = serde_json::Deserializer::from_slice(argument);
                let mut failure = None;
                let read = List(&mut failure).deserialize(&mut reader).and_then(|list| reader.end().map(|()| list));
                match (read, failure) {
                    (_, Some(failure)) => return Err(failure),
                    (Ok(list), None) => list,
                    (Err(e), None) => {
                        return Err(Error::invalid(format!(
                            "images is not a JSON array of images ({}); give bytes, base64 or URLs, or objects with data or url",
                            cut(&e.to_string(), 100)
                        )))
                    }
                }
            }
            _ => match std::str::from_utf8(argument) {
                Ok(text) => vec![of_text(text)?],
                Err(_) => vec![Image::read(argument, None)?],
            },
        };
        Ok(Self::of(list))
    }

    fn of(list: Vec<Image>) -> Self {
        let mut hash = Sha256::new();
        for image in &list {
            let digest = image.digest();
            hash.update((digest.len() as u64).to_le_bytes());
            hash.update(digest);
        }
        Images { list: list.into(), digest: hash.finalize().into() }
    }

    /// The most memory that [`Images::read`] takes, bytes: a text out of its JSON, the same without white space, the image.
    pub fn memory_to_read(argument: &[u8]) -> usize {
        argument.len().min(MAX_ARGUMENT).saturating_mul(3)
    }

    /// The images.
    pub fn as_slice(&self) -> &[Image] {
        &self.list
    }

    /// Each image.
    pub fn iter(&self) -> std::slice::Iter<'_, Image> {
        self.list.iter()
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes of the images as they are kept.
    pub fn bytes(&self) -> usize {
        let bytes = self.iter().map(|image| match &image.source {
            Source::Bytes(bytes) => bytes.len(),
            Source::GoogleStorage(text) | Source::Url(text) | Source::Shown(text) => text.len(),
        });
        bytes.fold(0, usize::saturating_add)
    }

    /// Bytes that they add to a request.
    pub fn encoded(&self) -> usize {
        self.iter().map(Image::encoded).fold(0, usize::saturating_add)
    }

    /// A digest of the images and a text.
    pub fn digest_with_text(&self, text: &str) -> [u8; 32] {
        self.digest_with(Sha256::digest(text).into())
    }

    /// A digest of `other` and the images; without images `other` itself.
    pub fn digest_with(&self, other: [u8; 32]) -> [u8; 32] {
        match self.is_empty() {
            true => other,
            false => Sha256::new().chain_update(other).chain_update(self.digest).finalize().into(),
        }
    }

    /// The same images with length and digest in the place of their bytes.
    pub fn shown(&self) -> Images {
        Images { list: self.iter().map(Image::shown).collect(), digest: self.digest }
    }
}

/// A URL for an error: the query may hold a signature.
pub fn without_query(url: &str) -> Cow<'_, str> {
    cut(url.split(['?', '#']).next().unwrap_or_default(), 100)
}

/// An image from a text: a URL or base64.
fn of_text(text: &str) -> Result<Image> {
    let trimmed = text.trim();
    match trimmed.contains("://") && trimmed.len() <= MAX_URI.saturating_mul(2) {
        true => Image::from_url(trimmed, None),
        false => Image::read(text.as_bytes(), None),
    }
}

/// The images of a question as a member of a JSON object.
pub enum Member {
    /// null.
    Null,
    /// What [`Images::read`] reads, or why it cannot be read. Other values are errors of the document.
    Images(Result<Images>),
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(MemberVisitor)
    }
}

struct MemberVisitor;

impl MemberVisitor {
    fn of<E>(read: impl FnOnce(List<'_>) -> std::result::Result<Vec<Image>, E>) -> std::result::Result<Member, E> {
        let mut failure = None;
        let list = read(List(&mut failure))?;
        Ok(Member::Images(failure.map_or_else(|| Ok(Images::of(list)), Err)))
    }
}

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("images: a text, an object, an array of them, or null")
    }

    fn visit_unit<E>(self) -> std::result::Result<Member, E> {
        Ok(Member::Null)
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Member, E> {
        Ok(Member::Images(of_text(text).map(|image| Images::of(vec![image]))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> std::result::Result<Member, A::Error> {
        Self::of(|list| list.visit_seq(seq))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Member, A::Error> {
        Self::of(|list| list.visit_map(map))
    }
}

/// Reads an array of images, or one object, and reads each image before the next: a million entries are never kept. An
/// image that cannot be read is kept apart, and the rest of the array is skipped.
struct List<'f>(&'f mut Option<Error>);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = Vec<Image>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Vec<Image>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Vec<Image>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of images")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Vec<Image>, A::Error> {
        let mut list: Vec<Image> = Vec::new();
        let mut bytes = 0_usize;
        while let Some(entry) = seq.next_element::<Entry>()? {
            let number = list.len() + 1;
            let read = match number > MAX_IMAGES {
                true => Err(Error::new(
                    Kind::TooLarge,
                    format!("images has more than {MAX_IMAGES} images; a question takes no more"),
                )),
                false => entry.0.map_err(|e| e.context(&format!("image {number} of images (from 1)"))),
            };
            let read = read.and_then(|image| {
                bytes = bytes.saturating_add(image.encoded() / 4 * 3);
                match bytes > MAX_BYTES {
                    true => Err(too_large(bytes)),
                    false => Ok(image),
                }
            });
            match read {
                Ok(image) => list.push(image),
                Err(error) => {
                    *self.0 = Some(error);
                    while seq.next_element::<IgnoredAny>()?.is_some() {}
                    return Ok(Vec::new());
                }
            }
        }
        Ok(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Vec<Image>, A::Error> {
        match Parts::deserialize(MapAccessDeserializer::new(map))?.image() {
            Ok(image) => Ok(vec![image]),
            Err(error) => {
                *self.0 = Some(error);
                Ok(Vec::new())
            }
        }
    }
}

/// An entry of the array.
struct Entry(Result<Image>);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or an object with data or url")
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Entry, E> {
        Ok(Entry(of_text(text)))
    }

    fn visit_unit<E>(self) -> std::result::Result<Entry, E> {
        Ok(Entry(Err(Error::invalid("it is null; leave it out, or give NULL for all images"))))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Entry, A::Error> {
        Parts::deserialize(MapAccessDeserializer::new(map)).map(|parts| Entry(parts.image()))
    }
}

/// An image as an object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    #[serde(default, alias = "mimetype", alias = "media_type")]
    mime_type: Option<String>,
    #[serde(default, deserialize_with = "bounded")]
    data: Option<String>,
    #[serde(default)]
    url: Option<String>,
}

/// A text that may be an image: a longer one is refused before it is copied.
fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<String>, D::Error> {
    struct Bounded;

    impl Visitor<'_> for Bounded {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an image in base64")
        }

        fn visit_unit<E>(self) -> std::result::Result<Option<String>, E> {
            Ok(None)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Option<String>, E> {
            match text.len() > MAX_ARGUMENT {
                true => Err(E::custom("a text is longer than an image may be")),
                false => Ok(Some(text.to_owned())),
            }
        }
    }

    deserializer.deserialize_any(Bounded)
}

impl Parts {
    fn image(self) -> Result<Image> {
        let mime_type = self.mime_type.as_deref();
        match (self.data, self.url) {
            (Some(data), None) => Image::read(data.as_bytes(), mime_type),
            (None, Some(url)) => Image::from_url(&url, mime_type),
            _ => Err(Error::invalid("the object has not exactly one of data and url; give the base64 or the URL")),
        }
    }
}

/// A MIME type of an image, in lower case.
fn checked(mime_type: Option<&str>) -> Result<Option<String>> {
    let named = mime_type.map(|m| m.trim().to_ascii_lowercase()).filter(|m| !m.is_empty());
    if let Some(name) = &named {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-');
        let kind = name.strip_prefix("image/").filter(|kind| !kind.is_empty() && kind.len() <= 40);
        if !kind.is_some_and(|kind| kind.chars().all(plain)) {
            return Err(Error::invalid(format!(
                "mime_type '{}' is not that of an image; give e.g. image/jpeg, or NULL to detect it from the image",
                cut(name, 60)
            )));
        }
    }
    Ok(named)
}

fn too_large(bytes: usize) -> Error {
    Error::new(
        Kind::TooLarge,
        format!("images has {bytes} bytes; all images of a question may have {MAX_BYTES}, so scale them down"),
    )
}

fn check_size(size: usize, most: usize) -> Result<()> {
    match size {
        0 => Err(Error::invalid("the image is empty; give the bytes of an image file")),
        n if n > most => Err(Error::new(
            Kind::TooLarge,
            format!("the image has {n} bytes; at most {MAX_BYTES} are taken, so scale it down"),
        )),
        _ => Ok(()),
    }
}

fn google_storage(uri: &[u8], named: Option<String>) -> Result<Image> {
    let uri = std::str::from_utf8(uri)
        .ok()
        .filter(|uri| uri.len() <= MAX_URI && uri.contains('/') && !uri.contains(char::is_control))
        .ok_or_else(|| Error::invalid("the image's gs:// URI is not one; write gs://bucket/object"))?;
    let mime_type = named.or_else(|| type_by_name(uri).map(str::to_owned)).ok_or_else(|| {
        Error::invalid("the name in the image's gs:// URI does not show its type; name its mime_type")
    })?;
    Ok(Image { source: Source::GoogleStorage(format!("gs://{uri}")), mime_type })
}

/// The MIME type by the name of a file.
fn type_by_name(path: &str) -> Option<&'static str> {
    match path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "png" => Some("image/png"),
        "gif" => Some("image/gif"),
        "bmp" => Some("image/bmp"),
        "webp" => Some("image/webp"),
        "jpg" | "jpeg" => Some("image/jpeg"),
        _ => None,
    }
}

/// The MIME type by an image's first bytes.
fn kind_of(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        // A text may begin so too: the reserved bytes of the header are zero.
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Some("image/bmp"),
        _ => None,
    }
}

/// Decodes base64, including the line breaks of MySQL's TO_BASE64, `data:` URLs, and MySQL's BLOBs in JSON.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let text = match (text.strip_prefix(b"data:"), text.strip_prefix(b"base64:type")) {
        (Some(url), _) => url.get(memchr::memmem::find(url, b";base64,")? + 8..)?,
        (None, Some(blob)) => blob.get(memchr::memchr(b':', blob)? + 1..)?,
        (None, None) => text,
    };
    let digits: Vec<u8> = text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    STANDARD.decode(digits).ok().filter(|bytes| !bytes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n____";

    #[test]
    fn bytes_and_base64_and_data_urls_are_the_same_image() {
        let image = Image::read(PNG, None).unwrap();
        assert_eq!(image.mime_type, "image/png");
        let base64 = image.base64().unwrap();
        let lines = format!("{}\n{}\n", &base64[..8], &base64[8..]);
        for text in [base64.as_str(), &lines, &image.data_url().unwrap()] {
            assert_eq!(Image::read(text.as_bytes(), None).unwrap(), image, "{text}");
        }
        assert_eq!(image.data_url().unwrap(), format!("data:image/png;base64,{base64}"));
        assert_eq!(Image::read(PNG, Some("image/jpg")).unwrap().mime_type, "image/png", "what it is, not what is said");
    }

    #[test]
    fn kinds_are_recognised_by_the_first_bytes() {
        for (bytes, kind) in [
            (&b"\xff\xd8\xff\xe0.."[..], "image/jpeg"),
            (b"GIF89a..", "image/gif"),
            (b"RIFF1234WEBPVP8 ", "image/webp"),
            (b"BM\x10\0\0\0\0\0\0\0..", "image/bmp"),
        ] {
            assert_eq!(Image::read(bytes, None).unwrap().mime_type, kind);
        }
        assert_eq!(Image::read(b"\0\0\0\x20ftypavif", Some("Image/AVIF")).unwrap().mime_type, "image/avif");
    }

    #[test]
    fn places_in_googles_storage() {
        let image = Image::read(b"gs://bucket/cat.JPG", None).unwrap();
        assert_eq!(image.mime_type, "image/jpeg");
        assert_eq!(image.source, Source::GoogleStorage("gs://bucket/cat.JPG".into()));
        assert!(image.base64().unwrap_err().message().contains("only Google's models"));
        assert_eq!(Image::read(b"gs://b/x", Some("image/png")).unwrap().mime_type, "image/png");
        for bad in [&b"gs://b/x"[..], b"gs://b", b"gs://b/\xff.png", b"gs://b/a\n.png"] {
            assert!(Image::read(bad, None).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_question_takes_one_image_or_an_array() {
        let base64 = STANDARD.encode(PNG);
        let one = Images::read(PNG).unwrap();
        assert_eq!((one.len(), one.bytes(), one.encoded()), (1, PNG.len(), base64.len()));
        let same = |argument: &str| {
            let images = Images::read(argument.as_bytes()).unwrap();
            assert_eq!(images.digest_with([1; 32]), one.digest_with([1; 32]), "{argument}");
        };
        same(&base64);
        same(&format!("data:image/png;base64,{base64}"));
        same(&format!("[\"{base64}\"]"));
        same(&format!("[\"base64:type252:{base64}\"]"));
        same(&format!(" {{\"data\":\"{base64}\"}}"));
        same(&format!("[{{\"mime_type\":\"image/jpg\",\"data\":\"{base64}\"}}]"));
        same(&format!("[{{\"url\":\"data:image/png;base64,{base64}\"}}]"));
        let several = Images::read(
            br#"["https://h.example/a.JPG?x=1", {"url":"https://h.example/b", "mime_type":"image/webp"}, "https://h.example/c", "gs://b/d.png"]"#,
        )
        .unwrap();
        let types: Vec<&str> = several.iter().map(|image| image.mime_type.as_str()).collect();
        assert_eq!(types, ["image/jpeg", "image/webp", "", "image/png"]);
        assert_eq!(several.iter().next().unwrap().url().unwrap(), "https://h.example/a.JPG?x=1");
        let none = Images::read(b"[]").unwrap();
        assert!(none.is_empty() && none.digest_with([1; 32]) == [1; 32]);
        assert_ne!(one.digest_with([1; 32]), [1; 32]);
        assert!(
            matches!(&one.shown().iter().next().unwrap().source, Source::Shown(text) if text.starts_with("(12 bytes, SHA-256 "))
        );
    }

    #[test]
    fn images_that_a_question_does_not_take_are_refused() {
        for (bad, says) in [
            ("[null]", "image 1 of images (from 1): it is null"),
            ("[1]", "not a JSON array of images"),
            ("[[\"x\"]]", "not a JSON array of images"),
            ("[\"aGVsbG8=\"]", "of no known kind"),
            ("[\"http://h.example/a.png\"]", "none of https://"),
            ("http://h.example/a.png?signature=x", "URL 'http://h.example/a.png' is none of https://"),
            ("file:///etc/passwd", "none of https://"),
            ("https://user:pw@h.example/a.png", "names a user"),
            ("[{}]", "not exactly one of data and url"),
            ("{\"data\":\"\",\"url\":\"\"}", "not exactly one of data and url"),
            ("[{\"data\":\"\"}]", "the image is empty"),
            ("[{\"bytes\":\"\"}]", "unknown field"),
            ("[\"", "not a JSON array of images"),
            ("[] x", "not a JSON array of images"),
            ("", "the image is empty"),
            ("a cat", "of no known kind"),
        ] {
            let error = Images::read(bad.as_bytes()).unwrap_err();
            assert!(error.message().contains(says), "{bad}: {error}");
        }
        let url = "\"https://h.example/a.png\"";
        let many = format!("[{}]", [url; MAX_IMAGES + 1].join(","));
        assert!(Images::read(many.as_bytes()).unwrap_err().message().contains("more than 20 images"));
        let mut large = PNG.to_vec();
        large.resize(MAX_BYTES / 2 + 9, 0);
        let large = STANDARD.encode(large);
        let two = Images::read(format!("[\"{large}\",\"{large}\"]").as_bytes()).unwrap_err();
        assert_eq!(two.kind(), Kind::TooLarge);
        let mut longer = vec![b'['];
        longer.resize(MAX_ARGUMENT + 1, b' ');
        assert_eq!(Images::read(&longer).unwrap_err().kind(), Kind::TooLarge);
    }

    #[test]
    fn bytes_that_are_no_image_are_refused() {
        for bad in [&b""[..], b"hello", b"aGVsbG8=", b"data:text/plain,x", b"\0\0\0\0"] {
            assert!(Image::read(bad, None).is_err(), "{bad:?}");
        }
        for mime_type in ["text/plain", "image/", "image/a b", "image/\"x"] {
            assert!(Image::read(PNG, Some(mime_type)).unwrap_err().message().contains("mime_type"), "{mime_type}");
        }
        let mut large = PNG.to_vec();
        large.resize(MAX_BYTES + 1, 0);
        assert_eq!(Image::read(&large, None).unwrap_err().kind(), Kind::TooLarge);
        large.resize(MAX_BYTES * 2, 0);
        assert_eq!(Image::read(&large, None).unwrap_err().kind(), Kind::TooLarge);
    }
}
