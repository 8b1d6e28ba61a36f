//! Scaling of images, bit for bit like Pillow, which prepared the training images of the models.
//!
//! The `image` crate filters in another order and does not clamp between the passes. This changes hard edges by up to
//! a tenth. Only the kept part is computed, so an image of one pixel by a million is cheap.

use image::{Rgb, RgbImage};

/// The filter that computes a pixel from its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The nearest pixel.
    Nearest,
    /// The two nearest pixels of each direction.
    Bilinear,
    /// The four nearest pixels of each direction, with Catmull-Rom weights.
    Bicubic,
    /// The six nearest pixels of each direction, weighted by a windowed sinc.
    Lanczos,
}

/// Fraction bits of a weight.
const PRECISION: u32 = 22;

impl Filter {
    fn support(self) -> f64 {
        match self {
            Filter::Nearest => 0.5,
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
        match self {
            Filter::Nearest => 1.0,
            Filter::Bilinear => (1.0 - x).max(0.0),
            Filter::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Filter::Bicubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Filter::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
            Filter::Bicubic | Filter::Lanczos => 0.0,
        }
    }
}

/// The scaling of one direction, from `from` pixels to `to` pixels. Pixels from `first` on are kept.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// Pixels before scaling.
    pub from: u32,
    /// Pixels after scaling, including those that are not kept.
    pub to: u64,
    /// The first kept pixel.
    pub first: u64,
}

/// The source pixels of one pixel: the index of the first, and their weights.
type Taps = (usize, Vec<i64>);

fn taps(axis: Axis, kept: u32, filter: Filter) -> Vec<Taps> {
    let scale = f64::from(axis.from) / axis.to.max(1) as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let last = i64::from(axis.from);
    (0..u64::from(kept))
        .map(|i| {
            let center = ((axis.first + i) as f64 + 0.5) * scale;
            if filter == Filter::Nearest {
                return ((center as i64).clamp(0, (last - 1).max(0)) as usize, vec![1 << PRECISION]);
            }
            let start = ((center - support + 0.5) as i64).clamp(0, last);
            let end = ((center + support + 0.5) as i64).clamp(start, last);
            let weights: Vec<f64> = (start..end).map(|x| filter.weight((x as f64 - center + 0.5) / stretch)).collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |w: f64| (w / sum * f64::from(1 << PRECISION)).round() as i64;
            (start as usize, weights.into_iter().map(fixed).collect())
        })
        .collect()
}

/// The weighted sum of bytes.
fn sum(bytes: impl Iterator<Item = u8>, weights: &[i64]) -> u8 {
    let sum: i64 = bytes.zip(weights).map(|(byte, weight)| i64::from(byte) * weight).sum();
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}

/// The kept part of the scaled image, `side` x `side` pixels.
pub fn part(image: &RgbImage, across: Axis, down: Axis, side: u32, filter: Filter) -> RgbImage {
    let rows = taps(down, side, filter);
    let columns = taps(across, side, filter);
    // Source rows of the kept part.
    let top = rows.iter().map(|(start, _)| *start).min().unwrap_or(0);
    let bottom = rows.iter().map(|(start, weights)| start + weights.len()).max().unwrap_or(0);
    let row_bytes = image.width() as usize * 3;
    let mut narrow: Vec<[u8; 3]> = Vec::with_capacity((bottom - top) * side as usize);
    for row in image.as_raw().chunks_exact(row_bytes.max(1)).take(bottom).skip(top) {
        let pixels = row.as_chunks::<3>().0;
        narrow.extend(columns.iter().map(|(start, weights)| {
            let from = pixels.get(*start..).unwrap_or_default();
            [0, 1, 2].map(|colour| sum(from.iter().map(|p: &[u8; 3]| byte(p, colour)), weights))
        }));
    }
    let mut out = RgbImage::new(side, side);
    let side = side as usize;
    for (line, (start, weights)) in out.chunks_exact_mut(3 * side.max(1)).zip(&rows) {
        let from = narrow.get((start - top) * side..).unwrap_or_default();
        for (x, pixel) in line.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let column = from.get(x..).unwrap_or_default();
            *pixel = [0, 1, 2].map(|colour| sum(column.iter().step_by(side).map(|p| byte(p, colour)), weights));
        }
    }
    out
}

fn byte(pixel: &[u8; 3], colour: usize) -> u8 {
    let Rgb(pixel) = Rgb(*pixel);
    pixel.get(colour).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(image: &RgbImage, width: u64, height: u64, side: u32, filter: Filter) -> RgbImage {
        let axis = |from: u32, to: u64| Axis { from, to, first: (to - u64::from(side)) / 2 };
        part(image, axis(image.width(), width), axis(image.height(), height), side, filter)
    }

    #[test]
    fn the_same_size_is_the_same_image() {
        let image = RgbImage::from_fn(9, 9, |x, y| Rgb([(x * 28) as u8, (y * 28) as u8, (x * y * 3) as u8]));
        for filter in [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            assert_eq!(scaled(&image, 9, 9, 9, filter), image, "{filter:?}");
        }
    }

    #[test]
    fn one_colour_stays_it() {
        let image = RgbImage::from_pixel(13, 7, Rgb([200, 3, 255]));
        for filter in [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            for (width, height) in [(4, 5), (40, 50), (4, 50)] {
                let out = scaled(&image, width, height, 4, filter);
                assert!(out.pixels().all(|p| *p == Rgb([200, 3, 255])), "{filter:?} {width}x{height}");
            }
        }
    }

    #[test]
    fn a_line_of_a_million_pixels() {
        let image = RgbImage::from_fn(1_000_000, 1, |x, _| if x < 500_000 { Rgb([0; 3]) } else { Rgb([255; 3]) });
        let out = scaled(&image, 8_000_000, 8, 8, Filter::Bicubic);
        assert!(out.get_pixel(0, 0)[0] < 20 && out.get_pixel(7, 7)[0] > 235);
    }
}
