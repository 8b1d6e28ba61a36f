//! A cross-encoder: an encoder that reads a query and a document together, and a head that makes a score of the first token.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::bert::config::{Architecture, Config};
use super::bert::{prefix, Encoder};
use super::files::ModelDir;
use super::layers::{Activation, Linear};
use super::sentence::{max_tokens, TOKENS_AT_ONCE};
use super::tokenizer::{Tokenizer, Tokens};
use super::turn::Turn;
use super::weights::Weights;
use super::{EmbedOptions, LocalModel, Ranked};
use mysql_ml_base::error::{cut, Error, Kind, Result};

/// A cross-encoder in memory.
pub struct CrossEncoder {
    tokenizer: Tokenizer,
    encoder: Encoder,
    /// The head: the row of the first token passes both layers.
    dense: Linear,
    activation: Activation,
    score: Linear,
    /// Whether a score is the sigmoid of the last layer's output.
    sigmoid: bool,
}

/// The members of config.json about the head.
#[derive(Deserialize)]
struct HeadConfig {
    id2label: Option<Map<String, Value>>,
    num_labels: Option<usize>,
    sentence_transformers: Option<Stored>,
    sbert_ce_default_activation_function: Option<String>,
}

/// What sentence-transformers stores about the score, in config.json or in a file of its own.
#[derive(Deserialize, Default)]
struct Stored {
    activation_fn: Option<String>,
    default_prompt_name: Option<String>,
}

/// A module in modules.json.
#[derive(Deserialize)]
struct Module {
    path: String,
}

#[derive(Deserialize, Default)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

impl CrossEncoder {
    /// Loads the model in `dir`.
    pub fn open(dir: &ModelDir) -> Result<Self> {
        const CONFIG: &str = "config.json";
        const OWN: &str = "config_sentence_transformers.json";
        let unsupported = |file: &str, what: &str| {
            Error::new(Kind::Unsupported, format!("{}: {what}; choose another model", dir.name(file)))
        };
        let modules: Option<Vec<Module>> = dir.optional_json("modules.json")?;
        if modules.is_some_and(|modules| modules.len() != 1 || modules.iter().any(|m| !m.path.is_empty())) {
            return Err(unsupported("modules.json", "a cross-encoder of several modules is not computed here"));
        }
        let head: HeadConfig = dir.json(CONFIG)?;
        let own: Stored = dir.optional_json(OWN)?.unwrap_or_default();
        if own.default_prompt_name.is_some() {
            return Err(unsupported(OWN, "default_prompt_name is not used here"));
        }
        let sentence: SentenceConfig = dir.optional_json("sentence_bert_config.json")?.unwrap_or_default();
        if sentence.do_lower_case {
            return Err(unsupported("sentence_bert_config.json", "do_lower_case is not done here"));
        }
        let labels = head.id2label.as_ref().map(Map::len).or(head.num_labels).unwrap_or(2);
        if labels != 1 {
            return Err(unsupported(CONFIG, &format!("it has {labels} labels; a model that ranks has one")));
        }
        let activation = own
            .activation_fn
            .or(head.sentence_transformers.and_then(|stored| stored.activation_fn))
            .or(head.sbert_ce_default_activation_function);
        let sigmoid = match activation.as_deref().map(|name| name.rsplit('.').next().unwrap_or_default()) {
            None | Some("Sigmoid") => true,
            Some("Identity") => false,
            Some(other) => {
                return Err(unsupported(CONFIG, &format!("activation_fn {} is not known", cut(other, 60))));
            }
        };

        let config = Config::open(dir)?;
        let weights = Weights::open(dir)?;
        let body = prefix(dir, &weights)?;
        let encoder = Encoder::open(dir, config, &weights)?;
        let hidden = encoder.config().hidden;
        let (dense, activation, score) = match encoder.config().architecture {
            Architecture::Bert => (format!("{body}pooler.dense"), Activation::Tanh, "classifier"),
            Architecture::Roberta | Architecture::Mpnet => {
                ("classifier.dense".to_owned(), Activation::Tanh, "classifier.out_proj")
            }
            Architecture::DistilBert => ("pre_classifier".to_owned(), Activation::Relu, "classifier"),
        };
        let dense = Linear::load(&weights, &dense, hidden, hidden, true)?;
        let score = Linear::load(&weights, score, hidden, 1, true)?;
        drop(weights);

        let tokenizer = Tokenizer::open(dir, max_tokens(dir, encoder.config(), sentence.max_seq_length)?)?;
        let model = CrossEncoder { tokenizer, encoder, dense, activation, score, sigmoid };
        // A first pair finds errors that any pair causes, so loading reports them.
        model.rank("a first query", &[(1, "a first document")], true, &Turn::default())?;
        Ok(model)
    }

    /// The scores of pairs that pass the encoder together.
    fn together(&self, pairs: &[Tokens], turn: &Turn) -> Result<Vec<f32>> {
        let rows = self.encoder.first_rows(pairs, turn)?;
        let pooled = self.dense.output(&rows, self.activation, turn)?;
        let mut scores = self.score.output(&pooled, Activation::Identity, turn)?;
        if self.sigmoid {
            scores.iter_mut().for_each(|score| *score = 1.0 / (1.0 + (-*score).exp()));
        }
        if scores.iter().any(|score| !score.is_finite()) {
            return Err(Error::invalid("the model makes a score that is not finite; its files do not belong together"));
        }
        Ok(scores)
    }
}

impl LocalModel for CrossEncoder {
    fn kind(&self) -> &'static str {
        "cross_encoder"
    }

    fn memory_bytes(&self) -> u64 {
        let head = self.dense.memory_bytes() + self.score.memory_bytes();
        self.encoder.memory_bytes() + head + self.tokenizer.memory_bytes()
    }

    fn dimensions(&self) -> Option<usize> {
        None
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

    fn embed(&self, _texts: &[&str], _options: EmbedOptions, _turn: &Turn) -> Result<Vec<Result<Vec<f32>>>> {
        Err(Error::invalid(
            "this model ranks documents and embeds none; call ai.rerank, or use one of provider bert_local",
        ))
    }

    fn rank(&self, query: &str, documents: &[(usize, &str)], truncate: bool, turn: &Turn) -> Result<Ranked> {
        let query = self.tokenizer.first_ids(query, truncate, turn).map_err(|e| e.context("query"))?;
        let mut ranked = Ranked::default();
        let (mut group, mut tokens) = (Vec::new(), 0);
        for (number, document) in documents {
            let pair = self.tokenizer.first_ids(document, truncate, turn);
            let pair = pair.and_then(|document| self.tokenizer.pair(&query, &document, truncate));
            let pair = pair.map_err(|e| match e.kind() {
                Kind::Interrupted(_) => e,
                _ => e.context(&format!("element {number} of documents (from 1)")),
            })?;
            if tokens + pair.ids.len() > TOKENS_AT_ONCE && !group.is_empty() {
                ranked.scores.extend(self.together(&group, turn)?);
                group.clear();
                tokens = 0;
            }
            tokens += pair.ids.len();
            ranked.tokens += pair.ids.len();
            group.push(pair);
        }
        if !group.is_empty() {
            ranked.scores.extend(self.together(&group, turn)?);
        }
        Ok(ranked)
    }
}
