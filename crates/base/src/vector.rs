//! Vectors as MySQL stores them: little-endian 32-bit floats without a header.

mod sums;

use sums::Elements;

use crate::error::{Error, Kind, Result};

/// The widest VECTOR column of MySQL.
pub const MAX_DIMENSIONS: usize = 16_383;

/// The bytes of a vector, as `STRING_TO_VECTOR` makes them. Errors for vectors that MySQL cannot store or compare: no
/// elements, too many, or a non-finite one.
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

/// Scales a vector to length 1; a zero vector stays.
pub fn normalize(vector: &mut [f32]) {
    let norm = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if norm > 0.0 && norm.is_finite() {
        for x in vector {
            *x = (f64::from(*x) / norm) as f32;
        }
    }
}

/// The elements of a vector's bytes; a trailing part of an element is dropped.
pub fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|e| f32::from_le_bytes(*e)).collect()
}

/// Checks that bytes are a vector.
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
    /// The Euclidean distance.
    Euclidean,
    /// The inner product with its sign turned, so that smaller is closer.
    NegativeDot,
    /// The sum of the differences' magnitudes.
    Manhattan,
    /// The number of elements that differ.
    Hamming,
}

impl Measure {
    /// Reads `distance_measure=NAME` or `NAME`: the names of Cloud SQL, HeatWave and Percona Server.
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
            "euclidean" => Ok(Measure::Euclidean),
            "euclidean_squared" => Ok(Measure::L2Squared),
            "dot" => Ok(Measure::NegativeDot),
            "manhattan" => Ok(Measure::Manhattan),
            "hamming" => Ok(Measure::Hamming),
            _ => Err(Error::invalid(format!(
                "'{}' is not a distance measure; accepted: distance_measure=l2_squared, distance_measure=cosine, distance_measure=dot_product, EUCLIDEAN, EUCLIDEAN_SQUARED, DOT, MANHATTAN, HAMMING",
                crate::error::cut(text, 60)
            ))),
        }
    }

    /// Compares two vectors.
    ///
    /// The norm of a constant vector is computed again for every row. That costs less, in the same pass, than comparing
    /// the vector with the previous one. The server reports constants once, but may execute a prepared statement with
    /// others.
    pub fn compare(self, a: &[u8], b: &[u8]) -> Result<f64> {
        let (a, b) = pair(a, b)?;
        let value = match self {
            Measure::DotProduct => sums::product(a, b),
            Measure::NegativeDot => -sums::product(a, b),
            Measure::L2Squared => sums::squared_distance(a, b),
            Measure::Euclidean => sums::squared_distance(a, b).sqrt(),
            Measure::Manhattan => numbers(a, b).map(|(x, y)| (x - y).abs()).sum(),
            Measure::Hamming => {
                // A count is finite whatever the elements are.
                if numbers(a, b).any(|(x, y)| !x.is_finite() || !y.is_finite()) {
                    return Err(values_not_finite(a, b));
                }
                numbers(a, b).filter(|(x, y)| x != y).count() as f64
            }
            Measure::Cosine => {
                let sums::Products { ab, aa, bb } = sums::products(a, b);
                let lengths = aa * bb;
                if lengths == 0.0 {
                    1.0
                } else {
                    // Rounding may push the quotient beyond 1.
                    1.0 - (ab / lengths.sqrt()).clamp(-1.0, 1.0)
                }
            }
        };
        // Sums are non-finite exactly if an element is. Finite sums therefore need no pass over the elements.
        if value.is_finite() {
            Ok(value)
        } else {
            Err(values_not_finite(a, b))
        }
    }
}

/// Pairs of elements.
fn numbers<'a>(a: Elements<'a>, b: Elements<'a>) -> impl Iterator<Item = (f64, f64)> + 'a {
    let number = |e: &[u8; 4]| f64::from(f32::from_le_bytes(*e));
    a.iter().zip(b).map(move |(x, y)| (number(x), number(y)))
}

#[cold]
fn values_not_finite(a: Elements<'_>, b: Elements<'_>) -> Error {
    let place = |v: Elements<'_>| v.iter().position(|e| !f32::from_le_bytes(*e).is_finite());
    let place = match (place(a), place(b)) {
        (Some(i), _) => format!(": element {} of the first", i + 1),
        (None, Some(i)) => format!(": element {} of the second", i + 1),
        (None, None) => String::new(),
    };
    Error::invalid(format!("a vector holds a value that is not a finite number{place}"))
}

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

/// `[1, 2]` given as text: a common mistake that would otherwise return a meaningless distance.
fn looks_like_text(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'[')
        && bytes.last() == Some(&b']')
        && bytes.iter().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E' | b',' | b' ' | b'[' | b']'))
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
        assert_eq!(Measure::Manhattan.compare(&a, &b).unwrap(), 3.0 + 7.0 + 3.0);
        assert_eq!(Measure::Hamming.compare(&a, &v(&[1.0, -0.0, 3.0])).unwrap(), 1.0);
        assert_eq!(Measure::Hamming.compare(&v(&[0.0]), &v(&[-0.0])).unwrap(), 0.0);
        let cosine = 1.0 - 12.0 / (14.0_f64 * 77.0).sqrt();
        assert!((Measure::Cosine.compare(&a, &b).unwrap() - cosine).abs() < 1e-12);
    }

    const MEASURES: [Measure; 7] = [
        Measure::Cosine,
        Measure::L2Squared,
        Measure::DotProduct,
        Measure::Euclidean,
        Measure::NegativeDot,
        Measure::Manhattan,
        Measure::Hamming,
    ];

    /// One pass for each sum, one element after the other.
    fn plainly(measure: Measure, a: &[f32], b: &[f32]) -> f64 {
        let sum = |f: fn(f64, f64) -> f64| a.iter().zip(b).map(|(x, y)| f(f64::from(*x), f64::from(*y))).sum::<f64>();
        match measure {
            Measure::DotProduct => sum(|x, y| x * y),
            Measure::NegativeDot => -sum(|x, y| x * y),
            Measure::L2Squared => sum(|x, y| (x - y) * (x - y)),
            Measure::Euclidean => sum(|x, y| (x - y) * (x - y)).sqrt(),
            Measure::Manhattan => sum(|x, y| (x - y).abs()),
            Measure::Hamming => sum(|x, y| f64::from(u8::from(x != y))),
            Measure::Cosine => 1.0 - sum(|x, y| x * y) / (sum(|x, _| x * x) * sum(|_, y| y * y)).sqrt(),
        }
    }

    #[test]
    fn distances_of_every_length_agree_with_plain_sums() {
        let mut rng = fastrand::Rng::with_seed(1);
        for length in (1..=40).chain([768, 1536, 3072, 4096, 16_383]) {
            let a: Vec<f32> = (0..length).map(|_| rng.f32() - 0.5).collect();
            // One vector nearby and one anywhere.
            let near: Vec<f32> = a.iter().map(|x| x + (rng.f32() - 0.5) * 1e-3).collect();
            let far: Vec<f32> = a.iter().map(|_| rng.f32() - 0.4).collect();
            for b in [near, far] {
                for measure in MEASURES {
                    let (got, plain) = (measure.compare(&v(&a), &v(&b)).unwrap(), plainly(measure, &a, &b));
                    assert!((got - plain).abs() <= 1e-6 * plain.abs() + 1e-14, "{measure:?} {length}: {got}, {plain}");
                }
            }
        }
    }

    #[test]
    fn the_smallest_and_largest_elements_count() {
        let (tiny, huge) = (f32::from_bits(1), f32::MAX);
        for x in [tiny, f32::MIN_POSITIVE / 2.0, huge] {
            let (a, b) = (vec![x; 16_383], vec![-x; 16_383]);
            assert!((Measure::Cosine.compare(&v(&a), &v(&b)).unwrap() - 2.0).abs() < 1e-9, "{x}");
            for measure in MEASURES {
                let (got, plain) = (measure.compare(&v(&a), &v(&b)).unwrap(), plainly(measure, &a, &b));
                assert!((got - plain).abs() <= 1e-9 * plain.abs() && got != 0.0, "{measure:?} of {x}: {got}, {plain}");
            }
        }
        assert!((Measure::Cosine.compare(&v(&[huge, tiny]), &v(&[tiny, huge])).unwrap() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn zeros_of_both_signs_are_zero() {
        for zero in [0.0, -0.0] {
            for length in [1, 15, 16, 17, 768] {
                let (a, b) = (vec![zero; length], vec![0.5; length]);
                assert_eq!(Measure::Cosine.compare(&v(&a), &v(&b)).unwrap(), 1.0);
                assert_eq!(Measure::Cosine.compare(&v(&a), &v(&a)).unwrap(), 1.0);
                assert_eq!(Measure::DotProduct.compare(&v(&a), &v(&b)).unwrap(), 0.0);
                assert_eq!(Measure::L2Squared.compare(&v(&a), &v(&b)).unwrap(), 0.25 * length as f64);
            }
        }
    }

    #[test]
    fn an_element_that_is_not_finite_is_named_wherever_it_is() {
        for other in [0.0, 1.0, -1.0] {
            for (bad, length) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().zip([768, 35, 16]) {
                for i in 0..length {
                    let good = vec![other; length];
                    let mut with = good.clone();
                    with[i] = bad;
                    let (good, with): (Vec<u8>, Vec<u8>) =
                        (v(&good), with.iter().flat_map(|x| x.to_le_bytes()).collect());
                    for measure in MEASURES {
                        let first = measure.compare(&with, &good).unwrap_err();
                        let second = measure.compare(&good, &with).unwrap_err();
                        for (error, which) in [(first, "first"), (second, "second")] {
                            assert_eq!(
                                error.message(),
                                format!(
                                    "a vector holds a value that is not a finite number: element {} of the {which}",
                                    i + 1
                                )
                            );
                        }
                        assert!(measure.compare(&with, &with).is_err());
                    }
                }
            }
        }
    }

    #[test]
    fn same_opposite_and_zero_directions() {
        let c = |a: &[f32], b: &[f32]| Measure::Cosine.compare(&v(a), &v(b)).unwrap();
        assert!(c(&[0.1, 0.2], &[0.1, 0.2]).abs() < 1e-9);
        assert!((c(&[1.0, 0.0], &[-1.0, 0.0]) - 2.0).abs() < 1e-9);
        assert_eq!(c(&[0.0, 0.0], &[1.0, 0.0]), 1.0);
    }

    #[test]
    fn bytes_that_are_no_vector_are_refused() {
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
