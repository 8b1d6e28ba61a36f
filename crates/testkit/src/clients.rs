//! Client libraries for tests and benchmarks, fetched once from PyPI and npm into the cache folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::fetch::{cache, output};
use crate::library::workspace_root;

/// The folder of the Python packages in tests/clients/requirements.txt, for `PYTHONPATH`.
pub fn python(progress: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
    python_packages("clients", &workspace_root().join("tests/clients/requirements.txt"), progress)
}

/// The folder of the vector stores in tests/clients/stores.txt and of what they import, for `PYTHONPATH` before [`python`].
pub fn stores(progress: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
    // All that is needed is listed: with their other dependencies the packages are twice as large.
    packages("stores", &workspace_root().join("tests/clients/stores.txt"), &["--no-deps"], progress)
}

/// The folder of the Python packages that a requirements file lists, for `PYTHONPATH`.
pub fn python_packages(name: &str, requirements: &Path, progress: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
    packages(name, requirements, &[], progress)
}

fn packages(name: &str, requirements: &Path, options: &[&str], progress: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
    let text = fs::read_to_string(requirements).with_context(|| requirements.display().to_string())?;
    let mut version = Command::new("python3");
    version.arg("--version");
    // Packages with compiled parts fit one version of Python.
    let version = output(version).context("there is no python3")?;
    cache::get_or_make(&format!("python-{name}-{}", digest(&(text + &version))), progress, |folder| {
        progress(&format!("fetching Python packages from PyPI (once): {name}"));
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]);
        pip.args(options).arg("--target").arg(folder).arg("--requirement").arg(requirements);
        output(pip).context("python3 -m pip cannot install them").map(drop)
    })
}

/// The folder of the Node packages in tests/clients/package.json, for `NODE_PATH`.
pub fn node(progress: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
    let own = workspace_root().join("tests/clients");
    let lock = fs::read_to_string(own.join("package-lock.json")).context("tests/clients/package-lock.json")?;
    let folder = cache::get_or_make(&format!("node-clients-{}", digest(&lock)), progress, |folder| {
        progress("fetching MySQL clients from npm (once)");
        for name in ["package.json", "package-lock.json"] {
            fs::copy(own.join(name), folder.join(name))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(folder);
        output(npm).context("npm cannot install the clients").map(drop)
    })?;
    Ok(folder.join("node_modules"))
}

fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
