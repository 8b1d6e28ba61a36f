//! Functions of numbers and rows. They are inlined, so the compiler vectorises them for the processor of the caller.

/// The error function within 4e-7: the quotient of polynomials of Eigen and XLA.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let x = x.clamp(-3.925, 3.925);
    let s = x * x;
    let mut p = -2.726_142_3e-10_f32;
    for c in [2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_4e-2] {
        p = p * s + c;
    }
    let mut q = -1.456_607_2e-5_f32;
    for c in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2] {
        q = q * s + c;
    }
    x * p / q
}

/// The hyperbolic tangent within 3e-7.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let e = exp(-2.0 * x.abs());
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

/// e to the power of `x` within 2e-7 of its value, for x up to 88; 0 below -87.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // 1.5 * 2^23. A sum with it is rounded to a whole number, which its low bits hold.
    const SHIFT: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let shifted = clamped * std::f32::consts::LOG2_E + SHIFT;
    let whole = shifted - SHIFT;
    // Two parts of ln 2 keep all bits of the rest.
    let rest = clamped - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    let mut p = 1.987_569_2e-4_f32;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = p * rest + c;
    }
    let p = p * rest * rest + rest + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.0 {
        0.0
    } else {
        p * power
    }
}

/// Sums that are kept side by side.
const LANES: usize = 16;

/// The sum of `f(x)` over all numbers.
#[inline(always)]
pub fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f(*x);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|x| f(*x)).sum::<f32>()
}

#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, b| a.max(*b))
}

/// Turns scores into positive weights with the sum 1, in place. A score of minus infinity becomes 0.
#[inline(always)]
pub fn softmax(scores: &mut [f32]) {
    let most = largest(scores);
    for x in scores.iter_mut() {
        *x = exp(*x - most);
    }
    let scale = 1.0 / sum(scores, |x| x);
    for x in scores.iter_mut() {
        *x *= scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error function to double precision, by its series.
    fn exact_erf(x: f64) -> f64 {
        let mut term = x;
        let mut total = x;
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            total += term / f64::from(2 * n + 1);
        }
        total * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn approximations_are_close_everywhere() {
        for i in -6000..=6000 {
            let x = f64::from(i) / 1000.0;
            let error =
                f64::from(erf(x as f32)) - if x.abs() > 5.0 { x.signum() } else { exact_erf(f64::from(x as f32)) };
            assert!(error.abs() < 5e-7, "erf({x}) is off by {error}");
            assert!((f64::from(tanh(x as f32)) - f64::from(x as f32).tanh()).abs() < 3e-7, "tanh({x})");
        }
        for i in -8700..=880 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 3e-7, "exp({x}) is {} and not {exact}", exp(x));
        }
        assert_eq!((exp(-1e9), exp(0.0)), (0.0, 1.0));
    }

    #[test]
    fn softmax_has_the_sum_one_also_of_large_scores() {
        for n in [1, 5, 16, 33] {
            let mut scores: Vec<f32> = (0..n).map(|i| 1000.0 + i as f32).collect();
            softmax(&mut scores);
            assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            assert!(scores.windows(2).all(|w| w[0] < w[1]));
        }
        let mut masked = [1000.0, f32::NEG_INFINITY];
        softmax(&mut masked);
        assert_eq!(masked, [1.0, 0.0]);
    }
}
