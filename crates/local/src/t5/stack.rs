//! The layers of T5: attention with a bias by distance, and feed-forward networks, each normalised before.

use super::config::T5Config;
use crate::layers::{attention, Activation, Heads, Linear, RmsNorm, Rows};
use crate::turn::Turn;
use crate::weights::Weights;
use mysql_ml_base::error::{Error, Result};

fn lost() -> Error {
    Error::internal("a row outside of its tensor")
}

/// Which of the learned biases stands for a distance: exact for near tokens, coarser for far ones.
///
/// `distance` is the place of the key less that of the query. With `both_ways` half of the biases are for what follows.
fn bucket(distance: isize, both_ways: bool, count: usize, furthest: usize) -> usize {
    let (base, count, distance) = match both_ways {
        true => (if distance > 0 { count / 2 } else { 0 }, count / 2, distance.unsigned_abs()),
        false => (0, count, if distance < 0 { distance.unsigned_abs() } else { 0 }),
    };
    let exact = count / 2;
    if distance < exact {
        return base + distance;
    }
    // In 32 bits as torch computes it: the bounds between buckets depend on the rounding.
    let ratio = (distance as f32 / exact as f32).ln() / (furthest as f64 / exact as f64).ln() as f32;
    base + (exact + (ratio * (count - exact) as f32) as usize).min(count - 1)
}

/// The learned biases by distance, of each head.
struct DistanceBias {
    table: Vec<f32>,
    heads: usize,
    both_ways: bool,
    furthest: usize,
}

impl DistanceBias {
    fn load(weights: &Weights, name: &str, config: &T5Config, both_ways: bool) -> Result<Self> {
        let table = weights.tensor(name, &[config.relative_attention_num_buckets, config.num_heads])?;
        let (heads, furthest) = (config.num_heads, config.relative_attention_max_distance);
        Ok(DistanceBias { table, heads, both_ways, furthest })
    }

    /// The bias of `head` for each distance from `-before` to `after`.
    fn by_distance(&self, head: usize, before: usize, after: usize) -> Vec<f32> {
        let count = self.table.len() / self.heads;
        (0..before + after + 1)
            .map(|i| {
                let distance = i as isize - before as isize;
                let place = bucket(distance, self.both_ways, count, self.furthest) * self.heads + head;
                self.table.get(place).copied().unwrap_or_default()
            })
            .collect()
    }
}

/// A feed-forward network.
struct Network {
    norm: RmsNorm,
    /// The layer that is activated, and the one that gates it, where there is one.
    widen: Linear,
    gate: Option<Linear>,
    narrow: Linear,
    activation: Activation,
}

impl Network {
    fn load(weights: &Weights, name: &str, config: &T5Config) -> Result<Self> {
        let (activation, gated) = config.network()?;
        let (width, inner) = (config.d_model, config.d_ff);
        let wide = |part: &str| Linear::load(weights, &format!("{name}.DenseReluDense.{part}"), width, inner, false);
        Ok(Network {
            norm: RmsNorm::load(weights, &format!("{name}.layer_norm"), width, config.layer_norm_epsilon)?,
            widen: wide(if gated { "wi_0" } else { "wi" })?,
            gate: gated.then(|| wide("wi_1")).transpose()?,
            narrow: Linear::load(weights, &format!("{name}.DenseReluDense.wo"), inner, width, false)?,
            activation,
        })
    }

    fn apply(&self, x: &mut [f32], scratch: &mut Scratch, turn: &Turn) -> Result<()> {
        self.norm.apply(x, &mut scratch.normed);
        self.widen.apply(&scratch.normed, &mut scratch.wide, turn)?;
        self.activation.apply(&mut scratch.wide);
        if let Some(gate) = &self.gate {
            gate.apply(&scratch.normed, &mut scratch.gates, turn)?;
            for (v, gate) in scratch.wide.iter_mut().zip(&scratch.gates) {
                *v *= gate;
            }
        }
        self.narrow.add_to(&scratch.wide, x, turn)
    }

    fn bytes(&self) -> u64 {
        let layers = [Some(&self.widen), self.gate.as_ref(), Some(&self.narrow)];
        self.norm.bytes() + layers.into_iter().flatten().map(Linear::bytes).sum::<u64>()
    }
}

/// Attention of tokens to those of the same text.
struct SelfAttention {
    norm: RmsNorm,
    queries_keys_values: Linear,
    out: Linear,
}

impl SelfAttention {
    fn load(weights: &Weights, name: &str, config: &T5Config) -> Result<Self> {
        let inner = config.num_heads * config.d_kv;
        let parts = ["q", "k", "v"].map(|part| format!("{name}.SelfAttention.{part}"));
        Ok(SelfAttention {
            norm: RmsNorm::load(weights, &format!("{name}.layer_norm"), config.d_model, config.layer_norm_epsilon)?,
            queries_keys_values: Linear::load_joined(weights, &parts, config.d_model, inner, false)?,
            out: Linear::load(weights, &format!("{name}.SelfAttention.o"), inner, config.d_model, false)?,
        })
    }

    fn bytes(&self) -> u64 {
        self.norm.bytes() + self.queries_keys_values.bytes() + self.out.bytes()
    }
}

/// Attention of an answer's token to those of the prompt.
struct CrossAttention {
    norm: RmsNorm,
    queries: Linear,
    keys_values: Linear,
    out: Linear,
}

impl CrossAttention {
    fn load(weights: &Weights, name: &str, config: &T5Config) -> Result<Self> {
        let inner = config.num_heads * config.d_kv;
        let at = |part: &str| format!("{name}.EncDecAttention.{part}");
        Ok(CrossAttention {
            norm: RmsNorm::load(weights, &format!("{name}.layer_norm"), config.d_model, config.layer_norm_epsilon)?,
            queries: Linear::load(weights, &at("q"), config.d_model, inner, false)?,
            keys_values: Linear::load_joined(weights, &[at("k"), at("v")], config.d_model, inner, false)?,
            out: Linear::load(weights, &at("o"), inner, config.d_model, false)?,
        })
    }

    fn bytes(&self) -> u64 {
        self.norm.bytes() + self.queries.bytes() + self.keys_values.bytes() + self.out.bytes()
    }
}

/// Memory that is used again by each layer.
#[derive(Default)]
pub struct Scratch {
    normed: Vec<f32>,
    joined: Vec<f32>,
    seen: Vec<f32>,
    scores: Vec<f32>,
    wide: Vec<f32>,
    gates: Vec<f32>,
}

fn heads_of(config: &T5Config) -> Heads {
    Heads { count: config.num_heads, width: config.d_kv }
}

/// The half that reads the prompt.
pub struct Encoder {
    layers: Vec<(SelfAttention, Network)>,
    bias: DistanceBias,
    norm: RmsNorm,
    heads: Heads,
}

impl Encoder {
    /// Reads it.
    pub fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let layers = (0..config.num_layers).map(|i| {
            let at = |part: usize| format!("encoder.block.{i}.layer.{part}");
            Ok((SelfAttention::load(weights, &at(0), config)?, Network::load(weights, &at(1), config)?))
        });
        let bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
        Ok(Encoder {
            layers: layers.collect::<Result<_>>()?,
            bias: DistanceBias::load(weights, bias, config, true)?,
            norm: RmsNorm::load(weights, "encoder.final_layer_norm", config.d_model, config.layer_norm_epsilon)?,
            heads: heads_of(config),
        })
    }

    /// What the prompt's tokens mean, from their embeddings.
    pub fn apply(&self, mut x: Vec<f32>, turn: &Turn) -> Result<Vec<f32>> {
        let mut scratch = Scratch::default();
        let inner = self.heads.count * self.heads.width;
        let mut biases = Vec::new();
        for (attend, network) in &self.layers {
            turn.check()?;
            attend.norm.apply(&x, &mut scratch.normed);
            attend.queries_keys_values.apply(&scratch.normed, &mut scratch.joined, turn)?;
            let rows = scratch.joined.len() / (3 * inner);
            if biases.is_empty() {
                let last = rows.saturating_sub(1);
                biases = (0..self.heads.count).map(|head| self.bias.by_distance(head, last, last)).collect();
            }
            let part = |i: usize| {
                let data = scratch.joined.get(i * inner..).ok_or_else(lost)?;
                Ok(Rows { data, rows, stride: 3 * inner })
            };
            scratch.seen.clear();
            scratch.seen.resize(rows * inner, 0.0);
            let (q, k, v) = (part(0)?, part(1)?, part(2)?);
            attention([q, k, v], self.heads, 1.0, &mut scratch.scores, &mut scratch.seen, turn, |head, scores| {
                let Some(bias) = biases.get(head) else { return };
                for (i, row) in scores.chunks_exact_mut(rows).enumerate() {
                    // The distance to the first key is -i.
                    row.iter_mut().zip(bias.iter().skip(rows - 1 - i)).for_each(|(s, b)| *s += b);
                }
            })?;
            attend.out.add_to(&scratch.seen, &mut x, turn)?;
            network.apply(&mut x, &mut scratch, turn)?;
        }
        self.norm.apply(&x, &mut scratch.normed);
        Ok(scratch.normed)
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        let layers = self.layers.iter().map(|(a, n)| a.bytes() + n.bytes()).sum::<u64>();
        layers + 4 * self.bias.table.len() as u64 + self.norm.bytes()
    }
}

struct DecoderLayer {
    attend: SelfAttention,
    cross: CrossAttention,
    network: Network,
}

/// The half that writes the answer.
pub struct Decoder {
    layers: Vec<DecoderLayer>,
    bias: DistanceBias,
    norm: RmsNorm,
    heads: Heads,
    width: usize,
}

/// An answer that is being written: the keys and values of all tokens so far, and those of the prompt.
pub struct Answer {
    layers: Vec<Known>,
    biases: Vec<Vec<f32>>,
    most: usize,
    scratch: Scratch,
}

#[derive(Default)]
struct Known {
    /// Keys and values of the answer's tokens, a row a token.
    own: Vec<f32>,
    /// Keys and values of the prompt's.
    prompt: Vec<f32>,
}

impl Decoder {
    /// Reads it.
    pub fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let layers = (0..config.decoder_layers()).map(|i| {
            let at = |part: usize| format!("decoder.block.{i}.layer.{part}");
            Ok(DecoderLayer {
                attend: SelfAttention::load(weights, &at(0), config)?,
                cross: CrossAttention::load(weights, &at(1), config)?,
                network: Network::load(weights, &at(2), config)?,
            })
        });
        let bias = "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
        Ok(Decoder {
            layers: layers.collect::<Result<_>>()?,
            bias: DistanceBias::load(weights, bias, config, false)?,
            norm: RmsNorm::load(weights, "decoder.final_layer_norm", config.d_model, config.layer_norm_epsilon)?,
            heads: heads_of(config),
            width: config.d_model,
        })
    }

    /// An answer of at most `most` tokens to a prompt, as [`Encoder::apply`] left it.
    pub fn begin(&self, prompt: &[f32], most: usize, turn: &Turn) -> Result<Answer> {
        let layers = self.layers.iter().map(|layer| {
            turn.check()?;
            let mut known = Known::default();
            layer.cross.keys_values.apply(prompt, &mut known.prompt, turn)?;
            Ok(known)
        });
        Ok(Answer {
            layers: layers.collect::<Result<_>>()?,
            biases: (0..self.heads.count).map(|head| self.bias.by_distance(head, most, 0)).collect(),
            most,
            scratch: Scratch::default(),
        })
    }

    /// Takes the embedding of the answer's next token, and gives what follows it, before the vocabulary.
    pub fn step(&self, answer: &mut Answer, embedding: &[f32], turn: &Turn) -> Result<Vec<f32>> {
        let inner = self.heads.count * self.heads.width;
        let scratch = &mut answer.scratch;
        let mut x = embedding.to_vec();
        if x.len() != self.width {
            return Err(lost());
        }
        for (layer, known) in self.layers.iter().zip(&mut answer.layers) {
            turn.check()?;
            layer.attend.norm.apply(&x, &mut scratch.normed);
            layer.attend.queries_keys_values.apply(&scratch.normed, &mut scratch.joined, turn)?;
            known.own.extend_from_slice(scratch.joined.get(inner..).ok_or_else(lost)?);
            let (skip, biases) = (answer.most, &answer.biases);
            let query = Rows { data: &scratch.joined, rows: 1, stride: inner };
            scratch.seen.clear();
            scratch.seen.resize(inner, 0.0);
            let (keys, values) = pairs(&known.own, inner)?;
            let far = keys.rows.saturating_sub(1);
            attention(
                [query, keys, values],
                self.heads,
                1.0,
                &mut scratch.scores,
                &mut scratch.seen,
                turn,
                |head, scores| {
                    let Some(bias) = biases.get(head).and_then(|b| b.get(skip.saturating_sub(far)..)) else { return };
                    scores.iter_mut().zip(bias).for_each(|(s, b)| *s += b);
                },
            )?;
            layer.attend.out.add_to(&scratch.seen, &mut x, turn)?;

            layer.cross.norm.apply(&x, &mut scratch.normed);
            layer.cross.queries.apply(&scratch.normed, &mut scratch.joined, turn)?;
            let query = Rows { data: &scratch.joined, rows: 1, stride: inner };
            let (keys, values) = pairs(&known.prompt, inner)?;
            attention([query, keys, values], self.heads, 1.0, &mut scratch.scores, &mut scratch.seen, turn, |_, _| {})?;
            layer.cross.out.add_to(&scratch.seen, &mut x, turn)?;

            layer.network.apply(&mut x, scratch, turn)?;
        }
        self.norm.apply(&x, &mut scratch.normed);
        Ok(scratch.normed.clone())
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        let layer = |l: &DecoderLayer| l.attend.bytes() + l.cross.bytes() + l.network.bytes();
        self.layers.iter().map(layer).sum::<u64>() + 4 * self.bias.table.len() as u64 + self.norm.bytes()
    }
}

/// Keys and values that stand side by side.
fn pairs(data: &[f32], inner: usize) -> Result<(Rows<'_>, Rows<'_>)> {
    let (rows, stride) = (data.len() / (2 * inner), 2 * inner);
    let values = data.get(inner..).ok_or_else(lost)?;
    Ok((Rows { data, rows, stride }, Rows { data: values, rows, stride }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_transformers() {
        // T5Attention._relative_position_bucket with 32 buckets and a distance of 128.
        let of = |both_ways: bool| {
            [-200, -127, -91, -64, -20, -16, -15, -8, -7, -1, 0, 1, 7, 8, 9, 11, 12, 16, 90, 91, 200]
                .map(|d| bucket(d, both_ways, 32, 128))
        };
        assert_eq!(of(true), TWO_WAYS);
        assert_eq!(of(false), BACKWARD);
        let all = |both_ways: bool| {
            (0..2000).map(|i| bucket(i - 1000, both_ways, 32, 128) * (i as usize % 7 + 1)).sum::<usize>()
        };
        assert_eq!((all(true), all(false)), (181275, 120267));
    }

    const TWO_WAYS: [usize; 21] = [15, 15, 15, 14, 10, 10, 9, 8, 7, 1, 0, 17, 23, 24, 24, 24, 25, 26, 30, 31, 31];
    const BACKWARD: [usize; 21] = [31, 31, 29, 26, 17, 16, 15, 8, 7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
}
