//! Finds or fetches a MySQL server for development, and runs its programs.

pub mod cache;
pub mod debian;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{bail, Context as _};

/// The release series that this project supports.
const SERIES: &str = "9.7";

/// A MySQL server program and its companions.
#[derive(Debug, Clone)]
pub struct Distribution {
    mysqld: Program,
    client: Program,
    identity: Identity,
    plugins: PathBuf,
}

impl Distribution {
    /// Finds a MySQL 9.7 server on this system or fetches one.
    ///
    /// In this order: the program in the environment variable `MYSQLD`; a `mysqld` of the right version on `PATH` or
    /// in /usr/sbin; Debian's packages, unpacked once into the cache folder. The system is not changed. Long steps
    /// are reported to `progress`.
    pub fn find_or_fetch(progress: &dyn Fn(&str)) -> anyhow::Result<Distribution> {
        if let Some(mysqld) = env::var_os("MYSQLD").filter(|path| !path.is_empty()) {
            return Distribution::installed(Path::new(&mysqld))
                .context("the environment variable MYSQLD names no usable server");
        }
        for mysqld in candidates() {
            match Distribution::installed(&mysqld) {
                Ok(found) => return Ok(found),
                Err(error) => progress(&format!("not using {}: {error:#}", mysqld.display())),
            }
        }
        debian::fetch(progress).with_context(|| {
            format!(
                "no MySQL {SERIES} server found, and none could be fetched; \
                 set MYSQLD to the path of a MySQL {SERIES} mysqld"
            )
        })
    }

    /// The version as the server reports it, for example `9.7.4-2`.
    pub fn version(&self) -> &str {
        &self.identity.version
    }

    /// The `mysql` command-line client; the caller adds `--socket` and other options.
    ///
    /// It reads no option files, so a developer's own settings have no effect.
    pub fn client(&self) -> Command {
        self.client.command()
    }

    /// `mysqldump` from the client's folder; otherwise as [`Distribution::client`].
    pub fn dump_program(&self) -> Command {
        let mut program = self.client.clone();
        program.path.set_file_name("mysqldump");
        // It has no plugins of its own.
        program.options.retain(|option| !option.to_string_lossy().starts_with("--plugin-dir"));
        program.command()
    }

    /// The server program with the options for its own folders.
    ///
    /// It reads no option files.
    pub fn mysqld(&self) -> Command {
        self.mysqld.command()
    }

    /// The same program under the path of a link: the server looks for its manifest beside the path of its call.
    pub fn mysqld_by(&self, link: &Path) -> Command {
        let mut program = self.mysqld.clone();
        if program.options.is_empty() {
            // It would look for its own files beside the link too.
            let home = program.path.parent().and_then(Path::parent);
            program.options.extend(home.map(|home| option("basedir", home)));
        }
        program.path = link.to_owned();
        program.command()
    }

    /// The server program's path.
    pub fn mysqld_path(&self) -> &Path {
        &self.mysqld.path
    }

    /// The folder of the server's own plugins and components.
    pub fn plugins(&self) -> &Path {
        &self.plugins
    }

    /// The output of `--version`. Servers that differ here must not share data.
    pub(crate) fn description(&self) -> &str {
        &self.identity.description
    }

    /// An installed server, which needs no options to find its files.
    fn installed(path: &Path) -> anyhow::Result<Distribution> {
        let mysqld = Program::installed(path);
        // The version first: another series may not know the other options.
        Ok(Distribution {
            identity: Identity::ask(&mysqld)?,
            plugins: ask_plugin_dir(&mysqld)?,
            client: Program::installed(&client_beside(path)),
            mysqld,
        })
    }

    /// A server in a folder with all its files, its C library included.
    fn unpacked(root: &Path) -> anyhow::Result<Distribution> {
        let usr = root.join("usr");
        let share = usr.join("share/mysql");
        let charsets = option("character-sets-dir", &share.join("charsets"));
        let plugins = usr.join("lib/mysql/plugin");
        let loader = Loader::unpacked(&usr)?;
        let mysqld = Program {
            path: usr.join("sbin/mysqld"),
            loader: Some(loader.clone()),
            options: vec![option("basedir", &usr), option("lc-messages-dir", &share), charsets.clone()],
        };
        let client = Program {
            path: usr.join("bin/mysql"),
            loader: Some(loader),
            options: vec![charsets, option("plugin-dir", &plugins)],
        };
        Ok(Distribution { identity: Identity::ask(&mysqld)?, mysqld, client, plugins })
    }
}

/// A server program's report of itself.
#[derive(Debug, Clone)]
struct Identity {
    description: String,
    version: String,
}

impl Identity {
    /// Runs a server program with `--version`; an error for another series.
    fn ask(mysqld: &Program) -> anyhow::Result<Identity> {
        let mut command = mysqld.bare();
        command.arg("--version");
        let path = mysqld.path.display();
        let description = output(command).with_context(|| format!("cannot run {path}"))?;
        Identity::read(description).with_context(|| format!("cannot use {path}"))
    }

    /// Parses the output of `mysqld --version`: `mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))`.
    fn read(description: String) -> anyhow::Result<Identity> {
        let mut words = description.split_whitespace().skip_while(|word| *word != "Ver");
        let Some(version) = words.nth(1).map(str::to_owned) else {
            bail!("its output has no version: {description}");
        };
        let patch = version.strip_prefix(SERIES);
        if !patch.is_some_and(|patch| patch.starts_with('.')) || version.contains("MariaDB") {
            bail!("it is version {version}, and not MySQL {SERIES}");
        }
        Ok(Identity { description, version })
    }
}

/// A program of the distribution with its start options.
#[derive(Debug, Clone)]
struct Program {
    path: PathBuf,
    loader: Option<Loader>,
    options: Vec<OsString>,
}

impl Program {
    fn installed(path: &Path) -> Program {
        Program { path: path.to_owned(), loader: None, options: Vec::new() }
    }

    fn bare(&self) -> Command {
        match &self.loader {
            None => Command::new(&self.path),
            Some(loader) => {
                let mut command = Command::new(&loader.program);
                command.arg("--library-path").arg(&loader.libraries).arg(&self.path);
                command
            }
        }
    }

    fn command(&self) -> Command {
        let mut command = self.bare();
        // The programs accept --no-defaults only as their first option.
        command.arg("--no-defaults").args(&self.options);
        command
    }
}

/// The dynamic loader of an unpacked system. Its programs need their own C library, which may be newer than the
/// host's.
#[derive(Debug, Clone)]
struct Loader {
    program: PathBuf,
    libraries: PathBuf,
}

impl Loader {
    fn unpacked(usr: &Path) -> anyhow::Result<Loader> {
        let (folder, name) = match env::consts::ARCH {
            "x86_64" => ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
            "aarch64" => ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
            other => bail!("Debian has no MySQL server for {other}"),
        };
        let libraries = usr.join("lib").join(folder);
        let program = libraries.join(name);
        Ok(Loader { program, libraries })
    }
}

/// The usual places of a `mysqld`.
fn candidates() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // A user's PATH often lacks the folder of the system's daemons.
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let mut found: Vec<PathBuf> = Vec::new();
    for mysqld in folders.map(|folder| folder.join("mysqld")) {
        if mysqld.is_absolute() && mysqld.is_file() && !found.contains(&mysqld) {
            found.push(mysqld);
        }
    }
    found
}

/// The client of a `mysqld`; packages put them into one folder or into sbin and bin.
fn client_beside(mysqld: &Path) -> PathBuf {
    let folder = mysqld.parent().unwrap_or(Path::new("/"));
    let beside = [folder.join("mysql"), folder.join("../bin/mysql")];
    beside.into_iter().find(|client| client.is_file()).unwrap_or_else(|| PathBuf::from("mysql"))
}

/// The server's default plugin folder.
fn ask_plugin_dir(mysqld: &Program) -> anyhow::Result<PathBuf> {
    let mut command = mysqld.command();
    command.args(["--verbose", "--help"]);
    // The server enters its data directory even to print its help, and the built-in one may not exist.
    command.arg(option("datadir", &env::temp_dir()));
    let help = output(command).context("cannot ask mysqld for its plugin folder")?;
    help.lines()
        .find_map(|line| line.strip_prefix("plugin-dir "))
        .map(|folder| PathBuf::from(folder.trim()))
        .context("mysqld did not report its plugin folder")
}

/// `--name=value` for a path, which need not be UTF-8.
pub fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(format!("--{name}="));
    option.push(value);
    option
}

/// The standard output of a command that must succeed; the error quotes its standard error.
pub fn output(mut command: Command) -> anyhow::Result<String> {
    let program = command.get_program().to_owned();
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", program.display(), output.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version() -> anyhow::Result<()> {
        let debian = "/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))";
        assert_eq!(Identity::read(debian.to_owned())?.version, "9.7.4-2");
        for other in ["something else", "mysqld Ver", ""] {
            assert!(Identity::read(other.to_owned()).is_err());
        }
        Ok(())
    }

    #[test]
    fn accepts_only_the_right_series() {
        for other in ["8.4.6", "9.70.1", "9.6.0", "9.7", "10.11.6-MariaDB", "9.7.1-MariaDB"] {
            let refused = Identity::read(format!("mysqld  Ver {other} for Linux"));
            assert!(refused.is_err_and(|error| error.to_string().contains(other)));
        }
    }
}
