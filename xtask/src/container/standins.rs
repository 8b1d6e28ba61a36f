//! Stand-ins for the container's base images, if they cannot be pulled.
//!
//! They are Debian systems unpacked by debootstrap. The one for MySQL has the server's packages. The one for Rust has
//! a C compiler of the official image's release, and this machine's toolchain and crates. CONTRIBUTING.md describes
//! what they prove.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{bail, Context as _, Result};

use super::engine::Engine;
use testkit::fetch::{debian, output};
use testkit::library::workspace_root;

/// The Debian release of the official Rust image, and so of the stand-in: glibc 2.31.
const BUILD_SUITE: &str = "bullseye";

/// The name of the stand-in for a system with MySQL.
const DEBIAN: &str = "mysql-ml-standin/debian";

/// Makes the images and returns the variables of docker-compose.yml that select them.
pub(super) fn make(engine: &Engine, progress: &dyn Fn(&str)) -> Result<Vec<(String, String)>> {
    let mysql_system = debian::system(debian::SUITE, &debian::PACKAGES, progress)?;
    let build_system = debian::system(BUILD_SUITE, &["gcc", "libc6-dev", "ca-certificates"], progress)?;
    progress("importing the stand-ins");
    let debian = format!("{DEBIAN}:{}", debian::SUITE);
    if !exists(engine, &debian) {
        import(engine, &debian, &[Part::whole(&mysql_system)], &[])?;
    }
    let folder = workspace_root().join("tests/container");
    build(engine, &folder, "mysql.Dockerfile", "mysql-ml-standin/mysql")?;

    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "sysroot"]);
    let toolchain = fs::canonicalize(output(rustc)?)?;
    let crates = cargo_home()?;
    // All crates of the lock file, so that the build in the container needs no network.
    let mut fetch = testkit::library::cargo();
    fetch.args(["fetch", "--locked"]).current_dir(workspace_root());
    output(fetch).context("cannot fetch the crates")?;
    let parts = [
        Part::whole(&build_system),
        Part { folder: &toolchain, names: &["bin", "lib", "libexec"], below: "usr/local/rust" },
        Part { folder: &crates, names: &["registry/cache", "registry/index"], below: "usr/local/cargo" },
    ];
    let changes = [
        "ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "ENV CARGO_HOME=/usr/local/cargo",
        "ENV CARGO_NET_OFFLINE=true",
    ];
    // The name changes with the contents, so that docker reuses its earlier builds.
    let mut version = Command::new("rustc");
    version.arg("--version");
    let lock = fs::read_to_string(workspace_root().join("Cargo.lock"))?;
    let rust = format!("mysql-ml-standin/rust:{}", digest(&(output(version)? + &lock)));
    if !exists(engine, &rust) {
        import(engine, &rust, &parts, &changes)?;
    }

    // The tests' endpoint was built on this system: Debian's newest release runs it.
    let context = tempfile::tempdir()?;
    fs::copy(std::env::current_exe()?, context.path().join("xtask"))?;
    fs::copy(folder.join("embeddings.Dockerfile"), context.path().join("embeddings.Dockerfile"))?;
    build(engine, context.path(), "embeddings.Dockerfile", "mysql-ml-standin/embeddings")?;
    let variables = [
        ("MYSQL_ML_BUILD_IMAGE", rust.as_str()),
        ("MYSQL_ML_MYSQL_IMAGE", "mysql-ml-standin/mysql"),
        ("EMBEDDINGS_IMAGE", "mysql-ml-standin/embeddings"),
    ];
    Ok(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
}

fn exists(engine: &Engine, image: &str) -> bool {
    let mut docker = engine.docker();
    docker.args(["image", "inspect", image]);
    output(docker).is_ok()
}

fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Files of an image.
struct Part<'a> {
    folder: &'a Path,
    names: &'a [&'a str],
    /// Their path in the image, without the first slash.
    below: &'a str,
}

impl<'a> Part<'a> {
    fn whole(folder: &'a Path) -> Part<'a> {
        Part { folder, names: &["."], below: "." }
    }
}

/// Makes an image of folders.
fn import(engine: &Engine, name: &str, parts: &[Part<'_>], changes: &[&str]) -> Result<()> {
    let mut docker = engine.docker();
    docker.arg("import");
    for change in changes {
        docker.args(["--change", change]);
    }
    docker.args(["-", name]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut importing = docker.spawn().context("docker import")?;
    let pipe = importing.stdin.take().context("docker import has no input")?;
    let mut archive = tar::Builder::new(std::io::BufWriter::new(pipe));
    archive.follow_symlinks(false);
    // Docker does not read sparse files.
    archive.sparse(false);
    let packed = pack(&mut archive, parts)
        .and_then(|()| archive.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error));
    // Closes the pipe, so that the import ends.
    let packed = packed.map(drop);
    let status = importing.wait()?;
    if !status.success() {
        bail!("docker import failed ({status})");
    }
    packed.with_context(|| format!("cannot pack {name}"))
}

fn pack<W: std::io::Write>(archive: &mut tar::Builder<W>, parts: &[Part<'_>]) -> std::io::Result<()> {
    for part in parts {
        for name in part.names {
            let target = Path::new(part.below).join(name);
            archive.append_dir_all(target, part.folder.join(name))?;
        }
    }
    Ok(())
}

fn build(engine: &Engine, context: &Path, file: &str, name: &str) -> Result<()> {
    let mut docker = engine.docker();
    docker.args([
        "build",
        "--quiet",
        "--build-arg",
        &format!("SYSTEM={DEBIAN}:{}", debian::SUITE),
        "--tag",
        name,
        "--file",
    ]);
    docker.arg(context.join(file)).arg(context);
    output(docker).with_context(|| format!("cannot build {name}")).map(drop)
}

fn cargo_home() -> Result<PathBuf> {
    match std::env::var_os("CARGO_HOME").filter(|home| !home.is_empty()) {
        Some(home) => Ok(PathBuf::from(home)),
        None => Ok(PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo")),
    }
}
