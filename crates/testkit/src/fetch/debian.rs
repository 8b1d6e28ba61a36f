//! Fetches Debian packages, above all a MySQL server, and unpacks them into a folder of their own.
//!
//! This needs neither root nor a change to the system. apt-get runs with a private state in which nothing is
//! installed, so it fetches all dependencies, down to the C library.

mod mirror;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context as _};

use super::{cache, output, Distribution, SERIES};

/// The suite with the release series; Debian's stable suites have no MySQL server.
pub const SUITE: &str = "sid";

/// The server and the command-line client.
pub const PACKAGES: [&str; 2] = ["mysql-server-core", "mysql-client-core"];

/// The keys of Debian's archive; the suffix changed from .gpg to .pgp.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// The server from Debian's packages, or from the cache if it was fetched before.
pub(super) fn fetch(progress: &dyn Fn(&str)) -> anyhow::Result<Distribution> {
    let architecture = architecture()?;
    let name = format!("mysql-{SERIES}-{architecture}");
    let folder = cache::get_or_make(&name, progress, |folder| {
        progress("fetching a MySQL server from Debian (about 65 MB, once)");
        let packages = PACKAGES.map(|package| format!("{package}={SERIES}.*"));
        unpack_into(folder, &[architecture], &packages, &|_| true)
            .with_context(|| format!("cannot fetch MySQL {SERIES} from Debian {SUITE}"))?;
        // The folder is complete if the server can report its version.
        Distribution::unpacked(&folder.join("root")).map(drop)
    })?;
    Distribution::unpacked(&folder.join("root"))
}

/// Debian's name of this machine's processor.
pub fn architecture() -> anyhow::Result<&'static str> {
    match env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("Debian has no MySQL server for {other}"),
    }
}

/// A Debian system with some packages in the cache folder, to copy or to make an image of. Needs root.
pub fn system(suite: &str, packages: &[&str], progress: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        bail!("debootstrap needs root");
    }
    let mirror = mirror::find()?;
    let folder = cache::get_or_make(&format!("system-{suite}"), progress, |folder| {
        progress(&format!("unpacking Debian {suite} with debootstrap (once, a minute or two)"));
        let mut command = Command::new("debootstrap");
        command.args(["--variant=minbase", &format!("--include={}", packages.join(",")), suite]);
        command.arg(folder.join("root")).arg(&mirror);
        output(command).with_context(|| format!("debootstrap of {suite}"))?;
        fs::remove_dir_all(folder.join("root/var/cache/apt/archives")).context("cannot remove the fetched packages")
    })?;
    Ok(folder.join("root"))
}

/// Fetches packages with all their dependencies and unpacks them into `folder/root`.
///
/// The first architecture applies to packages without one in their names. `wanted` selects archives by file name.
pub fn unpack_into(
    folder: &Path,
    architectures: &[&str],
    packages: &[String],
    wanted: &dyn Fn(&str) -> bool,
) -> anyhow::Result<()> {
    let apt = Apt::new(folder.join("apt"), architectures)?;
    apt.update()?;
    let root = folder.join("root");
    for archive in apt.download(packages)? {
        if archive.file_name().and_then(|name| name.to_str()).is_some_and(wanted) {
            unpack(&archive, &root)?;
        }
    }
    fs::remove_dir_all(&apt.folder).context("cannot remove the fetched archives")
}

/// apt-get with a private state.
struct Apt {
    folder: PathBuf,
    architectures: Vec<String>,
}

impl Apt {
    fn new(folder: PathBuf, architectures: &[&str]) -> anyhow::Result<Apt> {
        let mirror = mirror::find()?;
        let keyring = KEYRINGS
            .into_iter()
            .find(|keyring| Path::new(keyring).exists())
            .context("the keys of the Debian archive are missing (package debian-archive-keyring)")?;
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        // With no package installed, apt resolves all dependencies.
        fs::write(folder.join("state/status"), "")?;
        fs::write(
            folder.join("sources.list"),
            format!("deb [arch={} signed-by={keyring}] {mirror} {SUITE} main\n", architectures.join(",")),
        )?;
        Ok(Apt { folder, architectures: architectures.iter().map(|&name| name.to_owned()).collect() })
    }

    fn update(&self) -> anyhow::Result<()> {
        let mut command = self.command();
        command.arg("update");
        output(command).context("cannot read Debian's list of packages")?;
        Ok(())
    }

    fn download(&self, packages: &[String]) -> anyhow::Result<Vec<PathBuf>> {
        let mut command = self.command();
        command.args(["--yes", "--download-only", "install"]).args(packages);
        output(command).with_context(|| format!("cannot fetch {} from Debian {SUITE}", packages.join(" ")))?;
        let mut archives = Vec::new();
        for entry in fs::read_dir(self.folder.join("cache/archives"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                archives.push(path);
            }
        }
        Ok(archives)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.env("LC_ALL", "C");
        let places = [
            ("Dir::State", "state"),
            ("Dir::State::status", "state/status"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourcelist", "sources.list"),
        ];
        for (name, place) in places {
            let mut setting = OsString::from(format!("{name}="));
            setting.push(self.folder.join(place));
            command.arg("-o").arg(setting);
        }
        let settings = [
            "Dir::Etc::sourceparts=-",
            "Dir::Etc::preferences=-",
            "Dir::Etc::preferencesparts=-",
            // A mirror may be a frozen copy; signatures and hashes are checked all the same.
            "Acquire::Check-Valid-Until=false",
            "Acquire::Languages=none",
            // Otherwise apt-get continues without any list if the mirror cannot be reached.
            "APT::Update::Error-Mode=any",
            "APT::Install-Recommends=false",
            "APT::Install-Suggests=false",
            "Debug::NoLocking=1",
        ];
        for setting in settings {
            command.args(["-o", setting]);
        }
        if let Some(own) = self.architectures.first() {
            command.arg("-o").arg(format!("APT::Architecture={own}"));
        }
        for architecture in &self.architectures {
            command.arg("-o").arg(format!("APT::Architectures::={architecture}"));
        }
        command
    }
}

fn unpack(archive: &Path, root: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("dpkg-deb");
    command.arg("-x").arg(archive).arg(root);
    output(command).with_context(|| format!("cannot unpack {}", archive.display()))?;
    Ok(())
}
