//! Embeddings of real sentences: documentation comments of the crates that cargo has fetched.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{anyhow, bail, Context, Result};
use mysql_ml_base::role::Role;
use mysql_ml_local::files::ModelDir;
use mysql_ml_local::sentence::SentenceModel;
use mysql_ml_local::turn::Turn;
use mysql_ml_local::{EmbedOptions, LocalModel};
use testkit::fetch::cache;
use testkit::weights;

/// Dimensions of all-MiniLM-L6-v2.
pub const DIMENSIONS: usize = 384;

/// Sentences of one batch.
const BATCH: usize = 64;

/// Vectors of `count` different sentences, row-major. Made once and kept in the cache folder.
pub fn vectors(count: usize, progress: &dyn Fn(&str)) -> Result<Vec<f32>> {
    let folder = cache::get_or_make(&format!("sentences-minilm-{count}"), progress, |folder| {
        let sentences = sentences(count)?;
        progress(&format!("embedding {count} sentences, some minutes"));
        let vectors = embed(&sentences, &weights::minilm(progress)?)?;
        let bytes: Vec<u8> = vectors.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
        Ok(std::fs::write(folder.join("vectors"), bytes)?)
    })?;
    let bytes = std::fs::read(folder.join("vectors"))?;
    Ok(bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect())
}

fn embed(sentences: &[String], weights: &Path) -> Result<Vec<Vec<f32>>> {
    let (parent, name) = (weights.parent().context("a folder")?, weights.file_name().context("a name")?);
    let model = SentenceModel::open(&ModelDir::open(parent, &name.to_string_lossy())?)?;
    let options = EmbedOptions { role: Role::Document, truncate: true, dimensions: None };
    let mut vectors = vec![Vec::new(); sentences.len()];
    let work = Mutex::new(sentences.chunks(BATCH).zip(vectors.chunks_mut(BATCH)));
    let next = || work.lock().ok()?.next();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some((sentences, places)) = next() {
                        let texts: Vec<&str> = sentences.iter().map(String::as_str).collect();
                        for (place, vector) in places.iter_mut().zip(model.embed(&texts, options, &Turn::default())?) {
                            *place = vector?;
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        helpers.into_iter().try_for_each(|h| h.join().map_err(|_| anyhow!("a thread panicked"))?)
    })?;
    Ok(vectors)
}

/// Different sentences of 30 to 300 bytes, spread over all crates.
fn sentences(count: usize) -> Result<Vec<String>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home =
        home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"))).context("cargo's home")?;
    let mut files = Vec::new();
    collect(&home.join("registry/src"), &mut files);
    files.sort();
    let mut seen = HashSet::new();
    for file in files {
        let Ok(code) = std::fs::read_to_string(file) else { continue };
        let mut paragraph = String::new();
        for line in code.lines().chain([""]) {
            let line = line.trim_start();
            match line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).map(str::trim) {
                Some(text) if !text.is_empty() => {
                    paragraph.push_str(text);
                    paragraph.push(' ');
                }
                _ => {
                    let parts = paragraph.split_inclusive(". ").map(str::trim);
                    let prose = parts.filter(|s| (30..300).contains(&s.len()) && s.starts_with(char::is_uppercase));
                    seen.extend(prose.filter(|s| s.ends_with('.')).map(str::to_owned));
                    paragraph.clear();
                }
            }
        }
    }
    let mut sentences: Vec<String> = seen.into_iter().collect();
    if sentences.len() < count {
        bail!("cargo's sources have {} sentences; ask for fewer --rows", sentences.len());
    }
    sentences.sort();
    fastrand::Rng::with_seed(1).shuffle(&mut sentences);
    sentences.truncate(count);
    Ok(sentences)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&path, files),
            _ if path.extension().is_some_and(|e| e == "rs") => files.push(path),
            _ => {}
        }
    }
}
