//! Vectors as MySQL stores them: little-endian 32-bit floats without a header.

use crate::error::{Error, Kind, Result};

/// The widest VECTOR column of MySQL.
pub const MAX_DIMENSIONS: usize = 16_383;

/// The bytes of a vector, as `STRING_TO_VECTOR` makes them. Refuses what MySQL could not store or compare:
/// no elements, too many, or one that is not finite.
pub fn to_bytes(vector: &[f32]) -> Result<Vec<u8>> {
    check_width(vector.len())?;
    let mut bytes = Vec::with_capacity(vector.len() * 4);
    for (i, x) in vector.iter().enumerate() {
        if !x.is_finite() {
            return Err(not_finite(i));
        }
        bytes.extend_from_slice(&x.to_le_bytes());
    }
    Ok(bytes)
}

/// Scales a vector to length 1; one of length 0 stays.
pub fn normalize(vector: &mut [f32]) {
    let norm = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if norm > 0.0 && norm.is_finite() {
        for x in vector {
            *x = (f64::from(*x) / norm) as f32;
        }
    }
}

/// The elements of a vector's bytes; what is left over of a last one is dropped.
pub fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|e| f32::from_le_bytes(*e)).collect()
}

/// Checks bytes that are said to be a vector.
pub fn check_bytes(bytes: &[u8]) -> Result<()> {
    let (elements, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Error::response(format!(
            "a vector of {} bytes is not a whole number of 4-byte floats",
            bytes.len()
        )));
    }
    check_width(elements.len())?;
    match elements.iter().position(|e| !f32::from_le_bytes(*e).is_finite()) {
        Some(i) => Err(not_finite(i)),
        None => Ok(()),
    }
}

fn check_width(dimensions: usize) -> Result<()> {
    match dimensions {
        0 => Err(Error::response("the vector has no elements")),
        1..=MAX_DIMENSIONS => Ok(()),
        n => Err(Error::new(
            Kind::TooLarge,
            format!("the vector has {n} dimensions; MySQL stores at most {MAX_DIMENSIONS}"),
        )),
    }
}

fn not_finite(i: usize) -> Error {
    Error::response(format!("element {} of the vector is not a finite number", i + 1))
}

/// A way to compare two vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// 1 - cosine of the angle: 0 for the same direction, 2 for the opposite. A zero vector is at distance 1
    /// from everything.
    Cosine,
    /// The squared Euclidean distance.
    L2Squared,
    /// The inner product itself: larger is closer.
    DotProduct,
}

impl Measure {
    /// Reads `distance_measure=NAME` or `NAME`.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let name = match text.split_once('=') {
            Some((key, name)) if key.trim().eq_ignore_ascii_case("distance_measure") => name.trim(),
            Some(_) => "",
            None => text,
        };
        match name.to_ascii_lowercase().as_str() {
            "cosine" => Ok(Measure::Cosine),
            "l2_squared" => Ok(Measure::L2Squared),
            "dot_product" => Ok(Measure::DotProduct),
            _ => Err(Error::invalid(format!(
                "'{}' is not a distance measure; accepted: distance_measure=l2_squared, distance_measure=cosine, distance_measure=dot_product",
                crate::error::cut(text, 60)
            ))),
        }
    }

    /// Compares two vectors. Sums are kept in double precision in eight lanes, so that the compiler can
    /// vectorise them and the result does not depend on how.
    pub fn compare(self, a: &[u8], b: &[u8]) -> Result<f64> {
        let (a, b) = pair(a, b)?;
        let value = match self {
            Measure::DotProduct => sum(a, b, |x, y| x * y),
            Measure::L2Squared => sum(a, b, |x, y| (x - y) * (x - y)),
            Measure::Cosine => {
                let norms = sum(a, a, |x, y| x * y) * sum(b, b, |x, y| x * y);
                if norms == 0.0 {
                    1.0
                } else {
                    // Rounding may bring the quotient past 1.
                    1.0 - (sum(a, b, |x, y| x * y) / norms.sqrt()).clamp(-1.0, 1.0)
                }
            }
        };
        if value.is_finite() {
            Ok(value)
        } else {
            Err(Error::invalid("a vector holds a value that is not a finite number"))
        }
    }
}

type Elements<'a> = &'a [[u8; 4]];

/// Both arguments as elements; they must be vectors of one width.
fn pair<'a>(a: &'a [u8], b: &'a [u8]) -> Result<(Elements<'a>, Elements<'a>)> {
    let elements = |bytes: &'a [u8], which: &str| {
        let (elements, rest) = bytes.as_chunks::<4>();
        if looks_like_text(bytes) {
            return Err(Error::invalid(format!("the {which} vector is text; convert it with STRING_TO_VECTOR()")));
        }
        if !rest.is_empty() || elements.is_empty() {
            return Err(Error::invalid(format!(
                "the {which} vector has {} bytes, which is not a whole number of 4-byte floats",
                bytes.len()
            )));
        }
        Ok(elements)
    };
    let (a, b) = (elements(a, "first")?, elements(b, "second")?);
    if a.len() != b.len() {
        return Err(Error::invalid(format!(
            "the vectors have {} and {} dimensions; only vectors of one width, from one model, can be compared",
            a.len(),
            b.len()
        )));
    }
    Ok((a, b))
}

/// `[1, 2]` handed over as text: a common slip that would otherwise give a meaningless distance.
fn looks_like_text(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'[')
        && bytes.last() == Some(&b']')
        && bytes.iter().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E' | b',' | b' ' | b'[' | b']'))
}

#[inline]
fn sum(a: Elements<'_>, b: Elements<'_>, f: impl Fn(f64, f64) -> f64) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0_f64; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let element = |e: &[u8; 4]| f64::from(f32::from_le_bytes(*e));
    for (a, b) in a.iter().zip(b) {
        for (lane, (x, y)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += f(element(x), element(y));
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| f(element(x), element(y))).sum();
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(x: &[f32]) -> Vec<u8> {
        to_bytes(x).unwrap()
    }

    #[test]
    fn the_measures_are_what_they_say() {
        let (a, b) = (v(&[1.0, 2.0, 3.0]), v(&[4.0, -5.0, 6.0]));
        assert_eq!(Measure::DotProduct.compare(&a, &b).unwrap(), 12.0);
        assert_eq!(Measure::L2Squared.compare(&a, &b).unwrap(), 9.0 + 49.0 + 9.0);
        let cosine = 1.0 - 12.0 / (14.0_f64 * 77.0).sqrt();
        assert!((Measure::Cosine.compare(&a, &b).unwrap() - cosine).abs() < 1e-12);
    }

    #[test]
    fn long_vectors_agree_with_the_plain_sum() {
        let a: Vec<f32> = (0..1539).map(|i| (i as f32).sin()).collect();
        let b: Vec<f32> = (0..1539).map(|i| (i as f32).cos()).collect();
        let plain: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        assert!((Measure::DotProduct.compare(&v(&a), &v(&b)).unwrap() - plain).abs() < 1e-9);
    }

    #[test]
    fn same_opposite_and_zero_directions() {
        let c = |a: &[f32], b: &[f32]| Measure::Cosine.compare(&v(a), &v(b)).unwrap();
        assert!(c(&[0.1, 0.2], &[0.1, 0.2]).abs() < 1e-9);
        assert!((c(&[1.0, 0.0], &[-1.0, 0.0]) - 2.0).abs() < 1e-9);
        assert_eq!(c(&[0.0, 0.0], &[1.0, 0.0]), 1.0);
    }

    #[test]
    fn what_is_no_vector_is_refused() {
        let a = v(&[1.0, 2.0]);
        for bad in [&b"12345"[..], b"", b"[1,2,3,]", &v(&[1.0])] {
            assert!(Measure::Cosine.compare(&a, bad).is_err());
        }
        let nan = f32::NAN.to_le_bytes().repeat(2);
        assert!(Measure::L2Squared.compare(&a, &nan).is_err());
        assert!(to_bytes(&[f32::INFINITY]).is_err());
        assert!(to_bytes(&[]).is_err());
        assert!(to_bytes(&vec![0.0; MAX_DIMENSIONS + 1]).is_err());
        assert!(check_bytes(&nan).is_err() && check_bytes(&[0; 6]).is_err() && check_bytes(&a).is_ok());
    }

    #[test]
    fn measures_are_read() {
        assert_eq!(Measure::parse("distance_measure=cosine").unwrap(), Measure::Cosine);
        assert_eq!(Measure::parse("DISTANCE_MEASURE = L2_SQUARED").unwrap(), Measure::L2Squared);
        assert!(Measure::parse("measure=cosine").is_err() && Measure::parse("l1").is_err());
    }
}
