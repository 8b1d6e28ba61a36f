//! The files of an archive.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::archive::Entry;
use super::sha256;
use testkit::library::workspace_root;

/// Files of the workspace that are copied unchanged.
const FILES: [&str; 9] = [
    "CHANGELOG.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "before-restore.sql",
    "install-ai.sql",
    "install.sql",
    "uninstall.sql",
];

/// The checksums of an archive's files.
const CHECKSUMS: &str = "SHA256SUMS";

/// The generated files of a release; the rest is copied.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) library: Vec<u8>,
    pub(super) licences: String,
    pub(super) sbom: String,
    pub(super) build: String,
}

impl Contents {
    /// All files, with their checksums.
    pub(super) fn files(&self) -> Result<Vec<Entry>> {
        let root = workspace_root();
        let mut files = vec![
            Entry::new("mysql_ml.so", 0o755, self.library.clone()),
            Entry::new("THIRD-PARTY-LICENSES.txt", 0o644, self.licences.clone()),
            Entry::new("sbom.cdx.json", 0o644, self.sbom.clone()),
            Entry::new("BUILD", 0o644, self.build.clone()),
        ];
        for name in FILES {
            let content = fs::read(root.join(name)).with_context(|| format!("cannot read {name}"))?;
            files.push(Entry::new(name, 0o644, content));
        }
        add_folder(&root, Path::new("docs"), &mut files)?;
        let mut sums: Vec<String> =
            files.iter().map(|file| format!("{}  {}\n", sha256(&file.content), file.path)).collect();
        sums.sort_by(|a, b| a.split_whitespace().nth(1).cmp(&b.split_whitespace().nth(1)));
        files.push(Entry::new(CHECKSUMS, 0o644, sums.concat()));
        Ok(files)
    }
}

fn add_folder(root: &Path, folder: &Path, files: &mut Vec<Entry>) -> Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            add_folder(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "md" || extension == "svg") {
            let name = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
            files.push(Entry::new(name, 0o644, fs::read(root.join(&path))?));
        }
    }
    Ok(())
}
