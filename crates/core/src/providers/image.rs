//! Images to embed, in the forms that providers accept.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use sha2::{Digest, Sha256};

use mysql_ml_base::error::{cut, Error, Kind, Result};

/// The most bytes of an image.
pub const MAX_BYTES: usize = 20 << 20;

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The image's place.
    pub source: Source,
    /// The MIME type, e.g. `image/png`.
    pub mime_type: String,
}

/// The place of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// A `gs://` URI in Google Cloud Storage, which Google's models read.
    GoogleStorage(String),
}

impl Image {
    /// Reads an argument: an image's bytes, the same in base64 (also as a `data:` URL), or a `gs://` URI. Without
    /// `mime_type` its first bytes decide the type.
    pub fn read(argument: &[u8], mime_type: Option<&str>) -> Result<Self> {
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

    /// A text that identifies the image, for cache keys.
    pub fn digest(&self) -> String {
        let (kind, bytes) = match &self.source {
            Source::Bytes(bytes) => ("bytes", bytes.as_slice()),
            Source::GoogleStorage(uri) => ("gs", uri.as_bytes()),
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
        }
    }

    /// Its bytes in base64.
    pub fn base64(&self) -> Result<String> {
        Ok(STANDARD.encode(self.bytes()?))
    }

    /// The image as a `data:` URL.
    pub fn data_url(&self) -> Result<String> {
        Ok(format!("data:{};base64,{}", self.mime_type, self.base64()?))
    }
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
        .filter(|uri| uri.len() <= 2048 && uri.contains('/') && !uri.contains(char::is_control))
        .ok_or_else(|| Error::invalid("the image's gs:// URI is not one; write gs://bucket/object"))?;
    let by_name = || match uri.rsplit('.').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "png" => Some("image/png"),
        "gif" => Some("image/gif"),
        "bmp" => Some("image/bmp"),
        "webp" => Some("image/webp"),
        "jpg" | "jpeg" => Some("image/jpeg"),
        _ => None,
    };
    let mime_type = named.or_else(|| by_name().map(str::to_owned)).ok_or_else(|| {
        Error::invalid("the name in the image's gs:// URI does not show its type; name its mime_type")
    })?;
    Ok(Image { source: Source::GoogleStorage(format!("gs://{uri}")), mime_type })
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

/// Decodes base64, including the line breaks of MySQL's TO_BASE64 and `data:` URLs.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let text = match text.strip_prefix(b"data:") {
        Some(url) => url.get(memchr::memmem::find(url, b";base64,")? + 8..)?,
        None => text,
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
