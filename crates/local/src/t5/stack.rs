//! The layers of T5: attention with a bias by distance, and feed-forward networks, each normalised before.

use super::config::T5Config;
use crate::layers::{
    add, Activation, Attention, Buckets, FeedForward, Heads, Linear, PositionBias, RelativePositions, RmsNorm, Rows,
    Scratch, SelfAttention,
};
use crate::turn::Turn;
use crate::weights::Weights;
use mysql_ml_base::error::{Error, Result};

/// Scores are not scaled: the weights were trained so.
fn attention(config: &T5Config) -> Attention {
    let heads = Heads { count: config.num_heads, width: config.d_kv };
    Attention { heads, scale: 1.0, causal: false }
}

fn norm(weights: &Weights, name: &str, config: &T5Config) -> Result<RmsNorm> {
    RmsNorm::load(weights, name, config.d_model, config.layer_norm_epsilon)
}

fn positions(weights: &Weights, half: &str, config: &T5Config, both_ways: bool) -> Result<RelativePositions> {
    let (count, furthest) = (config.relative_attention_num_buckets, config.relative_attention_max_distance);
    let name = format!("{half}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
    RelativePositions::load(weights, &name, Buckets { count, furthest, both_ways }, config.num_heads)
}

/// A feed-forward network and the norm before it.
struct Network {
    norm: RmsNorm,
    network: FeedForward,
}

impl Network {
    fn load(weights: &Weights, name: &str, config: &T5Config) -> Result<Self> {
        let (activation, gated) = config.network()?;
        let (width, inner) = (config.d_model, config.d_ff);
        let wide = |part: &str| Linear::load(weights, &format!("{name}.DenseReluDense.{part}"), width, inner, false);
        Ok(Network {
            norm: norm(weights, &format!("{name}.layer_norm"), config)?,
            network: FeedForward {
                up: wide(if gated { "wi_0" } else { "wi" })?,
                gate: gated.then(|| wide("wi_1")).transpose()?,
                down: Linear::load(weights, &format!("{name}.DenseReluDense.wo"), inner, width, false)?,
                activation,
            },
        })
    }

    /// Changes `x`, `[tokens, d_model]`; `normed` and `out` have its shape.
    fn apply(
        &self,
        x: &mut [f32],
        [normed, out]: [&mut Vec<f32>; 2],
        scratch: &mut Scratch,
        turn: &Turn,
    ) -> Result<()> {
        self.norm.apply_to(x, normed);
        self.network.apply(normed, out, scratch, turn)?;
        add(x, out);
        Ok(())
    }

    fn memory_bytes(&self) -> u64 {
        self.norm.memory_bytes() + self.network.memory_bytes()
    }
}

/// Attention of tokens to those of the same text, and the norm before it.
struct Own {
    norm: RmsNorm,
    attention: SelfAttention,
}

impl Own {
    fn load(weights: &Weights, name: &str, config: &T5Config) -> Result<Self> {
        let [q, k, v, o] = ["q", "k", "v", "o"].map(|part| format!("{name}.SelfAttention.{part}"));
        Ok(Own {
            norm: norm(weights, &format!("{name}.layer_norm"), config)?,
            attention: SelfAttention::load(weights, [&q, &k, &v, &o], config.d_model, attention(config), false)?,
        })
    }

    fn memory_bytes(&self) -> u64 {
        self.norm.memory_bytes() + self.attention.memory_bytes()
    }
}

/// Attention of an answer's token to those of the prompt, and the norm before it.
struct Cross {
    norm: RmsNorm,
    queries: Linear,
    /// Side by side.
    keys_values: Linear,
    output: Linear,
}

impl Cross {
    fn load(weights: &Weights, name: &str, config: &T5Config) -> Result<Self> {
        let inner = attention(config).heads.inner();
        let at = |part: &str| format!("{name}.EncDecAttention.{part}");
        Ok(Cross {
            norm: norm(weights, &format!("{name}.layer_norm"), config)?,
            queries: Linear::load(weights, &at("q"), config.d_model, inner, false)?,
            keys_values: Linear::load_joined(weights, &[at("k"), at("v")], config.d_model, inner, false)?,
            output: Linear::load(weights, &at("o"), inner, config.d_model, false)?,
        })
    }

    fn memory_bytes(&self) -> u64 {
        let layers = [&self.queries, &self.keys_values, &self.output];
        self.norm.memory_bytes() + layers.iter().map(|l| l.memory_bytes()).sum::<u64>()
    }
}

/// The half that reads the prompt.
pub struct Encoder {
    layers: Vec<(Own, Network)>,
    positions: RelativePositions,
    norm: RmsNorm,
    width: usize,
}

impl Encoder {
    /// Reads it.
    pub fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let layers = (0..config.num_layers).map(|i| {
            let at = |part: usize| format!("encoder.block.{i}.layer.{part}");
            Ok((Own::load(weights, &at(0), config)?, Network::load(weights, &at(1), config)?))
        });
        Ok(Encoder {
            layers: layers.collect::<Result<_>>()?,
            positions: positions(weights, "encoder", config, true)?,
            norm: norm(weights, "encoder.final_layer_norm", config)?,
            width: config.d_model,
        })
    }

    /// What the prompt's tokens mean, from their embeddings; both `[tokens, d_model]`.
    pub fn apply(&self, mut x: Vec<f32>, turn: &Turn) -> Result<Vec<f32>> {
        let tokens = x.len() / self.width.max(1);
        let last = tokens.saturating_sub(1);
        let bias = self.positions.bias(last, last);
        let mut scratch = Scratch::default();
        let (mut normed, mut out) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        for (own, network) in &self.layers {
            own.norm.apply_to(&x, &mut normed);
            own.attention.apply(&normed, [tokens], Some(&bias), &mut out, &mut scratch, turn)?;
            add(&mut x, &out);
            network.apply(&mut x, [&mut normed, &mut out], &mut scratch, turn)?;
        }
        self.norm.apply_to(&x, &mut normed);
        Ok(normed)
    }

    /// The bytes it keeps.
    pub fn memory_bytes(&self) -> u64 {
        let layers = self.layers.iter().map(|(own, network)| own.memory_bytes() + network.memory_bytes());
        layers.sum::<u64>() + self.positions.memory_bytes() + self.norm.memory_bytes()
    }
}

struct DecoderLayer {
    own: Own,
    cross: Cross,
    network: Network,
}

/// The half that writes the answer.
pub struct Decoder {
    layers: Vec<DecoderLayer>,
    positions: RelativePositions,
    norm: RmsNorm,
    attention: Attention,
    width: usize,
}

/// An answer that is being written: the keys and values of all tokens so far, and those of the prompt.
pub struct Answer {
    layers: Vec<Known>,
    bias: PositionBias,
    scratch: Scratch,
}

/// Keys and values side by side: `[tokens, 2 * heads * width]`.
#[derive(Default)]
struct Known {
    /// Of the answer's tokens.
    own: Vec<f32>,
    /// Of the prompt's.
    prompt: Vec<f32>,
}

impl Decoder {
    /// Reads it.
    pub fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let layers = (0..config.decoder_layers()).map(|i| {
            let at = |part: usize| format!("decoder.block.{i}.layer.{part}");
            Ok(DecoderLayer {
                own: Own::load(weights, &at(0), config)?,
                cross: Cross::load(weights, &at(1), config)?,
                network: Network::load(weights, &at(2), config)?,
            })
        });
        Ok(Decoder {
            layers: layers.collect::<Result<_>>()?,
            positions: positions(weights, "decoder", config, false)?,
            norm: norm(weights, "decoder.final_layer_norm", config)?,
            attention: attention(config),
            width: config.d_model,
        })
    }

    /// An answer of at most `most` tokens to a prompt, as [`Encoder::apply`] left it.
    pub fn begin(&self, prompt: &[f32], most: usize, turn: &Turn) -> Result<Answer> {
        let layers = self.layers.iter().map(|layer| {
            let prompt = layer.cross.keys_values.output(prompt, Activation::Identity, turn)?;
            Ok(Known { own: Vec::new(), prompt })
        });
        Ok(Answer {
            layers: layers.collect::<Result<_>>()?,
            bias: self.positions.bias(most, 0),
            scratch: Scratch::default(),
        })
    }

    /// Takes the embedding of the answer's next token, `[d_model]`, and gives what follows it, before the vocabulary.
    pub fn step(&self, answer: &mut Answer, embedding: &[f32], turn: &Turn) -> Result<Vec<f32>> {
        let Answer { layers, bias, scratch } = answer;
        let inner = self.attention.heads.inner();
        if embedding.len() != self.width {
            return Err(Error::internal("an embedding of another width than the decoder"));
        }
        let mut x = embedding.to_vec();
        let (mut normed, mut out, mut seen) = (vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; inner]);
        let pairs = |data| [Rows::columns(data, 0, 2 * inner), Rows::columns(data, inner, 2 * inner)];
        for (layer, known) in self.layers.iter().zip(layers) {
            let own = &layer.own;
            own.norm.apply_to(&x, &mut normed);
            let joined = own.attention.projections.output(&normed, Activation::Identity, turn)?;
            known.own.extend_from_slice(joined.get(inner..).unwrap_or_default());
            let ([keys, values], queries) = (pairs(&known.own), Rows::columns(&joined, 0, 3 * inner));
            self.attention.apply([queries, keys, values], Some(bias), &mut seen, scratch, turn)?;
            add(&mut x, &own.attention.output.output(&seen, Activation::Identity, turn)?);

            let cross = &layer.cross;
            cross.norm.apply_to(&x, &mut normed);
            let queries = cross.queries.output(&normed, Activation::Identity, turn)?;
            let ([keys, values], queries) = (pairs(&known.prompt), Rows::columns(&queries, 0, inner));
            self.attention.apply([queries, keys, values], None, &mut seen, scratch, turn)?;
            add(&mut x, &cross.output.output(&seen, Activation::Identity, turn)?);

            layer.network.apply(&mut x, [&mut normed, &mut out], scratch, turn)?;
        }
        self.norm.apply_to(&x, &mut normed);
        Ok(normed)
    }

    /// The bytes it keeps.
    pub fn memory_bytes(&self) -> u64 {
        let layer = |l: &DecoderLayer| l.own.memory_bytes() + l.cross.memory_bytes() + l.network.memory_bytes();
        self.layers.iter().map(layer).sum::<u64>() + self.positions.memory_bytes() + self.norm.memory_bytes()
    }
}
