//! Builds the loadable library and installs it in a running server.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{bail, Context as _};
use mysql::prelude::Queryable as _;
use serde_json::Value;

use crate::sqlscript;

/// The library's name in SQL: `CREATE FUNCTION ... SONAME 'mysql_ml.so'`.
pub const SONAME: &str = "mysql_ml.so";

/// The scripts at the workspace root that create the SQL functions, in order.
pub const INSTALL_SCRIPTS: [&str; 2] = ["install.sql", "install-ai.sql"];

/// The folder of the workspace that this program was built from.
pub fn workspace_root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}

/// The library in `MYSQL_ML_TEST_LIBRARY`, for example that of a release.
pub fn given() -> Option<PathBuf> {
    std::env::var_os("MYSQL_ML_TEST_LIBRARY").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The library that tests load: the [`given`] one, or else a debug build.
pub fn under_test() -> anyhow::Result<PathBuf> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    if let Some(given) = given() {
        return Ok(given);
    }
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if built.is_none() {
        *built = Some(build(false, &|step| eprintln!("{step}"))?);
    }
    built.clone().context("no library was built")
}

/// A script in the repository's root, for example install.sql.
pub fn script(name: &str) -> anyhow::Result<String> {
    fs::read_to_string(workspace_root().join(name)).with_context(|| format!("cannot read {name}"))
}

/// Builds the library and returns the path of the `.so`.
///
/// Cargo's own messages go to standard error.
pub fn build(release: bool, progress: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
    let profile = if release { "release" } else { "debug" };
    progress(&format!("building the library ({profile})"));
    let mut command = cargo();
    command.args(["build", "--lib", "--message-format=json-render-diagnostics"]);
    // The debug build takes all default members, like `cargo test`. For a single package cargo would choose other
    // features of shared crates, and build those and the library again.
    if release {
        command.args(["--release", "--package", "mysql-ml"]);
    }
    let mut child = command
        .current_dir(workspace_root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let mut library = None;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            library = shared_object(&line.context("cannot read cargo's messages")?).or(library);
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("cargo build failed ({status})");
    }
    library.context("cargo built no shared library for the package mysql-ml")
}

/// Copies the library into the plugin folder of a server on this machine and runs the scripts there.
///
/// The connection's account needs `INSERT` on the schema `mysql`; this process needs write access to the plugin
/// folder.
pub fn install(conn: &mut mysql::Conn, library: &Path, workspace_root: &Path) -> anyhow::Result<()> {
    let plugin_dir: String = conn
        .query_first("SELECT @@plugin_dir")
        .context("cannot ask the server for its plugin folder")?
        .context("the server did not report its plugin folder")?;
    let plugin_dir = Path::new(&plugin_dir);
    if !plugin_dir.is_dir() {
        bail!(
            "the server's plugin folder {} is not a folder here: the library can only be installed into a server on this machine",
            plugin_dir.display()
        );
    }
    place(library, plugin_dir).or_else(|error| explain(error, library, plugin_dir))?;
    for name in INSTALL_SCRIPTS {
        let script = workspace_root.join(name);
        let text = fs::read_to_string(&script).with_context(|| format!("cannot read {}", script.display()))?;
        sqlscript::run(conn, &text, name)?;
    }
    Ok(())
}

/// Copies the library into a plugin folder under its name in SQL.
///
/// A server may have the old file mapped, and writing into it would crash that server. So the copy is made beside it
/// and renamed.
pub fn place(library: &Path, plugin_dir: &Path) -> io::Result<()> {
    let copy = plugin_dir.join(format!(".{SONAME}.{}", std::process::id()));
    let placed = fs::copy(library, &copy).and_then(|_| fs::rename(&copy, plugin_dir.join(SONAME)));
    if placed.is_err() {
        // Best effort: the first error is reported.
        let _ = fs::remove_file(&copy);
    }
    placed
}

/// Adds advice to the error of a library that could not be copied.
fn explain(error: io::Error, library: &Path, plugin_dir: &Path) -> anyhow::Result<()> {
    let (library, target) = (library.display(), plugin_dir.join(SONAME));
    let target = target.display();
    let denied = matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
    let failed = format!("cannot copy {library} to {target}");
    if denied {
        return Err(error).context(format!(
            "{failed}: run this again as a user who may write there, or run\n  \
             sudo install -m 0755 {library} {target}\nand then {} with the mysql client",
            INSTALL_SCRIPTS.join(" and ")
        ));
    }
    Err(error).context(failed)
}

/// A cargo command for a program that cargo itself may have started.
///
/// An outer cargo describes the running package in the environment. Build scripts that watch these variables would
/// run again at each change between outer and inner builds, so the variables are removed.
pub fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if describes_package(&name) {
            command.env_remove(name);
        }
    }
    command
}

/// Whether cargo sets this environment variable for the package that it builds or runs.
fn describes_package(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let families = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
    families.iter().any(|family| name.starts_with(family))
        || matches!(name, "CARGO_CRATE_NAME" | "CARGO_PRIMARY_PACKAGE" | "OUT_DIR")
}

/// The shared library in one of cargo's JSON messages, if the message is about ours.
fn shared_object(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message.get("reason")? != "compiler-artifact" || message.pointer("/target/name")? != "mysql_ml" {
        return None;
    }
    let files = message.get("filenames")?.as_array()?;
    files
        .iter()
        .filter_map(Value::as_str)
        .map(Path::new)
        .find(|file| file.extension() == Some(OsStr::new("so")))
        .map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysqld::{Distribution, Server, ServerOptions};

    #[test]
    fn finds_the_library_in_cargo_messages() {
        let message = r#"{"reason":"compiler-artifact","target":{"name":"mysql_ml"},
            "filenames":["/t/debug/libmysql_ml.rlib","/t/debug/libmysql_ml.so"]}"#;
        assert_eq!(shared_object(message), Some(PathBuf::from("/t/debug/libmysql_ml.so")));
    }

    #[test]
    fn passes_over_other_cargo_messages() {
        let other =
            r#"{"reason":"compiler-artifact","target":{"name":"serde_derive"},"filenames":["/t/libserde_derive.so"]}"#;
        for message in [other, r#"{"reason":"build-finished","success":true}"#, "no json", "[]"] {
            assert_eq!(shared_object(message), None, "{message}");
        }
    }

    #[test]
    fn placing_replaces_the_file_but_not_its_contents() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let library = folder.path().join("libmysql_ml.so");
        let plugins = folder.path().join("plugin");
        fs::create_dir(&plugins)?;
        fs::write(&library, "old")?;
        place(&library, &plugins)?;
        let mapped = fs::File::open(plugins.join(SONAME))?;
        fs::write(&library, "new")?;
        place(&library, &plugins)?;
        assert_eq!(io::read_to_string(mapped)?, "old");
        assert_eq!(fs::read_to_string(plugins.join(SONAME))?, "new");
        assert_eq!(fs::read_dir(&plugins)?.count(), 1);
        Ok(())
    }

    #[test]
    fn installs_into_a_running_server() -> anyhow::Result<()> {
        let distribution = Distribution::find_or_fetch(&|message| eprintln!("{message}"))?;
        let server = Server::start(&distribution, ServerOptions::default())?;
        let mut conn = server.connect("root")?;
        let workspace = tempfile::tempdir()?;
        let library = workspace.path().join("libmysql_ml.so");
        fs::write(&library, "library")?;

        let error = install(&mut conn, &library, workspace.path()).err();
        assert!(error.is_some_and(|error| error.to_string().contains("install.sql")));

        let script = workspace.path().join("install.sql");
        fs::write(workspace.path().join("install-ai.sql"), "DO 2;")?;
        fs::write(
            &script,
            "DELIMITER //\nCREATE PROCEDURE mysql.p() BEGIN SELECT 1; SELECT 2; END//\n\
             DELIMITER ;\nCALL mysql.p();\nDO 1;",
        )?;
        install(&mut conn, &library, workspace.path())?;
        assert_eq!(fs::read_to_string(server.plugin_dir().join(SONAME))?, "library");

        // The error comes with the second row, long after the first part of the answer.
        fs::write(&script, "-- fails\n\nSELECT EXP(a) FROM (VALUES ROW(1), ROW(1000)) AS t (a);")?;
        let error = install(&mut conn, &library, workspace.path()).err();
        let error = error.map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(error.contains("install.sql, line 3: SELECT EXP(a)"), "{error}");
        assert!(error.contains("out of range"), "{error}");
        Ok(())
    }

    #[test]
    fn the_workspace_root_holds_the_workspace() {
        assert!(workspace_root().join("Cargo.lock").is_file());
    }
}
