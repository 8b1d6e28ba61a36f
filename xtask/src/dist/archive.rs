//! A `.tar.gz` whose bytes depend only on its files and the given time.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flate2::{Compression, GzBuilder};

/// A file of an archive.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) content: Vec<u8>,
}

impl Entry {
    pub(super) fn new(path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Entry {
        Entry { path: path.to_owned(), mode, content: content.into() }
    }
}

/// Writes `name.tar.gz` into the folder, with all files in a folder `name`.
pub(super) fn write(folder: &Path, name: &str, entries: &[Entry], epoch: u64) -> anyhow::Result<PathBuf> {
    let path = folder.join(format!("{name}.tar.gz"));
    let bytes = bytes(name, entries, epoch).with_context(|| format!("cannot pack {}", path.display()))?;
    // By rename, so that readers of an earlier run's archive see a whole file.
    let unfinished = folder.join(format!(".{name}.unfinished"));
    File::create(&unfinished)
        .and_then(|mut file| file.write_all(&bytes))
        .and_then(|()| fs::rename(&unfinished, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn bytes(name: &str, entries: &[Entry], epoch: u64) -> std::io::Result<Vec<u8>> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let compressed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    let mut tar = tar::Builder::new(compressed);
    for entry in sorted {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(epoch);
        header.set_size(entry.content.len() as u64);
        tar.append_data(&mut header, format!("{name}/{}", entry.path), entry.content.as_slice())?;
    }
    tar.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_files_changes_no_byte() -> anyhow::Result<()> {
        let (a, b) = (Entry::new("a", 0o644, "one"), Entry::new("docs/b", 0o755, "two"));
        let packed = bytes("n", &[a.clone(), b.clone()], 1)?;
        assert_eq!(packed, bytes("n", &[b, a], 1)?);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed.as_slice()));
        let mut found = Vec::new();
        for entry in archive.entries()? {
            let header = entry?.header().clone();
            found.push((header.path()?.display().to_string(), header.mode()?, header.mtime()?, header.uid()?));
        }
        assert_eq!(found, [("n/a".to_owned(), 0o644, 1, 0), ("n/docs/b".to_owned(), 0o755, 1, 0)]);
        Ok(())
    }
}
