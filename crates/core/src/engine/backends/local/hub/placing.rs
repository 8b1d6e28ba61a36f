//! Placing a fetched model: a directory is replaced only if all its files come from a fetch of the same repository.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use rustix::fs::{renameat_with, RenameFlags, CWD};

use super::unwritable;
use crate::catalog::local_place::Repository;
use mysql_ml_base::error::{cut, Error, Kind, Result};

/// The list of fetched files, beside the files.
const FILE: &str = ".mysql-ml-fetched.json";

/// The most bytes of the list, and the deepest directory level that is searched.
const MOST_BYTES: u64 = 4 << 20;
const DEEPEST: usize = 8;

/// The files that a fetch put into a directory.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    repository: String,
    commit: String,
    /// By their paths in the directory.
    files: BTreeMap<String, Fetched>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Fetched {
    bytes: u64,
    sha256: String,
}

impl Manifest {
    /// An empty list for a repository at a commit.
    pub fn new(repository: &str, commit: &str) -> Self {
        Manifest { repository: repository.to_owned(), commit: commit.to_owned(), files: BTreeMap::new() }
    }

    /// Adds a file.
    pub fn add(&mut self, path: &str, bytes: u64, sha256: String) {
        self.files.insert(path.to_owned(), Fetched { bytes, sha256 });
    }

    /// Deletes all other files in a directory of unfinished files.
    pub fn keep_only(&self, folder: &Path) -> Result<()> {
        for path in paths(folder)? {
            if !self.files.contains_key(&path) {
                let path = folder.join(path);
                fs::remove_file(&path).map_err(|e| unwritable(&path, &e))?;
            }
        }
        Ok(())
    }

    /// Writes it into the directory.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let json = serde_json::to_vec_pretty(self).map_err(|e| Error::internal(format!("no list of files ({e})")))?;
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&path)?;
            file.write_all(&json)?;
            file.sync_all()
        };
        write().map_err(|e| unwritable(&path, &e))
    }

    /// Reads a directory's list; `None` if it is missing or invalid.
    fn read(folder: &Path) -> Option<Self> {
        let path = folder.join(FILE);
        let metadata = fs::symlink_metadata(&path).ok().filter(|m| m.is_file() && m.len() <= MOST_BYTES)?;
        let bytes = fs::read(&path).ok().filter(|b| b.len() as u64 <= metadata.len())?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// The place of a model below the directory of models.
pub struct Target<'a> {
    root: &'a Path,
    repository: &'a Repository,
    /// Temporary place of the older files.
    old: PathBuf,
}

impl<'a> Target<'a> {
    /// The place of a repository's files below `root`; `old` is in the directory of unfinished fetches.
    pub fn new(root: &'a Path, repository: &'a Repository, old: PathBuf) -> Self {
        Target { root, repository, old }
    }

    /// The directory.
    pub fn directory(&self) -> PathBuf {
        self.root.join(self.repository.directory())
    }

    /// Restores the directory after a fetch that ended in the middle of a replacement.
    pub fn recover(&self) -> Result<()> {
        if !exists(&self.old) {
            return Ok(());
        }
        let directory = self.directory();
        if exists(&directory) {
            // The replacement was finished or never begun: the leftover is ours.
            return fs::remove_dir_all(&self.old).map_err(|e| unwritable(&self.old, &e));
        }
        fs::rename(&self.old, &directory).map_err(|e| unwritable(&directory, &e))
    }

    /// An error if the directory is inside another model's, or may not be replaced, as far as visible without reading
    /// files.
    pub fn check_place(&self) -> Result<()> {
        let below = self.repository.directory();
        no_links(self.root, Path::new(&below))?;
        let mut above = PathBuf::new();
        for part in Path::new(&below).parent().into_iter().flat_map(Path::components) {
            above.push(part);
            let directory = self.root.join(&above);
            if exists(&directory.join(FILE)) || exists(&directory.join("config.json")) {
                return Err(Error::new(
                    Kind::Denied,
                    format!(
                        "{} is itself a model's directory, and {below} would be in it; move it away first",
                        directory.display()
                    ),
                ));
            }
        }
        let directory = self.directory();
        if !exists(&directory) {
            return Ok(());
        }
        if !directory.is_dir() {
            return Err(self.taken("it is no directory"));
        }
        match Manifest::read(&directory) {
            Some(manifest) if manifest.repository != self.repository.id => {
                Err(self.taken(&format!("it holds {}", cut(&manifest.repository, 80))))
            }
            // Files are checked when their replacements exist. A directory belongs to another model.
            _ => match paths(&directory)?.iter().find(|path| deep(path)) {
                Some(path) => Err(self.taken(&format!("it has {}", cut(path, 120)))),
                None => Ok(()),
            },
        }
    }

    fn taken(&self, why: &str) -> Error {
        Error::new(
            Kind::Denied,
            format!(
                "{} is not replaced, because {why}, which ml_fetch_model did not put there for this model; move it away, and call again",
                self.directory().display()
            ),
        )
    }

    /// Renames `from`, with the files of `fetched`, to the model's directory. An existing directory may contain only
    /// unchanged files of an earlier fetch, or files that are fetched again.
    pub fn put(&self, from: &Path, fetched: &Manifest, digest: impl Fn(&Path) -> Result<String>) -> Result<()> {
        self.check_place()?;
        let directory = self.directory();
        if let Some(parent) = directory.parent() {
            fs::create_dir_all(parent).map_err(|e| unwritable(parent, &e))?;
        }
        if !exists(&directory) {
            return fs::rename(from, &directory).map_err(|e| unwritable(&directory, &e));
        }
        let before = Manifest::read(&directory).filter(|m| m.repository == self.repository.id);
        let known = |path: &str| {
            let before = before.as_ref().and_then(|m| m.files.get(path));
            before.into_iter().chain(fetched.files.get(path)).collect::<Vec<_>>()
        };
        for path in paths(&directory)? {
            let known = known(&path);
            if known.is_empty() {
                return Err(self.taken(&format!("it has {}", cut(&path, 120))));
            }
            let file = directory.join(&path);
            let bytes = fs::symlink_metadata(&file).map_or(u64::MAX, |m| m.len());
            let same_size: Vec<_> = known.into_iter().filter(|k| k.bytes == bytes).collect();
            let digest = if same_size.is_empty() { String::new() } else { digest(&file)? };
            if !same_size.iter().any(|k| k.sha256 == digest) {
                return Err(self.taken(&format!("its {} was changed", cut(&path, 120))));
            }
        }
        if exists(&self.old) {
            fs::remove_dir_all(&self.old).map_err(|e| unwritable(&self.old, &e))?;
        }
        // The directory exists at every moment.
        if renameat_with(CWD, from, CWD, &directory, RenameFlags::EXCHANGE).is_ok() {
            fs::rename(from, &self.old).map_err(|e| unwritable(from, &e))?;
        } else {
            fs::rename(&directory, &self.old).map_err(|e| unwritable(&directory, &e))?;
            if let Err(e) = fs::rename(from, &directory) {
                // Best effort: otherwise the next fetch does it.
                let _ = fs::rename(&self.old, &directory);
                return Err(unwritable(&directory, &e));
            }
        }
        // Files that appeared during the check are kept aside, not deleted.
        let added = paths(&self.old)?.into_iter().find(|path| known(path).is_empty());
        if let Some(path) = added {
            let aside = self.old.with_extension("kept");
            fs::rename(&self.old, &aside).map_err(|e| unwritable(&aside, &e))?;
            return Err(Error::new(
                Kind::Denied,
                format!("the model was replaced; {} came meanwhile and is in {} now", cut(&path, 80), aside.display()),
            ));
        }
        // Best effort: a leftover only takes up space until the next fetch.
        let _ = fs::remove_dir_all(&self.old);
        Ok(())
    }
}

/// Whether a path is in a directory that models do not have; module directories are called `1_Pooling` and the like.
fn deep(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [_] => false,
        [module, file] => file.is_empty() || !module.starts_with(|c: char| c.is_ascii_digit()),
        _ => true,
    }
}

/// Whether the path exists, even as a dangling link.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// An error if a part of the path below `root` is a link: its target belongs to others.
pub fn no_links(root: &Path, below: &Path) -> Result<()> {
    let mut path = root.to_owned();
    for part in below.components() {
        path.push(part);
        if fs::symlink_metadata(&path).is_ok_and(|m| m.file_type().is_symlink()) {
            return Err(Error::new(
                Kind::Denied,
                format!(
                    "{} is a link; models are fetched into directories, not behind links: remove it",
                    path.display()
                ),
            ));
        }
    }
    Ok(())
}

/// The paths of all files below a directory but the list itself; of an empty directory in it `name/`. Links and the like count
/// as files.
fn paths(directory: &Path) -> Result<Vec<String>> {
    fn walk(directory: &Path, before: &str, depth: usize, found: &mut Vec<String>) -> Result<()> {
        let unreadable = |e: std::io::Error| unwritable(directory, &e);
        for entry in fs::read_dir(directory).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = format!("{before}{}", entry.file_name().to_string_lossy());
            if name == FILE {
                continue;
            }
            if entry.file_type().map_err(unreadable)?.is_dir() && depth < DEEPEST {
                let count = found.len();
                walk(&entry.path(), &format!("{name}/"), depth + 1, found)?;
                if found.len() == count {
                    found.push(format!("{name}/"));
                }
            } else {
                found.push(name);
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(directory, "", 0, &mut found)?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::local_place::Place;
    use sha2::{Digest, Sha256};

    struct Models {
        root: tempfile::TempDir,
    }

    fn digest(path: &Path) -> Result<String> {
        Ok(Sha256::digest(fs::read(path).unwrap()).iter().map(|b| format!("{b:02x}")).collect())
    }

    impl Models {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join(".fetching")).unwrap();
            Models { root }
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn read(&self, path: &str) -> Option<String> {
            fs::read_to_string(self.root.path().join(path)).ok()
        }

        /// What a fetch of these files does.
        fn fetch(&self, repository: &str, files: &[(&str, &str)]) -> Result<()> {
            let repository = repository_of(repository);
            let target = Target::new(self.root.path(), &repository, self.root.path().join(".fetching/x.old"));
            target.recover()?;
            target.check_place()?;
            let mut manifest = Manifest::new(&repository.id, "abc");
            let from = self.root.path().join(".fetching/new");
            for (path, text) in files {
                self.write(&format!(".fetching/new/{path}"), text);
                manifest.add(path, text.len() as u64, digest(&from.join(path))?);
            }
            manifest.keep_only(&from)?;
            manifest.write(&from)?;
            target.put(&from, &manifest, digest)
        }
    }

    fn repository_of(id: &str) -> Repository {
        match Place::parse(&format!("hf:{id}")).unwrap() {
            Place::Repository(repository) => repository,
            Place::Directory(_) => unreachable!(),
        }
    }

    const FILES: [(&str, &str); 3] =
        [("config.json", "{}"), ("model.safetensors", "weights"), ("1_Pooling/config.json", "[]")];

    #[test]
    fn a_fetch_never_deletes_what_it_did_not_put_there() {
        let place = Models::new();
        place.write("acme/model-one/config.json", "one");
        place.write("acme/model-two/config.json", "two");
        let error = place.fetch("acme", &FILES).unwrap_err();
        assert!(
            error.message().contains("acme is not replaced") && error.message().contains("move it away"),
            "{error}"
        );
        assert_eq!(place.read("acme/model-one/config.json").as_deref(), Some("one"));
        assert_eq!(place.read("acme/model-two/config.json").as_deref(), Some("two"));
        // Files by hand, one among those that were fetched, one that was changed, an empty folder, a link.
        place.write("hand/config.json", "by hand");
        assert!(place.fetch("hand", &FILES).is_err());
        assert_eq!(place.read("hand/config.json").as_deref(), Some("by hand"));
        let breaks: [fn(&Path); 5] = [
            |d| fs::write(d.join("notes.txt"), "mine").unwrap(),
            |d| fs::write(d.join("config.json"), "[]").unwrap(),
            |d| fs::create_dir(d.join("empty")).unwrap(),
            |d| std::os::unix::fs::symlink("/etc/hostname", d.join("link")).unwrap(),
            |d| fs::write(d.join("1_Pooling/other.json"), "mine").unwrap(),
        ];
        for (i, change) in breaks.into_iter().enumerate() {
            let place = Models::new();
            place.fetch("org/m", &FILES).unwrap();
            change(&place.root.path().join("org/m"));
            let error = place.fetch("org/m", &FILES[..2]).unwrap_err();
            assert!(error.message().contains("is not replaced"), "{i}: {error}");
            assert!(place.read("org/m/model.safetensors").is_some(), "{i}");
        }
    }

    #[test]
    fn what_a_fetch_put_there_is_replaced() {
        let place = Models::new();
        place.fetch("org/m", &FILES).unwrap();
        place.fetch("org/m", &[("config.json", "new"), ("model.safetensors", "other")]).unwrap();
        assert_eq!(place.read("org/m/config.json").as_deref(), Some("new"));
        assert_eq!(place.read("org/m/1_Pooling/config.json"), None);
        assert!(!place.root.path().join(".fetching/x.old").exists());
        // Files of an older release, without a list: the same ones are no loss.
        let place = Models::new();
        FILES.iter().for_each(|(path, text)| place.write(&format!("org/m/{path}"), text));
        place.fetch("org/m", &FILES).unwrap();
        fs::create_dir_all(place.root.path().join("empty/m")).unwrap();
        place.fetch("empty/m", &FILES).unwrap();
    }

    #[test]
    fn models_are_never_inside_of_each_other() {
        let place = Models::new();
        place.fetch("acme", &FILES).unwrap();
        let error = place.fetch("acme/inner", &FILES).unwrap_err();
        assert!(error.message().contains("itself a model's directory"), "{error}");
        assert!(place.read("acme/inner/config.json").is_none());
        // Another repository whose directory is the same on a file system that does not tell letters apart.
        let place = Models::new();
        place.fetch("org/Model", &FILES).unwrap();
        fs::rename(place.root.path().join("org/Model"), place.root.path().join("org/model")).unwrap();
        assert!(place.fetch("org/model", &FILES).unwrap_err().message().contains("it holds org/Model"));
    }

    #[test]
    fn links_are_not_followed() {
        let place = Models::new();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::create_dir(elsewhere.path().join("m")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), place.root.path().join("org")).unwrap();
        let error = place.fetch("org/m", &FILES).unwrap_err();
        assert!(error.message().contains("is a link"), "{error}");
        assert_eq!(fs::read_dir(elsewhere.path().join("m")).unwrap().count(), 0);
    }

    #[test]
    fn a_replacement_that_was_cut_off_is_put_back() {
        let place = Models::new();
        place.fetch("org/m", &FILES).unwrap();
        fs::rename(place.root.path().join("org/m"), place.root.path().join(".fetching/x.old")).unwrap();
        // This one fails; what was there is there again.
        place.write(".fetching/new", "in the way");
        let repository = repository_of("org/m");
        Target::new(place.root.path(), &repository, place.root.path().join(".fetching/x.old")).recover().unwrap();
        assert_eq!(place.read("org/m/config.json").as_deref(), Some("{}"));
    }
}
