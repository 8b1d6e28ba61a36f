//! The sizes in config.json of an encoder, and the names of its weights.

use serde::Deserialize;

use crate::files::ModelDir;
use crate::layers::Activation;
use crate::tokenizer::MOST_TOKENS;
use mysql_ml_base::error::{cut, Error, Kind, Result};

/// The bound of a model's sizes. The product of two of them does not overflow.
const MOST: usize = 1 << 20;

/// The maximum of `hidden` and of `intermediate`.
const WIDEST: usize = 8192;
const WIDEST_MIDDLE: usize = 1 << 16;

/// The maximum of heads.
const MOST_HEADS: usize = 256;

/// The maximum of bytes in a text's rows during computation.
const MOST_WORK: usize = 512 << 20;

/// The maximum of layers.
const MOST_LAYERS: usize = 200;

/// The supported architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// BERT, and models that differ only in training.
    Bert,
    /// RoBERTa, XLM-RoBERTa, CamemBERT: BERT with positions that begin behind the padding's position.
    Roberta,
    /// DistilBERT: BERT without segments.
    DistilBert,
    /// MPNet: positions like RoBERTa, and attention biases by distance.
    Mpnet,
}

/// An encoder's sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The architecture.
    pub architecture: Architecture,
    /// The length of a token's row.
    pub hidden: usize,
    /// The number of layers.
    pub layers: usize,
    /// The number of heads in each layer.
    pub heads: usize,
    /// The inner length of the feed-forward network.
    pub intermediate: usize,
    /// The activation of the feed-forward network.
    pub activation: Activation,
    /// The epsilon of the norms.
    pub epsilon: f32,
    /// The number of tokens in the vocabulary.
    pub vocabulary: usize,
    /// The number of rows in the position embeddings.
    pub positions: usize,
    /// The position of a text's first token.
    pub first_position: usize,
    /// The number of segments; 0 without segments.
    pub segments: usize,
    /// The number of distance buckets; 0 without biases by distance.
    pub distances: usize,
}

/// config.json, with the member names of all architectures.
#[derive(Deserialize)]
struct File {
    model_type: Option<String>,
    #[serde(alias = "dim")]
    hidden_size: usize,
    #[serde(alias = "n_layers")]
    num_hidden_layers: usize,
    #[serde(alias = "n_heads")]
    num_attention_heads: usize,
    #[serde(alias = "hidden_dim")]
    intermediate_size: usize,
    #[serde(alias = "activation")]
    hidden_act: Option<String>,
    layer_norm_eps: Option<f32>,
    vocab_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: Option<usize>,
    pad_token_id: Option<usize>,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
    relative_attention_num_buckets: Option<usize>,
}

impl Config {
    /// Reads and checks config.json.
    pub fn open(dir: &ModelDir) -> Result<Self> {
        const NAME: &str = "config.json";
        let unsupported = |what: String| Error::new(Kind::Unsupported, format!("{}: {what}", dir.name(NAME)));
        #[derive(Deserialize)]
        struct Kinds {
            model_type: Option<String>,
        }
        let kinds: Kinds = dir.json(NAME)?;
        let architecture = match kinds.model_type.as_deref() {
            Some("bert") | None => Architecture::Bert,
            Some("roberta" | "xlm-roberta" | "camembert") => Architecture::Roberta,
            Some("distilbert") => Architecture::DistilBert,
            Some("mpnet") => Architecture::Mpnet,
            Some(other) => {
                return Err(unsupported(format!(
                "model_type {} is not computed here; bert, roberta, xlm-roberta, camembert, distilbert and mpnet are",
                cut(other, 60)
            )))
            }
        };
        let file: File = dir.json(NAME)?;
        debug_assert_eq!(file.model_type, kinds.model_type);
        let position = file.position_embedding_type.as_deref().unwrap_or("absolute");
        if position != "absolute" {
            return Err(unsupported(format!("position_embedding_type {} is not computed here", cut(position, 60))));
        }
        if file.is_decoder {
            return Err(unsupported("is_decoder is true; encoders are computed here".into()));
        }
        let name = file.hidden_act.as_deref().unwrap_or("gelu");
        let activation =
            Activation::named(name).ok_or_else(|| unsupported(format!("hidden_act {} is not known", cut(name, 60))))?;
        let first_position = match architecture {
            Architecture::Roberta | Architecture::Mpnet => file.pad_token_id.unwrap_or(1).saturating_add(1),
            Architecture::Bert | Architecture::DistilBert => 0,
        };
        let segments = match architecture {
            Architecture::Bert => file.type_vocab_size.unwrap_or(2),
            Architecture::Roberta => file.type_vocab_size.unwrap_or(1),
            Architecture::DistilBert | Architecture::Mpnet => 0,
        };
        let distances = match architecture {
            Architecture::Mpnet => file.relative_attention_num_buckets.unwrap_or(32),
            _ => 0,
        };
        let config = Config {
            architecture,
            hidden: file.hidden_size,
            layers: file.num_hidden_layers,
            heads: file.num_attention_heads,
            intermediate: file.intermediate_size,
            activation,
            epsilon: file.layer_norm_eps.unwrap_or(1e-12),
            vocabulary: file.vocab_size,
            positions: file.max_position_embeddings,
            first_position,
            segments,
            distances,
        };
        config.check().map_err(|what| Error::invalid(format!("{}: {what}; fetch the file anew", dir.name(NAME))))?;
        Ok(config)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let sizes = [
            ("hidden_size", self.hidden),
            ("num_attention_heads", self.heads),
            ("intermediate_size", self.intermediate),
            ("max_position_embeddings", self.positions),
            ("vocab_size", self.vocabulary.div_ceil(64)),
        ];
        for (name, size) in sizes {
            if size == 0 || size > MOST {
                return Err(format!("{name} is out of bounds"));
            }
        }
        if self.hidden > WIDEST || self.intermediate > WIDEST_MIDDLE || self.heads > MOST_HEADS {
            return Err(format!(
                "hidden_size is above {WIDEST}, intermediate_size above {WIDEST_MIDDLE} or num_attention_heads above {MOST_HEADS}"
            ));
        }
        if self.layers == 0 || self.layers > MOST_LAYERS {
            return Err(format!("num_hidden_layers is {}", self.layers));
        }
        if !self.hidden.is_multiple_of(self.heads) {
            return Err(format!("hidden_size {} is no multiple of num_attention_heads {}", self.hidden, self.heads));
        }
        if self.first_position >= self.positions {
            return Err("pad_token_id leaves no position for a token".into());
        }
        if self.segments > 1000 || self.distances > 1 << 16 || !self.distances.is_multiple_of(4) {
            return Err("type_vocab_size or relative_attention_num_buckets is out of bounds".into());
        }
        if !(self.epsilon.is_finite() && self.epsilon >= 0.0) {
            return Err("layer_norm_eps is no small number".into());
        }
        Ok(())
    }

    /// The length of a row in one head.
    pub fn head(&self) -> usize {
        self.hidden / self.heads.max(1)
    }

    /// The maximum of tokens in a text: the number of positions within the bounds of this library.
    pub fn max_tokens(&self) -> usize {
        // Queries, keys, values and five other rows of each token are in memory at once.
        let work = MOST_WORK / (8 * size_of::<f32>() * self.hidden.max(1));
        (self.positions - self.first_position.min(self.positions)).min(MOST_TOKENS).min(work)
    }

    /// The name of a tensor in this architecture. `name` is BERT's name without prefix.
    pub fn tensor(&self, name: &str) -> String {
        let pairs: &[(&str, &str)] = match self.architecture {
            Architecture::Bert | Architecture::Roberta => &[],
            Architecture::Mpnet => &[
                ("attention.self.query", "attention.attn.q"),
                ("attention.self.key", "attention.attn.k"),
                ("attention.self.value", "attention.attn.v"),
                ("attention.output.dense", "attention.attn.o"),
                ("attention.output.LayerNorm", "attention.LayerNorm"),
            ],
            Architecture::DistilBert => &[
                ("encoder.layer.", "transformer.layer."),
                ("attention.self.query", "attention.q_lin"),
                ("attention.self.key", "attention.k_lin"),
                ("attention.self.value", "attention.v_lin"),
                ("attention.output.dense", "attention.out_lin"),
                ("attention.output.LayerNorm", "sa_layer_norm"),
                ("intermediate.dense", "ffn.lin1"),
                (".output.dense", ".ffn.lin2"),
                (".output.LayerNorm", ".output_layer_norm"),
            ],
        };
        pairs.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
    }
}
