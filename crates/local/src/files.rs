//! A model's directory in the layout of Hugging Face, below the directory of models.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;

use mysql_ml_base::error::{cut, Error, Kind, Result};

/// The variable in mysqld's environment with the directory of models.
pub const DIRECTORY_VARIABLE: &str = "MYSQL_ML_MODELS_DIR";

/// The directory of models without the variable.
pub const DEFAULT_DIRECTORY: &str = "/var/lib/mysql-ml/models";

/// The maximum of bytes in a configuration file.
const MAX_JSON: u64 = 8 << 20;

/// The directory of models.
pub fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY_VARIABLE)
        .filter(|d| !d.is_empty())
        .map_or_else(|| DEFAULT_DIRECTORY.into(), PathBuf::from)
}

/// A model's directory.
#[derive(Debug, Clone)]
pub struct ModelDir {
    /// The directory of models, with links resolved.
    root: PathBuf,
    /// The model's directory, with links resolved.
    path: PathBuf,
    /// The directory's name in errors.
    shown: String,
}

impl ModelDir {
    /// Opens the directory `name`, relative to `directory` or absolute. Links must not lead out of `directory`.
    pub fn open(directory: &Path, name: &str) -> Result<Self> {
        let root = directory.canonicalize().map_err(|e| {
            Error::new(
                Kind::NotFound,
                format!(
                    "the directory of models {} cannot be read ({e}); create it, or set {DIRECTORY_VARIABLE} in mysqld's environment",
                    directory.display()
                ),
            )
        })?;
        let shown = cut(name, 200).into_owned();
        if Path::new(name).components().any(|c| c == Component::ParentDir) {
            return Err(leads_out(&shown, directory));
        }
        let path = root.join(name);
        let path = path.canonicalize().map_err(|e| {
            Error::new(
                Kind::NotFound,
                format!("the model's directory {shown} cannot be read ({e}); it must be below {}", directory.display()),
            )
        })?;
        if !path.starts_with(&root) || path == root {
            return Err(leads_out(&shown, directory));
        }
        if !path.is_dir() {
            return Err(Error::invalid(format!("{shown} is not a directory; give the one that holds config.json")));
        }
        Ok(ModelDir { root, path, shown })
    }

    /// A subdirectory; an empty name gives the directory itself.
    pub fn below(&self, name: &str) -> Result<Self> {
        if name.is_empty() {
            return Ok(self.clone());
        }
        let shown = format!("{}/{}", self.shown, cut(name, 80));
        if Path::new(name).components().any(|c| !matches!(c, Component::Normal(_))) {
            return Err(leads_out(&shown, &self.root));
        }
        let path = self.path.join(name).canonicalize().map_err(|e| {
            Error::new(Kind::NotFound, format!("{shown} cannot be read ({e}); put the whole model into the directory"))
        })?;
        if !path.starts_with(&self.root) {
            return Err(leads_out(&shown, &self.root));
        }
        Ok(ModelDir { root: self.root.clone(), path, shown })
    }

    /// The directory's name in errors.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether the file exists.
    pub fn has(&self, file: &str) -> bool {
        self.path.join(file).exists()
    }

    /// Opens a file of the directory or of a subdirectory. Returns it with its size in bytes.
    pub fn file(&self, file: &str) -> Result<(File, u64)> {
        let unreadable = |e: std::io::Error| {
            Error::new(
                Kind::NotFound,
                format!("{} cannot be read ({e}); put the whole model into the directory", self.name(file)),
            )
        };
        if Path::new(file).components().any(|c| !matches!(c, Component::Normal(_))) {
            return Err(leads_out(&self.name(file), &self.root));
        }
        let path = self.path.join(file).canonicalize().map_err(unreadable)?;
        if !path.starts_with(&self.root) {
            return Err(leads_out(&self.name(file), &self.root));
        }
        let opened = mysql_ml_base::files::open(&path).map_err(unreadable)?;
        let metadata = opened.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(Error::invalid(format!("{} is not a file", self.name(file))));
        }
        Ok((opened, metadata.len()))
    }

    /// The contents of a file with at most `most` bytes.
    pub fn bytes(&self, file: &str, most: u64) -> Result<Vec<u8>> {
        let (opened, size) = self.file(file)?;
        if size > most {
            return Err(Error::new(
                Kind::TooLarge,
                format!("{} has {size} bytes; at most {most} are read of it", self.name(file)),
            ));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        opened
            .take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::new(Kind::NotFound, format!("{} cannot be read ({e})", self.name(file))))?;
        Ok(bytes)
    }

    /// Reads a configuration file.
    pub fn json<T: DeserializeOwned>(&self, file: &str) -> Result<T> {
        let bytes = self.bytes(file, MAX_JSON)?;
        serde_json::from_slice(&bytes).map_err(|e| {
            Error::invalid(format!("{} is not what it must be ({e}); fetch the model anew", self.name(file)))
        })
    }

    /// Reads a large JSON file.
    pub fn large_json<T: DeserializeOwned>(&self, file: &str) -> Result<T> {
        let bytes = self.bytes(file, super::tokenizer::MAX_FILE)?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Error::invalid(format!("{} is not what it must be ({e}); fetch it anew", self.name(file))))
    }

    /// A text of names, sizes and modification times. It changes with any file of the directory or its subdirectories.
    pub fn stamp(&self) -> String {
        let mut files = Vec::new();
        stamps(&self.path, "", &mut files);
        files.sort_unstable();
        files.join(" ")
    }

    /// Reads a configuration file; `None` if it does not exist.
    pub fn optional_json<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>> {
        self.has(file).then(|| self.json(file)).transpose()
    }

    /// A file's name in errors, with the directory.
    pub fn name(&self, file: &str) -> String {
        format!("{}/{file}", self.shown)
    }
}

/// The maximum of files in a stamp, which bounds its length.
const MOST_STAMPS: usize = 500;

fn stamps(directory: &Path, before: &str, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
        if files.len() >= MOST_STAMPS {
            return;
        }
        let name = format!("{before}{}", entry.file_name().to_string_lossy());
        if metadata.is_dir() && before.is_empty() {
            stamps(&entry.path(), &format!("{name}/"), files);
        } else if metadata.is_file() {
            let time = metadata.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
            files.push(format!("{name}:{}@{}", metadata.len(), time.unwrap_or_default().as_nanos()));
        }
    }
}

fn leads_out(what: &str, directory: &Path) -> Error {
    Error::new(
        Kind::Denied,
        format!("{what} leads out of the directory of models {}; put the model there", directory.display()),
    )
}
