//! Distances between vectors: `cosine_distance`, `l2_squared_distance`, `dot_product`, `vector_distance`, `distance`,
//! `approx_distance`.
//!
//! Names and meanings follow Cloud SQL for MySQL; those of `distance` follow MySQL HeatWave. Arguments are VECTORs or
//! any binary strings of 4n bytes. NULL gives NULL. Vectors of unequal width are an error.

use surface::{functions, Function};

use crate::mysql::ffi::args::{Args, Setup};
use crate::mysql::ffi::function::{RealFunction, SqlFunction};
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::vector::Measure;

/// Declares a function of two vectors with a fixed measure.
macro_rules! fixed {
    ($(#[$doc:meta])* $type:ident = $name:ident, $measure:expr) => {
        $(#[$doc])*
        pub struct $type(Vectors);

        impl SqlFunction for $type {
            const FUNCTION: &'static Function = functions::$name;

            fn prepare(setup: &Setup<'_>) -> Result<Self> {
                Vectors::prepare(setup, 2).map($type)
            }
        }

        impl RealFunction for $type {
            fn call(&mut self, args: &Args<'_>) -> Result<Option<f64>> {
                self.0.compare($measure, args)
            }
        }
    };
}

fixed! {
    /// `cosine_distance(a, b)`: 1 - cosine similarity, from 0 to 2; 1 if a vector is all zero.
    CosineDistance = cosine_distance, Measure::Cosine
}
fixed! {
    /// `l2_squared_distance(a, b)`: the squared Euclidean distance.
    L2SquaredDistance = l2_squared_distance, Measure::L2Squared
}
fixed! {
    /// `dot_product(a, b)`: the inner product; larger is closer.
    DotProduct = dot_product, Measure::DotProduct
}

/// The two vectors' properties that are known before the first row.
struct Vectors {
    /// The character set of each vector that is declared text: a text of 4n bytes would give a meaningless distance.
    text: [Option<String>; 2],
}

const NAMES: [&str; 2] = ["first", "second"];

impl Vectors {
    fn prepare(setup: &Setup<'_>, most: usize) -> Result<Self> {
        let given = setup.args.len();
        if given < 2 || given > most {
            let optional = if most > 2 { " [, 'distance_measure=...']" } else { "" };
            return Err(Error::invalid(format!("{given} arguments given; expected (vector, vector{optional})")));
        }
        setup.binary(0, "1")?;
        setup.binary(1, "2")?;
        setup.returns_real();
        let vectors = Vectors { text: [setup.text_charset(0)?, setup.text_charset(1)?] };
        vectors.refuse_text(&setup.args)?;
        Ok(vectors)
    }

    fn compare(&self, measure: Measure, args: &Args<'_>) -> Result<Option<f64>> {
        let (Some(a), Some(b)) = (args.bytes(0), args.bytes(1)) else { return Ok(None) };
        self.refuse_text(args)?;
        measure.compare(a, b).map(Some)
    }

    /// Refuses text. NULL passes: the server declares a character set for variables never set and for parameters. So
    /// do bytes that a driver declares as text: with control characters or invalid UTF-8, as in nearly every vector.
    fn refuse_text(&self, args: &Args<'_>) -> Result<()> {
        for (i, (charset, name)) in self.text.iter().zip(NAMES).enumerate() {
            let (Some(charset), Some(bytes)) = (charset, args.bytes(i)) else { continue };
            let control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
            if std::str::from_utf8(bytes).is_ok_and(|text| !text.contains(control)) {
                return Err(Error::invalid(format!(
                    "the {name} vector is text ({charset}); convert it with STRING_TO_VECTOR(), or with CAST(... AS BINARY) if it holds the bytes of a vector"
                )));
            }
        }
        Ok(())
    }
}

/// `vector_distance(a, b [, 'distance_measure=l2_squared|cosine|dot_product'])`; the default is l2_squared.
pub struct VectorDistance {
    vectors: Vectors,
    /// The reader of the third argument.
    parse: fn(&str) -> Result<Measure>,
    /// The last third argument, parsed.
    named: Option<(String, Measure)>,
}

impl SqlFunction for VectorDistance {
    const FUNCTION: &'static Function = functions::vector_distance;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let vectors = Vectors::prepare(setup, 3)?;
        if setup.args.len() == 3 {
            setup.text(2)?;
        }
        Ok(VectorDistance { vectors, parse: Measure::parse, named: None })
    }
}

impl RealFunction for VectorDistance {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<f64>> {
        if args.len() < 3 {
            return self.vectors.compare(Measure::L2Squared, args);
        }
        let Some(text) = args.text(2, "3")? else { return Ok(None) };
        let measure = match &self.named {
            Some((last, measure)) if last == text => *measure,
            _ => {
                let measure = (self.parse)(text)?;
                self.named = Some((text.to_owned(), measure));
                measure
            }
        };
        self.vectors.compare(measure, args)
    }
}

/// `distance(a, b, 'COSINE'|'DOT'|'EUCLIDEAN')`: all three arguments are required; smaller is closer for each
/// measure.
pub struct Distance(VectorDistance);

impl SqlFunction for Distance {
    const FUNCTION: &'static Function = functions::distance;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        match setup.args.len() {
            3 => VectorDistance::prepare(setup).map(Distance),
            given => Err(Error::invalid(format!(
                "{given} arguments given; expected (vector, vector, 'COSINE'|'DOT'|'EUCLIDEAN')"
            ))),
        }
    }
}

impl RealFunction for Distance {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<f64>> {
        self.0.call(args)
    }
}

/// `approx_distance(a, b, 'distance_measure=cosine[, num_leaves_to_search=n]')` of Cloud SQL, as the exact distance by that
/// measure: a statement that is written for Cloud SQL's index gives the exact result.
pub struct ApproxDistance(VectorDistance);

impl SqlFunction for ApproxDistance {
    const FUNCTION: &'static Function = functions::approx_distance;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        match setup.args.len() {
            3 => Ok(ApproxDistance(VectorDistance { parse: measure_of_search, ..VectorDistance::prepare(setup)? })),
            given => Err(Error::invalid(format!(
                "{given} arguments given; expected (vector, vector, 'distance_measure=...[, num_leaves_to_search=n]')"
            ))),
        }
    }
}

impl RealFunction for ApproxDistance {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<f64>> {
        self.0.call(args)
    }
}

/// The measure in the options of an approximate search.
fn measure_of_search(text: &str) -> Result<Measure> {
    let mut measure = None;
    for option in text.split(',') {
        match option.split_once('=').map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim())) {
            Some((name, _)) if name == "distance_measure" => measure = Some(Measure::parse(option)?),
            Some((name, value)) if name == "num_leaves_to_search" && value.parse::<u64>().is_ok_and(|n| n > 0) => {}
            _ => {
                return Err(Error::invalid(format!(
                    "'{}' is no option of a search; accepted: distance_measure=l2_squared|cosine|dot_product, num_leaves_to_search=n",
                    mysql_ml_base::error::cut(option.trim(), 60)
                )))
            }
        }
    }
    measure.ok_or_else(|| Error::invalid("distance_measure is missing; add distance_measure=cosine, for example"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_search_are_read_in_any_order() {
        let read = |text| measure_of_search(text);
        assert_eq!(read("distance_measure=cosine").unwrap(), Measure::Cosine);
        assert_eq!(read(" num_leaves_to_search = 5 , DISTANCE_MEASURE=l2_squared").unwrap(), Measure::L2Squared);
        for bad in [
            "",
            "cosine",
            "num_leaves_to_search=5",
            "distance_measure=cosine,num_leaves_to_search=0",
            "distance_measure=x",
            "a=b",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
