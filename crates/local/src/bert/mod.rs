//! The encoders of the BERT family, for many texts at once: their tokens lie one behind the other without padding, so
//! that nothing is computed for nothing.

mod attention;
pub mod config;
mod distance;

use self::attention::{attend, Layout, Scratch};
use self::config::Config;
use self::distance::Distances;
use super::compute::functions::{add_and_normalize, normalize, Activation};
use super::compute::linear::Linear;
use super::compute::Packed;
use super::files::ModelDir;
use super::tokenizer::Tokens;
use super::turn::Turn;
use super::weights::Weights;
use mysql_ml_base::error::{Error, Result};

/// Rows that go through a layer's second half at once, whose wide middle then stays in a core's cache.
const FEED_FORWARD_ROWS: usize = 96;

/// An encoder in memory.
pub struct Encoder {
    config: Config,
    words: Vec<f32>,
    positions: Vec<f32>,
    segments: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    distances: Option<Distances>,
}

struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

struct Layer {
    projections: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    norm: Norm,
}

/// Reads tensors by the names that BERT has for them.
struct Reader<'a> {
    config: &'a Config,
    weights: &'a Weights,
    prefix: String,
}

impl Reader<'_> {
    fn name(&self, name: &str) -> String {
        format!("{}{}", self.prefix, self.config.tensor(name))
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.weights.tensor(&self.name(name), shape)
    }

    fn norm(&self, name: &str) -> Result<Norm> {
        let shape = [self.config.hidden];
        // Files that were made from TensorFlow's have the old names.
        let old = self.weights.has(&self.name(&format!("{name}.gamma")));
        let (weight, bias) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        Ok(Norm {
            weight: self.tensor(&format!("{name}.{weight}"), &shape)?,
            bias: self.tensor(&format!("{name}.{bias}"), &shape)?,
        })
    }

    fn linear(&self, names: &[&str], inputs: usize, outputs: usize) -> Result<Linear> {
        let read = |name: &&str| {
            let weight = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
            Ok((weight, self.tensor(&format!("{name}.bias"), &[outputs])?))
        };
        let parts: Vec<(Vec<f32>, Vec<f32>)> = names.iter().map(read).collect::<Result<_>>()?;
        let parts: Vec<(&[f32], &[f32])> = parts.iter().map(|(w, b)| (w.as_slice(), b.as_slice())).collect();
        Ok(Linear::pack(&parts, inputs))
    }

    fn layer(&self, i: usize) -> Result<Layer> {
        let (hidden, intermediate) = (self.config.hidden, self.config.intermediate);
        let name = |part: &str| format!("encoder.layer.{i}.{part}");
        let (query, key) = (name("attention.self.query"), name("attention.self.key"));
        Ok(Layer {
            projections: self.linear(&[&query, &key, &name("attention.self.value")], hidden, hidden)?,
            attention_output: self.linear(&[&name("attention.output.dense")], hidden, hidden)?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"))?,
            up: self.linear(&[&name("intermediate.dense")], hidden, intermediate)?,
            down: self.linear(&[&name("output.dense")], intermediate, hidden)?,
            norm: self.norm(&name("output.LayerNorm"))?,
        })
    }
}

impl Encoder {
    /// Reads an encoder whose config.json was read.
    pub fn open(dir: &ModelDir, config: Config, weights: &Weights) -> Result<Self> {
        const WORDS: &str = "embeddings.word_embeddings.weight";
        // A model that was saved with a head has its body under a name.
        let prefix = weights.names().into_iter().find_map(|n| n.strip_suffix(WORDS).map(str::to_owned));
        let Some(prefix) = prefix else {
            return Err(Error::invalid(format!(
                "{} has no tensor {WORDS}; it is no encoder of the BERT family",
                dir.name(super::weights::FILE)
            )));
        };
        let reader = Reader { config: &config, weights, prefix };
        let hidden = config.hidden;
        let segments = match config.segments {
            0 => Vec::new(),
            n => reader.tensor("embeddings.token_type_embeddings.weight", &[n, hidden])?,
        };
        let distances = match config.distances {
            0 => None,
            buckets => {
                let table = reader.tensor("encoder.relative_attention_bias.weight", &[buckets, config.heads])?;
                Some(Distances::new(&table, buckets, config.heads, config.max_tokens()))
            }
        };
        Ok(Encoder {
            words: reader.tensor(WORDS, &[config.vocabulary, hidden])?,
            positions: reader.tensor("embeddings.position_embeddings.weight", &[config.positions, hidden])?,
            segments,
            norm: reader.norm("embeddings.LayerNorm")?,
            layers: (0..config.layers).map(|i| reader.layer(i)).collect::<Result<_>>()?,
            distances,
            config,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The bytes it keeps.
    pub fn memory_bytes(&self) -> u64 {
        let of = |numbers: &[f32]| size_of_val(numbers) as u64;
        let norm = |n: &Norm| of(&n.weight) + of(&n.bias);
        let layers: u64 = self
            .layers
            .iter()
            .map(|l| {
                let linear = [&l.projections, &l.attention_output, &l.up, &l.down];
                linear.iter().map(|l| l.memory_bytes()).sum::<u64>() + norm(&l.attention_norm) + norm(&l.norm)
            })
            .sum();
        let distances = self.distances.as_ref().map_or(0, Distances::memory_bytes);
        of(&self.words) + of(&self.positions) + of(&self.segments) + norm(&self.norm) + layers + distances
    }

    /// The last layer's rows of all tokens of the texts, one text behind the other.
    pub fn forward(&self, texts: &[Tokens], turn: &Turn) -> Result<Vec<f32>> {
        let hidden = self.config.hidden;
        let mut rows = self.embed(texts)?;
        let epsilon = self.config.epsilon;
        normalize(&mut rows, &self.norm.weight, &self.norm.bias, epsilon);
        let tokens = rows.len() / hidden;
        let mut packed = Packed::default();
        let mut scratch = Scratch::default();
        let mut projected = vec![0.0; tokens * 3 * hidden];
        let mut attended = vec![0.0; rows.len()];
        let mut product = vec![0.0; rows.len()];
        let mut wide = vec![0.0; FEED_FORWARD_ROWS.min(tokens) * self.config.intermediate];
        let layout = Layout { hidden, heads: self.config.heads };
        let bias = self.distances.as_ref().map(Distances::biases);
        for layer in &self.layers {
            turn.check()?;
            packed.fill(&rows, hidden);
            layer.projections.apply(&packed, Activation::None, &mut projected, turn);
            let (mut from, mut to) = (projected.as_slice(), attended.as_mut_slice());
            for text in texts {
                let (this, rest) = from.split_at(from.len().min(text.ids.len() * 3 * hidden));
                let (out, out_rest) = to.split_at_mut(to.len().min(text.ids.len() * hidden));
                attend(this, layout, bias, &mut scratch, out, turn);
                (from, to) = (rest, out_rest);
            }
            turn.check()?;
            packed.fill(&attended, hidden);
            layer.attention_output.apply(&packed, Activation::None, &mut product, turn);
            std::mem::swap(&mut rows, &mut product);
            add_and_normalize(&mut rows, &product, &layer.attention_norm.weight, &layer.attention_norm.bias, epsilon);
            let groups =
                rows.chunks_mut(hidden * FEED_FORWARD_ROWS).zip(product.chunks_mut(hidden * FEED_FORWARD_ROWS));
            for (rows, product) in groups {
                turn.check()?;
                packed.fill(rows, hidden);
                let size = rows.len() / hidden * self.config.intermediate;
                let wide = wide.get_mut(..size).unwrap_or_default();
                layer.up.apply(&packed, self.config.activation, wide, turn);
                packed.fill(wide, self.config.intermediate);
                layer.down.apply(&packed, Activation::None, product, turn);
                add_and_normalize(product, rows, &layer.norm.weight, &layer.norm.bias, epsilon);
            }
            std::mem::swap(&mut rows, &mut product);
        }
        turn.check()?;
        Ok(rows)
    }

    /// The rows that the first layer gets.
    fn embed(&self, texts: &[Tokens]) -> Result<Vec<f32>> {
        let hidden = self.config.hidden;
        let row = |table: &'_ [f32], i: usize| -> Option<std::ops::Range<usize>> {
            let begin = i.checked_mul(hidden)?;
            (begin + hidden <= table.len()).then_some(begin..begin + hidden)
        };
        let tokens: usize = texts.iter().map(|t| t.ids.len()).sum();
        let mut rows = Vec::with_capacity(tokens * hidden);
        for text in texts {
            for (i, (id, segment)) in text.ids.iter().zip(&text.types).enumerate() {
                let word = row(&self.words, *id as usize).and_then(|r| self.words.get(r)).ok_or_else(|| {
                    Error::invalid(format!(
                        "the tokenizer makes a token {id} and the model knows {} only; the files do not belong together",
                        self.config.vocabulary
                    ))
                })?;
                let position = row(&self.positions, self.config.first_position + i).and_then(|r| self.positions.get(r));
                let position =
                    position.ok_or_else(|| Error::internal("a text has more tokens than there are positions"))?;
                let segment = match self.config.segments {
                    0 => None,
                    n => row(&self.segments, (*segment as usize).min(n - 1)).and_then(|r| self.segments.get(r)),
                };
                match segment {
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
