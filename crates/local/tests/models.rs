//! Models against golden values of sentence-transformers and transformers, and files with errors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mysql_ml_base::interrupt::CancelToken;
use mysql_ml_base::role::Role;
use mysql_ml_local::cross_encoder::CrossEncoder;
use mysql_ml_local::files::ModelDir;
use mysql_ml_local::sentence::SentenceModel;
use mysql_ml_local::static_embedding::StaticModel;
use mysql_ml_local::turn::Turn;
use mysql_ml_local::{EmbedOptions, LocalModel};
use serde_json::json;
use testkit::golden;
use testkit::tiny_model::{self, bert_tensors, write_safetensors};

const CUT: EmbedOptions = EmbedOptions { role: Role::Document, truncate: true, dimensions: None };

fn tiny_encoders() -> PathBuf {
    testkit::library::workspace_root().join("tests/golden/tiny_encoders")
}

fn minilm() -> ModelDir {
    let path = testkit::weights::minilm(&|line| eprintln!("{line}")).expect("the weights of all-MiniLM-L6-v2");
    ModelDir::open(path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap()).unwrap()
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    let model = SentenceModel::open(&minilm()).unwrap();
    let golden = golden::minilm().unwrap();
    assert_eq!((golden.len(), model.dimensions()), (200, Some(384)));
    let texts: Vec<&str> = golden.iter().map(|(text, _)| text.as_str()).collect();
    let vectors = model.embed(&texts, CUT, &Turn::default()).unwrap();
    let mut worst = 1.0_f64;
    for (i, ((text, wanted), got)) in golden.iter().zip(&vectors).enumerate() {
        let got = got.as_ref().unwrap();
        let cosine = golden::cosine(wanted, got);
        worst = worst.min(cosine);
        assert!(cosine > 0.9999, "{cosine} for {text}");
        if i % 8 != 0 {
            continue;
        }
        let alone = model.embed(&[text], CUT, &Turn::default()).unwrap().remove(0).unwrap();
        assert_eq!(&alone, got, "alone and among others: {text}");
    }
    println!("the least cosine is {worst}");
}

#[test]
fn every_architecture_computes_what_transformers_does() {
    let root = tiny_encoders();
    for name in ["bert", "roberta", "distilbert", "mpnet"] {
        let model = SentenceModel::open(&ModelDir::open(&root, name).unwrap()).unwrap();
        let expected = std::fs::read(root.join(name).join("expected.json")).unwrap();
        let expected: Vec<serde_json::Value> = serde_json::from_slice(&expected).unwrap();
        let texts: Vec<&str> = expected.iter().map(|e| e["text"].as_str().unwrap()).collect();
        let vectors = model.embed(&texts, CUT, &Turn::default()).unwrap();
        for (e, got) in expected.iter().zip(vectors) {
            let wanted = e["vector"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32);
            for (got, wanted) in got.unwrap().iter().zip(wanted) {
                assert!((got - wanted).abs() < 2e-5, "{name}: {got} and not {wanted} for {}", e["text"]);
            }
        }
    }
}

#[test]
fn scores_of_pairs_are_those_of_sentence_transformers() {
    let root = testkit::library::workspace_root().join("tests/golden/tiny_rerankers");
    for name in ["bert", "roberta", "distilbert", "mpnet"] {
        let model = CrossEncoder::open(&ModelDir::open(&root, name).unwrap()).unwrap();
        let expected = std::fs::read(root.join(name).join("expected.json")).unwrap();
        let expected: Vec<serde_json::Value> = serde_json::from_slice(&expected).unwrap();
        for e in &expected {
            let (query, document) = (e["query"].as_str().unwrap(), e["document"].as_str().unwrap());
            let (got, wanted) = (score(&model, query, document), e["score"].as_f64().unwrap());
            assert!((f64::from(got) - wanted).abs() < 2e-5, "{name}: {got} and not {wanted} for {query}, {document}");
        }
        // Among others, in several passes of the encoder, each document has the score that it has alone.
        let texts: Vec<String> = (0..100).map(|i| format!("the cat {}", "sat on the mat ".repeat(i % 4))).collect();
        let documents: Vec<(usize, &str)> = texts.iter().map(|text| (1, text.as_str())).collect();
        let ranked = model.rank("where is my cat", &documents, true, &Turn::default()).unwrap();
        assert!(ranked.tokens > 1024 && ranked.scores.len() == 100);
        for (i, got) in ranked.scores.iter().enumerate() {
            assert_eq!(*got, score(&model, "where is my cat", &texts[i]), "{name}: {i}");
        }
    }
}

fn score(model: &CrossEncoder, query: &str, document: &str) -> f32 {
    model.rank(query, &[(1, document)], true, &Turn::default()).unwrap().scores[0]
}

#[test]
fn a_pair_that_is_too_long_is_an_error_unless_it_may_be_cut() {
    let root = tempfile::tempdir().unwrap();
    tiny_model::reranker(&root.path().join("m")).unwrap();
    let model = CrossEncoder::open(&ModelDir::open(root.path(), "m").unwrap()).unwrap();
    let (long, turn) = ("dog ".repeat(13), Turn::default());
    let error = model.rank("cat", &[(1, "dog"), (2, &long)], false, &turn).unwrap_err();
    assert!(error.message().starts_with("element 2 of documents (from 1): "), "{error}");
    assert!(error.message().contains("more than the 16 tokens"), "{error}");
    let error = model.rank(&"cat ".repeat(13), &[(1, "dog")], false, &turn).unwrap_err();
    assert!(error.message().contains("the query and the document have more"), "{error}");
    // A text of megabytes is cut before it is read.
    let huge = "dog ".repeat(1 << 20);
    assert_eq!(score(&model, "cat", &huge), score(&model, "cat", &long));
    let ended = CancelToken::default();
    ended.cancel();
    let error = model.rank("cat", &[(1, "dog")], true, &Turn::of(ended)).unwrap_err();
    assert_eq!(error.sql_code(), 1317);
}

#[test]
fn cross_encoders_with_other_files_are_refused() {
    let refused = |change: &dyn Fn(&Path)| {
        let root = tempfile::tempdir().unwrap();
        tiny_model::reranker(&root.path().join("m")).unwrap();
        change(&root.path().join("m"));
        let dir = ModelDir::open(root.path(), "m").unwrap();
        CrossEncoder::open(&dir).err().expect("the model was loaded").message().to_owned()
    };
    let in_config = |from: &'static str, to: &'static str| move |dir: &Path| edit(&dir.join("config.json"), from, to);
    let labels = r#"{"0":"LABEL_0"}"#;
    let tokens = |change: fn(&mut serde_json::Value)| {
        move |dir: &Path| {
            let path = dir.join("tokenizer.json");
            let mut file: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            change(&mut file);
            std::fs::write(path, file.to_string()).unwrap();
        }
    };
    let without = |name: &'static str| {
        move |dir: &Path| {
            let mut tensors = tiny_model::reranker_tensors();
            tensors.retain(|(tensor, ..)| tensor != name);
            write_safetensors(&dir.join("model.safetensors"), &tensors).unwrap();
        }
    };
    let infinite = |dir: &Path| {
        let mut tensors = tiny_model::reranker_tensors();
        tensors.iter_mut().filter(|(name, ..)| name.contains("LayerNorm.weight")).for_each(|t| t.2.fill(3e38));
        write_safetensors(&dir.join("model.safetensors"), &tensors).unwrap();
    };
    type Change<'a> = &'a dyn Fn(&Path);
    let cases: [(Change<'_>, &str); 12] = [
        (&in_config(labels, r#"{"0":"A","1":"B"}"#), "it has 2 labels"),
        (&in_config(labels, "null"), "it has 2 labels"),
        (&in_config(labels, r#"{"0":"A"},"sentence_transformers":{"activation_fn":"torch.nn.Softmax"}"#), "Softmax"),
        (&|dir| write(dir, "modules.json", json!([{"path": ""}, {"path": "1_Dense"}])), "several modules"),
        (
            &|dir| write(dir, "config_sentence_transformers.json", json!({"default_prompt_name": "x"})),
            "default_prompt_name",
        ),
        (&|dir| write(dir, "sentence_bert_config.json", json!({"do_lower_case": true})), "do_lower_case"),
        (&without("bert.pooler.dense.weight"), "no tensor bert.pooler.dense.weight"),
        (&without("classifier.bias"), "no tensor classifier.bias"),
        (&infinite, "not finite"),
        (&tokens(|file| file["post_processor"] = serde_json::Value::Null), "joins no pairs"),
        (&tokens(|file| file["post_processor"]["pair"] = json!([])), "around two texts"),
        (&tokens(|file| file["post_processor"]["pair"][3]["Sequence"]["id"] = json!("A")), "around two texts"),
    ];
    for (change, says) in cases {
        let message = refused(change);
        assert!(message.contains(says), "{says} is not in: {message}");
    }
    // A score is a sigmoid unless the files say otherwise.
    let root = tempfile::tempdir().unwrap();
    tiny_model::reranker(&root.path().join("m")).unwrap();
    let open = || CrossEncoder::open(&ModelDir::open(root.path(), "m").unwrap()).unwrap();
    let sigmoid = score(&open(), "cat", "dog");
    let with = |activation: serde_json::Value| {
        write(&root.path().join("m"), "config_sentence_transformers.json", json!({"activation_fn": activation}));
        score(&open(), "cat", "dog")
    };
    assert_eq!(with(json!(null)), sigmoid);
    let logit = with(json!("torch.nn.modules.linear.Identity"));
    assert!(
        (1.0 / (1.0 + (-logit).exp()) - sigmoid).abs() < 1e-6 && (logit - sigmoid).abs() > 0.01,
        "{logit} {sigmoid}"
    );
}

/// The error of loading a tiny model with changed files.
fn refused(change: impl FnOnce(&Path)) -> String {
    let root = tempfile::tempdir().unwrap();
    tiny_model::bert(&root.path().join("m")).unwrap();
    change(&root.path().join("m"));
    let dir = ModelDir::open(root.path(), "m").unwrap();
    SentenceModel::open(&dir).err().expect("the model was loaded").message().to_owned()
}

#[test]
fn a_pipe_in_place_of_a_file_is_refused_and_not_waited_for() {
    for file in ["config.json", "tokenizer.json", "model.safetensors", "modules.json", "1_Pooling/config.json"] {
        let message = refused(|dir| {
            std::fs::remove_file(dir.join(file)).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(dir.join(file)).status().unwrap().success());
        });
        assert!(message.contains(file) && message.contains("is not a file"), "{message}");
    }
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} is not in {}", path.display());
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn damaged_files_are_errors_that_name_them() {
    const WEIGHTS: &str = "model.safetensors";
    fn bytes(dir: &Path) -> Vec<u8> {
        std::fs::read(dir.join(WEIGHTS)).unwrap()
    }
    type Change = Box<dyn FnOnce(&Path)>;
    let tensors = |change: fn(&mut Vec<tiny_model::Tensor>)| -> Change {
        Box::new(move |dir: &Path| {
            let mut tensors = bert_tensors();
            change(&mut tensors);
            write_safetensors(&dir.join(WEIGHTS), &tensors).unwrap();
        })
    };
    let cases: Vec<(Change, &[&str])> = vec![
        (
            Box::new(move |d| std::fs::write(d.join(WEIGHTS), &bytes(d)[..100]).unwrap()),
            &["model.safetensors", "not complete"],
        ),
        (Box::new(move |d| std::fs::write(d.join(WEIGHTS), b"").unwrap()), &["model.safetensors", "no header"]),
        (
            Box::new(move |d| {
                let mut b = bytes(d);
                b.extend([0; 7]);
                std::fs::write(d.join(WEIGHTS), b).unwrap();
            }),
            &["model.safetensors", "its header wants"],
        ),
        (
            Box::new(move |d| {
                let mut b = bytes(d);
                b[..8].copy_from_slice(&u64::MAX.to_le_bytes());
                std::fs::write(d.join(WEIGHTS), b).unwrap();
            }),
            &["model.safetensors", "header"],
        ),
        (Box::new(move |d| std::fs::remove_file(d.join(WEIGHTS)).unwrap()), &["model.safetensors", "cannot be read"]),
        (
            Box::new(move |d| {
                std::fs::remove_file(d.join(WEIGHTS)).unwrap();
                std::fs::write(d.join("pytorch_model.bin"), "x").unwrap();
            }),
            &["pytorch_model.bin", "convert"],
        ),
        (tensors(|t| t[0].2[5] = f32::NAN), &["embeddings.word_embeddings.weight", "not finite"]),
        (tensors(|t| t[9].2[0] = f32::INFINITY), &["encoder.layer.0", "not finite"]),
        (tensors(|t| drop(t.remove(7))), &["no tensor encoder.layer.0"]),
        (
            tensors(|t| {
                t[5].1 = vec![4, 16];
            }),
            &["encoder.layer.0.attention.self.query.weight", "[4, 16]", "[8, 8]"],
        ),
        (Box::new(|d| std::fs::write(d.join("tokenizer.json"), "{}").unwrap()), &["tokenizer.json"]),
        (Box::new(|d| std::fs::remove_file(d.join("tokenizer.json")).unwrap()), &["tokenizer.json", "cannot be read"]),
        (Box::new(|d| edit(&d.join("config.json"), "\"bert\"", "\"llama\"")), &["config.json", "llama"]),
        (
            Box::new(|d| edit(&d.join("config.json"), "\"hidden_size\":8", "\"hidden_size\":0")),
            &["config.json", "hidden_size"],
        ),
        (Box::new(|d| edit(&d.join("config.json"), "\"hidden_size\":8", "\"hidden_size\":1000000")), &["hidden_size"]),
        (Box::new(|d| edit(&d.join("config.json"), "\"hidden_size\":8", "\"hidden_size\":64")), &["shape"]),
        (
            Box::new(|d| edit(&d.join("config.json"), "\"num_attention_heads\":2", "\"num_attention_heads\":3")),
            &["num_attention_heads"],
        ),
        (Box::new(|d| edit(&d.join("config.json"), "gelu", "swish_of_sorts")), &["hidden_act", "swish_of_sorts"]),
        (Box::new(|d| edit(&d.join("modules.json"), "models.Normalize", "models.LSTM")), &["modules.json", "LSTM"]),
        (Box::new(|d| edit(&d.join("modules.json"), "1_Pooling", "../..")), &["leads out"]),
        (
            Box::new(|d| edit(&d.join("1_Pooling/config.json"), "mean_tokens", "median_tokens")),
            &["pooling median_tokens"],
        ),
        (Box::new(|d| edit(&d.join("sentence_bert_config.json"), "16", "2")), &["max_seq_length"]),
    ];
    for (i, (change, parts)) in cases.into_iter().enumerate() {
        let message = refused(change);
        for part in parts {
            assert!(message.contains(part), "case {i}: {part} is not in: {message}");
        }
    }
}

/// A copy of the golden encoder of the BERT kind, changed.
fn golden_bert(change: impl FnOnce(&Path)) -> (tempfile::TempDir, ModelDir) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("m");
    let golden = tiny_encoders().join("bert");
    std::fs::create_dir_all(folder.join("1_Pooling")).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors", "modules.json", "1_Pooling/config.json"] {
        std::fs::copy(golden.join(file), folder.join(file)).unwrap();
    }
    change(&folder);
    let dir = ModelDir::open(root.path(), "m").unwrap();
    (root, dir)
}

fn write(folder: &Path, file: &str, value: serde_json::Value) {
    std::fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
    std::fs::write(folder.join(file), value.to_string()).unwrap();
}

fn vector_of(model: &dyn LocalModel, text: &str, role: Role) -> Vec<f32> {
    let options = EmbedOptions { role, ..CUT };
    model.embed(&[text], options, &Turn::default()).unwrap().remove(0).unwrap()
}

fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|x| x * x).sum::<f32>().sqrt()
}

fn assert_close(got: &[f32], wanted: &[f32]) {
    assert_eq!(got.len(), wanted.len());
    assert!(got.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-3), "{got:?} and not {wanted:?}");
}

#[test]
fn tokens_of_prompts_are_left_out_where_the_model_says_so() {
    // sentence-transformers 6.2.0 on this model.
    const DOCUMENT: [f32; 16] = [
        0.31918, 0.206426, -0.522631, -0.236021, -1.368759, 0.053984, 0.855263, -0.888206, -1.704883, 1.166667,
        0.330372, 0.493857, 1.185331, -1.060881, -0.08134, 0.119283,
    ];
    const QUERY: [f32; 16] = [
        0.331868, 0.23005, -0.609774, -0.16398, -1.467752, 0.088154, 0.912889, -0.828339, -1.599451, 1.151177,
        0.331134, 0.532511, 1.018, -1.137161, -0.00736, 0.105709,
    ];
    let (_root, dir) = golden_bert(|d| {
        let pooling =
            json!({"word_embedding_dimension": 16, "pooling_mode_mean_tokens": true, "include_prompt": false});
        write(d, "1_Pooling/config.json", pooling);
        let prompts = json!({"prompts": {"query": "where is ", "document": "my order "}, "default_prompt_name": null});
        write(d, "config_sentence_transformers.json", prompts);
    });
    let model = SentenceModel::open(&dir).unwrap();
    assert_close(&vector_of(&model, "the cat", Role::Document), &DOCUMENT);
    assert_close(&vector_of(&model, "the cat", Role::Query), &QUERY);
}

#[test]
fn lengths_and_letters_are_read_under_every_name_of_the_file() {
    for kind in ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"] {
        let name = format!("sentence_{kind}_config.json");
        let (_root, dir) = golden_bert(|d| write(d, &name, json!({"max_seq_length": 5, "do_lower_case": false})));
        let model = SentenceModel::open(&dir).unwrap();
        let options = EmbedOptions { truncate: false, ..CUT };
        let result = model.embed(&["the cat sat on the mat"], options, &Turn::default()).unwrap().remove(0);
        assert!(result.unwrap_err().message().contains("more than the 5 tokens"), "{name}");
    }
    for unknown in [json!({"query_length": 8}), json!({"processing_kwargs": {"text": {"padding": "max_length"}}})] {
        let (_root, dir) = golden_bert(|d| write(d, "sentence_bert_config.json", unknown));
        assert!(SentenceModel::open(&dir).err().unwrap().message().contains("not done here"));
    }
}

#[test]
fn all_ways_of_pooling_in_the_order_that_the_file_has() {
    let of = |pooling: serde_json::Value| {
        let (_root, dir) = golden_bert(|d| write(d, "1_Pooling/config.json", pooling));
        SentenceModel::open(&dir).map(|model| vector_of(&model, "the cat sat", Role::Document))
    };
    let one = |mode: &str| of(json!({"embedding_dimension": 16, "pooling_mode": mode})).unwrap();
    let ways = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"];
    let all: Vec<f32> = ways.iter().flat_map(|mode| one(mode)).collect();
    let old = ["cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"];
    let flags = old.iter().map(|name| (format!("pooling_mode_{name}"), json!(true))).collect();
    assert_close(&of(serde_json::Value::Object(flags)).unwrap(), &all);
    let backward: Vec<f32> = ways.iter().rev().flat_map(|mode| one(mode)).collect();
    let reversed: Vec<&str> = ways.iter().rev().copied().collect();
    assert_close(&of(json!({"pooling_mode": reversed})).unwrap(), &backward);
    // For five tokens: the mean is a fifth of the sum, and the root is the sum divided by the root of five.
    let (mean, root) = (one("mean"), one("mean_sqrt_len_tokens"));
    assert_close(&mean.iter().map(|x| x * 5_f32.sqrt()).collect::<Vec<_>>(), &root);
    assert_close(&of(json!({"word_embedding_dimension": 16})).unwrap(), &mean);
    for bad in [
        json!({"pooling_mode": "median"}),
        json!({"pooling_mode": []}),
        json!({"pooling_mode_mean_tokens": true, "pooling_temperature": 2}),
    ] {
        assert!(of(bad).unwrap_err().message().contains("pooling"));
    }
}

#[test]
fn modules_are_computed_or_refused() {
    let modules = |more: &[(&str, &str)]| {
        let all = [("", "models.Transformer"), ("1_Pooling", "models.Pooling")];
        let list = all.iter().chain(more).enumerate().map(|(i, (path, kind))| {
            let kind = if kind.contains('.') && !kind.starts_with("models.") {
                (*kind).into()
            } else {
                format!("sentence_transformers.{kind}")
            };
            json!({"idx": i, "name": i.to_string(), "path": path, "type": kind})
        });
        serde_json::Value::Array(list.collect())
    };
    let plain = {
        let (_root, dir) = golden_bert(|_| {});
        vector_of(&SentenceModel::open(&dir).unwrap(), "the cat", Role::Document)
    };
    let (_root, dir) = golden_bert(|d| {
        write(
            d,
            "modules.json",
            modules(&[("2_Dense", "models.Dense"), ("3_Norm", "models.LayerNorm"), ("4_D", "models.Dropout")]),
        );
        write(
            d,
            "2_Dense/config.json",
            json!({"in_features": 16, "out_features": 16, "bias": false, "activation_function": "torch.nn.modules.linear.Identity", "use_residual": true}),
        );
        let twice: Vec<f32> = (0..256).map(|i| if i % 17 == 0 { 2.0 } else { 0.0 }).collect();
        write_safetensors(&d.join("2_Dense/model.safetensors"), &[("linear.weight".into(), vec![16, 16], twice)])
            .unwrap();
        write(d, "3_Norm/config.json", json!({"dimension": 16}));
        let norm = [("norm.weight".into(), vec![16], vec![1.0; 16]), ("norm.bias".into(), vec![16], vec![0.5; 16])];
        write_safetensors(&d.join("3_Norm/model.safetensors"), &norm).unwrap();
    });
    let got = vector_of(&SentenceModel::open(&dir).unwrap(), "the cat", Role::Document);
    let mean = plain.iter().sum::<f32>() / 16.0;
    let deviation = (plain.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / 16.0).sqrt();
    assert_close(&got, &plain.iter().map(|x| (x - mean) / deviation + 0.5).collect::<Vec<_>>());
    for kind in
        ["models.CNN", "models.WeightedLayerPooling", "models.Router", "elsewhere_st.Normalize", "models.Pooling"]
    {
        let (_root, dir) = golden_bert(|d| write(d, "modules.json", modules(&[("2_X", kind)])));
        let message = SentenceModel::open(&dir).err().expect(kind).message().to_owned();
        assert!(message.contains("modules.json") && message.contains("not computed here"), "{kind}: {message}");
    }
    let (_root, dir) =
        golden_bert(|d| write(d, "config_sentence_transformers.json", json!({"model_type": "SparseEncoder"})));
    assert!(SentenceModel::open(&dir).err().unwrap().message().contains("SparseEncoder"));
}

#[test]
fn static_models_do_what_their_modules_and_prompts_say() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("s");
    tiny_model::static_embedding(&folder.join("0_StaticEmbedding")).unwrap();
    std::fs::remove_file(folder.join("0_StaticEmbedding/config.json")).unwrap();
    let kind = |kind: &str| format!("sentence_transformers.models.{kind}");
    let modules = |second: &str| {
        json!([{"idx": 0, "name": "0", "path": "0_StaticEmbedding", "type": kind("StaticEmbedding")},
               {"idx": 1, "name": "1", "path": "1_Normalize", "type": kind(second)}])
    };
    write(&folder, "modules.json", modules("Normalize"));
    write(&folder, "config_sentence_transformers.json", json!({"prompts": {"query": "where is ", "document": ""}}));
    let dir = ModelDir::open(root.path(), "s").unwrap();
    let model = StaticModel::open(&dir).unwrap();
    let (document, query) = (vector_of(&model, "the cat", Role::Document), vector_of(&model, "the cat", Role::Query));
    assert!((length(&document) - 1.0).abs() < 1e-5);
    assert_close(&query, &vector_of(&model, "where is the cat", Role::Document));
    assert_ne!(document, query);
    // The first numbers of a vector of length 1 have length 1 again.
    let options = EmbedOptions { dimensions: Some(3), ..CUT };
    let short = model.embed(&["the cat"], options, &Turn::default()).unwrap().remove(0).unwrap();
    assert!(short.len() == 3 && (length(&short) - 1.0).abs() < 1e-5, "{short:?}");
    assert!((short[0] / short[1] - document[0] / document[1]).abs() < 1e-4);
    let options = EmbedOptions { dimensions: Some(9), ..CUT };
    let error = model.embed(&["the cat"], options, &Turn::default()).unwrap().remove(0).unwrap_err();
    assert!(error.message().contains("have 8 dimensions"), "{error}");
    write(&folder, "modules.json", modules("LSTM"));
    assert!(StaticModel::open(&dir).err().unwrap().message().contains("LSTM"));
}

#[test]
fn letters_are_as_the_configuration_of_the_tokenizer_says() {
    let of = |config: serde_json::Value| {
        let root = tempfile::tempdir().unwrap();
        tiny_model::bert(&root.path().join("m")).unwrap();
        write(&root.path().join("m"), "tokenizer_config.json", config);
        let model = SentenceModel::open(&ModelDir::open(root.path(), "m").unwrap()).unwrap();
        (vector_of(&model, "THE CAT", Role::Document), vector_of(&model, "the cat", Role::Document))
    };
    let (large, small) = of(json!({}));
    assert_eq!(large, small);
    let (large, small) = of(json!({"do_lower_case": false, "tokenizer_class": "BertTokenizer"}));
    assert_ne!(large, small);
    let (large, small) = of(json!({"do_lower_case": false, "tokenizer_class": "PreTrainedTokenizerFast"}));
    assert_eq!(large, small);
}

#[test]
fn a_million_positions_take_no_longer_than_the_call() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("m");
    tiny_model::bert(&folder).unwrap();
    let mut tensors = bert_tensors();
    let positions = 1 << 20;
    let table = tensors.iter_mut().find(|t| t.0.contains("position")).unwrap();
    (table.1, table.2) = (vec![positions, 8], vec![0.25; positions * 8]);
    write_safetensors(&folder.join("model.safetensors"), &tensors).unwrap();
    edit(&folder.join("config.json"), "\"max_position_embeddings\":16", "\"max_position_embeddings\":1048576");
    std::fs::remove_file(folder.join("sentence_bert_config.json")).unwrap();
    let model = SentenceModel::open(&ModelDir::open(root.path(), "m").unwrap()).unwrap();
    let text = "cat ".repeat(260_000);
    let uncut = EmbedOptions { truncate: false, ..CUT };
    let error = model.embed(&[&text], uncut, &Turn::default()).unwrap().remove(0).unwrap_err();
    assert!(error.message().contains("more than the 8192 tokens"), "{error}");
    let cancel = CancelToken::default();
    let turn = Turn::of(cancel.clone());
    let began = std::thread::scope(|scope| {
        let call = scope.spawn(|| model.embed(&[text.as_str(); 20], CUT, &turn));
        std::thread::sleep(Duration::from_millis(500));
        let began = Instant::now();
        cancel.cancel();
        assert_eq!(call.join().unwrap().unwrap_err().sql_code(), 1317);
        began
    });
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn every_cut_of_a_file_is_an_error_and_no_panic() {
    let root = tempfile::tempdir().unwrap();
    tiny_model::bert(&root.path().join("m")).unwrap();
    let dir = ModelDir::open(root.path(), "m").unwrap();
    for file in ["model.safetensors", "config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json"] {
        let path = root.path().join("m").join(file);
        let whole = std::fs::read(&path).unwrap();
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..60 {
            let mut bytes = whole[..rng.usize(..whole.len())].to_vec();
            std::fs::write(&path, &bytes).unwrap();
            assert!(SentenceModel::open(&dir).is_err(), "{file} of {} bytes", bytes.len());
            // Other bytes: any result but a panic.
            bytes = whole.clone();
            for _ in 0..rng.usize(1..8) {
                let at = rng.usize(..bytes.len().min(2000));
                bytes[at] = rng.u8(..);
            }
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(model) = SentenceModel::open(&dir) {
                let _ = model.embed(&["the cat sat"], CUT, &Turn::default());
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
    assert!(SentenceModel::open(&dir).is_ok());
}

#[test]
fn a_model_that_makes_nothing_finite_is_an_error_of_the_text() {
    let root = tempfile::tempdir().unwrap();
    tiny_model::static_embedding(&root.path().join("s")).unwrap();
    let table = vec![3e38; 24 * 8];
    write_safetensors(&root.path().join("s/model.safetensors"), &[("embeddings".into(), vec![24, 8], table)]).unwrap();
    let model = StaticModel::open(&ModelDir::open(root.path(), "s").unwrap()).unwrap();
    let vector = model.embed(&["the cat sat on the mat"], CUT, &Turn::default()).unwrap().remove(0);
    // Vectors become bytes in one place, which refuses these.
    assert!(vector.is_err() || mysql_ml_base::vector::to_bytes(&vector.unwrap()).is_err());
}
