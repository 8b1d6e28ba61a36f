//! Encoder and decoder of T5: attention with biases by distance, and feed-forward networks. Norms precede both.

use super::config::T5Config;
use crate::layers::{
    add, Activation, Attention, Buckets, FeedForward, Heads, Linear, PositionBias, RelativePositions, RmsNorm, Rows,
    Scratch, SelfAttention,
};
use crate::turn::Turn;
use crate::weights::Weights;
use mysql_ml_base::error::{Error, Result};

/// Training used unscaled scores.
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

/// A feed-forward network with its norm.
struct FeedForwardBlock {
    norm: RmsNorm,
    network: FeedForward,
}

impl FeedForwardBlock {
    fn load(weights: &Weights, name: &str, config: &T5Config) -> Result<Self> {
        let (activation, gated) = config.network()?;
        let (width, inner) = (config.d_model, config.d_ff);
        let wide = |part: &str| Linear::load(weights, &format!("{name}.DenseReluDense.{part}"), width, inner, false);
        Ok(FeedForwardBlock {
            norm: norm(weights, &format!("{name}.layer_norm"), config)?,
            network: FeedForward {
                up: wide(if gated { "wi_0" } else { "wi" })?,
                gate: gated.then(|| wide("wi_1")).transpose()?,
                down: Linear::load(weights, &format!("{name}.DenseReluDense.wo"), inner, width, false)?,
                activation,
            },
        })
    }

    /// Replaces `x`, `[tokens, d_model]`, by its sum with the output. `normed` and `out` are memory of the same shape.
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

/// Self-attention with its norm.
struct SelfAttentionBlock {
    norm: RmsNorm,
    attention: SelfAttention,
}

impl SelfAttentionBlock {
    fn load(weights: &Weights, name: &str, config: &T5Config) -> Result<Self> {
        let [q, k, v, o] = ["q", "k", "v", "o"].map(|part| format!("{name}.SelfAttention.{part}"));
        Ok(SelfAttentionBlock {
            norm: norm(weights, &format!("{name}.layer_norm"), config)?,
            attention: SelfAttention::load(weights, [&q, &k, &v, &o], config.d_model, attention(config), false)?,
        })
    }

    fn memory_bytes(&self) -> u64 {
        self.norm.memory_bytes() + self.attention.memory_bytes()
    }
}

/// Attention of an answer's token to the prompt, with its norm.
struct CrossAttentionBlock {
    norm: RmsNorm,
    queries: Linear,
    /// Keys and values side by side, from `d_model` to `2 * inner`.
    keys_values: Linear,
    output: Linear,
}

impl CrossAttentionBlock {
    fn load(weights: &Weights, name: &str, config: &T5Config) -> Result<Self> {
        let inner = attention(config).heads.inner();
        let at = |part: &str| format!("{name}.EncDecAttention.{part}");
        Ok(CrossAttentionBlock {
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

/// The encoder, which reads the prompt.
pub struct Encoder {
    layers: Vec<(SelfAttentionBlock, FeedForwardBlock)>,
    positions: RelativePositions,
    norm: RmsNorm,
    width: usize,
}

impl Encoder {
    /// Reads the encoder's layers.
    pub fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let layers = (0..config.num_layers).map(|i| {
            let at = |part: usize| format!("encoder.block.{i}.layer.{part}");
            Ok((SelfAttentionBlock::load(weights, &at(0), config)?, FeedForwardBlock::load(weights, &at(1), config)?))
        });
        Ok(Encoder {
            layers: layers.collect::<Result<_>>()?,
            positions: positions(weights, "encoder", config, true)?,
            norm: norm(weights, "encoder.final_layer_norm", config)?,
            width: config.d_model,
        })
    }

    /// The output for a prompt's embeddings `x`, both `[tokens, d_model]`.
    pub fn apply(&self, mut x: Vec<f32>, turn: &Turn) -> Result<Vec<f32>> {
        let tokens = x.len() / self.width.max(1);
        let last = tokens.saturating_sub(1);
        let bias = self.positions.bias(last, last);
        let mut scratch = Scratch::default();
        let (mut normed, mut out) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        for (self_attention, network) in &self.layers {
            self_attention.norm.apply_to(&x, &mut normed);
            self_attention.attention.apply(&normed, [tokens], Some(&bias), &mut out, &mut scratch, turn)?;
            add(&mut x, &out);
            network.apply(&mut x, [&mut normed, &mut out], &mut scratch, turn)?;
        }
        self.norm.apply_to(&x, &mut normed);
        Ok(normed)
    }

    /// Bytes of the weights.
    pub fn memory_bytes(&self) -> u64 {
        let layers =
            self.layers.iter().map(|(self_attention, network)| self_attention.memory_bytes() + network.memory_bytes());
        layers.sum::<u64>() + self.positions.memory_bytes() + self.norm.memory_bytes()
    }
}

struct DecoderLayer {
    self_attention: SelfAttentionBlock,
    cross_attention: CrossAttentionBlock,
    network: FeedForwardBlock,
}

/// The decoder, which generates the answer.
pub struct Decoder {
    layers: Vec<DecoderLayer>,
    positions: RelativePositions,
    norm: RmsNorm,
    attention: Attention,
    width: usize,
}

/// The state of one answer: keys and values of the prompt and of all tokens so far.
pub struct Answer {
    layers: Vec<KeyValues>,
    bias: PositionBias,
    scratch: Scratch,
}

/// Keys and values side by side: `[tokens, 2 * inner]`.
#[derive(Default)]
struct KeyValues {
    /// Those of the answer's tokens.
    answer: Vec<f32>,
    /// Those of the prompt's tokens.
    prompt: Vec<f32>,
}

impl Decoder {
    /// Reads the decoder's layers.
    pub fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let layers = (0..config.decoder_layers()).map(|i| {
            let at = |part: usize| format!("decoder.block.{i}.layer.{part}");
            Ok(DecoderLayer {
                self_attention: SelfAttentionBlock::load(weights, &at(0), config)?,
                cross_attention: CrossAttentionBlock::load(weights, &at(1), config)?,
                network: FeedForwardBlock::load(weights, &at(2), config)?,
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

    /// Starts an answer of at most `most` tokens. `prompt` is the encoder's output, `[tokens, d_model]`.
    pub fn begin(&self, prompt: &[f32], most: usize, turn: &Turn) -> Result<Answer> {
        let layers = self.layers.iter().map(|layer| {
            let prompt = layer.cross_attention.keys_values.output(prompt, Activation::Identity, turn)?;
            Ok(KeyValues { answer: Vec::new(), prompt })
        });
        Ok(Answer {
            layers: layers.collect::<Result<_>>()?,
            bias: self.positions.bias(most, 0),
            scratch: Scratch::default(),
        })
    }

    /// Appends a token by its embedding, `[d_model]`. Returns the decoder's output for the next token, `[d_model]`.
    pub fn step(&self, answer: &mut Answer, embedding: &[f32], turn: &Turn) -> Result<Vec<f32>> {
        let Answer { layers, bias, scratch } = answer;
        let inner = self.attention.heads.inner();
        if embedding.len() != self.width {
            return Err(Error::internal("an embedding of another width than the decoder"));
        }
        let mut x = embedding.to_vec();
        let (mut normed, mut out, mut attended) = (vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; inner]);
        let pairs = |data| [Rows::columns(data, 0, 2 * inner), Rows::columns(data, inner, 2 * inner)];
        for (layer, cache) in self.layers.iter().zip(layers) {
            let self_attention = &layer.self_attention;
            self_attention.norm.apply_to(&x, &mut normed);
            let joined = self_attention.attention.projections.output(&normed, Activation::Identity, turn)?;
            cache.answer.extend_from_slice(joined.get(inner..).unwrap_or_default());
            let ([keys, values], queries) = (pairs(&cache.answer), Rows::columns(&joined, 0, 3 * inner));
            self.attention.apply([queries, keys, values], Some(bias), &mut attended, scratch, turn)?;
            add(&mut x, &self_attention.attention.output.output(&attended, Activation::Identity, turn)?);

            let cross_attention = &layer.cross_attention;
            cross_attention.norm.apply_to(&x, &mut normed);
            let queries = cross_attention.queries.output(&normed, Activation::Identity, turn)?;
            let ([keys, values], queries) = (pairs(&cache.prompt), Rows::columns(&queries, 0, inner));
            self.attention.apply([queries, keys, values], None, &mut attended, scratch, turn)?;
            add(&mut x, &cross_attention.output.output(&attended, Activation::Identity, turn)?);

            layer.network.apply(&mut x, [&mut normed, &mut out], scratch, turn)?;
        }
        self.norm.apply_to(&x, &mut normed);
        Ok(normed)
    }

    /// Bytes of the weights.
    pub fn memory_bytes(&self) -> u64 {
        let layer = |l: &DecoderLayer| {
            l.self_attention.memory_bytes() + l.cross_attention.memory_bytes() + l.network.memory_bytes()
        };
        self.layers.iter().map(layer).sum::<u64>() + self.positions.memory_bytes() + self.norm.memory_bytes()
    }
}
