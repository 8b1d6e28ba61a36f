//! `cargo xtask dist`: the files of a release.
//!
//! A library that loads into every MySQL 9.7 on Linux with glibc 2.28 or later, in an archive with its scripts and
//! documents. Beside it are debug symbols, a Debian package and checksums. The same sources, toolchain and
//! `SOURCE_DATE_EPOCH` give the same bytes, in any folder.

mod archive;
mod build;
mod contents;
mod deb;
mod dependencies;
mod elf;
mod licences;
mod sbom;
mod toolchain;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context as _};

use archive::Entry;
pub use build::Architecture;
use testkit::library::workspace_root;

/// The newest version of the GNU C library that a released library may need.
pub const GLIBC: (u32, u32) = (2, 28);

/// Options of a release.
#[derive(Debug, Clone)]
pub struct Options {
    /// The processors.
    pub architectures: Vec<Architecture>,
    /// The output folder; created if it does not exist.
    pub folder: PathBuf,
    /// Whether to run the commands of docs/install.md with the files. Needs root and debootstrap.
    pub follow: bool,
}

/// Makes the files of a release and returns their paths.
pub fn run(options: &Options, progress: &dyn Fn(&str)) -> anyhow::Result<Vec<PathBuf>> {
    let package = dependencies::Package::read()?;
    let epoch = source_date_epoch()?;
    fs::create_dir_all(&options.folder).with_context(|| format!("cannot create {}", options.folder.display()))?;
    let mut made = Vec::new();
    for &architecture in &options.architectures {
        let toolchain = toolchain::Toolchain::find_or_fetch(architecture, progress)?;
        for variant in package.variants() {
            let release = Release { version: package.version.clone(), architecture, variant, epoch };
            made.extend(make(&release, &package, &toolchain, &options.folder, progress)?);
        }
    }
    made.push(checksums(&options.folder, &made)?);
    if options.follow {
        trial::run(&made, progress)?;
    }
    Ok(made)
}

/// One library with its accompanying files.
#[derive(Debug, Clone)]
struct Release {
    version: String,
    architecture: Architecture,
    variant: Variant,
    epoch: u64,
}

/// A library with all features, or without the default ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Full,
    Slim,
}

impl Release {
    /// `mysql-ml-0.1.0-x86_64-linux`.
    fn name(&self) -> String {
        let slim = match self.variant {
            Variant::Full => "",
            Variant::Slim => "-slim",
        };
        format!("mysql-ml-{}-{}-linux{slim}", self.version, self.architecture.name())
    }
}

fn make(
    release: &Release,
    package: &dependencies::Package,
    toolchain: &toolchain::Toolchain,
    folder: &Path,
    progress: &dyn Fn(&str),
) -> anyhow::Result<Vec<PathBuf>> {
    let name = release.name();
    progress(&format!("building {name}"));
    let built = build::library(release, toolchain)?;
    elf::check(&built.stripped, &elf::exported_by_the_scripts())
        .with_context(|| format!("{name}: the library cannot be released"))?;
    let shipped = package.shipped(release)?;
    let contents = contents::Contents {
        library: built.stripped,
        licences: licences::text(&shipped, toolchain)?,
        sbom: sbom::text(release, package, &shipped, toolchain)?,
        build: toolchain.description(),
    };
    let files = contents.files()?;
    let tarball = archive::write(folder, &name, &files, release.epoch)?;
    let symbols = [Entry::new("mysql_ml.so.debug", 0o644, built.symbols)];
    let debug = archive::write(folder, &format!("{name}-debug"), &symbols, release.epoch)?;
    let mut made = vec![tarball, debug];
    // One package a processor: two would install the same file.
    if release.variant == Variant::Full {
        made.push(deb::write(folder, release, &files)?);
    }
    let size = |path: &PathBuf| fs::metadata(path).map(|file| file.len()).unwrap_or_default();
    progress(&format!("{name}: library {} bytes, needs glibc {}", contents.library.len(), built.glibc));
    for path in &made {
        progress(&format!("{}: {} bytes", path.display(), size(path)));
    }
    Ok(made)
}

/// The timestamp of all files, so that two runs give the same bytes: `SOURCE_DATE_EPOCH`, or else that of the commit.
fn source_date_epoch() -> anyhow::Result<u64> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return given.parse().context("SOURCE_DATE_EPOCH is no number of seconds");
    }
    let mut git = std::process::Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(workspace_root());
    let time = testkit::fetch::output(git).context("the time of the release is unknown; set SOURCE_DATE_EPOCH")?;
    time.parse().context("git reported no time; set SOURCE_DATE_EPOCH")
}

/// Writes the SHA-256 of each file in the format of `sha256sum --check`.
fn checksums(folder: &Path, files: &[PathBuf]) -> anyhow::Result<PathBuf> {
    let mut lines = Vec::new();
    for file in files {
        let Some(name) = file.file_name() else { bail!("{} has no name", file.display()) };
        lines.push(format!("{}  {}\n", sha256(&fs::read(file)?), name.to_string_lossy()));
    }
    lines.sort_by(|a, b| a.split_whitespace().nth(1).cmp(&b.split_whitespace().nth(1)));
    let path = folder.join("SHA256SUMS");
    fs::write(&path, lines.concat()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The SHA-256 of bytes in hexadecimal digits.
fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
