//! CLIP: texts and images as vectors in one space, so that one is found by the other.
//!
//! The layout is that of openai/clip-vit-base-patch32 and its successors: `config.json`, `preprocessor_config.json`,
//! `tokenizer.json`, `model.safetensors`. Vectors have length 1. Follows transformers' CLIPModel.

mod config;
mod encoder;
pub mod image;
mod resample;

use std::path::Path;

use self::config::ClipConfig;
use self::encoder::{Encoder, Shape};
use self::image::Preprocessor;
use super::layers::{add, LayerNorm, Linear};
use super::read_small;
use super::text::TextTokens;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::threads::interrupt::CancelToken;
use crate::vector::normalize;

/// The most bytes of config.json and preprocessor_config.json.
const MAX_CONFIG: u64 = 1 << 20;
/// Tokens of texts, and patches of images, that go through the layers together.
const ROWS_AT_ONCE: usize = 512;
/// What stands for "the token with the largest id" in files that were written before it had a name.
const NAMELESS_END: u32 = 2;

/// A loaded CLIP model.
pub struct Clip {
    config: ClipConfig,
    preprocessor: Preprocessor,
    tokens: TextTokens,
    token_embedding: Linear,
    text_positions: Vec<f32>,
    text: Encoder,
    text_norm: LayerNorm,
    text_projection: Linear,
    patches: Linear,
    class: Vec<f32>,
    image_positions: Vec<f32>,
    before_vision: LayerNorm,
    vision: Encoder,
    after_vision: LayerNorm,
    visual_projection: Linear,
}

impl Clip {
    /// Loads the model in a folder.
    pub fn load(folder: &Path) -> Result<Self> {
        let config = ClipConfig::parse(&read_small(&folder.join("config.json"), MAX_CONFIG)?)?;
        let (text, vision) = (&config.text_config, &config.vision_config);
        let preprocessor = read_small(&folder.join("preprocessor_config.json"), MAX_CONFIG)?;
        let preprocessor = Preprocessor::parse(&preprocessor, vision.image_size)?;
        let tokens = TextTokens::load(&folder.join("tokenizer.json"), text.max_position_embeddings, text.vocab_size)?;
        let weights = &Weights::open(&folder.join("model.safetensors"))?;

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
        let table = |name: &str, rows, width| weights.read(&format!("{name}.weight"), &[rows, width]);
        Ok(Clip {
            token_embedding: Linear::new(
                table("text_model.embeddings.token_embedding", text.vocab_size, text.hidden_size)?,
                text.hidden_size,
            ),
            text_positions: table(
                "text_model.embeddings.position_embedding",
                text.max_position_embeddings,
                text.hidden_size,
            )?,
            text: Encoder::load(weights, "text_model.encoder", text_shape)?,
            text_norm: norm("text_model.final_layer_norm", text.hidden_size, text.layer_norm_eps)?,
            text_projection: Linear::load(weights, "text_projection", text.hidden_size, config.projection_dim, false)?,
            patches: Linear::new(weights.read("vision_model.embeddings.patch_embedding.weight", &kernel)?, patch),
            class: weights.read("vision_model.embeddings.class_embedding", &[vision.hidden_size])?,
            image_positions: table("vision_model.embeddings.position_embedding", places, vision.hidden_size)?,
            // So misspelt since the first model.
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
            tokens,
            config,
        })
    }

    /// Elements of its vectors.
    pub fn dimensions(&self) -> usize {
        self.config.projection_dim
    }

    /// Bytes of its weights.
    pub fn memory_bytes(&self) -> usize {
        let tables = self.text_positions.len() + self.class.len() + self.image_positions.len();
        let layers = [&self.token_embedding, &self.text_projection, &self.patches, &self.visual_projection];
        let norms = [&self.text_norm, &self.before_vision, &self.after_vision];
        let numbers = tables
            + self.text.size()
            + self.vision.size()
            + layers.iter().map(|l| l.size()).sum::<usize>()
            + norms.iter().map(|n| n.size()).sum::<usize>();
        4 * numbers
    }

    /// A vector for each text. A text with more tokens than the model takes is cut where `truncate`, and else an error.
    pub fn embed_texts(&self, texts: &[&str], truncate: bool, cancel: &CancelToken) -> Result<Vec<Vec<f32>>> {
        let ids = texts.iter().map(|text| self.tokens.encode(text, truncate)).collect::<Result<Vec<_>>>()?;
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in batches(&ids, Vec::len) {
            vectors.append(&mut self.embed_tokens(batch, cancel)?);
        }
        Ok(vectors)
    }

    fn embed_tokens(&self, texts: &[Vec<u32>], cancel: &CancelToken) -> Result<Vec<Vec<f32>>> {
        let width = self.config.text_config.hidden_size;
        let mut x = Vec::new();
        let mut ends = Vec::with_capacity(texts.len());
        for ids in texts {
            ends.push(x.len() / width + self.end_of(ids));
            let start = x.len();
            for id in ids {
                let row = self.token_embedding.row(*id as usize);
                x.extend_from_slice(row.ok_or_else(|| Error::internal("a token outside of the vocabulary"))?);
            }
            add(x.get_mut(start..).unwrap_or_default(), &self.text_positions);
        }
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        self.text.apply(&mut x, &lengths, cancel)?;
        finish(&x, &ends, width, &self.text_norm, &self.text_projection)
    }

    /// Where the token is that stands for the whole text.
    fn end_of(&self, ids: &[u32]) -> usize {
        let end = self.config.text_config.eos_token_id;
        let wanted = if end == NAMELESS_END { ids.iter().copied().max() } else { Some(end) };
        ids.iter().position(|id| Some(*id) == wanted).unwrap_or(0)
    }

    /// A vector for each image: the bytes of JPEG, PNG, WebP or GIF files, of which the first picture counts.
    pub fn embed_images(&self, images: &[&[u8]], cancel: &CancelToken) -> Result<Vec<Vec<f32>>> {
        let grid = self.config.vision_config.grid();
        let rows = grid * grid + 1;
        let mut vectors = Vec::with_capacity(images.len());
        for batch in images.chunks((ROWS_AT_ONCE / rows).max(1)) {
            let width = self.config.vision_config.hidden_size;
            let mut x = Vec::with_capacity(batch.len() * rows * width);
            for image in batch {
                if cancel.is_cancelled() {
                    return Err(Error::interrupted(1317));
                }
                let start = x.len();
                x.extend_from_slice(&self.class);
                x.append(&mut self.embed_patches(image)?);
                add(x.get_mut(start..).unwrap_or_default(), &self.image_positions);
            }
            let mut normed = Vec::new();
            self.before_vision.apply(&x, &mut normed);
            self.vision.apply(&mut normed, &vec![rows; batch.len()], cancel)?;
            let places: Vec<usize> = (0..batch.len()).map(|i| i * rows).collect();
            vectors.append(&mut finish(&normed, &places, width, &self.after_vision, &self.visual_projection)?);
        }
        Ok(vectors)
    }

    /// A row for each patch of an image: the convolution that the model begins with, whose patches do not overlap.
    fn embed_patches(&self, image: &[u8]) -> Result<Vec<f32>> {
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
        let mut out = Vec::new();
        self.patches.apply(&rows, &mut out)?;
        Ok(out)
    }
}

/// The vectors that the rows at `places` of `x` stand for.
fn finish(x: &[f32], places: &[usize], width: usize, norm: &LayerNorm, projection: &Linear) -> Result<Vec<Vec<f32>>> {
    let mut rows = Vec::with_capacity(places.len() * width);
    for place in places {
        let row = x.get(place * width..(place + 1) * width);
        rows.extend_from_slice(row.ok_or_else(|| Error::internal("a text without an end"))?);
    }
    let mut normed = Vec::new();
    norm.apply(&rows, &mut normed);
    let mut out = Vec::new();
    projection.apply(&normed, &mut out)?;
    let vectors = out.chunks_exact(projection.outputs()).map(|vector| {
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

/// Runs of texts of at most [`ROWS_AT_ONCE`] tokens together, or of a single one.
fn batches<T>(texts: &[T], length: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut batches = Vec::new();
    let (mut start, mut rows) = (0, 0);
    for (i, text) in texts.iter().enumerate() {
        let more = length(text);
        if i > start && rows + more > ROWS_AT_ONCE {
            batches.extend(texts.get(start..i));
            (start, rows) = (i, 0);
        }
        rows += more;
    }
    batches.extend(texts.get(start..).filter(|rest| !rest.is_empty()));
    batches
}

#[cfg(test)]
mod tests;
