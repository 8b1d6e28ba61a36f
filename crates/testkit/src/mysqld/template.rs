//! Copies of a prepared data directory.
//!
//! The initialization of a data directory takes seconds, a copy a fraction of a second. So each server program
//! initializes one, which is kept in the cache.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{bail, Context as _};

use super::process::Process;
use super::settings;
use crate::fetch::{cache, option, Distribution};

/// Time limit of the initialization of a data directory.
const LIMIT: Duration = Duration::from_secs(180);

/// The file with the server's UUID, which must be unique.
const UUID_FILE: &str = "auto.cnf";

/// Fills `datadir` with the data of a server that never ran, whose root has no password.
///
/// `args`: the server's options, some of which matter at initialization.
pub(super) fn instantiate(distribution: &Distribution, args: &[String], datadir: &Path) -> anyhow::Result<()> {
    let args: Vec<&String> = args.iter().filter(|arg| settings::shapes_data(arg)).collect();
    let mut hasher = DefaultHasher::new();
    (distribution.description(), settings::light(), &args).hash(&mut hasher);
    let name = format!("data-{}-{:016x}", distribution.version(), hasher.finish());
    let folder = cache::get_or_make(&name, &|_| (), |folder| initialise(distribution, &args, folder))?;
    // A partial copy must not pass for a data directory.
    let unfinished = datadir.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    copy(&folder.join("data"), &unfinished).context("cannot copy the data directory")?;
    fs::rename(&unfinished, datadir).context("cannot name the data directory")
}

fn initialise(distribution: &Distribution, args: &[&String], folder: &Path) -> anyhow::Result<()> {
    let datadir = folder.join("data");
    let log = folder.join("error.log");
    let mut command = distribution.mysqld();
    command.arg("--initialize-insecure");
    command.arg(option("datadir", &datadir));
    command.arg(option("log-error", &log));
    command.args(settings::light());
    command.args(args);
    settings::send_output_to(&mut command, &log)?;
    let process = Process::spawn(command)?;
    let ended = process.wait(LIMIT);
    match ended {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("mysqld --initialize-insecure failed ({status}):\n{}", settings::tail(&log)),
        None => bail!("mysqld --initialize-insecure took too long:\n{}", settings::tail(&log)),
    }
}

/// Copies a folder recursively, with its permissions.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else if entry.file_name() != UUID_FILE {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
