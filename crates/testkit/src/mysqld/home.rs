//! The folder with all files of one private server.

use std::fs::{self, File};
use std::os::unix::fs::{symlink, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::library;

/// Temporary folders are created here instead of in TMPDIR, because a socket's path must be short.
const TEMPORARY: &str = "/tmp";

/// The prefix of the temporary folders' names.
const PREFIX: &str = "mysql-ml-server-";

/// A file in a temporary folder, locked while the process that created the folder lives.
const OWNER: &str = "owner";

/// The longest socket path that the server accepts, including the `.lock` file beside the X socket.
const LONGEST_SOCKET: usize = 100;

/// A server's folder and the paths in it.
#[derive(Debug)]
pub(super) struct Home {
    folder: PathBuf,
    sockets: PathBuf,
    // Held for their Drop, which removes the folders and releases the lock.
    _temporary: Vec<TempDir>,
    _owner: Option<File>,
}

impl Home {
    /// A folder that is removed with the server, or kept for inspection.
    pub(super) fn temporary(keep: bool) -> anyhow::Result<Home> {
        sweep();
        let mut folder = temporary_folder()?;
        let mut owner = None;
        if keep {
            folder.disable_cleanup(true);
        } else {
            owner = Some(own(folder.path()).context("cannot lock the server's folder")?);
        }
        let home = Home {
            folder: folder.path().to_owned(),
            sockets: folder.path().to_owned(),
            _temporary: vec![folder],
            _owner: owner,
        };
        home.create_parts()?;
        Ok(home)
    }

    /// A permanent folder, with the data of an earlier server if there was one.
    pub(super) fn given(folder: &Path) -> anyhow::Result<Home> {
        let create = || {
            fs::create_dir_all(folder)?;
            // The server changes its working folder, so it needs absolute paths.
            fs::canonicalize(folder)
        };
        let folder = create().with_context(|| format!("cannot create {}", folder.display()))?;
        let mut home = Home { sockets: folder.clone(), folder, _temporary: Vec::new(), _owner: None };
        if home.x_socket().as_os_str().len() > LONGEST_SOCKET {
            let short = temporary_folder()?;
            home.sockets = short.path().to_owned();
            home._owner = Some(own(short.path()).context("cannot lock the folder of the sockets")?);
            home._temporary.push(short);
        }
        home.create_parts()?;
        Ok(home)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn datadir(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn plugin_dir(&self) -> PathBuf {
        self.folder.join("plugin")
    }

    pub(super) fn tmpdir(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.sockets.join("mysql.sock")
    }

    pub(super) fn x_socket(&self) -> PathBuf {
        self.sockets.join("mysqlx.sock")
    }

    /// The link that starts a server with a keyring.
    pub(super) fn linked_mysqld(&self) -> PathBuf {
        self.folder.join("bin/mysqld")
    }

    pub(super) fn keyring_file(&self) -> PathBuf {
        self.folder.join("keyring")
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.folder.join("mysqld.pid")
    }

    pub(super) fn error_log(&self) -> PathBuf {
        self.folder.join("error.log")
    }

    pub(super) fn general_log(&self) -> PathBuf {
        self.folder.join("general.log")
    }

    /// Fills the plugin folder with links to the server's own plugins and a copy of the library.
    ///
    /// A copy, because cargo writes a new build into the same file. A server with that file mapped would crash.
    pub(super) fn fill_plugin_dir(&self, own: &Path, library: Option<&Path>) -> anyhow::Result<()> {
        let plugin_dir = self.plugin_dir();
        for entry in fs::read_dir(own).with_context(|| format!("cannot read {}", own.display()))? {
            let plugin = entry?.path();
            if let (Some(name), true) = (plugin.file_name(), plugin.is_file()) {
                symlink(&plugin, plugin_dir.join(name))?;
            }
        }
        if let Some(library) = library {
            library::place(library, &plugin_dir)
                .with_context(|| format!("cannot copy the library {}", library.display()))?;
        }
        Ok(())
    }

    /// Configures `component_keyring_file` for this server alone.
    ///
    /// The server loads the components in the manifest `mysqld.my` beside the path of its call. The path is a link in
    /// this folder, so that the program's own folder, which all servers share, does not change.
    pub(super) fn add_keyring(&self, mysqld: &Path) -> anyhow::Result<()> {
        let link = self.linked_mysqld();
        let bin = link.parent().context("a link without a folder")?;
        if bin.exists() {
            fs::remove_dir_all(bin)?;
        }
        fs::create_dir(bin)?;
        symlink(mysqld, &link)?;
        fs::write(link.with_extension("my"), r#"{"components": "file://component_keyring_file"}"#)?;
        let path = self.keyring_file();
        let path = path.to_str().context("the server's folder is not UTF-8")?;
        let config = serde_json::json!({ "path": path, "read_only": false });
        fs::write(self.plugin_dir().join("component_keyring_file.cnf"), config.to_string())?;
        Ok(())
    }

    fn create_parts(&self) -> anyhow::Result<()> {
        fs::create_dir_all(self.tmpdir())?;
        // Links of an earlier server may point to a distribution that no longer exists.
        let plugin_dir = self.plugin_dir();
        if plugin_dir.exists() {
            fs::remove_dir_all(&plugin_dir)?;
        }
        fs::create_dir(&plugin_dir)?;
        Ok(())
    }
}

fn temporary_folder() -> anyhow::Result<TempDir> {
    tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir_in(TEMPORARY)
        .with_context(|| format!("cannot create a folder in {TEMPORARY}"))
}

/// Marks a temporary folder as this process's own.
fn own(folder: &Path) -> std::io::Result<File> {
    // The lock comes before the name, so that no process finds the file unlocked.
    let unlocked = folder.join("owner.new");
    let owner = File::create(&unlocked)?;
    owner.lock()?;
    fs::rename(unlocked, folder.join(OWNER))?;
    Ok(owner)
}

/// Removes the temporary folders of killed processes.
fn sweep() {
    let Ok(entries) = fs::read_dir(TEMPORARY) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            // A folder that cannot be removed now is harmless.
            let _ = sweep_folder(&entry.path());
        }
    }
}

fn sweep_folder(folder: &Path) -> std::io::Result<()> {
    // SAFETY: geteuid has no preconditions.
    let user = unsafe { libc::geteuid() };
    let metadata = fs::symlink_metadata(folder)?;
    if !metadata.is_dir() || metadata.uid() != user {
        return Ok(());
    }
    // Without the file the folder is kept on purpose, or is being created.
    let owner = File::open(folder.join(OWNER))?;
    if owner.try_lock().is_ok() {
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_folders_go_away() -> anyhow::Result<()> {
        let home = Home::temporary(false)?;
        let folder = home.folder().to_owned();
        assert!(folder.join("plugin").is_dir());
        // Sockets have paths of at most 107 bytes.
        assert!(home.x_socket().as_os_str().len() < LONGEST_SOCKET);
        sweep();
        assert!(folder.exists(), "swept while in use");
        drop(home);
        assert!(!folder.exists());
        Ok(())
    }

    #[test]
    fn abandoned_folders_are_swept() -> anyhow::Result<()> {
        let mut folder = temporary_folder()?;
        folder.disable_cleanup(true);
        sweep();
        assert!(folder.path().exists(), "swept while being made");
        drop(own(folder.path())?);
        sweep();
        assert!(!folder.path().exists());
        Ok(())
    }

    #[test]
    fn kept_folders_stay() -> anyhow::Result<()> {
        let home = Home::temporary(true)?;
        let folder = home.folder().to_owned();
        drop(home);
        sweep();
        assert!(folder.exists());
        fs::remove_dir_all(folder)?;
        Ok(())
    }

    #[test]
    fn sockets_of_a_long_path_are_elsewhere() -> anyhow::Result<()> {
        let parent = tempfile::tempdir()?;
        let folder = parent.path().join("x".repeat(100));
        let home = Home::given(&folder)?;
        assert!(home.datadir().starts_with(&folder));
        assert!(home.x_socket().as_os_str().len() < LONGEST_SOCKET);
        Ok(())
    }

    #[test]
    fn plugins_are_linked_and_the_library_is_copied() -> anyhow::Result<()> {
        let parent = tempfile::tempdir()?;
        let own = parent.path().join("own");
        fs::create_dir_all(own.join("debug"))?;
        fs::write(own.join("some.so"), "some")?;
        let library = parent.path().join("libmysql_ml.so");
        fs::write(&library, "library")?;
        let given = parent.path().join("home");
        for _ in 0..2 {
            let home = Home::given(&given)?;
            home.fill_plugin_dir(&own, Some(&library))?;
            assert!(home.plugin_dir().join("some.so").is_symlink());
            assert!(!home.plugin_dir().join("mysql_ml.so").is_symlink());
            assert_eq!(fs::read_dir(home.plugin_dir())?.count(), 2);
        }
        Ok(())
    }
}
