//! `config.json` and `generation_config.json` of a T5 model.

use serde::Deserialize;

use crate::layers::Activation;
use crate::read_object;
use mysql_ml_base::error::{Error, Result};

/// The maximum of tokens in a prompt. Attention scores grow with its square.
const MAX_PROMPT: usize = 4096;

/// The maximum of bytes in the rows of a prompt, and in those of an answer.
const MOST_WORK: usize = 512 << 20;

/// A model's sizes. Missing members have the values of transformers' T5Config.
#[derive(Debug, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // the names are those of transformers' T5Config
pub struct T5Config {
    pub model_type: String,
    pub vocab_size: usize,
    pub d_model: usize,
    pub d_kv: usize,
    pub d_ff: usize,
    pub num_layers: usize,
    pub num_decoder_layers: Option<usize>,
    pub num_heads: usize,
    pub relative_attention_num_buckets: usize,
    pub relative_attention_max_distance: usize,
    pub layer_norm_epsilon: f32,
    pub feed_forward_proj: String,
    pub tie_word_embeddings: bool,
    pub eos_token_id: Ends,
    pub pad_token_id: u32,
    pub decoder_start_token_id: Option<u32>,
    /// The longest text in training.
    pub n_positions: usize,
}

/// One token or several that end an answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Ends {
    /// One token.
    One(u32),
    /// Several tokens.
    Any(Vec<u32>),
}

impl Ends {
    /// Whether the token ends an answer.
    pub fn contain(&self, token: u32) -> bool {
        match self {
            Ends::One(end) => *end == token,
            Ends::Any(ends) => ends.contains(&token),
        }
    }
}

/// Members of generation_config.json that replace those of config.json.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GenerationConfig {
    eos_token_id: Option<Ends>,
    decoder_start_token_id: Option<u32>,
    #[serde(flatten)]
    others: std::collections::BTreeMap<String, serde_json::Value>,
}

/// Other members of generation_config.json that change answers, with their neutral values.
const UNCHANGED: [(&str, &[f64]); 12] = [
    ("num_beams", &[1.0]),
    ("num_beam_groups", &[1.0]),
    ("repetition_penalty", &[1.0]),
    ("no_repeat_ngram_size", &[0.0]),
    ("encoder_no_repeat_ngram_size", &[0.0]),
    ("encoder_repetition_penalty", &[1.0]),
    ("min_length", &[0.0, 1.0]),
    ("min_new_tokens", &[0.0]),
    ("forced_bos_token_id", &[]),
    ("forced_eos_token_id", &[]),
    ("bad_words_ids", &[]),
    ("suppress_tokens", &[]),
];

impl Default for T5Config {
    fn default() -> Self {
        T5Config {
            model_type: "t5".into(),
            vocab_size: 32128,
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            num_layers: 6,
            num_decoder_layers: None,
            num_heads: 8,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: "relu".into(),
            tie_word_embeddings: true,
            eos_token_id: Ends::One(1),
            pad_token_id: 0,
            decoder_start_token_id: None,
            n_positions: 512,
        }
    }
}

impl T5Config {
    /// Reads and checks a config.json, and the generation_config.json if there is one.
    pub fn parse(json: &[u8], generation: Option<&[u8]>) -> Result<Self> {
        let mut config: T5Config =
            read_object(json).map_err(|e| Error::invalid(format!("config.json is not that of a T5 model ({e})")))?;
        if let Some(json) = generation {
            let generation: GenerationConfig = read_object(json)
                .map_err(|e| Error::invalid(format!("generation_config.json cannot be read ({e})")))?;
            for (name, unchanged) in UNCHANGED {
                let value = generation.others.get(name).filter(|v| !v.is_null());
                if value.is_some_and(|v| !v.as_f64().is_some_and(|v| unchanged.contains(&v))) {
                    return Err(Error::new(
                        mysql_ml_base::error::Kind::Unsupported,
                        format!("generation_config.json asks for {name}, which is not done here; choose another model"),
                    ));
                }
            }
            config.decoder_start_token_id = generation.decoder_start_token_id.or(config.decoder_start_token_id);
            config.eos_token_id = generation.eos_token_id.unwrap_or(config.eos_token_id);
        }
        let fault = |what: &str| Err(Error::invalid(format!("config.json is not that of a T5 model: {what}")));
        if config.model_type != "t5" {
            return fault("its model_type is not t5");
        }
        let sizes = [
            config.vocab_size,
            config.d_model,
            config.d_kv,
            config.d_ff,
            config.num_layers,
            config.decoder_layers(),
            config.num_heads,
            config.n_positions,
        ];
        if sizes.iter().any(|size| *size == 0 || *size > 1 << 20)
            || config.num_layers.max(config.decoder_layers()) > 1000
            || config.num_heads > 256
            || config.d_model > 8192
            || config.d_ff.max(config.num_heads * config.d_kv) > 1 << 16
        {
            return fault("a size is 0 or absurd");
        }
        let buckets = config.relative_attention_num_buckets;
        if !(4..=4096).contains(&buckets)
            || !buckets.is_multiple_of(4)
            || !(buckets..=1 << 20).contains(&config.relative_attention_max_distance)
        {
            return fault("its relative_attention_ numbers make no sense");
        }
        if config.start() as usize >= config.vocab_size {
            return fault("decoder_start_token_id is outside of the vocabulary");
        }
        config.network()?;
        config.n_positions = config.n_positions.min(MAX_PROMPT).min(config.most_tokens());
        Ok(config)
    }

    /// The number of decoder layers.
    pub fn decoder_layers(&self) -> usize {
        self.num_decoder_layers.unwrap_or(self.num_layers)
    }

    /// The maximum of tokens in a prompt or answer whose rows, keys and values fit the bound of memory.
    pub fn most_tokens(&self) -> usize {
        let inner = self.num_heads * self.d_kv;
        let kept = 2 * inner * self.decoder_layers();
        let rows = 5 * inner + 3 * self.d_ff + 4 * self.d_model;
        (MOST_WORK / (size_of::<f32>() * (kept + rows).max(1))).max(1)
    }

    /// The token before an answer's first token.
    pub fn start(&self) -> u32 {
        self.decoder_start_token_id.unwrap_or(self.pad_token_id)
    }

    /// The activation of the feed-forward networks, and whether they have a gate.
    pub fn network(&self) -> Result<(Activation, bool)> {
        let (gated, name) = match self.feed_forward_proj.strip_prefix("gated-") {
            // T5's older name of the tanh approximation.
            Some("gelu") => (true, "gelu_new"),
            Some(name) => (true, name),
            None => (false, self.feed_forward_proj.as_str()),
        };
        let activation = Activation::named(name).ok_or_else(|| {
            Error::invalid(format!(
                "config.json has a feed_forward_proj that is not known: '{}'",
                self.feed_forward_proj
            ))
        })?;
        Ok((activation, gated))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_read() {
        let json =
            br#"{"model_type":"t5","feed_forward_proj":"gated-gelu","tie_word_embeddings":false,"n_positions":100000}"#;
        let config = T5Config::parse(json, Some(br#"{"decoder_start_token_id":5,"eos_token_id":[1,7]}"#)).unwrap();
        assert_eq!(config.network().unwrap(), (Activation::GeluTanh, true));
        assert!(config.eos_token_id.contain(7) && !config.eos_token_id.contain(0));
        assert_eq!((config.start(), config.n_positions), (5, MAX_PROMPT));
        let config = T5Config::parse(br#"{"pad_token_id":3}"#, None).unwrap();
        assert_eq!((config.network().unwrap(), config.start()), ((Activation::Relu, false), 3));
    }

    #[test]
    fn other_files_are_refused() {
        for bad in [
            "[]",
            r#"{"model_type":"mt6"}"#,
            r#"{"d_model":0}"#,
            r#"{"num_heads":-1}"#,
            r#"{"num_layers":99999}"#,
            r#"{"relative_attention_num_buckets":1}"#,
            r#"{"relative_attention_max_distance":3}"#,
            r#"{"decoder_start_token_id":99999999}"#,
            r#"{"feed_forward_proj":"gated-mish"}"#,
        ] {
            assert!(T5Config::parse(bad.as_bytes(), None).is_err(), "{bad}");
        }
        assert!(T5Config::parse(b"{}", Some(b"[")).is_err());
        for asked in [r#"{"num_beams":4}"#, r#"{"repetition_penalty":1.2}"#, r#"{"forced_bos_token_id":3}"#] {
            let error = T5Config::parse(b"{}", Some(asked.as_bytes())).unwrap_err();
            assert!(error.message().contains("not done here"), "{asked}: {error}");
        }
        let usual = br#"{"num_beams":1,"max_length":20,"do_sample":false,"forced_bos_token_id":null}"#;
        assert!(T5Config::parse(b"{}", Some(usual)).is_ok());
    }

    #[test]
    fn sizes_are_bounded_before_memory_is_asked_for_them() {
        let of = |name: &str, size: usize| T5Config::parse(format!("{{\"{name}\":{size}}}").as_bytes(), None);
        for (name, most) in [
            ("vocab_size", 1 << 20),
            ("d_model", 8192),
            ("d_kv", (1 << 16) / 8),
            ("d_ff", 1 << 16),
            ("num_layers", 1000),
            ("num_decoder_layers", 1000),
            ("num_heads", 256),
            ("n_positions", 1 << 20),
            ("relative_attention_num_buckets", 128),
            ("relative_attention_max_distance", 1 << 20),
        ] {
            assert!(of(name, most).is_ok(), "{name} {most}: {:?}", of(name, most));
            for more in [most + 4, usize::MAX] {
                assert!(of(name, more).is_err(), "{name} {more}");
            }
        }
        // The rows of a prompt and the cache of an answer have the same bound.
        let widest =
            r#"{"d_model":8192,"d_ff":65536,"d_kv":256,"num_heads":256,"num_layers":1000,"n_positions":1048576}"#;
        let config = T5Config::parse(widest.as_bytes(), None).unwrap();
        let kept = 2 * config.num_heads * config.d_kv * config.decoder_layers();
        assert!(config.n_positions == 1 && config.most_tokens() == 1, "{}", config.n_positions);
        assert!(size_of::<f32>() * kept <= MOST_WORK, "of one token");
        let config = T5Config::parse(br#"{"n_positions":1048576}"#, None).unwrap();
        assert_eq!(config.n_positions, MAX_PROMPT);
    }
}
