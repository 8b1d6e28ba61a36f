//! Finds the Debian mirror that this system uses.
//!
//! No address is hard-coded: the system's own mirror may be the only reachable one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::fetch::output;

/// The folder of apt's settings.
const APT: &str = "/etc/apt";

/// The address of the system's own mirror.
pub(super) fn find() -> anyhow::Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"]);
    let targets = output(command).context("this is no Debian-like system with apt-get")?;
    if let Some(mirror) = in_index_targets(&targets) {
        return Ok(mirror);
    }
    // Container images lack the downloaded indexes that know the origin of a source.
    for file in source_files() {
        // apt could not use an unreadable one for this user either.
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        let is_deb822 = file.extension().is_some_and(|extension| extension == "sources");
        let sources = if is_deb822 { parse_deb822(&text) } else { parse_one_line(&text) };
        if let Some(mirror) = in_sources(&sources) {
            return Ok(mirror);
        }
    }
    anyhow::bail!("apt has no source of Debian's main archive configured")
}

/// Picks the main archive from lines of `ORIGIN REPO_URI`.
fn in_index_targets(targets: &str) -> Option<String> {
    targets
        .lines()
        .filter_map(|line| line.strip_prefix("Debian "))
        .map(str::trim)
        .find(|address| !address.is_empty() && !is_other_archive(address))
        .map(str::to_owned)
}

/// Whether an address is that of a Debian archive without its suites.
fn is_other_archive(address: &str) -> bool {
    ["debian-security", "debian-debug", "debian-ports", "security.debian.org"]
        .iter()
        .any(|other| address.contains(other))
}

/// One package source of apt's settings.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    address: String,
    components: Vec<String>,
}

/// Picks the main archive by its customary path: the origin is unknown here.
///
/// A wrong guess is harmless: everything fetched must carry Debian's signature.
fn in_sources(sources: &[Source]) -> Option<String> {
    let is_main_archive = |source: &&Source| {
        let address = source.address.trim_end_matches('/');
        let by_path =
            address.ends_with("/debian") || address.contains("/archive/debian/") || address.ends_with("/debian.list");
        by_path && !is_other_archive(address) && source.components.iter().any(|name| name == "main")
    };
    sources.iter().find(is_main_archive).map(|source| source.address.clone())
}

/// The files with apt's sources.
fn source_files() -> Vec<PathBuf> {
    let apt = Path::new(APT);
    let mut files = vec![apt.join("sources.list")];
    if let Ok(entries) = fs::read_dir(apt.join("sources.list.d")) {
        let mut parts: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        parts.retain(|path| path.extension().is_some_and(|extension| extension == "list" || extension == "sources"));
        parts.sort();
        files.extend(parts);
    }
    files
}

/// The sources in the one-line format: `deb [options] address suite component...`.
fn parse_one_line(text: &str) -> Vec<Source> {
    let parse = |line: &str| {
        // A comment may also follow a source on its line.
        let line = line.split('#').next()?.trim();
        let mut rest = line.strip_prefix("deb")?;
        if !rest.starts_with([' ', '\t']) {
            return None;
        }
        rest = rest.trim_start();
        if let Some(options) = rest.strip_prefix('[') {
            rest = options.split_once(']')?.1;
        }
        let mut words = rest.split_whitespace().map(str::to_owned);
        let address = words.next()?;
        Some(Source { address, components: words.skip(1).collect() })
    };
    text.lines().filter_map(parse).collect()
}

/// The sources in the deb822 format: fields in stanzas, separated by empty lines.
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut stanza = Stanza::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.trim().is_empty() {
            stanza.end(&mut sources);
        } else {
            stanza.read(line);
        }
    }
    stanza.end(&mut sources);
    sources
}

/// The fields of a stanza as (name, words).
#[derive(Default)]
struct Stanza(Vec<(String, Vec<String>)>);

impl Stanza {
    fn read(&mut self, line: &str) {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        if line.starts_with([' ', '\t']) {
            if let Some((_, values)) = self.0.last_mut() {
                values.extend(words(line));
            }
        } else if let Some((name, value)) = line.split_once(':') {
            self.0.push((name.trim().to_ascii_lowercase(), words(value)));
        }
    }

    fn take(&mut self, name: &str) -> Vec<String> {
        let field = self.0.iter_mut().find(|(field, _)| field == name);
        field.map(|(_, values)| std::mem::take(values)).unwrap_or_default()
    }

    /// Adds the sources of the stanza and clears it for the next one.
    fn end(&mut self, sources: &mut Vec<Source>) {
        let enabled = !self.take("enabled").iter().any(|value| value == "no" || value == "false");
        let binary = self.take("types").iter().any(|kind| kind == "deb");
        let components = self.take("components");
        if enabled && binary {
            sources.extend(
                self.take("uris").into_iter().map(|address| Source { address, components: components.clone() }),
            );
        }
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_main_archive_from_index_targets() {
        let targets = "nodesource https://deb.example/node/\nDebian http://one.example/debian-security/\n\
                       Debian http://two.example/debian/\n http://three.example/\n";
        assert_eq!(in_index_targets(targets).as_deref(), Some("http://two.example/debian/"));
        assert_eq!(in_index_targets(" http://three.example/debian/\n"), None);
        assert_eq!(in_index_targets(""), None);
    }

    #[test]
    fn reads_the_one_line_format() {
        let text = "# deb http://commented.example/debian sid main\n\
                    deb-src http://source.example/debian sid main\n\
                    deb https://packages.example/apt stable main\n\
                    deb http://one.example/debian-security bookworm-security main\n\
                    deb [ arch=amd64 signed-by=/k.gpg ] http://two.example/debian/ bookworm main contrib # note\n";
        let sources = parse_one_line(text);
        assert_eq!(sources.len(), 3);
        assert!(sources.last().is_some_and(|last| last.components == ["main", "contrib"]));
        assert_eq!(in_sources(&sources).as_deref(), Some("http://two.example/debian/"));
    }

    #[test]
    fn reads_the_deb822_format() {
        let text = "Types: deb\n# http://snapshot.example/archive/debian/2025\nURIs: http://old.example/debian\n\
                    Components: main\nEnabled: no\n\n\
                    Types: deb-src\nURIs: http://source.example/debian\nComponents: main\n\n\n\
                    types: deb deb-src\nuris:\n http://security.example/debian-security\n http://two.example/debian\n\
                    Suites: trixie trixie-updates\nComponents: main\nSigned-By: /k.gpg\n";
        let sources = parse_deb822(text);
        assert_eq!(sources.len(), 2);
        assert_eq!(in_sources(&sources).as_deref(), Some("http://two.example/debian"));
    }

    #[test]
    fn knows_the_main_archive_from_others_by_its_path() {
        let source = |address: &str, component: &str| Source {
            address: address.to_owned(),
            components: vec![component.to_owned()],
        };
        // Third parties publish packages for Debian under the same path.
        assert_eq!(in_sources(&[source("https://tool.example/linux/debian", "stable")]), None);
        assert_eq!(in_sources(&[source("https://cloud.example/apt", "main")]), None);
        for address in [
            "http://deb.example/debian",
            "http://snapshot.example/archive/debian/20250520T000000Z/",
            "mirror+file:/etc/apt/mirrors/debian.list",
        ] {
            assert_eq!(in_sources(&[source(address, "main")]).as_deref(), Some(address));
        }
    }
}
