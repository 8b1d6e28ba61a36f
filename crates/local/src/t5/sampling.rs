//! The choice of the next token.

use fastrand::Rng;

use crate::GenerateOptions;

/// The sampler of one answer.
pub enum Choice {
    /// The most likely token each time: the same prompt gives the same answer.
    Greedy,
    /// A random token.
    Random {
        /// Above 0. Below 1 likely tokens become likelier, above 1 less likely.
        temperature: f64,
        /// From 0 to 1: the total probability of the most likely tokens to draw from, at least one.
        top_p: f64,
        /// The source of random numbers.
        rng: Rng,
    },
}

impl Choice {
    /// The sampler of a new answer.
    pub fn new(options: &GenerateOptions) -> Self {
        if options.temperature > 0.0 {
            let rng = Rng::with_seed(options.seed);
            Choice::Random { temperature: options.temperature.into(), top_p: options.top_p.into(), rng }
        } else {
            Choice::Greedy
        }
    }

    /// A token by its logits, `[vocabulary]`; `None` if one is not finite.
    pub fn pick(&mut self, logits: &[f32]) -> Option<u32> {
        if logits.iter().any(|l| !l.is_finite()) {
            return None;
        }
        let largest = || logits.iter().copied().enumerate().reduce(|a, b| if b.1 > a.1 { b } else { a });
        let index = match self {
            Choice::Greedy => largest()?.0,
            Choice::Random { temperature, top_p, rng } => {
                let top = f64::from(largest()?.1);
                let mut likely: Vec<(usize, f64)> =
                    logits.iter().map(|l| ((f64::from(*l) - top) / *temperature).exp()).enumerate().collect();
                let all: f64 = likely.iter().map(|(_, p)| p).sum();
                let mut kept = all;
                if *top_p < 1.0 {
                    likely.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                    let mut sum = 0.0;
                    let enough = likely.iter().position(|(_, p)| {
                        sum += p;
                        sum >= *top_p * all
                    });
                    likely.truncate(enough.map_or(likely.len(), |i| i + 1));
                    kept = sum;
                }
                let mut left = rng.f64() * kept;
                let found = likely.iter().find(|(_, p)| {
                    left -= p;
                    left < 0.0
                });
                // Rounding may leave a remainder behind the last token.
                found.or(likely.last())?.0
            }
        };
        u32::try_from(index).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(temperature: f32, top_p: f32) -> Choice {
        Choice::new(&GenerateOptions { max_tokens: 1, temperature, top_p, seed: 7, truncate: false })
    }

    #[test]
    fn the_most_likely_or_by_chance() {
        let logits = [0.0, 3.0, 3.0, -1.0];
        assert_eq!(choice(0.0, 1.0).pick(&logits), Some(1));
        let draw = |temperature, top_p| {
            let mut choice = choice(temperature, top_p);
            let mut counts = [0i32; 4];
            (0..10_000).for_each(|_| counts[choice.pick(&logits).unwrap() as usize] += 1);
            counts
        };
        let counts = draw(1.0, 1.0);
        // 1, e^3, e^3, e^-1 of 41.5.
        for (count, expected) in counts.iter().zip([241, 4836, 4836, 88]) {
            assert!((count - expected).abs() < 200, "{counts:?}");
        }
        let few = draw(1.0, 0.9);
        assert!(few[0] == 0 && few[3] == 0 && few[1] > 4000 && few[2] > 4000, "{few:?}");
        assert_eq!(draw(1.0, 0.0)[1], 10_000);
        assert_eq!(draw(1e-9, 1.0)[0], 0);
        assert_eq!(draw(1.0, 1.0), counts, "the seed decides");
    }

    #[test]
    fn numbers_that_are_none_are_told() {
        for bad in [[0.0, f32::NAN], [f32::INFINITY, 0.0]] {
            assert_eq!(choice(0.0, 1.0).pick(&bad), None);
        }
        assert_eq!(choice(0.0, 1.0).pick(&[]), None);
    }
}
