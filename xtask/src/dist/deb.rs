//! The Debian package: the library in the server's plugin directory, the SQL under /usr/share/mysql-ml.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};

use super::archive::Entry;
use super::Release;
use testkit::fetch::output;

/// The plugin folder of Debian's, Ubuntu's and Oracle's packages of the server.
const PLUGINS: &str = "usr/lib/mysql/plugin";
const SQL: &str = "usr/share/mysql-ml";
const DOC: &str = "usr/share/doc/mysql-ml";

/// Writes `mysql-ml_0.1.0_amd64.deb` with files of the archive.
pub(super) fn write(folder: &Path, release: &Release, files: &[Entry]) -> Result<PathBuf> {
    let staging = tempfile::tempdir()?;
    let root = staging.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    let mut size = 0;
    let mut licences = Vec::new();
    for file in files {
        let place = match file.path.as_str() {
            "mysql_ml.so" => format!("{PLUGINS}/mysql_ml.so"),
            path if path.ends_with(".sql") => format!("{SQL}/{path}"),
            "LICENSE-MIT" | "LICENSE-APACHE" | "THIRD-PARTY-LICENSES.txt" => {
                licences.push(file);
                continue;
            }
            "CHANGELOG.md" => {
                let mut gzip = GzBuilder::new().mtime(0).read(file.content.as_slice(), Compression::best());
                let mut packed = Vec::new();
                std::io::Read::read_to_end(&mut gzip, &mut packed)?;
                size += put(root, &format!("{DOC}/changelog.gz"), 0o644, &packed)?;
                continue;
            }
            // dpkg has its own checksums.
            "SHA256SUMS" => continue,
            path => format!("{DOC}/{path}"),
        };
        // Libraries are not executable in Debian.
        size += put(root, &place, 0o644, &file.content)?;
    }
    licences.sort_by(|a, b| a.path.cmp(&b.path));
    let mut copyright =
        b"mysql-ml is licensed under MIT or Apache-2.0, at your choice. Both texts follow, and\nthose of \
        what is linked into the library.\n"
            .to_vec();
    for file in licences {
        copyright.extend_from_slice(format!("\n==== {}\n\n", file.path).as_bytes());
        copyright.extend_from_slice(&file.content);
    }
    size += put(root, &format!("{DOC}/copyright"), 0o644, &copyright)?;
    size += put(root, &format!("{DOC}/README.Debian"), 0o644, README.as_bytes())?;
    put(root, "DEBIAN/control", 0o644, control(release, size.div_ceil(1024)).as_bytes())?;
    put(root, "DEBIAN/postinst", 0o755, POSTINST.as_bytes())?;

    let path = folder.join(format!("mysql-ml_{}_{}.deb", release.version, release.architecture.debian()));
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group", "-Zxz", "--build"]).arg(root).arg(&path);
    command.env("SOURCE_DATE_EPOCH", release.epoch.to_string());
    output(command).context("cannot make the Debian package (program dpkg-deb)")?;
    Ok(path)
}

fn put(root: &Path, place: &str, mode: u32, content: &[u8]) -> Result<usize> {
    let path = root.join(place);
    if let Some(parent) = path.parent() {
        // dpkg-deb takes the modes of the folders as they are; this process's umask may be narrow.
        fs::create_dir_all(parent)?;
        let mut folder = parent;
        while folder != root {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
            folder = folder.parent().context("outside of the staging folder")?;
        }
    }
    fs::write(&path, content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(content.len())
}

fn control(release: &Release, kilobytes: usize) -> String {
    format!(
        "Package: mysql-ml\n\
         Version: {}\n\
         Architecture: {}\n\
         Maintainer: The mysql-ml authors <mysql-ml@localhost>\n\
         Section: database\n\
         Priority: optional\n\
         Installed-Size: {kilobytes}\n\
         Depends: libc6 (>= 2.28), mysql-server-core (>= 9.7) | mysql-community-server-core (>= 9.7)\n\
         Description: AI functions for MySQL 9.7\n \
         A shared library that a MySQL server loads: embeddings, model calls and vector distances from SQL.\n \
         /usr/share/mysql-ml/install.sql creates the functions.\n",
        release.version,
        release.architecture.debian(),
    )
}

const POSTINST: &str = "#!/bin/sh
set -e
if [ \"$1\" = configure ]; then
  if [ -z \"$2\" ]; then
    echo 'mysql-ml: create the functions with: mysql < /usr/share/mysql-ml/install.sql'
  else
    echo 'mysql-ml: restart the MySQL server to use the new library, then: mysql < /usr/share/mysql-ml/install.sql'
  fi
fi
";

const README: &str = "mysql-ml for Debian
===================

The package puts the library into /usr/lib/mysql/plugin and changes no database. Create the functions, as an account
that may write to the schema mysql:

    mysql < /usr/share/mysql-ml/install.sql

Before the package is removed, remove the functions:

    mysql < /usr/share/mysql-ml/uninstall.sql

A server that has loaded the library uses the old file until it is restarted. With replicas install the package on
every one of them first: the statements of install.sql are in the binary log.
";
