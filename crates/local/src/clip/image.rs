//! Images: bounded decoding, and the steps of `preprocessor_config.json`.
//!
//! The result equals that of transformers' CLIPImageProcessor: bicubic scaling to the shorter side, the middle part,
//! normalised colours. Transparent pixels lie on white. The orientation in a camera's metadata is ignored, as in
//! transformers.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, Rgb, RgbImage, Rgba, RgbaImage};
use serde::Deserialize;
use serde_json::Value;

use super::resample::{part, Axis, Filter};
use crate::read_object;
use mysql_ml_base::error::{cut, Error, Kind, Result};

/// The maximum of bytes in an image file.
pub const MAX_BYTES: usize = 20 << 20;
/// The maximum of pixels in an image, which take 200 MB during decoding.
pub const MAX_PIXELS: u64 = 50_000_000;

/// The steps from an image to the model's input.
#[derive(Debug)]
pub struct Preprocessor {
    resize: Resize,
    filter: Filter,
    crop: u32,
    scale: f32,
    mean: [f32; 3],
    deviation: [f32; 3],
}

#[derive(Debug, Clone, Copy)]
enum Resize {
    ShortestEdge(u32),
    Exactly { width: u32, height: u32 },
}

/// The file. Missing members have the values of clip-vit-base-patch32.
#[derive(Deserialize)]
#[serde(default)]
struct File {
    do_resize: bool,
    size: Value,
    resample: u8,
    do_center_crop: bool,
    crop_size: Value,
    do_rescale: bool,
    rescale_factor: f64,
    do_normalize: bool,
    image_mean: [f32; 3],
    image_std: [f32; 3],
}

impl Default for File {
    fn default() -> Self {
        File {
            do_resize: true,
            size: Value::from(224),
            resample: 3,
            do_center_crop: true,
            crop_size: Value::from(224),
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            image_std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        }
    }
}

impl Preprocessor {
    /// Reads a preprocessor_config.json for model inputs of `side` x `side` pixels.
    pub fn parse(json: &[u8], side: usize) -> Result<Self> {
        let fault = |what: &str| Error::invalid(format!("preprocessor_config.json cannot be followed: {what}"));
        let file: File = read_object(json).map_err(|e| fault(&cut(&e.to_string(), 160)))?;
        let side = u32::try_from(side).map_err(|_| fault("the model's images are too large"))?;
        let number = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (1..=8192).contains(n));
        let member = |v: &Value, name: &str| v.get(name).and_then(number);
        if !file.do_resize {
            return Err(fault("images would keep their sizes, without do_resize"));
        }
        let resize = if let Some(edge) = number(&file.size).or_else(|| member(&file.size, "shortest_edge")) {
            Resize::ShortestEdge(edge)
        } else if let (Some(width), Some(height)) = (member(&file.size, "width"), member(&file.size, "height")) {
            Resize::Exactly { width, height }
        } else {
            return Err(fault("its size is neither a number nor shortest_edge nor height and width"));
        };
        let crop = if file.do_center_crop {
            let (width, height) = (member(&file.crop_size, "width"), member(&file.crop_size, "height"));
            number(&file.crop_size)
                .or_else(|| width.filter(|_| width == height))
                .ok_or_else(|| fault("its crop_size is no square"))?
        } else {
            match resize {
                Resize::Exactly { width, height } if width == height => width,
                _ => return Err(fault("images would not be square, without do_center_crop")),
            }
        };
        let large_enough = match resize {
            Resize::ShortestEdge(edge) => edge >= crop,
            Resize::Exactly { width, height } => width.min(height) >= crop,
        };
        if crop != side || !large_enough {
            return Err(fault(&format!("it does not make images of {side}x{side} pixels, which config.json wants")));
        }
        let filter = match file.resample {
            0 => Filter::Nearest,
            1 => Filter::Lanczos,
            2 => Filter::Bilinear,
            3 => Filter::Bicubic,
            _ => return Err(fault("its resample is none of nearest, lanczos, bilinear, bicubic (0 to 3)")),
        };
        let (mean, deviation) =
            if file.do_normalize { (file.image_mean, file.image_std) } else { ([0.0; 3], [1.0; 3]) };
        let scale = if file.do_rescale { file.rescale_factor as f32 } else { 1.0 };
        if !scale.is_finite()
            || mean.iter().any(|m| !m.is_finite())
            || deviation.iter().any(|d| d.is_nan() || *d <= 0.0)
        {
            return Err(fault("its numbers are no scale, mean and deviation"));
        }
        Ok(Preprocessor { resize, filter, crop, scale, mean, deviation })
    }

    /// The model's input for an image file: `[3, side, side]`.
    pub fn pixels(&self, encoded: &[u8]) -> Result<Vec<f32>> {
        let image = decode(encoded)?;
        let (width, height) = image.dimensions();
        let (to_width, to_height) = match self.resize {
            Resize::ShortestEdge(edge) => {
                let longer = |long: u32, short: u32| u64::from(edge) * u64::from(long) / u64::from(short.max(1));
                match width <= height {
                    true => (u64::from(edge), longer(height, width)),
                    false => (longer(width, height), u64::from(edge)),
                }
            }
            Resize::Exactly { width, height } => (u64::from(width), u64::from(height)),
        };
        let middle = |from, to: u64| Axis { from, to, first: to.saturating_sub(u64::from(self.crop)) / 2 };
        let cropped = part(&image, middle(width, to_width), middle(height, to_height), self.crop, self.filter);
        let plane = (self.crop as usize) * (self.crop as usize);
        if cropped.as_raw().len() != 3 * plane {
            return Err(Error::internal("an image has another size than it was cut to"));
        }
        let mut pixels = Vec::with_capacity(3 * plane);
        for (colour, (mean, deviation)) in self.mean.iter().zip(&self.deviation).enumerate() {
            let values = cropped.as_raw().iter().skip(colour).step_by(3);
            pixels.extend(values.map(|v| (f32::from(*v) * self.scale - mean) / deviation));
        }
        Ok(pixels)
    }
}

/// Decodes an image whose header is within the bounds.
fn decode(encoded: &[u8]) -> Result<RgbImage> {
    check_bytes(encoded)?;
    let unreadable = |e: ImageError| match e {
        ImageError::Limits(_) => too_large("it needs too much memory"),
        e => Error::invalid(format!("the image cannot be decoded ({})", cut(&e.to_string(), 160))),
    };
    let mut reader = ImageReader::new(Cursor::new(encoded))
        .with_guessed_format()
        .map_err(|e| Error::invalid(format!("the image cannot be read ({e})")))?;
    if reader.format().is_none() {
        return Err(not_an_image());
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(8 * MAX_PIXELS);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(|e| match e {
        ImageError::Unsupported(_) => not_an_image(),
        e => unreadable(e),
    })?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(too_large(&format!("it has {width}x{height} pixels, more than {MAX_PIXELS}")));
    }
    limits.reserve(decoder.total_bytes()).map_err(unreadable)?;
    decoder.set_limits(limits).map_err(unreadable)?;
    let image = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    Ok(if image.color().has_alpha() { on_white(&image.into_rgba8()) } else { image.into_rgb8() })
}

fn on_white(image: &RgbaImage) -> RgbImage {
    let mut out = RgbImage::new(image.width(), image.height());
    for (Rgb(out), Rgba([r, g, b, alpha])) in out.pixels_mut().zip(image.pixels()) {
        let blend = |colour: u8| {
            let (colour, alpha) = (u32::from(colour), u32::from(*alpha));
            ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
        };
        *out = [blend(*r), blend(*g), blend(*b)];
    }
    out
}

/// The error for bytes that no model can read as an image.
pub fn check_bytes(encoded: &[u8]) -> Result<()> {
    match encoded.len() {
        0 => Err(Error::invalid("the image is empty; give the bytes of a JPEG, PNG, WebP or GIF file")),
        n if n > MAX_BYTES => Err(too_large(&format!("it has {n} bytes, more than {MAX_BYTES}"))),
        _ => Ok(()),
    }
}

fn not_an_image() -> Error {
    Error::invalid("the bytes are no image of a known kind; give those of a JPEG, PNG, WebP or GIF file")
}

fn too_large(what: &str) -> Error {
    Error::new(Kind::TooLarge, format!("the image is too large: {what}; scale it down"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ImageFormat;

    fn encoded(width: u32, height: u32) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        let pixel = |x: u32, y: u32| image::Rgb([(x * 3) as u8, (y * 5) as u8, 7]);
        RgbImage::from_fn(width, height, pixel).write_to(&mut out, ImageFormat::Png).unwrap();
        out.into_inner()
    }

    fn of_side(side: u32) -> Preprocessor {
        let json = format!(r#"{{"size":{side},"crop_size":{side}}}"#);
        Preprocessor::parse(json.as_bytes(), side as usize).unwrap()
    }

    #[test]
    fn any_size_becomes_the_models() {
        for (width, height) in [(1, 1), (1, 9000), (9000, 1), (3, 100), (8, 8), (640, 480)] {
            assert_eq!(of_side(8).pixels(&encoded(width, height)).unwrap().len(), 3 * 64, "{width}x{height}");
        }
    }

    #[test]
    fn an_image_of_the_right_size_is_only_scaled_and_shifted() {
        let json =
            br#"{"size":{"height":2,"width":2},"do_center_crop":false,"image_mean":[0,0,1],"image_std":[1,0.5,1],
            "rescale_factor":1}"#;
        let pixels = Preprocessor::parse(json, 2).unwrap().pixels(&encoded(2, 2)).unwrap();
        assert_eq!(pixels, [0.0, 3.0, 0.0, 3.0, 0.0, 0.0, 10.0, 10.0, 6.0, 6.0, 6.0, 6.0]);
    }

    #[test]
    fn bombs_and_what_is_no_image_are_refused() {
        let of = |bytes: &[u8]| of_side(8).pixels(bytes).unwrap_err();
        for bytes in [&b"x"[..], b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"BM\0\0\0\0", &[0xff; 100]] {
            assert!(of(bytes).message().contains("no image of a known kind"), "{bytes:?}: {}", of(bytes));
        }
        assert!(of(b"").message().contains("empty"));
        assert_eq!(of(&vec![0; MAX_BYTES + 1]).kind(), Kind::TooLarge);
        // A header with 100,000 x 100,000 pixels and a valid checksum.
        let mut bomb = encoded(10, 10);
        bomb[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
        let crc = crc32(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc.to_be_bytes());
        assert!(of(&bomb).message().contains("100000x100000 pixels"), "{}", of(&bomb));
        let whole = encoded(40, 30);
        for end in 0..whole.len() {
            // A file cut behind its last pixel may still be read.
            let result = of_side(8).pixels(&whole[..end]);
            assert!(result.is_err() || end > whole.len() - 20, "{end} of {}", whole.len());
        }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            }
        }
        !crc
    }

    #[test]
    fn files_that_cannot_be_followed_are_refused() {
        for bad in [
            "x",
            "{}",
            r#"{"size":{"longest_edge":224},"crop_size":8}"#,
            r#"{"size":8,"crop_size":{"height":8,"width":9}}"#,
            r#"{"size":4,"crop_size":8}"#,
            r#"{"size":8,"do_center_crop":false}"#,
            r#"{"size":8,"crop_size":8,"do_resize":false}"#,
            r#"{"size":8,"crop_size":8,"resample":9}"#,
            r#"{"size":8,"crop_size":8,"image_std":[1,0,1]}"#,
            r#"{"size":8,"crop_size":8,"image_mean":[1,1]}"#,
        ] {
            let error = Preprocessor::parse(bad.as_bytes(), 8).unwrap_err();
            assert!(error.message().contains("cannot be followed"), "{bad}: {error}");
        }
    }
}
