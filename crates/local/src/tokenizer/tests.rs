use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use super::*;
use mysql_ml_base::interrupt::CancelToken;

fn file() -> Value {
    let root = tempfile::tempdir().unwrap();
    testkit::tiny_model::bert(root.path()).unwrap();
    serde_json::from_slice(&std::fs::read(root.path().join(FILE)).unwrap()).unwrap()
}

fn open(file: &Value) -> Result<Tokenizer> {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("m")).unwrap();
    std::fs::write(root.path().join("m").join(FILE), file.to_string()).unwrap();
    Tokenizer::open(&ModelDir::open(root.path(), "m").unwrap(), 16)
}

fn with(member: &str, value: Value) -> Value {
    let mut file = file();
    file[member] = value;
    file
}

/// The error for a text whose tokenizer has this member.
fn told(member: &str, value: Value, text: &str) -> String {
    let began = Instant::now();
    let result = open(&with(member, value)).and_then(|t| t.encode(text, true, &Turn::default()));
    assert!(began.elapsed() < Duration::from_secs(20), "{member} took {:?}", began.elapsed());
    match result {
        Ok(tokens) => format!("{} tokens", tokens.ids.len()),
        Err(e) => {
            assert_ne!(e.kind(), Kind::Internal, "{e}");
            e.message().to_owned()
        }
    }
}

fn sequence(rules: Vec<Value>) -> Value {
    json!({"type": "Sequence", "normalizers": rules, "pretokenizers": rules, "decoders": rules, "processors": rules})
}

fn replace(pattern: Value, content: &str) -> Value {
    json!({"type": "Replace", "pattern": pattern, "content": content})
}

#[test]
fn rules_that_make_a_text_grow_are_stopped_before_memory_is_asked() {
    let ten = "aaaaaaaaaa";
    let nine = |pattern: fn() -> Value| sequence((0..9).map(|_| replace(pattern(), "aaaaaaaaaa")).collect());
    let grown = "make more than 2 MB of the text";
    assert!(told("normalizer", nine(|| json!({"String": "a"})), ten).contains(grown));
    assert!(told("normalizer", nine(|| json!({"Regex": "[a-z]"})), ten).contains(grown));
    assert!(told("normalizer", nine(|| json!({"Regex": ""})), ten).contains(grown));
    // Each rule inserts letters before every word.
    let doubling = |i: usize| {
        let letter = if i.is_multiple_of(2) { "▁" } else { "▂" };
        let space = json!({"type": "Metaspace", "replacement": letter, "prepend_scheme": "always", "split": true});
        [json!({"type": "FixedLength", "length": 1}), space]
    };
    assert!(told("pre_tokenizer", sequence((0..40).flat_map(doubling).collect()), ten).contains(grown));
    let prepends = sequence((0..200).map(|_| json!({"type": "Prepend", "prepend": "x".repeat(1000)})).collect());
    assert!(told("normalizer", prepends, ten).contains("tokens"));
    let long = json!({"type": "Prepend", "prepend": "x".repeat(1 << 20)});
    assert!(told("normalizer", long, ten).contains("tokenizer.json"));
    // Rules that make a text a little longer.
    let two =
        sequence(vec![replace(json!({"String": "a"}), "cat "), json!({"type": "NFKD"}), json!({"type": "Lowercase"})]);
    assert_eq!(told("normalizer", two, "A a"), "4 tokens");
}

#[test]
fn ligatures_and_tables_that_grow_are_stopped_too() {
    let growing = sequence(vec![
        replace(json!({"Regex": "."}), "\u{fdfa}"),
        json!({"type": "NFKD"}),
        replace(json!({"Regex": "."}), "\u{fdfa}"),
        json!({"type": "NFKD"}),
    ]);
    assert!(told("normalizer", growing, &"x".repeat(6000)).contains("make more than 2 MB"));
    for damaged in ["", "AAAA", "////////////////"] {
        let table = json!({"type": "Precompiled", "precompiled_charsmap": damaged});
        let told = told("normalizer", table, "x y z");
        assert!(told.contains("tokenizer.json") || told.contains("tokens"), "{told}");
    }
}

#[test]
fn patterns_that_take_for_ever_are_given_up() {
    let began = Instant::now();
    let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let text = format!("{}!", "a".repeat(3000));
    for pattern in [r"(?=(a+)+$)a", r"(a|aa)+(?!x)$", r"(?:(?:a{1,50}){1,50})*(?=b)"] {
        let told = told("pre_tokenizer", split(pattern), &text);
        assert!(
            told.contains("takes too many steps") || told.contains("tokens") || told.contains("pattern"),
            "{pattern}: {told}"
        );
    }
    assert!(told("pre_tokenizer", split(&"(".repeat(500)), "x").contains("tokenizer.json"));
    assert!(told("pre_tokenizer", split(&"x".repeat(5000)), "x").contains("more than 4096 bytes"));
    // A long search is stopped.
    let tokenizer = open(&with("pre_tokenizer", split(r"(?=(a*)*b)a|."))).unwrap();
    let cancel = CancelToken::default();
    let turn = Turn::of(cancel.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            cancel.cancel();
        });
        let _ = tokenizer.encode(&"a".repeat(1 << 20), true, &turn).unwrap_err();
    });
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn what_the_package_panics_at_is_an_error_of_the_file() {
    for (member, value) in [
        ("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "no base64 at all"})),
        ("normalizer", json!({"type": "Unheard"})),
        ("normalizer", json!(7)),
        ("pre_tokenizer", json!({"type": "FixedLength", "length": 0})),
        ("decoder", json!("x")),
        (
            "post_processor",
            json!({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B", "type_id": 0}}], "pair": [], "special_tokens": {}}),
        ),
        (
            "post_processor",
            json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}}),
        ),
        (
            "model",
            json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {"x": -1}}),
        ),
        ("model", json!({"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]})),
        ("version", json!("9.9")),
    ] {
        let told = told(member, value.clone(), "the cat");
        assert!(told.contains("tokenizer.json"), "{member} {value}: {told}");
    }
}

#[test]
fn templates_and_tables_that_no_tokenizer_has_are_refused() {
    let pieces = |n: usize| {
        let all: Vec<Value> = (0..n).map(|_| json!({"Sequence": {"id": "A", "type_id": 0}})).collect();
        json!({"type": "TemplateProcessing", "single": all, "pair": [], "special_tokens": {}})
    };
    for n in [0, 2, 1000, 100_000] {
        assert!(told("post_processor", pieces(n), "the cat").contains("tokenizer.json"), "{n}");
    }
    let model = |chars: u64, token: String| json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": chars, "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, token: 4}});
    assert!(told("model", model(1_000_000_000, "x".into()), "x").contains("max_input_chars_per_word"));
    assert!(told("model", model(100, "x".repeat(1 << 20)), "x").contains("a token has 1048576 bytes"));
    assert_eq!(told("model", model(100, "x".into()), "x x"), "4 tokens");
    let added: Vec<Value> = (0..80_000)
        .map(|i| json!({"id": i, "content": format!("<{i}>"), "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false}))
        .collect();
    assert!(told("added_tokens", json!(added), "x").contains("added_tokens"));
    let unigram = json!({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["x".repeat(100_000), -1.0]]});
    assert!(told("model", unigram, "x").contains("a token has 100000 bytes"));
    let dropout = json!({"type": "BPE", "dropout": 0.1, "vocab": {"a": 0}, "merges": []});
    assert!(told("model", dropout, "a").contains("by chance"));
    let lists = json!({"type": "Sequence", "normalizers": vec![json!([]); 30_000]});
    assert!(told("normalizer", lists, "x").contains("its normalizer has"));
}

#[test]
fn the_first_tokens_of_a_long_text_are_those_of_the_whole() {
    let tokenizer = open(&file()).unwrap();
    let turn = Turn::default();
    let words = ["the cat", "sat", "on", "the   mat", "parcels", "?", "unheard"];
    for long in [100, 2000, 40_000, 300_000] {
        let text: String = words.iter().cycle().take(long).copied().collect::<Vec<_>>().join(" ");
        let few = tokenizer.encode(&text, true, &turn).unwrap();
        let short = tokenizer.encode(text.get(..60).unwrap_or(&text), true, &turn).unwrap();
        assert_eq!(few, short, "{long}");
        assert_eq!(tokenizer.encode(&text, false, &turn).unwrap_err().kind(), Kind::TooLarge);
    }
    // Few tokens in many bytes are no long text.
    let wide = format!("the{}cat", " ".repeat(200_000));
    assert_eq!(tokenizer.encode(&wide, false, &turn).unwrap(), tokenizer.encode("the cat", false, &turn).unwrap());
}

#[test]
fn real_tokenizers_give_what_the_package_gives() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    for name in ["clip", "t5", "t5_gated", "tiny_encoders/bert", "tiny_encoders/roberta", "tiny_encoders/mpnet"] {
        let package = tokenizers::Tokenizer::from_file(golden.join(name).join(FILE)).unwrap();
        let ours = Tokenizer::open(&ModelDir::open(&golden, name).unwrap(), 64).unwrap();
        for text in
            ["the cat sat on the mat", "  Where IS my order? ", "é ñ ﷺ ﬁ 你好", "a\u{301}\tb\n\nc", "</s> <pad> x", ""]
        {
            let wanted = package.encode_fast(text, true).unwrap();
            let got = ours.encode(text, true, &Turn::default()).unwrap();
            assert_eq!(got.ids, wanted.get_ids(), "{name}: {text}");
            assert_eq!(got.types, wanted.get_type_ids(), "{name}: {text}");
            let text = ours.decode(&got.ids, &Turn::default()).unwrap();
            assert_eq!(text, package.decode(&got.ids, true).unwrap(), "{name}");
        }
    }
}

#[test]
fn tokens_are_counted_beyond_the_maximum() {
    let (tokenizer, turn) = (open(&file()).unwrap(), Turn::default());
    for text in ["", "the cat", "the cat sat on the mat, unknownword"] {
        let tokens = tokenizer.encode(text, false, &turn).unwrap();
        assert_eq!(tokenizer.count(text, &turn).unwrap(), tokens.ids.len(), "{text}");
    }
    let around = tokenizer.count("", &turn).unwrap();
    assert_eq!(tokenizer.count(&"cat ".repeat(1000), &turn).unwrap(), 1000 + around);
    let long = tokenizer.count(&"x".repeat(MAX_TEXT_BYTES + 1), &turn).unwrap_err();
    assert!(long.message().contains("at most 1 MiB"), "{long}");
}
