//! Fetches a MySQL server as Debian packages and unpacks it into a folder of its own.
//!
//! Neither root nor a change to the system is needed: apt-get works with a private state in which
//! nothing is installed, so it brings the server together with all it depends on, down to the C library.

mod mirror;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context as _};

use super::{cache, output, Distribution, SERIES};

/// The suite which has the release series; Debian's stable suites have no MySQL server.
const SUITE: &str = "sid";

/// The server and the command-line client.
const PACKAGES: [&str; 2] = ["mysql-server-core", "mysql-client-core"];

/// The keys that Debian signs its archive with; the name changed from .gpg to .pgp.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// The server from Debian's packages, out of the cache if it was fetched before.
pub(super) fn fetch(progress: &dyn Fn(&str)) -> anyhow::Result<Distribution> {
    let architecture = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("Debian has no MySQL server for {other}"),
    };
    let name = format!("mysql-{SERIES}-{architecture}");
    let folder = cache::get_or_make(&name, progress, |folder| {
        progress("fetching a MySQL server from Debian (about 65 MB, once)");
        let apt = Apt::new(folder.join("apt"), architecture)?;
        apt.update()?;
        let archives = apt.download()?;
        progress("unpacking the MySQL server (about 400 MB)");
        let root = folder.join("root");
        for archive in archives {
            unpack(&archive, &root)?;
        }
        // The server is asked for its version before the folder is kept: it is complete if that runs.
        Distribution::unpacked(&root)?;
        fs::remove_dir_all(&apt.folder).context("cannot remove the fetched archives")
    })?;
    Distribution::unpacked(&folder.join("root"))
}

/// apt-get with a state of its own.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: PathBuf, architecture: &str) -> anyhow::Result<Apt> {
        let mirror = mirror::find()?;
        let keyring = KEYRINGS
            .into_iter()
            .find(|keyring| Path::new(keyring).exists())
            .context("the keys of the Debian archive are missing (package debian-archive-keyring)")?;
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        // With no package installed, apt resolves the whole closure of dependencies.
        fs::write(folder.join("state/status"), "")?;
        fs::write(
            folder.join("sources.list"),
            format!("deb [arch={architecture} signed-by={keyring}] {mirror} {SUITE} main\n"),
        )?;
        Ok(Apt { folder })
    }

    fn update(&self) -> anyhow::Result<()> {
        let mut command = self.command();
        command.arg("update");
        output(command).context("cannot read Debian's list of packages")?;
        Ok(())
    }

    fn download(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut command = self.command();
        command.args(["--yes", "--download-only", "install"]);
        command.args(PACKAGES.map(|package| format!("{package}={SERIES}.*")));
        output(command).with_context(|| format!("cannot fetch MySQL {SERIES} from Debian {SUITE}"))?;
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
            // Without this, apt-get goes on with no list at all if the mirror cannot be reached.
            "APT::Update::Error-Mode=any",
            "APT::Install-Recommends=false",
            "APT::Install-Suggests=false",
            "Debug::NoLocking=1",
        ];
        for setting in settings {
            command.args(["-o", setting]);
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
