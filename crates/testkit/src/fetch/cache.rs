//! The cache folder: things that are expensive to make and can be made again.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Marks a finished folder; created last.
const MARKER: &str = ".complete";

/// The path of `name` in the cache; `make` creates it if it is missing.
///
/// `make` gets an empty folder to fill. One process makes it at a time and the others wait. The folder gets its name
/// when it is complete, so no process sees half of it.
pub fn get_or_make(
    name: &str,
    progress: &dyn Fn(&str),
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let cache = folder()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot create the cache folder {}", cache.display()))?;
    get_or_make_in(&cache, name, progress, make)
        .with_context(|| format!("cannot make {name} in the cache folder {}", cache.display()))
}

fn get_or_make_in(
    cache: &Path,
    name: &str,
    progress: &dyn Fn(&str),
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let target = cache.join(name);
    let marker = target.join(MARKER);
    if marker.exists() {
        return Ok(target);
    }
    let _lock = lock(&cache.join(format!("{name}.lock")), progress)?;
    if marker.exists() {
        return Ok(target);
    }
    let unfinished = cache.join(format!("{name}.unfinished"));
    remove(&unfinished)?;
    remove(&target)?;
    fs::create_dir(&unfinished)?;
    make(&unfinished).inspect_err(|_| {
        // Best effort: the next attempt removes it too.
        let _ = fs::remove_dir_all(&unfinished);
    })?;
    File::create(unfinished.join(MARKER))?;
    fs::rename(&unfinished, &target)?;
    Ok(target)
}

/// The cache folder; it may not exist yet.
pub fn folder() -> anyhow::Result<PathBuf> {
    // An empty variable counts as unset, and the XDG specification ignores relative paths.
    let variable = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(own) = env::var_os("MYSQL_ML_CACHE").filter(|path| !path.is_empty()) {
        return std::path::absolute(own).context("MYSQL_ML_CACHE is no usable path");
    }
    variable("XDG_CACHE_HOME")
        .or_else(|| Some(variable("HOME")?.join(".cache")))
        .map(|cache| cache.join("mysql-ml"))
        .context("no folder to keep a server in: set MYSQL_ML_CACHE, or HOME")
}

/// Waits for the lock. Closing the file releases it, as does the end of the process.
fn lock(path: &Path, progress: &dyn Fn(&str)) -> anyhow::Result<File> {
    let file = File::create(path)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            progress(&format!("waiting for another process that holds {}", path.display()))
        }
        Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the cache"),
    }
    file.lock().context("cannot lock the cache")?;
    Ok(file)
}

/// Removes the remains of a stopped run.
fn remove(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_a_folder_once() -> anyhow::Result<()> {
        let cache = tempfile::tempdir()?;
        for content in ["first", "second"] {
            let made =
                get_or_make_in(cache.path(), "thing", &|_| (), |folder| Ok(fs::write(folder.join("file"), content)?))?;
            assert_eq!(fs::read_to_string(made.join("file"))?, "first");
        }
        Ok(())
    }

    #[test]
    fn makes_a_folder_again_that_was_not_finished() -> anyhow::Result<()> {
        let cache = tempfile::tempdir()?;
        let failed = get_or_make_in(cache.path(), "thing", &|_| (), |folder| {
            fs::write(folder.join("half"), "")?;
            anyhow::bail!("stopped")
        });
        assert!(failed.is_err());
        assert!(!cache.path().join("thing").exists());
        let made = get_or_make_in(cache.path(), "thing", &|_| (), |_| Ok(()))?;
        assert!(!made.join("half").exists());
        Ok(())
    }

    #[test]
    fn makes_a_folder_once_for_many_threads() -> anyhow::Result<()> {
        let cache = tempfile::tempdir()?;
        let made = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let _ = get_or_make_in(cache.path(), "thing", &|_| (), |_| {
                        made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        Ok(())
                    });
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
        Ok(())
    }
}
