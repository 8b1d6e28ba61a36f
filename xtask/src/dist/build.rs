//! Builds the library of a release without traces of this machine.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context as _};
use clap::ValueEnum;

use super::toolchain::Toolchain;
use super::{elf, Release, Variant, GLIBC};
use testkit::fetch::output;
use testkit::library::{cargo, workspace_root};

/// The processors of releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Architecture {
    /// AMD and Intel
    #[value(name = "x86_64")]
    X86_64,
    /// 64-bit ARM
    #[value(name = "aarch64")]
    Aarch64,
}

impl Architecture {
    /// The kernel's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64",
            Architecture::Aarch64 => "aarch64",
        }
    }

    /// Debian's name.
    pub(super) fn debian(self) -> &'static str {
        match self {
            Architecture::X86_64 => "amd64",
            Architecture::Aarch64 => "arm64",
        }
    }

    /// rustc's name.
    pub(super) fn target(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64-unknown-linux-gnu",
            Architecture::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }
}

/// A library and its debug symbols.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) stripped: Vec<u8>,
    pub(super) symbols: Vec<u8>,
    /// The newest glibc version that it needs.
    pub(super) glibc: String,
}

/// Builds with zig as linker, which knows the symbols of older C libraries.
pub(super) fn library(release: &Release, toolchain: &Toolchain) -> anyhow::Result<Built> {
    let root = workspace_root();
    let target = release.architecture.target();
    let folder = root.join("target/dist");
    let mut command = toolchain.zigbuild();
    command.args(["zigbuild", "--package", "mysql-ml", "--lib", "--locked", "--profile", "dist"]);
    command.arg("--target").arg(format!("{target}.{}.{}", GLIBC.0, GLIBC.1));
    command.arg("--target-dir").arg(&folder);
    if release.variant == Variant::Slim {
        command.arg("--no-default-features");
    }
    let places = places(&root, &folder)?;
    let rust_flags = places
        .iter()
        .map(|(from, to)| format!("--remap-path-prefix={from}={to}"))
        .chain(["-Clink-arg=-Wl,--build-id=sha1".to_owned()])
        .collect::<Vec<_>>()
        .join("\x1f");
    let c_flags =
        places.iter().map(|(from, to)| format!("-ffile-prefix-map={from}={to}")).collect::<Vec<_>>().join(" ");
    command.env("CARGO_ENCODED_RUSTFLAGS", rust_flags).env_remove("RUSTFLAGS");
    command.env(format!("CFLAGS_{}", target.replace('-', "_")), c_flags);
    command.env("SOURCE_DATE_EPOCH", release.epoch.to_string());
    command.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET").current_dir(&root);
    let status = command.status().context("cannot run cargo-zigbuild")?;
    if !status.success() {
        bail!("cargo zigbuild failed ({status})");
    }
    split(&folder.join(target).join("dist/libmysql_ml.so"), toolchain)
}

/// Paths that would get into the library, and their replacements. Later ones take precedence.
fn places(root: &Path, target_folder: &Path) -> anyhow::Result<Vec<(String, &'static str)>> {
    let home = match std::env::var_os("CARGO_HOME").filter(|home| !home.is_empty()) {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
    };
    let mut places = vec![(home, "/cargo"), (root.to_owned(), "/mysql-ml"), (target_folder.to_owned(), "/build")];
    // Each registry has a folder; its name contains a digest of the registry's address.
    let sources = places.first().map(|(home, _)| home.join("registry/src")).unwrap_or_default();
    for entry in fs::read_dir(&sources).into_iter().flatten() {
        places.push((entry?.path(), "/crates"));
    }
    places
        .into_iter()
        .map(|(from, to)| {
            let from = from.into_os_string().into_string();
            from.map(|from| (from, to)).map_err(|from| anyhow::anyhow!("{} is not UTF-8", from.to_string_lossy()))
        })
        .collect()
}

/// Moves the debug symbols of a library into a file that debuggers find by its name and build ID.
fn split(library: &Path, toolchain: &Toolchain) -> anyhow::Result<Built> {
    let folder = tempfile::tempdir()?;
    let symbols = folder.path().join("mysql_ml.so.debug");
    let stripped = folder.path().join("mysql_ml.so");
    let objcopy = |arguments: &[OsString]| -> anyhow::Result<()> {
        let mut command = Command::new(&toolchain.objcopy);
        command.args(arguments);
        output(command).map(drop)
    };
    objcopy(&["--only-keep-debug".into(), library.into(), symbols.clone().into()])?;
    let mut link = OsString::from("--add-gnu-debuglink=");
    link.push(&symbols);
    objcopy(&["--strip-all".into(), link, library.into(), stripped.clone().into()])?;
    let stripped = fs::read(stripped)?;
    Ok(Built { glibc: elf::glibc(&stripped)?, symbols: fs::read(symbols)?, stripped })
}

impl Toolchain {
    /// `cargo-zigbuild`; the caller adds arguments.
    fn zigbuild(&self) -> Command {
        let mut command = cargo();
        let cargo = command.get_program().to_owned();
        command = {
            let mut zigbuild = Command::new(self.zig.join("bin/cargo-zigbuild"));
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => zigbuild.env(name, value),
                    None => zigbuild.env_remove(name),
                };
            }
            zigbuild
        };
        command.env("CARGO", cargo);
        command.env("CARGO_ZIGBUILD_ZIG_PATH", self.zig.join("ziglang/zig"));
        if let Some(rustc) = &self.rustc {
            command.env("RUSTC", rustc);
        }
        command
    }
}
