//! Encoders of the BERT family. The tokens of many texts lie one behind the other without padding, so no computation
//! is wasted.

pub mod config;

use self::config::Config;
use super::files::ModelDir;
use super::layers::{
    Attention, Buckets, Embedding, FeedForward, Heads, LayerNorm, Linear, PositionBias, RelativePositions, Scratch,
    SelfAttention,
};
use super::tokenizer::Tokens;
use super::turn::Turn;
use super::weights::Weights;
use mysql_ml_base::error::{Error, Result};

/// MPNet's distances from here on share a bucket.
const FURTHEST: usize = 128;

/// An encoder in memory.
pub struct Encoder {
    config: Config,
    words: Embedding,
    positions: Embedding,
    segments: Option<Embedding>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    position_bias: Option<PositionBias>,
}

struct Layer {
    attention: SelfAttention,
    attention_norm: LayerNorm,
    network: FeedForward,
    norm: LayerNorm,
}

/// Reads tensors by BERT's names.
struct Reader<'a> {
    config: &'a Config,
    weights: &'a Weights,
    prefix: String,
}

impl Reader<'_> {
    fn name(&self, name: &str) -> String {
        format!("{}{}", self.prefix, self.config.tensor(name))
    }

    fn embedding(&self, name: &str, rows: usize) -> Result<Embedding> {
        Embedding::load(self.weights, &self.name(name), rows, self.config.hidden)
    }

    fn norm(&self, name: &str) -> Result<LayerNorm> {
        LayerNorm::load(self.weights, &self.name(name), self.config.hidden, self.config.epsilon)
    }

    fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Result<Linear> {
        Linear::load(self.weights, &self.name(name), inputs, outputs, true)
    }

    fn layer(&self, i: usize) -> Result<Layer> {
        let config = self.config;
        let (hidden, intermediate) = (config.hidden, config.intermediate);
        let name = |part: &str| format!("encoder.layer.{i}.{part}");
        let heads = Heads { count: config.heads, width: config.head() };
        let attention = Attention { heads, scale: 1.0 / (heads.width as f32).sqrt(), causal: false };
        let parts = ["self.query", "self.key", "self.value", "output.dense"];
        let [query, key, value, output] = parts.map(|part| self.name(&name(&format!("attention.{part}"))));
        Ok(Layer {
            attention: SelfAttention::load(self.weights, [&query, &key, &value, &output], hidden, attention, true)?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"))?,
            network: FeedForward {
                up: self.linear(&name("intermediate.dense"), hidden, intermediate)?,
                gate: None,
                down: self.linear(&name("output.dense"), intermediate, hidden)?,
                activation: config.activation,
            },
            norm: self.norm(&name("output.LayerNorm"))?,
        })
    }
}

const WORDS: &str = "embeddings.word_embeddings.weight";

/// What is before the names of the encoder's tensors. The files of a model with a head have one.
pub fn prefix(dir: &ModelDir, weights: &Weights) -> Result<String> {
    let prefix = weights.names().into_iter().find_map(|n| n.strip_suffix(WORDS).map(str::to_owned));
    prefix.ok_or_else(|| {
        Error::invalid(format!(
            "{} has no tensor {WORDS}; it is no encoder of the BERT family",
            dir.name(super::weights::FILE)
        ))
    })
}

impl Encoder {
    /// Reads an encoder after its config.json.
    pub fn open(dir: &ModelDir, config: Config, weights: &Weights) -> Result<Self> {
        let prefix = prefix(dir, weights)?;
        let reader = Reader { config: &config, weights, prefix };
        let segments = match config.segments {
            0 => None,
            n => Some(reader.embedding("embeddings.token_type_embeddings.weight", n)?),
        };
        let position_bias = match config.distances {
            0 => None,
            count => {
                let name = reader.name("encoder.relative_attention_bias.weight");
                let buckets = Buckets { count, furthest: FURTHEST, both_ways: true };
                let last = config.max_tokens().saturating_sub(1);
                Some(RelativePositions::load(weights, &name, buckets, config.heads)?.bias(last, last))
            }
        };
        Ok(Encoder {
            words: reader.embedding(WORDS, config.vocabulary)?,
            positions: reader.embedding("embeddings.position_embeddings.weight", config.positions)?,
            segments,
            norm: reader.norm("embeddings.LayerNorm")?,
            layers: (0..config.layers).map(|i| reader.layer(i)).collect::<Result<_>>()?,
            position_bias,
            config,
        })
    }

    /// The sizes of the encoder.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes of the weights.
    pub fn memory_bytes(&self) -> u64 {
        let of_layer = |l: &Layer| {
            let norms = l.attention_norm.memory_bytes() + l.norm.memory_bytes();
            l.attention.memory_bytes() + l.network.memory_bytes() + norms
        };
        let tables = [Some(&self.words), Some(&self.positions), self.segments.as_ref()];
        tables.into_iter().flatten().map(Embedding::memory_bytes).sum::<u64>()
            + self.norm.memory_bytes()
            + self.layers.iter().map(of_layer).sum::<u64>()
            + self.position_bias.as_ref().map_or(0, PositionBias::memory_bytes)
    }

    /// The rows of the last layer, `[tokens, hidden]`, for the tokens of all texts one behind the other.
    pub fn forward(&self, texts: &[Tokens], turn: &Turn) -> Result<Vec<f32>> {
        self.through(&self.layers, texts, &mut Scratch::default(), turn)
    }

    /// The rows of each text's first token in the last layer, `[texts, hidden]`. Its other rows are not computed.
    pub fn first_rows(&self, texts: &[Tokens], turn: &Turn) -> Result<Vec<f32>> {
        let hidden = self.config.hidden;
        let firsts = |rows: &[f32]| {
            let mut rest = rows;
            let mut firsts = Vec::with_capacity(texts.len() * hidden);
            for text in texts {
                firsts.extend(rest.get(..hidden).unwrap_or_default());
                rest = rest.get(text.ids.len() * hidden..).unwrap_or_default();
            }
            firsts
        };
        let last = self.layers.split_last().filter(|_| self.position_bias.is_none());
        let Some((last, layers)) = last else { return Ok(firsts(&self.forward(texts, turn)?)) };
        let mut scratch = Scratch::default();
        let rows = self.through(layers, texts, &mut scratch, turn)?;
        let mut firsts = firsts(&rows);
        let mut next = vec![0.0; firsts.len()];
        let lengths = texts.iter().map(|text| text.ids.len());
        last.attention.apply_to_first(&rows, lengths, &mut next, &mut scratch, turn)?;
        last.attention_norm.apply_to_sum(&mut next, &firsts);
        last.network.apply(&next, &mut firsts, &mut scratch, turn)?;
        last.norm.apply_to_sum(&mut firsts, &next);
        turn.check()?;
        Ok(firsts)
    }

    /// The rows behind some layers.
    fn through(&self, layers: &[Layer], texts: &[Tokens], scratch: &mut Scratch, turn: &Turn) -> Result<Vec<f32>> {
        let mut rows = self.embed(texts)?;
        self.norm.apply(&mut rows);
        let mut next = vec![0.0; rows.len()];
        for layer in layers {
            let lengths = texts.iter().map(|text| text.ids.len());
            layer.attention.apply(&rows, lengths, self.position_bias.as_ref(), &mut next, scratch, turn)?;
            layer.attention_norm.apply_to_sum(&mut next, &rows);
            layer.network.apply(&next, &mut rows, scratch, turn)?;
            layer.norm.apply_to_sum(&mut rows, &next);
        }
        turn.check()?;
        Ok(rows)
    }

    /// The input of the first layer: `[tokens, hidden]`.
    fn embed(&self, texts: &[Tokens]) -> Result<Vec<f32>> {
        let tokens: usize = texts.iter().map(|t| t.ids.len()).sum();
        let mut rows = Vec::with_capacity(tokens * self.config.hidden);
        for text in texts {
            for (i, (id, segment)) in text.ids.iter().zip(&text.types).enumerate() {
                let word = self.words.row(*id as usize).ok_or_else(|| {
                    Error::invalid(format!(
                        "the tokenizer makes a token {id} and the model knows {} only; the files do not belong together",
                        self.config.vocabulary
                    ))
                })?;
                let position = self.positions.row(self.config.first_position + i);
                let position =
                    position.ok_or_else(|| Error::internal("a text has more tokens than there are positions"))?;
                let last = self.config.segments.saturating_sub(1);
                match self.segments.as_ref().and_then(|table| table.row((*segment as usize).min(last))) {
                    Some(segment) => {
                        let sums = word.iter().zip(position).zip(segment);
                        rows.extend(sums.map(|((word, position), segment)| word + position + segment));
                    }
                    None => rows.extend(word.iter().zip(position).map(|(word, position)| word + position)),
                }
            }
        }
        Ok(rows)
    }
}
