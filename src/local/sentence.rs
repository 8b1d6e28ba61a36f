//! A sentence-transformers model: an encoder, and what modules.json puts behind it to make one vector of a text.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::bert::config::Config;
use super::bert::Encoder;
use super::compute::functions::Activation;
use super::compute::linear::Linear;
use super::compute::Packed;
use super::files::ModelDir;
use super::tokenizer::{Tokenizer, Tokens};
use super::weights::Weights;
use super::{check, EmbedOptions, LocalModel};
use crate::error::{cut, Error, Kind, Result};
use crate::providers::Role;
use crate::threads::interrupt::CancelToken;
use crate::vector;

/// Tokens that go through the encoder together: enough to read each weight seldom, few enough for a core's cache, and
/// so that whoever comes next waits a fraction of a second.
pub const TOKENS_AT_ONCE: usize = 512;

/// The most modules that modules.json may name.
const MAX_MODULES: usize = 16;

/// A model of sentences.
pub struct SentenceModel {
    tokenizer: Tokenizer,
    encoder: Encoder,
    pooling: Vec<Pooling>,
    then: Vec<Step>,
    lower_case: bool,
    prompts: Prompts,
    dimensions: usize,
}

/// How the tokens' rows become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooling {
    First,
    Last,
    Mean,
    /// The sum divided by the root of the number.
    MeanSqrt,
    Max,
}

/// What follows.
enum Step {
    Normalize,
    Dense(Linear, Activation),
}

/// What is put before texts.
#[derive(Debug, Default)]
struct Prompts {
    query: String,
    document: String,
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize, Default)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

#[derive(Deserialize, Default)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
}

#[derive(Deserialize)]
struct DenseConfig {
    in_features: usize,
    out_features: usize,
    bias: Option<bool>,
    activation_function: Option<String>,
}

#[derive(Deserialize, Default)]
struct TopConfig {
    #[serde(default)]
    prompts: std::collections::BTreeMap<String, Option<String>>,
    default_prompt_name: Option<String>,
}

impl SentenceModel {
    /// Loads the model in `dir`.
    pub fn open(dir: &ModelDir) -> Result<Self> {
        let modules: Option<Vec<Module>> = dir.optional_json("modules.json")?;
        let name = dir.name("modules.json");
        let modules = modules.unwrap_or_default();
        if modules.len() > MAX_MODULES {
            return Err(Error::invalid(format!(
                "{name} names {} modules; at most {MAX_MODULES} are read",
                modules.len()
            )));
        }
        let (mut body, mut pooling, mut dense) = (None, None, Vec::new());
        for module in &modules {
            // Class names have moved between releases; their last part stays.
            match module.kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" if body.is_none() && pooling.is_none() => body = Some(dir.below(&module.path)?),
                "Pooling" if pooling.is_none() => pooling = Some(read_pooling(&dir.below(&module.path)?)?),
                "Dense" if pooling.is_some() => dense.push(Some(dir.below(&module.path)?)),
                "Normalize" if pooling.is_some() => dense.push(None),
                _ => {
                    return Err(Error::new(
                        Kind::Unsupported,
                        format!(
                            "{name}: a module {} is not computed here at this place; Transformer, Pooling, Dense and Normalize are, in this order",
                            cut(&module.kind, 80)
                        ),
                    ))
                }
            }
        }
        // As sentence-transformers does with a plain encoder.
        let (pooling, pooled_by) = (pooling.unwrap_or_else(|| vec![Pooling::Mean]), dir);
        let body = body.as_ref().unwrap_or(pooled_by);
        let config = Config::open(body)?;
        let weights = Weights::open(body)?;
        let encoder = Encoder::open(body, config, &weights)?;
        drop(weights);

        let sentence: SentenceConfig = body.optional_json("sentence_bert_config.json")?.unwrap_or_default();
        let tokenizer_config: TokenizerConfig = body.optional_json("tokenizer_config.json")?.unwrap_or_default();
        let mut max_tokens = encoder.config().max_tokens();
        match (sentence.max_seq_length, tokenizer_config.model_max_length) {
            (Some(n), _) => max_tokens = max_tokens.min(n),
            // "No limit" is written as 1e30.
            (None, Some(n)) if n >= 1.0 && n < max_tokens as f64 => max_tokens = n as usize,
            _ => {}
        }
        let tokenizer = Tokenizer::open(body, max_tokens)?;

        let mut dimensions = encoder.config().hidden * pooling.len();
        let mut then = Vec::new();
        for step in dense {
            then.push(match step {
                None => Step::Normalize,
                Some(dir) => {
                    let (layer, activation) = read_dense(&dir, dimensions)?;
                    dimensions = layer.outputs();
                    Step::Dense(layer, activation)
                }
            });
        }
        if dimensions > vector::MAX_DIMENSIONS {
            return Err(Error::invalid(format!(
                "{}: the model makes vectors of {dimensions} dimensions; a VECTOR has at most {}",
                dir.shown(),
                vector::MAX_DIMENSIONS
            )));
        }
        let top: TopConfig = dir.optional_json("config_sentence_transformers.json")?.unwrap_or_default();
        Ok(SentenceModel {
            tokenizer,
            encoder,
            pooling,
            then,
            lower_case: sentence.do_lower_case,
            prompts: Prompts::of(&top),
            dimensions,
        })
    }

    fn tokens(&self, text: &str, options: EmbedOptions) -> Result<Tokens> {
        if text.trim().is_empty() {
            return Err(Error::invalid("the text is empty; there is nothing to embed"));
        }
        let prompt = match options.role {
            Role::Query => &self.prompts.query,
            Role::Document => &self.prompts.document,
        };
        // sentence-transformers strips texts.
        let text = text.trim();
        if prompt.is_empty() && !self.lower_case {
            return self.tokenizer.encode(text, options.truncate);
        }
        let text = format!("{prompt}{text}");
        let text = if self.lower_case { text.to_lowercase() } else { text };
        self.tokenizer.encode(&text, options.truncate)
    }

    /// The vectors of texts that go through the encoder together.
    fn together(&self, texts: &[Tokens], cancel: &CancelToken) -> Result<Vec<Vec<f32>>> {
        let rows = self.encoder.forward(texts, cancel)?;
        let hidden = self.encoder.config().hidden;
        let mut rest = rows.as_slice();
        let mut vectors = Vec::with_capacity(texts.len());
        for text in texts {
            let (own, others) = rest.split_at(rest.len().min(text.ids.len() * hidden));
            rest = others;
            let mut vector = Vec::with_capacity(self.dimensions);
            for pooling in &self.pooling {
                pooling.pool(own, hidden, &mut vector);
            }
            for step in &self.then {
                match step {
                    Step::Normalize => vector::normalize(&mut vector),
                    Step::Dense(layer, activation) => {
                        let mut packed = Packed::default();
                        packed.fill(&vector, vector.len());
                        vector = vec![0.0; layer.outputs()];
                        layer.apply(&packed, *activation, &mut vector);
                    }
                }
            }
            vectors.push(vector);
        }
        Ok(vectors)
    }
}

impl LocalModel for SentenceModel {
    fn kind(&self) -> &'static str {
        "bert"
    }

    fn memory_bytes(&self) -> u64 {
        let dense: u64 = self.then.iter().map(|s| if let Step::Dense(l, _) = s { l.memory_bytes() } else { 0 }).sum();
        self.encoder.memory_bytes() + dense + self.tokenizer.memory_bytes()
    }

    fn dimensions(&self) -> Option<usize> {
        Some(self.dimensions)
    }

    fn embed(&self, texts: &[&str], options: EmbedOptions, cancel: &CancelToken) -> Result<Vec<Result<Vec<f32>>>> {
        let mut vectors: Vec<Result<Vec<f32>>> = Vec::with_capacity(texts.len());
        let (mut places, mut group, mut tokens) = (Vec::new(), Vec::new(), 0);
        let flush = |places: &mut Vec<usize>, group: &mut Vec<Tokens>, vectors: &mut Vec<Result<Vec<f32>>>| {
            let made = if group.is_empty() { Vec::new() } else { self.together(group, cancel)? };
            for (place, vector) in places.drain(..).zip(made) {
                if let Some(slot) = vectors.get_mut(place) {
                    *slot = Ok(vector);
                }
            }
            group.clear();
            Result::Ok(())
        };
        for text in texts {
            check(cancel)?;
            match self.tokens(text, options) {
                Err(e) => vectors.push(Err(e)),
                Ok(made) => {
                    if tokens + made.ids.len() > TOKENS_AT_ONCE {
                        flush(&mut places, &mut group, &mut vectors)?;
                        tokens = 0;
                    }
                    tokens += made.ids.len();
                    places.push(vectors.len());
                    vectors.push(Err(Error::internal("a text got no vector")));
                    group.push(made);
                }
            }
        }
        flush(&mut places, &mut group, &mut vectors)?;
        Ok(vectors)
    }
}

impl Pooling {
    fn pool(self, rows: &[f32], hidden: usize, vector: &mut Vec<f32>) {
        let mut rows = rows.chunks_exact(hidden);
        let count = rows.len() as f32;
        match self {
            Pooling::First => vector.extend(rows.next().unwrap_or_default()),
            Pooling::Last => vector.extend(rows.last().unwrap_or_default()),
            Pooling::Mean | Pooling::MeanSqrt | Pooling::Max => {
                let mut pooled = rows.next().unwrap_or_default().to_vec();
                for row in rows {
                    let pairs = pooled.iter_mut().zip(row);
                    match self {
                        Pooling::Max => pairs.for_each(|(a, b)| *a = a.max(*b)),
                        _ => pairs.for_each(|(a, b)| *a += b),
                    }
                }
                let divisor = match self {
                    Pooling::Mean => count,
                    Pooling::MeanSqrt => count.sqrt(),
                    _ => 1.0,
                };
                vector.extend(pooled.iter().map(|x| x / divisor));
            }
        }
    }
}

/// 1_Pooling/config.json: in older releases a flag for each way, in newer ones their names.
fn read_pooling(dir: &ModelDir) -> Result<Vec<Pooling>> {
    let config: Map<String, Value> = dir.json("config.json")?;
    let unknown = |what: &str| {
        Error::new(
            Kind::Unsupported,
            format!("{}: pooling {} is not computed here", dir.name("config.json"), cut(what, 60)),
        )
    };
    let of = |name: &str| {
        Some(match name {
            "cls" | "cls_token" => Pooling::First,
            "lasttoken" => Pooling::Last,
            "mean" | "mean_tokens" => Pooling::Mean,
            "mean_sqrt_len" | "mean_sqrt_len_tokens" => Pooling::MeanSqrt,
            "max" | "max_tokens" => Pooling::Max,
            _ => return None,
        })
    };
    let names: Vec<&str> = match config.get("pooling_mode") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => config
            .iter()
            .filter(|(_, on)| **on == Value::Bool(true))
            .filter_map(|(name, _)| name.strip_prefix("pooling_mode_"))
            .collect(),
    };
    // Several are put behind each other, in this order.
    let mut ways = Vec::new();
    for name in names {
        ways.push(of(name).ok_or_else(|| unknown(name))?);
    }
    let order = [Pooling::First, Pooling::Max, Pooling::Mean, Pooling::MeanSqrt, Pooling::Last];
    ways.sort_by_key(|way| order.iter().position(|o| o == way));
    ways.dedup();
    if ways.is_empty() {
        return Err(unknown("of no kind"));
    }
    Ok(ways)
}

fn read_dense(dir: &ModelDir, inputs: usize) -> Result<(Linear, Activation)> {
    let config: DenseConfig = dir.json("config.json")?;
    if config.in_features != inputs || config.out_features == 0 || config.out_features > vector::MAX_DIMENSIONS {
        return Err(Error::invalid(format!(
            "{}: in_features is {} and out_features {}; what comes before makes {inputs} numbers",
            dir.name("config.json"),
            config.in_features,
            config.out_features
        )));
    }
    let name = config.activation_function.as_deref().unwrap_or("Tanh");
    let activation = match name.rsplit('.').next().unwrap_or_default() {
        "Identity" => Activation::None,
        "Tanh" => Activation::Tanh,
        "ReLU" => Activation::Relu,
        "GELU" => Activation::Gelu,
        other => {
            return Err(Error::new(
                Kind::Unsupported,
                format!("{}: activation_function {} is not known", dir.name("config.json"), cut(other, 60)),
            ))
        }
    };
    let weights = Weights::open(dir)?;
    let weight = weights.tensor("linear.weight", &[config.out_features, inputs])?;
    let bias = match config.bias {
        Some(false) => vec![0.0; config.out_features],
        _ => weights.tensor("linear.bias", &[config.out_features])?,
    };
    Ok((Linear::pack(&[(&weight, &bias)], inputs), activation))
}

impl Prompts {
    /// As `encode_query` and `encode_document` of sentence-transformers choose them.
    fn of(config: &TopConfig) -> Self {
        let named = |name: &str| config.prompts.get(name).cloned().flatten();
        let default = config.default_prompt_name.as_deref().and_then(named).unwrap_or_default();
        let first = |names: &[&str]| names.iter().find_map(|n| named(n)).unwrap_or_else(|| default.clone());
        Prompts { query: first(&["query"]), document: first(&["document", "passage", "corpus"]) }
    }
}
