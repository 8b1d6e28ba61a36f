//! The licences of all linked crates, in one text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};

use super::dependencies::Crate;
use super::toolchain::Toolchain;

/// The prefixes of the names of licence files.
const FILES: [&str; 6] = ["license", "licence", "copying", "copyright", "notice", "unlicense"];

/// The text: a list of the crates, then each licence text once with its crates.
pub(super) fn text(shipped: &[Crate], toolchain: &Toolchain) -> Result<String> {
    let others: Vec<&Crate> = shipped.iter().filter(|found| !found.is_own()).collect();
    let mut out = String::from("The library mysql_ml.so contains the following, beside its own code.\n\n");
    for found in &others {
        writeln!(out, "{} {}: {}", found.name, found.version, found.licence.as_deref().unwrap_or("see below"))?;
    }
    writeln!(out, "the Rust standard library {}: MIT OR Apache-2.0", toolchain.rust_version())?;
    writeln!(
        out,
        "libunwind and compiler-rt of LLVM, as in zig {}: Apache-2.0 WITH LLVM-exception",
        toolchain.zig_version()
    )?;
    writeln!(out, "SQLite, in libsqlite3-sys: in the public domain")?;

    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for found in others {
        let mut of_crate = files(found)?;
        if of_crate.is_empty() {
            of_crate = standard(found)?;
        }
        for text in of_crate {
            texts.entry(text).or_default().push(format!("{} {}", found.name, found.version));
        }
    }
    for id in ["MIT", "Apache-2.0"] {
        texts.entry(spdx_text(id)?).or_default().push("the Rust standard library".into());
    }
    let exception = spdx::exception_id("LLVM-exception").context("SPDX has no LLVM-exception")?.text();
    let llvm = format!("{}\n\n{exception}", spdx_text("Apache-2.0")?);
    texts.entry(llvm).or_default().push("libunwind and compiler-rt".into());
    // Sorted by the first crate, so that a new crate changes little.
    let mut sorted: Vec<(Vec<String>, String)> = texts.into_iter().map(|(text, of)| (of, text)).collect();
    sorted.sort();
    for (of, text) in sorted {
        write!(out, "\n{}\n{}\n\n{}\n", "=".repeat(100), of.join(", "), text.trim_end())?;
    }
    Ok(out)
}

/// The licence files in the sources of a crate.
fn files(found: &Crate) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(&found.folder).with_context(|| format!("no sources of {}", found.name))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_file() && FILES.iter().any(|start| name.starts_with(start)) {
            names.push(path);
        }
    }
    names.sort();
    let read = |path| Ok(String::from_utf8_lossy(&fs::read(path)?).replace("\r\n", "\n"));
    names.into_iter().map(read).collect()
}

/// The standard texts of the licences that a crate without licence files declares.
fn standard(found: &Crate) -> Result<Vec<String>> {
    let expression = found.licence.as_deref().with_context(|| format!("{} has no licence", found.name))?;
    let parsed = spdx::Expression::parse_mode(expression, spdx::ParseMode::LAX)
        .with_context(|| format!("{}: the licence {expression} is not understood", found.name))?;
    let mut texts = Vec::new();
    for requirement in parsed.requirements() {
        let id = requirement.req.license.id().with_context(|| format!("{}: {expression}", found.name))?;
        texts.push(id.text().to_owned());
    }
    Ok(texts)
}

fn spdx_text(id: &str) -> Result<String> {
    Ok(spdx::license_id(id).with_context(|| format!("SPDX has no {id}"))?.text().to_owned())
}
