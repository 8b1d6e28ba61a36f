//! The software bill of materials of the linked crates, in CycloneDX 1.6.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::{json, Value};

use super::dependencies::{Crate, Package};
use super::toolchain::Toolchain;
use super::Release;

/// The document as JSON.
pub(super) fn text(release: &Release, package: &Package, shipped: &[Crate], toolchain: &Toolchain) -> Result<String> {
    let own = shipped.first().context("no crates")?;
    let sqlite = shipped.iter().find(|found| found.name == "libsqlite3-sys").map(sqlite_version).transpose()?;
    let mut components: Vec<Value> = shipped.iter().skip(1).map(component).collect();
    let native = [
        ("sqlite", sqlite.as_deref(), "blessing", "pkg:generic/sqlite"),
        ("rust-std", Some(toolchain.rust_version()), "MIT OR Apache-2.0", "pkg:generic/rust-std"),
        ("llvm-libunwind-of-zig", Some(toolchain.zig_version()), "Apache-2.0 WITH LLVM-exception", "pkg:generic/zig"),
    ];
    for (name, version, licence, purl) in native {
        let Some(version) = version else { continue };
        let purl = format!("{purl}@{version}");
        components.push(json!({
            "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
            "licenses": [{ "expression": licence }],
        }));
    }
    let dependencies: Vec<Value> = shipped
        .iter()
        .map(|found| {
            let mut on: Vec<String> =
                found.depends_on.iter().map(|(name, version)| format!("pkg:cargo/{name}@{version}")).collect();
            if let (Some(version), "libsqlite3-sys") = (&sqlite, found.name.as_str()) {
                on.push(format!("pkg:generic/sqlite@{version}"));
            }
            json!({ "ref": found.purl, "dependsOn": on })
        })
        .collect();
    let mut main = component(own);
    if let Some(fields) = main.as_object_mut() {
        fields.insert("description".into(), json!(format!("mysql_ml.so for {} Linux", release.architecture.name())));
    }
    let document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": timestamp(release.epoch),
            "tools": { "components": [{ "type": "application", "name": "xtask", "version": package.version }] },
            "component": main,
        },
        "components": components,
        "dependencies": dependencies,
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn component(found: &Crate) -> Value {
    let mut component = json!({
        "type": "library", "bom-ref": found.purl, "name": found.name, "version": found.version, "purl": found.purl,
    });
    if let Some(fields) = component.as_object_mut() {
        if let Some(licence) = &found.licence {
            // Some crates still use the old form with a slash.
            fields.insert("licenses".into(), json!([{ "expression": licence.replace('/', " OR ") }]));
        }
        if let Some(checksum) = &found.checksum {
            fields.insert("hashes".into(), json!([{ "alg": "SHA-256", "content": checksum }]));
        }
    }
    component
}

/// The version of the SQLite that the crate bundles.
fn sqlite_version(found: &Crate) -> Result<String> {
    let header = fs::read_to_string(found.folder.join("sqlite3/sqlite3.h")).context("no sqlite3.h")?;
    let line = header.lines().find(|line| line.starts_with("#define SQLITE_VERSION "));
    line.and_then(|line| line.split('"').nth(1)).map(str::to_owned).context("sqlite3.h has no version")
}

/// Seconds since 1970 as `2026-01-31T12:00:00Z`.
fn timestamp(epoch: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(epoch);
    humantime::format_rfc3339_seconds(time).to_string()
}
