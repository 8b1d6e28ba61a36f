//! CLIP: texts and images as vectors in one space, so a text finds images.
//!
//! The layout is that of openai/clip-vit-base-patch32 and its successors: `config.json`, `preprocessor_config.json`,
//! `tokenizer.json`, `model.safetensors`. Vectors have length 1. The computation follows transformers' CLIPModel.

mod config;
mod encoder;
pub mod image;
mod resample;

use self::config::ClipConfig;
use self::encoder::{Encoder, Shape};
use self::image::Preprocessor;
use super::files::ModelDir;
use super::layers::{add, Activation, Embedding, LayerNorm, Linear};
use super::tokenizer::Tokenizer;
use super::turn::Turn;
use super::weights::Weights;
use super::{EmbedOptions, LocalModel};
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::vector::normalize;

/// The maximum of bytes in config.json and preprocessor_config.json.
const MAX_CONFIG: u64 = 1 << 20;
/// Tokens of texts, or patches of images, that pass the layers together.
const ROWS_AT_ONCE: usize = 256;
/// The end token in older files. It means the token with the largest number in a text.
const NAMELESS_END: u32 = 2;

/// A loaded CLIP model.
pub struct Clip {
    config: ClipConfig,
    preprocessor: Preprocessor,
    tokenizer: Tokenizer,
    token_embedding: Embedding,
    text_positions: Embedding,
    text: Encoder,
    text_norm: LayerNorm,
    text_projection: Linear,
    patches: Linear,
    class: Vec<f32>,
    image_positions: Embedding,
    before_vision: LayerNorm,
    vision: Encoder,
    after_vision: LayerNorm,
    visual_projection: Linear,
}

impl Clip {
    /// Loads the model in a directory.
    pub fn load(dir: &ModelDir) -> Result<Self> {
        let config = ClipConfig::parse(&dir.bytes("config.json", MAX_CONFIG)?)?;
        let (text, vision) = (&config.text_config, &config.vision_config);
        let preprocessor = dir.bytes("preprocessor_config.json", MAX_CONFIG)?;
        let preprocessor = Preprocessor::parse(&preprocessor, vision.image_size)?;
        let tokenizer = Tokenizer::open(dir, text.max_position_embeddings)?;
        if tokenizer.vocabulary() > text.vocab_size {
            return Err(Error::invalid(format!(
                "tokenizer.json has {} tokens and config.json a vocab_size of {}; take both from the same model",
                tokenizer.vocabulary(),
                text.vocab_size
            )));
        }
        let weights = &Weights::open(dir)?;

        let text_shape = Shape {
            width: text.hidden_size,
            inner: text.intermediate_size,
            layers: text.num_hidden_layers,
            heads: text.num_attention_heads,
            activation: text.hidden_act,
            epsilon: text.layer_norm_eps,
            causal: true,
        };
        let vision_shape = Shape {
            width: vision.hidden_size,
            inner: vision.intermediate_size,
            layers: vision.num_hidden_layers,
            heads: vision.num_attention_heads,
            activation: vision.hidden_act,
            epsilon: vision.layer_norm_eps,
            causal: false,
        };
        let places = vision.grid() * vision.grid() + 1;
        let kernel = [vision.hidden_size, vision.num_channels, vision.patch_size, vision.patch_size];
        let patch = kernel.iter().skip(1).product();
        let norm = |name: &str, width, epsilon| LayerNorm::load(weights, name, width, epsilon);
        let embedding = |name: &str, rows, width| Embedding::load(weights, &format!("{name}.weight"), rows, width);
        Ok(Clip {
            token_embedding: embedding("text_model.embeddings.token_embedding", text.vocab_size, text.hidden_size)?,
            text_positions: embedding(
                "text_model.embeddings.position_embedding",
                text.max_position_embeddings,
                text.hidden_size,
            )?,
            text: Encoder::load(weights, "text_model.encoder", text_shape)?,
            text_norm: norm("text_model.final_layer_norm", text.hidden_size, text.layer_norm_eps)?,
            text_projection: Linear::load(weights, "text_projection", text.hidden_size, config.projection_dim, false)?,
            patches: Linear::new(&weights.tensor("vision_model.embeddings.patch_embedding.weight", &kernel)?, patch),
            class: weights.tensor("vision_model.embeddings.class_embedding", &[vision.hidden_size])?,
            image_positions: embedding("vision_model.embeddings.position_embedding", places, vision.hidden_size)?,
            // The name has this misspelling since the first model.
            before_vision: norm("vision_model.pre_layrnorm", vision.hidden_size, vision.layer_norm_eps)?,
            vision: Encoder::load(weights, "vision_model.encoder", vision_shape)?,
            after_vision: norm("vision_model.post_layernorm", vision.hidden_size, vision.layer_norm_eps)?,
            visual_projection: Linear::load(
                weights,
                "visual_projection",
                vision.hidden_size,
                config.projection_dim,
                false,
            )?,
            preprocessor,
            tokenizer,
            config,
        })
    }

    fn embed_tokens(&self, texts: &[Vec<u32>], turn: &Turn) -> Result<Vec<Vec<f32>>> {
        let width = self.config.text_config.hidden_size;
        let mut x = Vec::new();
        let mut ends = Vec::with_capacity(texts.len());
        for ids in texts {
            ends.push(x.len() / width + self.end_of(ids));
            let start = x.len();
            for id in ids {
                let row = self.token_embedding.row(*id as usize);
                x.extend_from_slice(row.ok_or_else(|| super::tokenizer::unknown(*id))?);
            }
            add(x.get_mut(start..).unwrap_or_default(), self.text_positions.rows());
        }
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        self.text.apply(&mut x, &lengths, turn)?;
        finish(&x, &ends, width, &self.text_norm, &self.text_projection, turn)
    }

    /// The position of the token whose row represents the text.
    fn end_of(&self, ids: &[u32]) -> usize {
        let end = self.config.text_config.eos_token_id;
        let wanted = if end == NAMELESS_END { ids.iter().copied().max() } else { Some(end) };
        ids.iter().position(|id| Some(*id) == wanted).unwrap_or(0)
    }

    /// The vectors of images, from their patch rows `[patches, width]`.
    fn embed_patches(&self, images: &[Vec<f32>], turn: &Turn) -> Result<Vec<Vec<f32>>> {
        let vision = &self.config.vision_config;
        let (width, rows) = (vision.hidden_size, self.places());
        let mut x = Vec::with_capacity(images.len() * rows * width);
        for patches in images {
            let start = x.len();
            x.extend_from_slice(&self.class);
            x.extend_from_slice(patches);
            add(x.get_mut(start..).unwrap_or_default(), self.image_positions.rows());
        }
        self.before_vision.apply(&mut x);
        self.vision.apply(&mut x, &vec![rows; images.len()], turn)?;
        let places: Vec<usize> = (0..images.len()).map(|i| i * rows).collect();
        finish(&x, &places, width, &self.after_vision, &self.visual_projection, turn)
    }

    /// Rows of an image: its patches, and one for the class token.
    fn places(&self) -> usize {
        self.config.vision_config.grid().pow(2) + 1
    }

    /// The patch rows of an image file, `[patches, width]`: the model's first convolution, whose patches do not
    /// overlap.
    fn patches(&self, image: &[u8], turn: &Turn) -> Result<Vec<f32>> {
        let vision = &self.config.vision_config;
        let (side, patch, grid) = (vision.image_size, vision.patch_size, vision.grid());
        let pixels = self.preprocessor.pixels(image)?;
        let mut rows = Vec::with_capacity(grid * grid * patch * patch * 3);
        for (down, across) in (0..grid).flat_map(|down| (0..grid).map(move |across| (down, across))) {
            for plane in pixels.chunks_exact(side * side) {
                for line in plane.chunks_exact(side).skip(down * patch).take(patch) {
                    rows.extend(line.iter().skip(across * patch).take(patch));
                }
            }
        }
        self.patches.output(&rows, Activation::Identity, turn)
    }
}

impl LocalModel for Clip {
    fn kind(&self) -> &'static str {
        "clip"
    }

    fn memory_bytes(&self) -> u64 {
        let tables = [&self.token_embedding, &self.text_positions, &self.image_positions];
        let layers = [&self.text_projection, &self.patches, &self.visual_projection];
        let norms = [&self.text_norm, &self.before_vision, &self.after_vision];
        tables.iter().map(|t| t.memory_bytes()).sum::<u64>()
            + layers.iter().map(|l| l.memory_bytes()).sum::<u64>()
            + norms.iter().map(|n| n.memory_bytes()).sum::<u64>()
            + size_of_val(self.class.as_slice()) as u64
            + self.text.memory_bytes()
            + self.vision.memory_bytes()
            + self.tokenizer.memory_bytes()
    }

    fn dimensions(&self) -> Option<usize> {
        Some(self.config.projection_dim)
    }

    fn count_tokens(&self, text: &str, turn: &Turn) -> Result<usize> {
        self.tokenizer.count(text, turn)
    }

    fn token_ends(&self, text: &str, turn: &Turn) -> Result<Vec<usize>> {
        self.tokenizer.ends(text, turn)
    }

    fn max_tokens(&self) -> Option<usize> {
        Some(self.tokenizer.max_tokens())
    }

    fn embed(&self, texts: &[&str], options: EmbedOptions, turn: &Turn) -> Result<Vec<Result<Vec<f32>>>> {
        let encode = |text: &&str| match self.tokenizer.encode(text, options.truncate, turn) {
            Ok(tokens) if tokens.ids.is_empty() => {
                Err(Error::invalid("the text has no tokens; give one that is not empty"))
            }
            tokens => tokens.map(|t| t.ids),
        };
        in_batches(texts.iter().map(encode).collect(), Vec::len, |batch| self.embed_tokens(batch, turn))
    }

    /// Embeds JPEG, PNG, WebP or GIF files. The first frame counts.
    fn embed_images(&self, images: &[&[u8]], turn: &Turn) -> Result<Vec<Result<Vec<f32>>>> {
        let mut vectors = Vec::with_capacity(images.len());
        // Decoded images are large, so only some are in memory at once.
        for some in images.chunks((ROWS_AT_ONCE / self.places()).max(1)) {
            let mut patches = Vec::with_capacity(some.len());
            for image in some {
                turn.check()?;
                patches.push(self.patches(image, turn));
            }
            let batch = |batch: &[Vec<f32>]| self.embed_patches(batch, turn);
            vectors.append(&mut in_batches(patches, |_| self.places(), batch)?);
        }
        Ok(vectors)
    }
}

/// The vectors of the rows at `places` in `x`, `[tokens, width]`.
fn finish(
    x: &[f32],
    places: &[usize],
    width: usize,
    norm: &LayerNorm,
    projection: &Linear,
    turn: &Turn,
) -> Result<Vec<Vec<f32>>> {
    let mut rows = Vec::with_capacity(places.len() * width);
    for place in places {
        let row = x.get(place * width..(place + 1) * width);
        rows.extend_from_slice(row.ok_or_else(|| Error::internal("a text without an end"))?);
    }
    norm.apply(&mut rows);
    let out = projection.output(&rows, Activation::Identity, turn)?;
    let vectors = out.chunks_exact(projection.outputs().max(1)).map(|vector| {
        let mut vector = vector.to_vec();
        normalize(&mut vector);
        if vector.iter().all(|v| v.is_finite()) {
            Ok(vector)
        } else {
            Err(Error::response("the model computed a vector that is not finite; its weights are damaged"))
        }
    });
    vectors.collect()
}

/// Computes inputs in batches of at most [`ROWS_AT_ONCE`] rows or a single input. Errors stay in place.
fn in_batches<T>(
    inputs: Vec<Result<T>>,
    rows: impl Fn(&T) -> usize,
    compute: impl Fn(&[T]) -> Result<Vec<Vec<f32>>>,
) -> Result<Vec<Result<Vec<f32>>>> {
    let (mut results, mut good) = (Vec::with_capacity(inputs.len()), Vec::new());
    for input in inputs {
        match input {
            Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => return Err(e),
            input => results.push(input.map(|input| good.push(input))),
        }
    }
    let mut vectors = Vec::with_capacity(good.len());
    let mut rest = good.as_slice();
    while let Some(first) = rest.first() {
        let mut sum = rows(first);
        let more = rest.iter().skip(1).take_while(|input| {
            sum += rows(input);
            sum <= ROWS_AT_ONCE
        });
        let (batch, after) = rest.split_at(1 + more.count());
        vectors.append(&mut compute(batch)?);
        rest = after;
    }
    let mut vectors = vectors.into_iter();
    let mut next = |()| vectors.next().ok_or_else(|| Error::internal("a batch with too few vectors"));
    Ok(results.into_iter().map(|result| result.and_then(&mut next)).collect())
}

#[cfg(test)]
mod tests;
