//! Files of local models.

use std::path::PathBuf;
use std::sync::LazyLock;

use mysql_ml_local::clip::image::{check_bytes, Preprocessor};
use mysql_ml_local::files::ModelDir;
use mysql_ml_local::tokenizer::{self, Tokenizer};
use mysql_ml_local::turn::Turn;
use mysql_ml_local::weights::Weights;

use crate::{first, two_parts};

/// A folder of models in memory; the process's end leaves it to the system.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let below = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("mysql-ml-fuzz").tempdir_in(below).expect("a folder").keep()
});

/// The kind of a file, then its bytes; a tokenizer's are followed by a NUL and a text.
pub fn models(data: &[u8]) {
    let (kind, data) = first(data);
    let folder = tempfile::tempdir_in(&*FOLDER).expect("a folder");
    let name = folder.path().file_name().and_then(|name| name.to_str()).expect("a name");
    let write = |file: &str, bytes: &[u8]| std::fs::write(folder.path().join(file), bytes).expect("a file");
    let open = || ModelDir::open(&FOLDER, name).expect("a model's folder");
    match kind % 4 {
        0 => {
            write("model.safetensors", data);
            weights(&open());
        }
        1 => {
            let (parts, part) = two_parts(data);
            write("model.safetensors.index.json", parts);
            write("a.safetensors", part);
            weights(&open());
        }
        2 => {
            let (json, text) = two_parts(data);
            write("tokenizer.json", json);
            tokens(&open(), &String::from_utf8_lossy(text));
        }
        _ => {
            let (json, image) = two_parts(data);
            let _ = check_bytes(image);
            if let Ok(preprocessor) = Preprocessor::parse(json, 8) {
                let _ = preprocessor.pixels(image);
            }
        }
    }
}

fn weights(dir: &ModelDir) {
    let Ok(weights) = Weights::open(dir) else { return };
    let _ = weights.elements();
    for name in weights.names() {
        assert!(weights.has(&name));
        let Ok(shape) = weights.shape(&name).map(<[usize]>::to_vec) else { continue };
        if let Ok(tensor) = weights.tensor(&name, &shape) {
            assert_eq!(tensor.len(), shape.iter().product::<usize>());
        }
        let _ = weights.integers(&name);
    }
}

fn tokens(dir: &ModelDir, text: &str) {
    let _ = tokenizer::estimate(dir);
    let Ok(tokenizer) = Tokenizer::open(dir, 64) else { return };
    let turn = Turn::default();
    if let Ok(tokens) = tokenizer.encode(text, true, &turn) {
        assert!(tokens.ids.len() <= 64 && tokens.types.len() == tokens.ids.len());
        let _ = tokenizer.decode(&tokens.ids, &turn);
    }
    let _ = tokenizer.count(text, &turn);
    if let Ok(ends) = tokenizer.ends(text, &turn) {
        assert!(ends.is_sorted() && ends.iter().all(|end| text.is_char_boundary(*end)), "{ends:?}");
    }
}
