//! Distances between vectors: `cosine_distance`, `l2_squared_distance`, `dot_product`, `vector_distance`.
//!
//! Names and meanings follow Cloud SQL for MySQL. Arguments are VECTORs or any binary strings of 4n bytes; NULL
//! gives NULL; vectors of unequal width are an error.

use crate::abi::args::{Args, Setup};
use crate::abi::function::{RealFunction, SqlFunction};
use crate::error::{Error, Result};
use crate::vector::Measure;

/// Declares a function of two vectors with a fixed measure.
macro_rules! fixed {
    ($(#[$doc:meta])* $type:ident = $name:literal, $measure:expr) => {
        $(#[$doc])*
        pub struct $type;

        impl SqlFunction for $type {
            const NAME: &'static str = $name;

            fn prepare(setup: &Setup<'_>) -> Result<Self> {
                two_vectors(setup, 2)?;
                Ok($type)
            }
        }

        impl RealFunction for $type {
            fn call(&mut self, args: &Args<'_>) -> Result<Option<f64>> {
                compare($measure, args)
            }
        }
    };
}

fixed! {
    /// `cosine_distance(a, b)`: 1 - cosine similarity, from 0 to 2; 1 where a vector is all zero.
    CosineDistance = "cosine_distance", Measure::Cosine
}
fixed! {
    /// `l2_squared_distance(a, b)`: the squared Euclidean distance.
    L2SquaredDistance = "l2_squared_distance", Measure::L2Squared
}
fixed! {
    /// `dot_product(a, b)`: the inner product; larger is closer.
    DotProduct = "dot_product", Measure::DotProduct
}

fn two_vectors(setup: &Setup<'_>, most: usize) -> Result<()> {
    let given = setup.args.len();
    if given < 2 || given > most {
        let optional = if most > 2 { " [, 'distance_measure=...']" } else { "" };
        return Err(Error::invalid(format!("{given} arguments given; expected (vector, vector{optional})")));
    }
    setup.binary(0, "1")?;
    setup.binary(1, "2")?;
    setup.returns_real();
    Ok(())
}

fn compare(measure: Measure, args: &Args<'_>) -> Result<Option<f64>> {
    match (args.bytes(0), args.bytes(1)) {
        (Some(a), Some(b)) => measure.compare(a, b).map(Some),
        _ => Ok(None),
    }
}

/// `vector_distance(a, b [, 'distance_measure=l2_squared|cosine|dot_product'])`; l2_squared where none is named.
#[derive(Default)]
pub struct VectorDistance {
    /// The third argument as it was last read.
    named: Option<(String, Measure)>,
}

impl SqlFunction for VectorDistance {
    const NAME: &'static str = "vector_distance";

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        two_vectors(setup, 3)?;
        if setup.args.len() == 3 {
            setup.text(2)?;
        }
        Ok(VectorDistance::default())
    }
}

impl RealFunction for VectorDistance {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<f64>> {
        if args.len() < 3 {
            return compare(Measure::L2Squared, args);
        }
        let Some(text) = args.text(2, "3")? else { return Ok(None) };
        let measure = match &self.named {
            Some((last, measure)) if last == text => *measure,
            _ => {
                let measure = Measure::parse(text)?;
                self.named = Some((text.to_owned(), measure));
                measure
            }
        };
        compare(measure, args)
    }
}
