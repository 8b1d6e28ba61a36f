//! The place of a local model's files, as its registration names it.

use super::model::Model;
use mysql_ml_base::error::{cut, Error, Result};

/// The place of a model's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory made by an administrator: an absolute path, or one below the directory of models.
    Directory(String),
    /// A repository of Hugging Face, fetched by `ml_fetch_model` into a directory of that name.
    Repository(Repository),
}

/// A repository of models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// `organisation/name`, or `name` alone for the oldest ones.
    pub id: String,
    /// A branch, tag or commit; `None` is `main`.
    pub revision: Option<String>,
}

impl Place {
    /// The place of a local model: its `model_request_url`, else its `model_qualified_name` as a repository.
    pub fn of(model: &Model) -> Result<Self> {
        match (&model.request_url, &model.qualified_name) {
            (Some(url), _) => Self::parse(url),
            (None, Some(name)) => Ok(Self::Repository(Repository::parse(name)?)),
            (None, None) => Err(Error::invalid(format!(
                "model_request_url is required for provider {}; give file:///directory, or hf:organisation/name",
                model.provider.as_str()
            ))),
        }
    }

    /// Reads `file:///directory`, `hf:organisation/name@revision`, or a directory's name.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(repository) = text.strip_prefix("hf:") {
            return Ok(Self::Repository(Repository::parse(repository)?));
        }
        if text.starts_with("file:") {
            let url = url::Url::parse(text).ok().filter(|u| u.host_str().is_none_or(str::is_empty));
            let path = url.and_then(|u| u.to_file_path().ok()).and_then(|p| p.to_str().map(str::to_owned));
            return path.map(Self::Directory).ok_or_else(|| {
                Error::invalid(format!("model_request_url '{}' is no file; write file:///directory", cut(text, 80)))
            });
        }
        if text.contains("://") || text.starts_with("http:") || text.starts_with("https:") {
            return Err(Error::invalid(
                "a model inside the server has no endpoint; give file:///directory or hf:organisation/name as model_request_url",
            ));
        }
        let parts = text.strip_prefix('/').unwrap_or(text).split('/');
        if text.is_empty() || text.chars().any(char::is_control) || parts.into_iter().any(|p| p == ".." || p == ".") {
            return Err(Error::invalid(format!("model_request_url '{}' is no directory's name", cut(text, 80))));
        }
        Ok(Self::Directory(text.to_owned()))
    }

    /// The directory, absolute or below the directory of models.
    pub fn directory(&self) -> String {
        match self {
            Place::Directory(directory) => directory.clone(),
            Place::Repository(repository) => repository.directory(),
        }
    }
}

impl Repository {
    fn parse(text: &str) -> Result<Self> {
        let (id, revision) = match text.split_once('@') {
            None => (text, None),
            Some((id, revision)) => (id, Some(revision)),
        };
        let word = |t: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !t.is_empty() && t.len() <= 96 && !t.starts_with('.') && t.chars().all(plain)
        };
        let parts: Vec<&str> = id.split('/').collect();
        // A slash in a revision would be another directory.
        if parts.len() > 2 || !parts.iter().all(|p| word(p)) || !revision.is_none_or(word) {
            return Err(Error::invalid(format!(
                "'{}' is no repository of models; write organisation/name or organisation/name@revision",
                cut(text, 80)
            )));
        }
        Ok(Repository { id: id.to_owned(), revision: revision.map(str::to_owned) })
    }

    /// The revision to fetch.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The directory below that of models.
    pub fn directory(&self) -> String {
        match &self.revision {
            None => self.id.clone(),
            Some(revision) => format!("{}@{revision}", self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let directory = |t: &str| Place::parse(t).map(|p| p.directory());
        assert_eq!(directory("file:///srv/models/a%20b").unwrap(), "/srv/models/a b");
        assert_eq!(
            directory("hf:sentence-transformers/all-MiniLM-L6-v2").unwrap(),
            "sentence-transformers/all-MiniLM-L6-v2"
        );
        assert_eq!(directory("hf:t5-small@v1.0").unwrap(), "t5-small@v1.0");
        assert_eq!(directory("my/model").unwrap(), "my/model");
        for bad in [
            "https://h/x",
            "hf:",
            "hf:a/b/c",
            "hf:../x",
            "hf:a/..",
            "hf:a@",
            "hf:a@x/y",
            "file://host/x",
            "../x",
            "a/../b",
            "",
            "hf:a b/c",
        ] {
            assert!(directory(bad).is_err(), "{bad}");
        }
    }
}
