//! The tools of a release build: zig from PyPI, and for another processor a Rust with its standard library.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context as _};

use super::build::Architecture;
use testkit::fetch::{cache, debian, output};

/// Versions and digests of the packages from PyPI.
const REQUIREMENTS: &str = include_str!("zig-requirements.txt");

/// Dependencies of Debian's rustc that a build with zig does not use: half a gigabyte.
const UNUSED: [&str; 6] = ["gcc-", "cpp", "binutils", "libc6-dev", "libgcc-", "linux-libc-dev"];

/// The tools that build a library.
#[derive(Debug)]
pub(super) struct Toolchain {
    /// A folder with `ziglang/zig` and `bin/cargo-zigbuild`.
    pub(super) zig: PathBuf,
    /// The compiler, if it is not the default one.
    pub(super) rustc: Option<PathBuf>,
    /// A program that strips libraries of any processor.
    pub(super) objcopy: PathBuf,
    rustc_version: String,
    zig_version: String,
}

impl Toolchain {
    /// The tools for an architecture; missing ones are fetched into the cache folder.
    pub(super) fn find_or_fetch(architecture: Architecture, progress: &dyn Fn(&str)) -> anyhow::Result<Toolchain> {
        let zig = cache::get_or_make(&format!("zig-{}", digest(REQUIREMENTS)), progress, |folder| {
            progress("fetching zig from PyPI (about 100 MB, once)");
            fetch_zig(folder)
        })?;
        let rustc =
            if has_standard_library(architecture)? { None } else { Some(debian_rustc(architecture, progress)?) };
        let mut version = Command::new(rustc.as_deref().unwrap_or(Path::new("rustc")));
        version.arg("--version");
        let mut zig_version = Command::new(zig.join("ziglang/zig"));
        zig_version.arg("version");
        Ok(Toolchain {
            rustc_version: output(version)?,
            zig_version: output(zig_version)?,
            objcopy: objcopy()?,
            zig,
            rustc,
        })
    }

    /// The versions, one a line.
    pub(super) fn description(&self) -> String {
        format!("{}\nzig {}\n", self.rustc_version, self.zig_version)
    }

    /// The version of the standard library.
    pub(super) fn rust_version(&self) -> &str {
        self.rustc_version.split_whitespace().nth(1).unwrap_or_default()
    }

    /// The version of zig, which provides the unwinder.
    pub(super) fn zig_version(&self) -> &str {
        &self.zig_version
    }
}

fn digest(text: &str) -> String {
    super::sha256(text.as_bytes()).chars().take(12).collect()
}

fn fetch_zig(folder: &Path) -> anyhow::Result<()> {
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]);
    pip.args(["--only-binary", ":all:", "--target"]).arg(folder).arg("--requirement").arg(&requirements);
    output(pip).context("zig could not be fetched with python3 -m pip").map(drop)
}

/// Whether the default compiler can build for an architecture.
fn has_standard_library(architecture: Architecture) -> anyhow::Result<bool> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", architecture.target()]);
    Ok(Path::new(&output(rustc)?).is_dir())
}

/// Debian's compiler, with the standard library of an architecture, unpacked into the cache folder.
///
/// `rustup target add` is the usual way, and takes precedence if its result is present. A standard library fits its
/// own compiler only, so the compiler is Debian's too.
fn debian_rustc(architecture: Architecture, progress: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
    let host = debian::architecture()?;
    let other = architecture.debian();
    let folder = cache::get_or_make(&format!("rust-{host}-{other}"), progress, |folder| {
        progress(&format!("fetching a Rust for {other} from Debian (about 260 MB, once)"));
        let packages = ["rustc".to_owned(), format!("libstd-rust-dev:{host}"), format!("libstd-rust-dev:{other}")];
        let wanted = |file: &str| !UNUSED.iter().any(|prefix| file.starts_with(prefix)) || file.starts_with("libgcc-s");
        debian::unpack_into(folder, &[host, other], &packages, &wanted)?;
        let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
        // It locates its files by its own path: the folder is renamed when it is complete.
        let script = format!(
            "#!/bin/sh\nroot=\"$(dirname \"$0\")/root/usr\"\n\
             exec \"$root\"/lib/{triplet}/ld-linux-*.so.* --library-path \"$root/lib/{triplet}\" \"$root/bin/rustc\" \"$@\"\n"
        );
        let rustc = folder.join("rustc");
        fs::write(&rustc, script)?;
        fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755))?;
        Ok(())
    })?;
    Ok(folder.join("rustc"))
}

/// The toolchain's own objcopy, which supports all processors.
fn objcopy() -> anyhow::Result<PathBuf> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "sysroot"]);
    let sysroot = PathBuf::from(output(rustc)?);
    let own = format!("lib/rustlib/{}-unknown-linux-gnu/bin/rust-objcopy", std::env::consts::ARCH);
    let own = sysroot.join(own);
    if !own.is_file() {
        bail!("{} is missing; use a Rust toolchain of rustup", own.display());
    }
    Ok(own)
}
