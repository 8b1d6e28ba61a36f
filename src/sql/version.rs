//! `ml_version()`.

use surface::{functions, Function};

use crate::mysql::ffi::args::{Args, Setup};
use crate::mysql::ffi::function::{BytesFunction, SqlFunction};
use mysql_ml_base::error::{Error, Result};

/// `ml_version()`: the version of the loaded library as text.
///
/// Like every function, it fails if the server lacks a required symbol, with the symbol's name: install.sql calls it
/// as a test.
pub struct Version;

impl SqlFunction for Version {
    const FUNCTION: &'static Function = functions::ml_version;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        if !setup.args.is_empty() {
            return Err(Error::invalid("takes no arguments"));
        }
        setup.returns_text(32)?;
        Ok(Version)
    }
}

impl BytesFunction for Version {
    fn call(&mut self, _args: &Args<'_>) -> Result<Option<&[u8]>> {
        Ok(Some(env!("CARGO_PKG_VERSION").as_bytes()))
    }
}
