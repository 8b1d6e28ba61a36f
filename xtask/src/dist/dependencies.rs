//! The crates in a library, from cargo's metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Release, Variant};
use testkit::fetch::output;
use testkit::library::{cargo, workspace_root};

/// The library's package, and cargo's metadata of all others.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) version: String,
    /// Whether it has default features.
    has_default_features: bool,
    crates: BTreeMap<(String, String), Crate>,
}

/// A crate that is linked into the library.
#[derive(Debug, Clone)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) version: String,
    /// An SPDX expression.
    pub(super) licence: Option<String>,
    /// The SHA-256 of the package in the registry.
    pub(super) checksum: Option<String>,
    /// The folder of its sources.
    pub(super) folder: PathBuf,
    /// Its package URL: `pkg:cargo/serde@1.0.0`.
    pub(super) purl: String,
    /// Its direct, linked dependencies by name and version.
    pub(super) depends_on: BTreeSet<(String, String)>,
}

impl Crate {
    /// Whether it is a crate of this workspace, which no registry has.
    pub(super) fn is_own(&self) -> bool {
        self.checksum.is_none()
    }
}

impl Package {
    /// Reads the metadata of all packages in the workspace's lock file.
    pub(super) fn read() -> Result<Package> {
        let mut command = cargo();
        command.args(["metadata", "--format-version", "1", "--locked"]).current_dir(workspace_root());
        let metadata: Value = serde_json::from_str(&output(command)?).context("cargo metadata is no JSON")?;
        let checksums = checksums()?;
        let mut crates = BTreeMap::new();
        let mut own = None;
        for package in metadata["packages"].as_array().context("cargo metadata has no packages")? {
            let text = |field: &str| package[field].as_str().unwrap_or_default().to_owned();
            let (name, version) = (text("name"), text("version"));
            if name == "mysql-ml" {
                let defaults = package["features"]["default"].as_array().is_some_and(|names| !names.is_empty());
                own = Some((version.clone(), defaults));
            }
            let manifest = PathBuf::from(text("manifest_path"));
            let found = Crate {
                purl: format!("pkg:cargo/{name}@{version}"),
                licence: package["license"].as_str().map(str::to_owned),
                checksum: checksums.get(&(name.clone(), version.clone())).cloned(),
                folder: manifest.parent().map(PathBuf::from).unwrap_or_default(),
                depends_on: BTreeSet::new(),
                name: name.clone(),
                version: version.clone(),
            };
            crates.insert((name, version), found);
        }
        let (version, has_default_features) = own.context("cargo metadata does not know mysql-ml")?;
        Ok(Package { version, has_default_features, crates })
    }

    /// The variants to build.
    pub(super) fn variants(&self) -> Vec<Variant> {
        match self.has_default_features {
            true => vec![Variant::Full, Variant::Slim],
            false => vec![Variant::Full],
        }
    }

    /// The crates linked into a library, itself first, without build scripts and macros.
    pub(super) fn shipped(&self, release: &Release) -> Result<Vec<Crate>> {
        let mut command: Command = cargo();
        command.args(["tree", "--package", "mysql-ml", "--edges", "normal,no-proc-macro", "--locked"]);
        command.args([
            "--prefix",
            "depth",
            "--no-dedupe",
            "--format",
            " {p}",
            "--target",
            release.architecture.target(),
        ]);
        if release.variant == Variant::Slim {
            command.arg("--no-default-features");
        }
        command.current_dir(workspace_root());
        self.in_tree(&output(command)?)
    }

    fn in_tree(&self, tree: &str) -> Result<Vec<Crate>> {
        let mut edges: BTreeMap<(String, String), BTreeSet<(String, String)>> = BTreeMap::new();
        let mut order = Vec::new();
        let mut above: Vec<(String, String)> = Vec::new();
        for line in tree.lines() {
            // `2 serde v1.0.229`
            let mut words = line.split_whitespace();
            let (depth, name, version) = (words.next(), words.next(), words.next());
            let depth: usize =
                depth.and_then(|text| text.parse().ok()).with_context(|| format!("cargo tree: {line}"))?;
            let name = name.with_context(|| format!("cargo tree: {line}"))?.to_owned();
            let version = version.unwrap_or_default().trim_start_matches('v').to_owned();
            let key = (name, version);
            above.truncate(depth);
            if let Some(parent) = above.last() {
                edges.entry(parent.clone()).or_default().insert(key.clone());
            }
            above.push(key.clone());
            if !order.contains(&key) {
                order.push(key);
            }
        }
        if let Some(others) = order.get_mut(1..) {
            others.sort();
        }
        order
            .into_iter()
            .map(|key| {
                let mut found =
                    self.crates.get(&key).with_context(|| format!("{} {} is not known", key.0, key.1))?.clone();
                found.depends_on = edges.remove(&key).unwrap_or_default();
                Ok(found)
            })
            .collect()
    }
}

/// The checksums in Cargo.lock, by name and version.
fn checksums() -> Result<BTreeMap<(String, String), String>> {
    let lock = std::fs::read_to_string(workspace_root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let mut checksums = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
            line.map(|value| value.trim_end_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(checksum)) = (field("name"), field("version"), field("checksum")) {
            checksums.insert((name, version), checksum);
        }
    }
    Ok(checksums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::Architecture;

    #[test]
    fn the_library_has_the_crates_it_is_linked_with_and_no_others() -> Result<()> {
        let package = Package::read()?;
        let release = Release {
            version: package.version.clone(),
            architecture: Architecture::X86_64,
            variant: Variant::Full,
            epoch: 0,
        };
        let shipped = package.shipped(&release)?;
        let names: Vec<&str> = shipped.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names.first(), Some(&"mysql-ml"));
        for linked in ["rustls", "libsqlite3-sys", "serde_json"] {
            assert!(names.contains(&linked), "{linked}");
        }
        for other in ["xtask", "testkit", "fake-providers", "syn", "cc", "mysql", "serde_derive"] {
            assert!(!names.contains(&other), "{other}");
        }
        for found in &shipped {
            assert!(found.licence.is_some(), "{found:?}");
            let own = found.name.starts_with("mysql-ml") || found.name == "surface";
            assert_eq!(found.is_own(), own, "{found:?}");
        }
        let core = shipped.iter().find(|found| found.name == "mysql-ml-core").context("no crate")?;
        assert!(core.depends_on.iter().any(|(name, _)| name == "ureq"));
        Ok(())
    }
}
