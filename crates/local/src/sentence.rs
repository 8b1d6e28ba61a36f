//! A sentence-transformers model: an encoder and the modules of modules.json, which turn token rows into one vector.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::bert::config::Config;
use super::bert::Encoder;
use super::files::ModelDir;
use super::layers::{add, Activation, LayerNorm, Linear};
use super::tokenizer::{Tokenizer, Tokens};
use super::turn::Turn;
use super::weights::Weights;
use super::{shortened, EmbedOptions, LocalModel};
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::role::Role;
use mysql_ml_base::vector;

/// Tokens that pass the encoder together. More would reuse each weight more often; fewer fit a core's cache, and the
/// next call waits a fraction of a second.
pub const TOKENS_AT_ONCE: usize = 512;

/// The maximum of modules in modules.json.
const MAX_MODULES: usize = 16;

/// Names of one configuration file in sentence-transformers. The first existing file counts.
const SENTENCE_CONFIGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// A sentence-transformers model in memory.
pub struct SentenceModel {
    tokenizer: Tokenizer,
    encoder: Encoder,
    pooling: Pooling,
    then: Then,
    lower_case: bool,
    prompts: Prompts,
    /// Tokens before a text that pooling skips, for queries and documents.
    left_out: [usize; 2],
}

/// Pooling: one vector from the rows of all tokens.
struct Pooling {
    ways: Vec<Way>,
    /// Whether pooling includes the tokens of prompts.
    with_prompt: bool,
}

/// A pooling mode. The vectors of several modes are concatenated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    First,
    Max,
    Mean,
    /// The sum divided by the square root of the count.
    MeanSqrt,
    /// Each token weighs its position, from 1 on.
    WeightedMean,
    Last,
}

/// A module behind pooling.
enum Step {
    Normalize,
    Dense { layer: Linear, activation: Activation, residual: Residual },
    LayerNorm(LayerNorm),
}

/// The residual that a dense layer adds to its output.
enum Residual {
    None,
    Input,
    Layer(Linear),
}

/// The modules behind pooling, from a vector to a vector.
pub(super) struct Then {
    steps: Vec<Step>,
    dimensions: usize,
}

/// Prompts that precede texts.
#[derive(Debug, Default)]
pub(super) struct Prompts {
    query: String,
    document: String,
}

/// The contents of modules.json.
pub(super) struct Modules {
    list: Vec<Module>,
    /// The file's name, for errors.
    name: String,
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
    #[serde(flatten)]
    others: Map<String, Value>,
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
    #[serde(default)]
    use_residual: bool,
    module_input_name: Option<String>,
    module_output_name: Option<String>,
}

#[derive(Deserialize)]
struct LayerNormConfig {
    dimension: usize,
}

#[derive(Deserialize, Default)]
struct TopConfig {
    #[serde(default)]
    prompts: std::collections::BTreeMap<String, Option<String>>,
    default_prompt_name: Option<String>,
    model_type: Option<String>,
}

impl Modules {
    /// Reads the file; `None` without one.
    pub fn read(dir: &ModelDir) -> Result<Option<Self>> {
        const FILE: &str = "modules.json";
        let list: Option<Vec<Module>> = dir.optional_json(FILE)?;
        let name = dir.name(FILE);
        let Some(list) = list else { return Ok(None) };
        if list.is_empty() || list.len() > MAX_MODULES {
            return Err(Error::invalid(format!("{name} names {} modules; 1 to {MAX_MODULES} are read", list.len())));
        }
        Ok(Some(Modules { list, name }))
    }

    /// The kind of a module: the last part of its class name, because releases moved classes between packages. Other
    /// packages' classes keep their full name, which matches no kind.
    fn kind(module: &Module) -> &str {
        match module.kind.rsplit_once('.') {
            Some((package, kind)) if package.split('.').next() == Some("sentence_transformers") => kind,
            _ => &module.kind,
        }
    }

    fn refused(&self, module: &Module) -> Error {
        Error::new(
            Kind::Unsupported,
            format!(
                "{}: a module {} is not computed here at this place; choose another model",
                self.name,
                cut(&module.kind, 80)
            ),
        )
    }

    /// The directory of the first module. An error if the module has another kind.
    pub fn first(&self, dir: &ModelDir, kind: &str) -> Result<ModelDir> {
        match self.list.first() {
            Some(module) if Self::kind(module) == kind => dir.below(&module.path),
            Some(module) => Err(self.refused(module)),
            None => Err(Error::internal("a list of modules is empty")),
        }
    }

    /// The modules behind the first one, whose vectors are `[dimensions]`.
    pub fn then(&self, dir: &ModelDir, dimensions: usize) -> Result<Then> {
        self.behind(dir, dimensions, 1)
    }

    fn behind(&self, dir: &ModelDir, dimensions: usize, first: usize) -> Result<Then> {
        let mut then = Then::nothing(dimensions);
        for module in self.list.iter().skip(first) {
            let step = match Self::kind(module) {
                "Normalize" => Step::Normalize,
                // Inference skips dropout.
                "Dropout" => continue,
                "Dense" => read_dense(&dir.below(&module.path)?, &mut then.dimensions)?,
                "LayerNorm" => read_layer_norm(&dir.below(&module.path)?, then.dimensions)?,
                _ => return Err(self.refused(module)),
            };
            then.steps.push(step);
        }
        if then.dimensions > vector::MAX_DIMENSIONS {
            return Err(Error::invalid(format!(
                "{}: the model makes vectors of {} dimensions; a VECTOR has at most {}",
                dir.shown(),
                then.dimensions,
                vector::MAX_DIMENSIONS
            )));
        }
        Ok(then)
    }
}

impl Then {
    /// No modules, for vectors `[dimensions]`.
    pub fn nothing(dimensions: usize) -> Self {
        Then { steps: Vec::new(), dimensions }
    }

    /// Appends a module that normalises vectors to length 1.
    pub fn normalize(&mut self) {
        self.steps.push(Step::Normalize);
    }

    /// The length of the output vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Whether all output vectors have length 1.
    pub fn has_unit_length(&self) -> bool {
        matches!(self.steps.last(), Some(Step::Normalize))
    }

    /// Bytes of the modules' weights.
    pub fn memory_bytes(&self) -> u64 {
        let of = |step: &Step| match step {
            Step::Normalize => 0,
            Step::Dense { layer, residual, .. } => {
                layer.memory_bytes() + if let Residual::Layer(layer) = residual { layer.memory_bytes() } else { 0 }
            }
            Step::LayerNorm(norm) => norm.memory_bytes(),
        };
        self.steps.iter().map(of).sum()
    }

    /// Computes the output vector of `vector`.
    pub fn apply(&self, mut vector: Vec<f32>, turn: &Turn) -> Result<Vec<f32>> {
        for step in &self.steps {
            match step {
                Step::Normalize => vector::normalize(&mut vector),
                Step::LayerNorm(norm) => norm.apply(&mut vector),
                Step::Dense { layer, activation, residual } => {
                    let mut made = layer.output(&vector, *activation, turn)?;
                    match residual {
                        Residual::None => {}
                        Residual::Input => add(&mut made, &vector),
                        Residual::Layer(layer) => add(&mut made, &layer.output(&vector, Activation::Identity, turn)?),
                    }
                    vector = made;
                }
            }
        }
        Ok(vector)
    }
}

/// The most tokens of a text: the encoder's, within the `max_seq_length` of a file or the tokenizer's own maximum.
pub(super) fn max_tokens(dir: &ModelDir, config: &Config, max_seq_length: Option<usize>) -> Result<usize> {
    let tokenizer: TokenizerConfig = dir.optional_json("tokenizer_config.json")?.unwrap_or_default();
    let most = config.max_tokens();
    Ok(match (max_seq_length, tokenizer.model_max_length) {
        (Some(n), _) => most.min(n),
        // Files write "no limit" as 1e30.
        (None, Some(n)) if n >= 1.0 && n < most as f64 => n as usize,
        _ => most,
    })
}

/// The default of torch's LayerNorm.
const LAYER_NORM_EPSILON: f32 = 1e-5;

impl SentenceModel {
    /// Loads the model in `dir`.
    pub fn open(dir: &ModelDir) -> Result<Self> {
        let modules = Modules::read(dir)?;
        let (body, pooling) = match &modules {
            // sentence-transformers pools a plain encoder by the mean.
            None => (dir.clone(), Pooling { ways: vec![Way::Mean], with_prompt: true }),
            Some(modules) => {
                let body = modules.first(dir, "Transformer")?;
                match modules.list.get(1) {
                    Some(module) if Modules::kind(module) == "Pooling" => {
                        (body, read_pooling(&dir.below(&module.path)?)?)
                    }
                    Some(module) => return Err(modules.refused(module)),
                    None => {
                        return Err(Error::new(
                            Kind::Unsupported,
                            format!(
                                "{} names no pooling; choose a model that makes one vector of a text",
                                modules.name
                            ),
                        ))
                    }
                }
            }
        };
        let config = Config::open(&body)?;
        let weights = Weights::open(&body)?;
        let encoder = Encoder::open(&body, config, &weights)?;
        drop(weights);

        let sentence = read_sentence_config(&body)?;
        let max_tokens = max_tokens(&body, encoder.config(), sentence.max_seq_length)?;
        let tokenizer = Tokenizer::open(&body, max_tokens)?;
        let dimensions = encoder.config().hidden * pooling.ways.len();
        let then = match &modules {
            Some(modules) => modules.behind(dir, dimensions, 2)?,
            None => Then::nothing(dimensions),
        };
        let mut model = SentenceModel {
            tokenizer,
            encoder,
            pooling,
            then,
            lower_case: sentence.do_lower_case,
            prompts: Prompts::read(dir)?,
            left_out: [0; 2],
        };
        if !model.pooling.with_prompt {
            model.left_out = [model.left_out(Role::Query)?, model.left_out(Role::Document)?];
        }
        Ok(model)
    }

    /// The number of tokens of a prompt, including special tokens before it.
    fn left_out(&self, role: Role) -> Result<usize> {
        match self.prompts.of(role) {
            "" => Ok(0),
            prompt => self.tokenizer.count_before(&self.lowered(prompt.to_owned()), &Turn::default()),
        }
    }

    fn lowered(&self, text: String) -> String {
        if self.lower_case {
            text.to_lowercase()
        } else {
            text
        }
    }

    fn tokens(&self, text: &str, options: EmbedOptions, turn: &Turn) -> Result<Tokens> {
        if text.trim().is_empty() {
            return Err(Error::invalid("the text is empty; there is nothing to embed"));
        }
        let prompt = self.prompts.of(options.role);
        // sentence-transformers strips texts.
        let text = text.trim();
        if prompt.is_empty() && !self.lower_case {
            return self.tokenizer.encode(text, options.truncate, turn);
        }
        let text = self.lowered(format!("{prompt}{text}"));
        let tokens = self.tokenizer.encode(&text, options.truncate, turn)?;
        if self.skipped(options.role) >= tokens.ids.len() {
            return Err(Error::invalid(
                "the model's prompt takes all tokens, and nothing of the text is left; choose a model that takes longer texts",
            ));
        }
        Ok(tokens)
    }

    /// The number of leading tokens that pooling skips.
    fn skipped(&self, role: Role) -> usize {
        let [query, document] = self.left_out;
        match role {
            Role::Query => query,
            Role::Document => document,
        }
    }

    /// The vectors of texts that pass the encoder together.
    fn together(&self, texts: &[Tokens], options: EmbedOptions, turn: &Turn) -> Result<Vec<Vec<f32>>> {
        let rows = self.encoder.forward(texts, turn)?;
        let hidden = self.encoder.config().hidden;
        let mut rest = rows.as_slice();
        let mut vectors = Vec::with_capacity(texts.len());
        for text in texts {
            let (own, others) = rest.split_at(rest.len().min(text.ids.len() * hidden));
            rest = others;
            let mut vector = Vec::with_capacity(hidden * self.pooling.ways.len());
            for way in &self.pooling.ways {
                way.pool(own, hidden, self.skipped(options.role), &mut vector);
            }
            vectors.push(self.then.apply(vector, turn)?);
        }
        Ok(vectors)
    }
}

impl LocalModel for SentenceModel {
    fn kind(&self) -> &'static str {
        "bert"
    }

    fn memory_bytes(&self) -> u64 {
        self.encoder.memory_bytes() + self.then.memory_bytes() + self.tokenizer.memory_bytes()
    }

    fn dimensions(&self) -> Option<usize> {
        Some(self.then.dimensions())
    }

    fn count_tokens(&self, text: &str, turn: &Turn) -> Result<usize> {
        self.tokenizer.count(&self.lowered(format!("{}{}", self.prompts.of(Role::Document), text.trim())), turn)
    }

    fn token_ends(&self, text: &str, turn: &Turn) -> Result<Vec<usize>> {
        self.tokenizer.ends(text, turn)
    }

    fn max_tokens(&self) -> Option<usize> {
        Some(self.tokenizer.max_tokens())
    }

    fn embed(&self, texts: &[&str], options: EmbedOptions, turn: &Turn) -> Result<Vec<Result<Vec<f32>>>> {
        let mut vectors: Vec<Result<Vec<f32>>> = Vec::with_capacity(texts.len());
        let (mut places, mut group, mut tokens) = (Vec::new(), Vec::new(), 0);
        let flush = |places: &mut Vec<usize>, group: &mut Vec<Tokens>, vectors: &mut Vec<Result<Vec<f32>>>| {
            let made = if group.is_empty() { Vec::new() } else { self.together(group, options, turn)? };
            for (place, vector) in places.drain(..).zip(made) {
                if let Some(slot) = vectors.get_mut(place) {
                    *slot = shortened(vector, options.dimensions, self.then.has_unit_length());
                }
            }
            group.clear();
            Result::Ok(())
        };
        for text in texts {
            turn.check()?;
            match self.tokens(text, options, turn) {
                Err(e) if matches!(e.kind(), Kind::Interrupted(_)) => return Err(e),
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

impl Way {
    /// Appends the pooled rows of a text to `vector`. Pooling skips the first `skipped` rows, which belong to a
    /// prompt.
    fn pool(self, rows: &[f32], hidden: usize, skipped: usize, vector: &mut Vec<f32>) {
        let mut rows = rows.chunks_exact(hidden).skip(skipped);
        let count = rows.len() as f32;
        match self {
            Way::First => vector.extend(rows.next().unwrap_or_default()),
            Way::Last => vector.extend(rows.last().unwrap_or_default()),
            Way::WeightedMean => {
                let mut pooled = vec![0.0; hidden];
                let mut sum = 0.0;
                for (place, row) in rows.enumerate() {
                    let weight = (skipped + place + 1) as f32;
                    sum += weight;
                    pooled.iter_mut().zip(row).for_each(|(a, b)| *a += weight * b);
                }
                vector.extend(pooled.iter().map(|x| x / sum));
            }
            Way::Mean | Way::MeanSqrt | Way::Max => {
                let mut pooled = rows.next().unwrap_or_default().to_vec();
                for row in rows {
                    let pairs = pooled.iter_mut().zip(row);
                    match self {
                        Way::Max => pairs.for_each(|(a, b)| *a = a.max(*b)),
                        _ => pairs.for_each(|(a, b)| *a += b),
                    }
                }
                let divisor = match self {
                    Way::Mean => count,
                    Way::MeanSqrt => count.sqrt(),
                    _ => 1.0,
                };
                vector.extend(pooled.iter().map(|x| x / divisor));
            }
        }
    }
}

/// The file about lengths and letter case, under any of its names. Unknown members are refused.
fn read_sentence_config(dir: &ModelDir) -> Result<SentenceConfig> {
    let Some(name) = SENTENCE_CONFIGS.into_iter().find(|name| dir.has(name)) else {
        return Ok(SentenceConfig::default());
    };
    let config: SentenceConfig = dir.json(name)?;
    for (member, value) in &config.others {
        let is_nothing = value.is_null()
            || *value == Value::Bool(false)
            || value.as_object().is_some_and(Map::is_empty)
            || value.as_str().is_some_and(|text| text == "feature-extraction" || text == "token_embeddings");
        // Names of inputs and outputs, and the padding of batches, which change no vector.
        let is_usual = member == "unpad_inputs"
            || (member == "modality_config"
                && value.get("text").and_then(|t| t.get("method")).is_none_or(|m| m == "forward"));
        if !is_nothing && !is_usual {
            return Err(Error::new(
                Kind::Unsupported,
                format!("{}: {} is not done here; choose another model", dir.name(name), cut(member, 60)),
            ));
        }
    }
    Ok(config)
}

/// Reads 1_Pooling/config.json. Older releases write a flag for each mode, newer ones the modes' names.
fn read_pooling(dir: &ModelDir) -> Result<Pooling> {
    let config: Map<String, Value> = dir.json("config.json")?;
    let unknown = |what: &str| {
        Error::new(
            Kind::Unsupported,
            format!("{}: pooling {} is not computed here", dir.name("config.json"), cut(what, 60)),
        )
    };
    let of = |name: &str| {
        Some(match name {
            "cls" | "cls_token" => Way::First,
            "lasttoken" => Way::Last,
            "mean" | "mean_tokens" => Way::Mean,
            "mean_sqrt_len" | "mean_sqrt_len_tokens" => Way::MeanSqrt,
            "max" | "max_tokens" => Way::Max,
            "weightedmean" | "weightedmean_tokens" => Way::WeightedMean,
            _ => return None,
        })
    };
    let with_prompt = match config.get("include_prompt") {
        None | Some(Value::Null) => true,
        Some(Value::Bool(with)) => *with,
        Some(_) => return Err(unknown("include_prompt")),
    };
    let mut ways = Vec::new();
    match config.get("pooling_mode") {
        Some(Value::String(name)) => ways.push(of(name).ok_or_else(|| unknown(name))?),
        // The order of the list counts.
        Some(Value::Array(names)) => {
            for name in names {
                let name = name.as_str().unwrap_or("of no name");
                ways.push(of(name).ok_or_else(|| unknown(name))?);
            }
        }
        Some(_) => return Err(unknown("of no name")),
        None => {
            for (name, on) in config.iter().filter_map(|(name, on)| Some((name.strip_prefix("pooling_mode_")?, on))) {
                match on {
                    Value::Bool(false) | Value::Null => {}
                    Value::Bool(true) => ways.push(of(name).ok_or_else(|| unknown(name))?),
                    _ => return Err(unknown(name)),
                }
            }
            let order = [Way::First, Way::Max, Way::Mean, Way::MeanSqrt, Way::WeightedMean, Way::Last];
            ways.sort_by_key(|way| order.iter().position(|o| o == way));
            if ways.is_empty() {
                ways.push(Way::Mean);
            }
        }
    }
    for name in config.keys() {
        let is_known = matches!(name.as_str(), "word_embedding_dimension" | "embedding_dimension" | "include_prompt")
            || name.starts_with("pooling_mode");
        if !is_known {
            return Err(unknown(name));
        }
    }
    if ways.is_empty() || ways.len() > 6 {
        return Err(unknown("of no kind"));
    }
    Ok(Pooling { ways, with_prompt })
}

fn read_dense(dir: &ModelDir, dimensions: &mut usize) -> Result<Step> {
    let inputs = *dimensions;
    let config: DenseConfig = dir.json("config.json")?;
    if config.in_features != inputs || config.out_features == 0 || config.out_features > vector::MAX_DIMENSIONS {
        return Err(Error::invalid(format!(
            "{}: in_features is {} and out_features {}; what comes before makes {inputs} numbers",
            dir.name("config.json"),
            config.in_features,
            config.out_features
        )));
    }
    let of_sentences = |name: &Option<String>| name.as_deref().is_none_or(|name| name == "sentence_embedding");
    if !of_sentences(&config.module_input_name) || !of_sentences(&config.module_output_name) {
        return Err(Error::new(
            Kind::Unsupported,
            format!("{}: a layer for other things than a text's vector is not computed here", dir.name("config.json")),
        ));
    }
    let name = config.activation_function.as_deref().unwrap_or("Tanh");
    let activation = match name.rsplit('.').next().unwrap_or_default() {
        "Identity" => Activation::Identity,
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
    let outputs = config.out_features;
    let layer = Linear::load(&weights, "linear", inputs, outputs, config.bias != Some(false))?;
    let residual = match config.use_residual {
        false => Residual::None,
        true if inputs == outputs => Residual::Input,
        true => Residual::Layer(Linear::load(&weights, "residual", inputs, outputs, false)?),
    };
    *dimensions = outputs;
    Ok(Step::Dense { layer, activation, residual })
}

fn read_layer_norm(dir: &ModelDir, dimensions: usize) -> Result<Step> {
    let config: LayerNormConfig = dir.json("config.json")?;
    if config.dimension != dimensions {
        return Err(Error::invalid(format!(
            "{}: dimension is {}; what comes before makes {dimensions} numbers",
            dir.name("config.json"),
            config.dimension
        )));
    }
    Ok(Step::LayerNorm(LayerNorm::load(&Weights::open(dir)?, "norm", dimensions, LAYER_NORM_EPSILON)?))
}

impl Prompts {
    /// Reads the prompts that `encode_query` and `encode_document` of sentence-transformers use.
    pub fn read(dir: &ModelDir) -> Result<Self> {
        const FILE: &str = "config_sentence_transformers.json";
        let config: TopConfig = dir.optional_json(FILE)?.unwrap_or_default();
        if let Some(kind) = config.model_type.as_deref().filter(|kind| *kind != "SentenceTransformer") {
            return Err(Error::new(
                Kind::Unsupported,
                format!("{}: model_type {} is not computed here; choose another model", dir.name(FILE), cut(kind, 60)),
            ));
        }
        let named = |name: &str| config.prompts.get(name).cloned().flatten();
        let default = config.default_prompt_name.as_deref().and_then(named).unwrap_or_default();
        let first = |names: &[&str]| names.iter().find_map(|n| named(n)).unwrap_or_else(|| default.clone());
        let prompts = Prompts { query: first(&["query"]), document: first(&["document", "passage", "corpus"]) };
        if prompts.query.len().max(prompts.document.len()) > LONGEST_PROMPT {
            return Err(Error::new(
                Kind::TooLarge,
                format!("{}: a prompt has more than {LONGEST_PROMPT} bytes; choose another model", dir.name(FILE)),
            ));
        }
        Ok(prompts)
    }

    /// The prompt for texts of a role.
    pub fn of(&self, role: Role) -> &str {
        match role {
            Role::Query => &self.query,
            Role::Document => &self.document,
        }
    }
}

/// The maximum of bytes in a prompt.
const LONGEST_PROMPT: usize = 8192;
