//! `file:NAME`: a file in the secrets directory, `MYSQL_ML_SECRETS_DIR` or `/etc/mysql/ml-secrets`.

use std::io::Read;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::value::{usable, MAX_SECRET_BYTES};
use mysql_ml_base::error::{Error, Kind, Result};

/// The secrets directory.
pub fn directory() -> PathBuf {
    std::env::var_os("MYSQL_ML_SECRETS_DIR").map_or_else(|| "/etc/mysql/ml-secrets".into(), PathBuf::from)
}

/// Reads a key from a file of the directory. Links inside it may be followed, but not out of it.
pub fn read(name: &str, directory: &Path) -> Result<SecretString> {
    usable(text(name, directory)?, &format!("file:{name}"))
}

/// Reads a file that may have several lines, such as a service account's.
pub fn read_document(name: &str, directory: &Path) -> Result<SecretString> {
    text(name, directory).map(SecretString::from)
}

fn text(name: &str, directory: &Path) -> Result<String> {
    let unreadable = |what: &str, e: &std::io::Error| {
        Error::new(
            Kind::NotFound,
            format!("the secret file:{name} cannot be read: {what} {}: {e}", directory.display()),
        )
    };
    let root = directory.canonicalize().map_err(|e| {
        let fact = unreadable("the secrets directory", &e);
        Error::new(
            Kind::NotFound,
            format!("{}; create it, or set MYSQL_ML_SECRETS_DIR in mysqld's environment", fact.message()),
        )
    })?;
    let path = root.join(name).canonicalize().map_err(|e| unreadable("no such file in", &e))?;
    if !path.starts_with(&root) {
        return Err(Error::new(
            Kind::Denied,
            format!("the secret file:{name} leads out of {}; put the file there", directory.display()),
        ));
    }
    let file = mysql_ml_base::files::open(&path).map_err(|e| unreadable("file in", &e))?;
    let metadata = file.metadata().map_err(|e| unreadable("file in", &e))?;
    if !metadata.is_file() {
        return Err(Error::invalid(format!("the secret file:{name} is not a file")));
    }
    let mut value = String::new();
    file.take(MAX_SECRET_BYTES as u64 + 1).read_to_string(&mut value).map_err(|e| unreadable("file in", &e))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn files_inside_are_read_and_links_out_are_refused() {
        let base = std::env::temp_dir().join(format!("mysql-ml-secrets-{}", std::process::id()));
        let dir = base.join("secrets");
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::fs::write(dir.join("sub/key"), "k-1\n").unwrap();
        std::fs::write(base.join("outside"), "k-2").unwrap();
        std::os::unix::fs::symlink(base.join("outside"), dir.join("escape")).unwrap();
        std::os::unix::fs::symlink(dir.join("sub/key"), dir.join("inside")).unwrap();
        assert_eq!(read("sub/key", &dir).unwrap().expose_secret(), "k-1");
        assert_eq!(read("inside", &dir).unwrap().expose_secret(), "k-1");
        assert_eq!(read("escape", &dir).unwrap_err().kind(), Kind::Denied);
        assert_eq!(read("none", &dir).unwrap_err().kind(), Kind::NotFound);
        assert!(read("sub", &dir).is_err());
        std::fs::write(dir.join("big"), vec![b'x'; MAX_SECRET_BYTES + 10]).unwrap();
        assert!(read("big", &dir).is_err());
        std::fs::remove_dir_all(&base).unwrap();
    }
}
