//! The order of rooms: a file imports only rooms below its own, and at most two files import each other in a circle.
//!
//! Cargo keeps the order of crates. For the two crates with several rooms this test reads the imports.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The rooms of a crate, from the top down.
struct House {
    sources: &'static str,
    rooms: &'static [&'static str],
    /// Rooms that import nothing of their crate.
    beside: &'static [&'static str],
}

const HOUSES: [House; 2] = [
    House {
        sources: "crates/core/src",
        rooms: &["engine", "ai", "registration", "providers", "credentials", "catalog", "json", "http"],
        beside: &["cache", "chunk"],
    },
    House { sources: "src", rooms: &["sql", "jobs", "registry", "tables", "mysql"], beside: &[] },
];

/// The product's crates.
const CRATES: [&str; 6] =
    ["src", "crates/core/src", "crates/local/src", "crates/index/src", "crates/base/src", "crates/surface/src"];

#[test]
fn a_room_imports_only_rooms_below_it() {
    let mut wrong = Vec::new();
    for house in &HOUSES {
        let root = repository().join(house.sources);
        for (file, imported) in imports(&root) {
            let Some(room) = room_of(&root, &file) else { continue };
            for other in imported.iter().filter_map(|target| room_of(&root, target)).filter(|other| *other != room) {
                let place = |name: &str| house.rooms.iter().position(|r| *r == name);
                let allowed = match (place(&room), place(&other)) {
                    (Some(own), Some(other)) => own < other,
                    (Some(_), None) => house.beside.contains(&other.as_str()),
                    (None, _) => !house.beside.contains(&room.as_str()),
                };
                if !allowed {
                    wrong.push(format!("{} imports {other}", display_path(&file)));
                }
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "against the order of rooms:\n{}", wrong.join("\n"));
}

#[test]
fn no_more_than_two_files_import_each_other() {
    let mut wrong = Vec::new();
    for sources in CRATES {
        for circle in circles(&imports(&repository().join(sources))) {
            if circle.len() > 2 {
                wrong.push(circle.iter().map(|file| display_path(file)).collect::<Vec<_>>().join(", "));
            }
        }
    }
    assert!(wrong.is_empty(), "circles:\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_finds_what_rust_finds() {
    let code = "use crate::a::{b::C, self, d as e};\nuse super::x;\n#[cfg(test)]\nmod tests { use crate::gone; }";
    let mut found: Vec<String> = paths(&without_tests(code)).iter().map(|p| p.join("::")).collect();
    found.sort();
    assert_eq!(found, ["crate::a::b::C", "crate::a::d", "crate::a::self", "super::x"]);
    let circle = BTreeMap::from([
        (PathBuf::from("a"), BTreeSet::from([PathBuf::from("b")])),
        (PathBuf::from("b"), BTreeSet::from([PathBuf::from("c")])),
        (PathBuf::from("c"), BTreeSet::from([PathBuf::from("a")])),
        (PathBuf::from("d"), BTreeSet::from([PathBuf::from("a")])),
    ]);
    assert_eq!(circles(&circle), [["a", "b", "c"].map(PathBuf::from).to_vec()]);
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn display_path(file: &Path) -> String {
    file.strip_prefix(repository()).unwrap_or(file).display().to_string()
}

/// The file's room: its folder or file directly below the sources; `None` for lib.rs.
fn room_of(root: &Path, file: &Path) -> Option<String> {
    let first = file.strip_prefix(root).ok()?.iter().next()?.to_str()?;
    let room = first.strip_suffix(".rs").unwrap_or(first);
    (room != "lib").then(|| room.to_owned())
}

/// The imports of each file inside its crate, without those of tests.
fn imports(root: &Path) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && name != "tests" {
                let named = imported_by(root, &path);
                found.insert(path, named);
            }
        }
    }
    found
}

fn imported_by(root: &Path, file: &Path) -> BTreeSet<PathBuf> {
    let code = without_tests(&std::fs::read_to_string(file).unwrap());
    let mut own: Vec<String> =
        file.strip_prefix(root).unwrap().with_extension("").iter().map(|s| s.to_str().unwrap().to_owned()).collect();
    if own.last().is_some_and(|last| last == "mod" || last == "lib") {
        own.pop();
    }
    let mut named: Vec<Vec<String>> = paths(&code);
    // A module names its children without `self`.
    for child in code.split("mod ").skip(1).filter_map(|rest| rest.split_once(';')).map(|(name, _)| name) {
        let plain = !child.is_empty() && child.chars().all(|c| c.is_alphanumeric() || c == '_');
        let called = format!("{child}::");
        let free = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        if plain && code.match_indices(&called).any(|(at, _)| free(at)) {
            named.push(vec!["self".into(), child.to_owned()]);
        }
    }
    let resolved = named.iter().filter_map(|path| {
        let mut rest = path.as_slice();
        let mut place = if path[0] == "crate" { Vec::new() } else { own.clone() };
        rest = &rest[usize::from(path[0] != "super")..];
        while rest.first().is_some_and(|s| s == "super") {
            place.pop();
            rest = &rest[1..];
        }
        place.extend(rest.iter().cloned());
        file_of(root, &place)
    });
    resolved.filter(|target| target != file).collect()
}

/// The file of a path's deepest module.
fn file_of(root: &Path, path: &[String]) -> Option<PathBuf> {
    (1..=path.len()).rev().find_map(|n| {
        let base = path[..n].iter().fold(root.to_owned(), |at, part| at.join(part));
        [base.with_extension("rs"), base.join("mod.rs")].into_iter().find(|file| file.is_file())
    })
}

/// The code without comments, strings and the module of tests.
fn without_tests(code: &str) -> String {
    let mut lines = code.lines().peekable();
    let product = std::iter::from_fn(|| {
        let line = lines.next()?;
        let tests = lines.peek().is_some_and(|next| next.contains("mod tests {"));
        (line != "#[cfg(test)]" || !tests).then_some(line)
    });
    product
        .map(|line| line.split("//").next().unwrap_or_default())
        .map(|line| line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"") + "\n")
        .collect()
}

/// All paths that begin with `crate`, `super` or `self`; each branch of a group is one path.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let inside = code[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':'));
            // `pub(in crate::room)` is no import.
            if !inside && !code[..at].ends_with("(in ") {
                branches(&code[at..], Vec::new(), &mut found);
            }
        }
    }
    found
}

/// Reads one path; returns the text after it.
fn branches<'c>(code: &'c str, mut begin: Vec<String>, found: &mut Vec<Vec<String>>) -> &'c str {
    let mut rest = code.trim_start();
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group.trim_start();
            while !rest.is_empty() && !rest.starts_with('}') {
                let after = branches(rest, begin.clone(), found);
                let end = after.find([',', '}']).unwrap_or(after.len());
                rest = after[end..].trim_start_matches(',').trim_start();
            }
            return rest.strip_prefix('}').unwrap_or(rest);
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end > 0 {
            begin.push(rest[..end].to_owned());
        }
        match rest[end..].strip_prefix("::") {
            Some(more) => rest = more.trim_start(),
            None => {
                found.push(begin);
                return &rest[end..];
            }
        }
    }
}

/// Groups of files that all reach each other.
fn circles(imports: &BTreeMap<PathBuf, BTreeSet<PathBuf>>) -> Vec<Vec<PathBuf>> {
    let reach = |from: &PathBuf| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(file) = next.pop() {
            next.extend(imports.get(&file).into_iter().flatten().filter(|f| seen.insert((*f).clone())).cloned());
        }
        seen
    };
    let reached: BTreeMap<&PathBuf, BTreeSet<PathBuf>> = imports.keys().map(|file| (file, reach(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, others) in &reached {
        let circle: Vec<PathBuf> =
            others.iter().filter(|o| reached.get(o).is_some_and(|back| back.contains(*file))).cloned().collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}
