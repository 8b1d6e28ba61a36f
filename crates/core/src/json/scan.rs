//! A fast reader of well-formed answers. A derived reader spends half of its time on the digits of vectors.
//!
//! It returns `None` for anything unexpected; the derived reader then reads the answer and reports errors.

use std::borrow::Cow;

use fast_float2::parse_partial;
use serde::de::IgnoredAny;
use serde::Deserialize;

use super::numbers::Numbers;
use mysql_ml_base::vector::MAX_DIMENSIONS;

/// The rest of an answer. Every method returns `None` for unexpected input.
pub struct Scan<'a> {
    rest: &'a [u8],
    /// The width of the last vector.
    width: usize,
}

impl<'a> Scan<'a> {
    /// Reads the whole of `answer` with `read`.
    pub fn whole<T>(answer: &'a [u8], read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let mut scan = Scan { rest: answer, width: 0 };
        let value = read(&mut scan)?;
        scan.space();
        scan.rest.is_empty().then_some(value)
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// Takes `byte`, if it is the next one that is not white space.
    fn takes(&mut self, byte: u8) -> bool {
        self.space();
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// An object; `member` reads the value of each of its members.
    pub fn object(&mut self, mut member: impl FnMut(&str, &mut Self) -> Option<()>) -> Option<()> {
        self.takes(b'{').then_some(())?;
        if self.takes(b'}') {
            return Some(());
        }
        loop {
            let name: Cow<'a, str> = self.value()?;
            self.takes(b':').then_some(())?;
            member(&name, self)?;
            if !self.takes(b',') {
                return self.takes(b'}').then_some(());
            }
        }
    }

    /// An array; `element` reads each of its elements.
    pub fn array(&mut self, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.takes(b'[').then_some(())?;
        if self.takes(b']') {
            return Some(());
        }
        loop {
            element(self)?;
            if !self.takes(b',') {
                return self.takes(b']').then_some(());
            }
        }
    }

    /// Any value.
    pub fn value<T: Deserialize<'a>>(&mut self) -> Option<T> {
        let mut values = serde_json::Deserializer::from_slice(self.rest).into_iter::<T>();
        let value = values.next()?.ok()?;
        self.rest = self.rest.get(values.byte_offset()..)?;
        Some(value)
    }

    /// Skips a value.
    pub fn skip(&mut self) -> Option<()> {
        self.value::<IgnoredAny>().map(|_| ())
    }

    /// The text of a value.
    pub fn raw(&mut self) -> Option<&'a [u8]> {
        self.space();
        let begin = self.rest;
        self.skip()?;
        begin.get(..begin.len() - self.rest.len())
    }

    /// A vector: numbers, or base64.
    pub fn vector(&mut self) -> Option<Vec<f32>> {
        self.space();
        if self.rest.first() == Some(&b'"') {
            return self.value::<Numbers>().map(|n| n.0);
        }
        // Vectors are as wide as their neighbours. The first gets no capacity in advance: an answer may hold millions.
        let mut numbers = Vec::with_capacity(self.width);
        self.array(|scan| {
            scan.space();
            // The float parser accepts more than JSON numbers, such as `inf`.
            let begins_a_number = scan.rest.first().is_some_and(|b| *b == b'-' || b.is_ascii_digit());
            if !begins_a_number || numbers.len() == MAX_DIMENSIONS {
                return None;
            }
            let (number, read) = parse_partial::<f32, _>(scan.rest).ok()?;
            numbers.push(number);
            scan.rest = scan.rest.get(read..)?;
            Some(())
        })?;
        self.width = numbers.len();
        Some(numbers)
    }

    /// An array of vectors.
    pub fn vectors(&mut self) -> Option<Vec<Vec<f32>>> {
        let mut vectors = Vec::new();
        self.array(|scan| {
            vectors.push(scan.vector()?);
            Some(())
        })?;
        Some(vectors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(answer: &str) -> Option<Vec<Vec<f32>>> {
        Scan::whole(answer.as_bytes(), Scan::vectors)
    }

    #[test]
    fn vectors_are_read_in_every_notation() {
        assert_eq!(vectors(" [ [1, -2.5e0\n,3E-1 ] , [] ]\n").unwrap(), [vec![1.0, -2.5, 0.3], vec![]]);
        assert_eq!(vectors("[\"AACAPwAAIMA=\"]").unwrap(), [[1.0, -2.5]]);
        assert_eq!(vectors("[]").unwrap(), Vec::<Vec<f32>>::new());
    }

    #[test]
    fn numbers_are_rounded_as_they_should_be() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..20_000 {
            let x = f32::from_bits(rng.u32(..));
            if x.is_finite() {
                // Every digit of the double, the shortest digits, and an exponent.
                for text in [format!("{:.25}", f64::from(x)), x.to_string(), format!("{x:e}")] {
                    assert_eq!(vectors(&format!("[[{text}]]")).unwrap()[0][0], text.parse::<f32>().unwrap(), "{text}");
                }
            }
        }
    }

    #[test]
    fn unexpected_documents_are_left_alone() {
        for answer in [
            "", "[", "[[1]", "[[1]]x", "[[1,]]", "[[,1]]", "[[inf]]", "[[nan]]", "[[+1]]", "[[1 2]]", "[[null]]",
            "[1]", "{}",
        ] {
            assert_eq!(vectors(answer), None, "{answer}");
        }
        let wide = format!("[[{}]]", vec!["0"; MAX_DIMENSIONS + 1].join(","));
        assert_eq!(vectors(&wide), None);
    }

    #[test]
    fn members_are_found_in_any_order() {
        let answer = br#"{"a":{"x":[1,"}"]},"vs":[[1]],"n\u0061":7}"#;
        let mut found = (None, None);
        let read = Scan::whole(answer, |scan| {
            scan.object(|name, scan| {
                match name {
                    "vs" => found.0 = Some(scan.vectors()?),
                    "na" => found.1 = Some(scan.value::<u64>()?),
                    _ => scan.skip()?,
                }
                Some(())
            })
        });
        assert_eq!((read, found), (Some(()), (Some(vec![vec![1.0]]), Some(7))));
    }
}
