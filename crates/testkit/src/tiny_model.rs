//! Models of a few kilobytes with random weights, for tests. Their results have no meaning.

use std::fs;
use std::path::Path;

use serde_json::{json, Map, Value};

/// Width of the vectors of [`bert`] and [`static_embedding`].
pub const DIMENSIONS: usize = 8;

/// The maximum tokens of a text for [`bert`], including special tokens.
pub const MAX_TOKENS: usize = 16;

const WORDS: [&str; 24] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a", "cat", "dog", "sat", "on", "mat", "parcel", "broken", "wifi", "is",
    "where", "my", "order", "##s", "##ing", "slow", "1", "2", "3",
];

/// A tensor: name, shape and numbers.
pub type Tensor = (String, Vec<usize>, Vec<f32>);

/// Writes a file of weights.
pub fn write_safetensors(path: &Path, tensors: &[Tensor]) -> std::io::Result<()> {
    let mut header = Map::new();
    let mut data = Vec::new();
    for (name, shape, numbers) in tensors {
        let begin = data.len();
        data.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
        header.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]}));
    }
    let mut header = Value::Object(header).to_string();
    // Readers expect the numbers at a multiple of eight bytes.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.into_bytes());
    bytes.extend(data);
    fs::write(path, bytes)
}

/// Pseudorandom numbers between -0.5 and 0.5, the same each time.
fn random(seed: &mut u64, count: usize) -> Vec<f32> {
    (0..count)
        .map(|_| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 40) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect()
}

/// The tensors of a BERT with two layers.
pub fn bert_tensors() -> Vec<Tensor> {
    const H: usize = DIMENSIONS;
    let mut seed = 7;
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        let count = shape.iter().product();
        let numbers = if name.ends_with("LayerNorm.weight") { vec![1.0; count] } else { random(&mut seed, count) };
        tensors.push((name, shape.to_vec(), numbers));
    };
    add("embeddings.word_embeddings.weight".into(), &[WORDS.len(), H]);
    add("embeddings.position_embeddings.weight".into(), &[MAX_TOKENS, H]);
    add("embeddings.token_type_embeddings.weight".into(), &[2, H]);
    add("embeddings.LayerNorm.weight".into(), &[H]);
    add("embeddings.LayerNorm.bias".into(), &[H]);
    for i in 0..2 {
        let layers = [
            ("attention.self.query", H, H),
            ("attention.self.key", H, H),
            ("attention.self.value", H, H),
            ("attention.output.dense", H, H),
            ("intermediate.dense", 2 * H, H),
            ("output.dense", H, 2 * H),
        ];
        for (name, outputs, inputs) in layers {
            add(format!("encoder.layer.{i}.{name}.weight"), &[outputs, inputs]);
            add(format!("encoder.layer.{i}.{name}.bias"), &[outputs]);
        }
        for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
            add(format!("encoder.layer.{i}.{name}.weight"), &[H]);
            add(format!("encoder.layer.{i}.{name}.bias"), &[H]);
        }
    }
    tensors
}

fn tokenizer() -> Value {
    let vocabulary: Map<String, Value> = WORDS.iter().enumerate().map(|(i, w)| ((*w).into(), json!(i))).collect();
    let special = |i: usize| json!({"id": i, "content": WORDS.get(i), "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    json!({
        "version": "1.0",
        // Some real files have this member; it must be ignored.
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [special(0), special(1), special(2), special(3)],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}, "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary},
    })
}

/// Writes a sentence-transformers model with a BERT of two layers into a folder.
pub fn bert(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder.join("1_Pooling"))?;
    let write = |name: &str, value: Value| fs::write(folder.join(name), value.to_string());
    write(
        "config.json",
        json!({
            "model_type": "bert", "hidden_size": DIMENSIONS, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 2 * DIMENSIONS, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "vocab_size": WORDS.len(),
            "max_position_embeddings": MAX_TOKENS, "type_vocab_size": 2,
        }),
    )?;
    write("tokenizer.json", tokenizer())?;
    write(
        "modules.json",
        json!([
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ]),
    )?;
    write("1_Pooling/config.json", json!({"word_embedding_dimension": DIMENSIONS, "pooling_mode_mean_tokens": true}))?;
    write("sentence_bert_config.json", json!({"max_seq_length": MAX_TOKENS, "do_lower_case": false}))?;
    write_safetensors(&folder.join("model.safetensors"), &bert_tensors())
}

/// Writes a cross-encoder with the BERT of [`bert`] into a folder.
pub fn reranker(folder: &Path) -> std::io::Result<()> {
    bert(folder)?;
    fs::remove_file(folder.join("modules.json"))?;
    fs::remove_dir_all(folder.join("1_Pooling"))?;
    let config = fs::read(folder.join("config.json"))?;
    let mut config: Value = serde_json::from_slice(&config)?;
    if let Some(members) = config.as_object_mut() {
        members.insert("architectures".into(), json!(["BertForSequenceClassification"]));
        members.insert("id2label".into(), json!({"0": "LABEL_0"}));
    }
    fs::write(folder.join("config.json"), config.to_string())?;
    write_safetensors(&folder.join("model.safetensors"), &reranker_tensors())
}

/// The tensors of a BERT with two layers and a head.
pub fn reranker_tensors() -> Vec<Tensor> {
    const H: usize = DIMENSIONS;
    let mut tensors: Vec<Tensor> =
        bert_tensors().into_iter().map(|(name, shape, numbers)| (format!("bert.{name}"), shape, numbers)).collect();
    let mut seed = 13;
    for (name, outputs) in [("bert.pooler.dense", H), ("classifier", 1)] {
        // Larger numbers than trained models have, so that scores differ.
        let mut numbers = |count| random(&mut seed, count).iter().map(|x| 4.0 * x).collect::<Vec<f32>>();
        tensors.push((format!("{name}.weight"), vec![outputs, H], numbers(outputs * H)));
        tensors.push((format!("{name}.bias"), vec![outputs], numbers(outputs)));
    }
    tensors
}

/// Writes a Model2Vec model into a folder.
pub fn static_embedding(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("config.json"), json!({"model_type": "model2vec", "normalize": true}).to_string())?;
    fs::write(folder.join("tokenizer.json"), tokenizer().to_string())?;
    let table = random(&mut 11, WORDS.len() * DIMENSIONS);
    write_safetensors(&folder.join("model.safetensors"), &[("embeddings".into(), vec![WORDS.len(), DIMENSIONS], table)])
}
