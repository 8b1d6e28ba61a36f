//! A released library's needed and exported symbols, read from its ELF file.

use std::collections::BTreeSet;

use anyhow::{bail, Context as _};
use goblin::elf::Elf;

use super::GLIBC;

/// The libraries that it may need: parts of the GNU C library, which every server has loaded.
const MAY_NEED: [&str; 7] = [
    "libc.so.6",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
];

/// Flag of the dynamic section: the library is never unmapped.
const NODELETE: u64 = 0x8;

/// The properties of a library that decide where it loads.
#[derive(Debug, Default)]
struct Facts {
    versions: BTreeSet<String>,
    libraries: BTreeSet<String>,
    exports: BTreeSet<String>,
    nodelete: bool,
    debug_sections: bool,
}

/// Refuses a library that would not load everywhere, or that exports more than its functions.
pub(super) fn check(library: &[u8], expected: &BTreeSet<String>) -> anyhow::Result<()> {
    let problems = problems(&read(library)?, expected);
    if !problems.is_empty() {
        bail!("{}", problems.join("; "));
    }
    Ok(())
}

/// The newest version of the GNU C library that a library needs.
pub(super) fn glibc(library: &[u8]) -> anyhow::Result<String> {
    let facts = read(library)?;
    let newest = facts.versions.iter().filter_map(|version| glibc_version(version)).max();
    let (major, minor) = newest.context("the library needs no version of glibc")?;
    Ok(format!("{major}.{minor}"))
}

/// The symbols of the functions that the scripts create, with the companions that the server looks for.
pub(super) fn exported_by_the_scripts() -> BTreeSet<String> {
    let mut symbols = BTreeSet::new();
    for function in surface::functions::exported() {
        let aggregate: &[&str] =
            if function.exported == Some(surface::Exported::Aggregate) { &["_add", "_clear"] } else { &[] };
        for name in function.symbols() {
            symbols.extend(["", "_init", "_deinit"].iter().chain(aggregate).map(|suffix| format!("{name}{suffix}")));
        }
    }
    symbols
}

fn read(library: &[u8]) -> anyhow::Result<Facts> {
    let elf = Elf::parse(library).context("not a shared library")?;
    let mut facts = Facts {
        libraries: elf.libraries.iter().map(|&name| name.to_owned()).collect(),
        nodelete: elf.dynamic.as_ref().is_some_and(|dynamic| dynamic.info.flags_1 & NODELETE != 0),
        debug_sections: elf
            .section_headers
            .iter()
            .filter_map(|section| elf.shdr_strtab.get_at(section.sh_name))
            .any(|name| name.starts_with(".debug_") || name == ".symtab"),
        ..Facts::default()
    };
    for needed in elf.verneed.iter().flat_map(|section| section.iter()) {
        for version in needed.iter() {
            facts.versions.extend(elf.dynstrtab.get_at(version.vna_name).map(str::to_owned));
        }
    }
    for symbol in elf.dynsyms.iter().filter(|symbol| !symbol.is_import() && symbol.st_shndx != 0) {
        facts.exports.extend(elf.dynstrtab.get_at(symbol.st_name).map(str::to_owned));
    }
    Ok(facts)
}

fn problems(facts: &Facts, expected: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    for version in &facts.versions {
        match glibc_version(version) {
            Some(needed) if needed <= GLIBC => {}
            _ => problems.push(format!("it needs {version}, and at most GLIBC_{}.{} is allowed", GLIBC.0, GLIBC.1)),
        }
    }
    for library in facts.libraries.iter().filter(|library| !MAY_NEED.contains(&library.as_str())) {
        problems.push(format!("it needs the library {library}"));
    }
    problems.extend(facts.exports.difference(expected).map(|symbol| format!("it exports {symbol}")));
    problems.extend(expected.difference(&facts.exports).map(|symbol| format!("it does not export {symbol}")));
    if !facts.nodelete {
        problems.push("it can be unmapped while its threads run (no flag NODELETE)".to_owned());
    }
    if facts.debug_sections {
        problems.push("it has debug symbols".to_owned());
    }
    problems
}

/// Parses `GLIBC_2.28`; None for versions of other libraries, `GLIBC_PRIVATE` and the like.
fn glibc_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("GLIBC_")?.split('.').map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_library_that_fits_has_no_problem() {
        let facts = Facts {
            versions: set(&["GLIBC_2.2.5", "GLIBC_2.28"]),
            libraries: set(&["libc.so.6"]),
            exports: set(&["f", "f_init"]),
            nodelete: true,
            debug_sections: false,
        };
        assert_eq!(problems(&facts, &set(&["f", "f_init"])), Vec::<String>::new());
    }

    #[test]
    fn everything_that_does_not_fit_is_reported() {
        let facts = Facts {
            versions: set(&["GLIBC_2.29", "GLIBC_PRIVATE", "GCC_3.0"]),
            libraries: set(&["libstdc++.so.6"]),
            exports: set(&["f", "main"]),
            nodelete: false,
            debug_sections: true,
        };
        let text = problems(&facts, &set(&["f", "f_init"])).join("\n");
        for part in [
            "GLIBC_2.29",
            "GLIBC_PRIVATE",
            "GCC_3.0",
            "libstdc++.so.6",
            "exports main",
            "not export f_init",
            "NODELETE",
            "debug",
        ] {
            assert!(text.contains(part), "{part} in:\n{text}");
        }
    }

    #[test]
    fn the_scripts_name_what_the_server_looks_for() {
        let symbols = exported_by_the_scripts();
        for symbol in
            ["ml_embedding", "ml_embedding_init", "ml_embedding_deinit", "ml_embedding_agg_add", "cosine_distance"]
        {
            assert!(symbols.contains(symbol), "{symbol}");
        }
        assert!(!symbols.contains("ml_embedding_add"));
    }

    #[test]
    fn reads_a_real_program() -> anyhow::Result<()> {
        let facts = read(&std::fs::read(std::env::current_exe()?)?)?;
        assert!(facts.libraries.contains("libc.so.6"), "{facts:?}");
        assert!(facts.versions.iter().any(|version| glibc_version(version).is_some()), "{facts:?}");
        Ok(())
    }
}
