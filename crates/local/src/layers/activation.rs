//! Activations: functions that a layer applies to each number of its output.

use serde::Deserialize;

use super::math::{erf, exp, tanh};

/// An activation. JSON has the names of [`Activation::named`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Activation {
    /// `x`.
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `x * Φ(x)`, by the error function.
    Gelu,
    /// [`Self::Gelu`], approximated by the hyperbolic tangent.
    GeluTanh,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// `x * sigmoid(x)`.
    Silu,
    /// `tanh(x)`.
    Tanh,
}

impl Activation {
    /// The activation by its name in a config.json of transformers.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "gelu" | "gelu_python" => Self::Gelu,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Self::GeluTanh,
            "quick_gelu" => Self::QuickGelu,
            "relu" => Self::Relu,
            "silu" | "swish" => Self::Silu,
            "tanh" => Self::Tanh,
            _ => return None,
        })
    }

    /// Applies it to each number of `x`, of any shape, in place.
    #[inline(always)]
    pub(super) fn apply(self, x: &mut [f32]) {
        // Each activation has its own loop, which the compiler vectorises.
        match self {
            Self::Identity => {}
            Self::Relu => x.iter_mut().for_each(|v| *v = v.max(0.0)),
            Self::Gelu => x.iter_mut().for_each(|v| *v = 0.5 * *v * (1.0 + erf(*v * std::f32::consts::FRAC_1_SQRT_2))),
            Self::GeluTanh => x.iter_mut().for_each(|v| *v = gelu_tanh(*v)),
            Self::QuickGelu => x.iter_mut().for_each(|v| *v /= 1.0 + exp(-1.702 * *v)),
            Self::Silu => x.iter_mut().for_each(|v| *v /= 1.0 + exp(-*v)),
            Self::Tanh => x.iter_mut().for_each(|v| *v = tanh(*v)),
        }
    }
}

impl TryFrom<String> for Activation {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::named(&name).ok_or_else(|| format!("activation '{}' is not known", mysql_ml_base::error::cut(&name, 60)))
    }
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    0.5 * x * (1.0 + tanh(0.797_884_6 * (x + 0.044_715 * x * x * x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_are_those_of_torch() {
        let at = |a: Activation, v: f32| {
            let mut x = [v];
            a.apply(&mut x);
            x[0]
        };
        for (name, minus, plus) in [
            ("relu", 0.0, 1.5),
            ("quick_gelu", -0.108_386, 1.391_614),
            ("gelu", -0.100_211, 1.399_789),
            ("gelu_new", -0.100_42, 1.399_58),
            ("silu", -0.273_638, 1.226_362),
        ] {
            let a = Activation::named(name).unwrap();
            assert!((at(a, -1.5) - minus).abs() < 2e-4 && (at(a, 1.5) - plus).abs() < 2e-4, "{name}");
            assert!(at(a, -100.0).abs() < 1e-3 && (at(a, 100.0) - 100.0).abs() < 1e-3, "{name}");
        }
        assert!((at(Activation::Tanh, 0.5) - 0.462_117_2).abs() < 1e-6);
        assert_eq!(at(Activation::Identity, -1.5), -1.5);
        assert_eq!(Activation::named("mish"), None);
    }
}
