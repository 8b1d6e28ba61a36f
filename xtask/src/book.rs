//! The book: docs/ and the pages beside the README, rendered by mdBook. Its table of contents is docs/SUMMARY.md.
//!
//! mdBook would publish everything below its source folder, so the pages are copied into a folder of their own. A link to a
//! file that is not in the book becomes text.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure, Context, Result};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use testkit::fetch::cache;
use testkit::library;

/// The pages outside of docs/.
const TOP: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"];
/// The version of mdBook.
const VERSION: &str = "0.5.4";
/// The table of contents, without which no page is in the book.
const SUMMARY: &str = "docs/SUMMARY.md";

const SETTINGS: &str = r#"[book]
title = "mysql-ml"
description = "AI functions for self-hosted MySQL"
language = "en"
src = "src"

[build]
create-missing = false

[output.html]
default-theme = "light"
no-section-label = true
additional-css = ["book.css"]

[output.html.fold]
enable = true
level = 1
"#;

/// SQL statements and tables are wide.
const STYLE: &str = ":root { --content-max-width: 1050px; }\ntable td, table th { padding: 3px 8px; }\n";

/// Renders the book into the folder `out`, which is replaced. Returns the number of its pages.
///
/// # Errors
///
/// mdBook cannot be had or run, or a link of a rendered page leads nowhere.
pub fn build(out: &Path, progress: &dyn Fn(&str)) -> Result<usize> {
    let root = library::workspace_root();
    let mut mdbook = mdbook(progress)?;
    let staged = tempfile::tempdir()?;
    let source = staged.path().join("src");
    let files = files(&root)?;
    for file in &files {
        let target = source.join(in_book(file));
        fs::create_dir_all(target.parent().unwrap_or(&source))?;
        if is_page(file) {
            fs::write(&target, rewritten(file, &page(&root, file)?, &|linked| files.contains(linked)))?;
        } else {
            fs::copy(root.join(file), &target)?;
        }
    }
    let summary = fs::read_to_string(root.join(SUMMARY)).context(SUMMARY)?;
    fs::write(source.join("SUMMARY.md"), contents(&summary))?;
    fs::write(staged.path().join("book.toml"), SETTINGS)?;
    fs::write(staged.path().join("book.css"), STYLE)?;
    progress("rendering the book");
    let out = std::path::absolute(out)?;
    mdbook.arg("build").arg("--dest-dir").arg(&out).arg(staged.path());
    let result = mdbook.output().context("cannot run mdbook")?;
    let said = String::from_utf8_lossy(&result.stderr);
    ensure!(result.status.success(), "mdbook failed:\n{said}");
    ensure!(!said.contains("WARN") && !said.contains("ERROR"), "mdbook warned:\n{said}");
    let broken = broken_in_html(&out)?;
    ensure!(broken.is_empty(), "links of the book lead nowhere:\n{}", broken.join("\n"));
    Ok(files.iter().filter(|file| is_page(file)).count())
}

/// mdBook: the one on the PATH, else one that is built once into the cache folder.
fn mdbook(progress: &dyn Fn(&str)) -> Result<Command> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&folders).map(|folder| folder.join("mdbook")).find(|file| file.is_file())
    {
        return Ok(Command::new(found));
    }
    let folder = cache::get_or_make(&format!("mdbook-{VERSION}"), progress, |folder| {
        progress("building mdBook (once, some minutes)");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["install", "--quiet", "--locked", "--debug", "mdbook", "--version", VERSION]);
        command.args(["--no-default-features", "--features", "search", "--root"]).arg(folder);
        ensure!(command.status().context("cannot run cargo")?.success(), "mdBook cannot be built");
        Ok(())
    })?;
    Ok(Command::new(folder.join("bin/mdbook")))
}

/// The files of the book, relative to the repository.
fn files(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found: BTreeSet<PathBuf> = TOP.iter().map(PathBuf::from).collect();
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path != Path::new(SUMMARY) {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

fn page(root: &Path, path: &Path) -> Result<String> {
    fs::read_to_string(root.join(path)).with_context(|| path.display().to_string())
}

/// The place of a file in the book. A README is its folder's index.
fn in_book(path: &Path) -> PathBuf {
    if path.file_name().is_some_and(|name| name == "README.md") {
        path.with_file_name("index.md")
    } else {
        path.to_owned()
    }
}

/// A link of a page: its range in the text, its destination, and that of its own text.
struct Link {
    range: std::ops::Range<usize>,
    label: std::ops::Range<usize>,
    destination: String,
    image: bool,
}

fn links(text: &str) -> Vec<Link> {
    let mut found: Vec<Link> = Vec::new();
    let mut open: Vec<Link> = Vec::new();
    for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                let image = text.get(range.clone()).is_some_and(|link| link.starts_with('!'));
                open.push(Link { label: range.end..range.start, range, destination: dest_url.into_string(), image });
            }
            Event::End(TagEnd::Link | TagEnd::Image) => found.extend(open.pop()),
            _ => {
                if let Some(link) = open.last_mut() {
                    link.label = link.label.start.min(range.start)..link.label.end.max(range.end);
                }
            }
        }
    }
    found
}

/// The file and the heading that a link of `page` leads to; `None`: it leaves the repository.
fn target(page: &Path, destination: &str) -> Option<(PathBuf, Option<String>)> {
    if destination.contains("://") || destination.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = match destination.split_once('#') {
        Some((file, heading)) => (file, Some(heading.to_owned())),
        None => (destination, None),
    };
    if file.is_empty() {
        return Some((page.to_owned(), heading));
    }
    let mut path = page.parent().map(Path::to_owned).unwrap_or_default();
    for part in Path::new(file).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    Some((path, heading))
}

/// The way from a page to a file.
fn way(from: &Path, to: &Path) -> String {
    let depth = from.parent().map_or(0, |folder| folder.components().count());
    format!("{}{}", "../".repeat(depth), to.display())
}

/// A page with links to the places in the book; `kept` tells which files are in it.
fn rewritten(page: &Path, text: &str, kept: &dyn Fn(&Path) -> bool) -> String {
    let mut result = text.to_owned();
    for link in links(text).into_iter().rev() {
        let Some((file, heading)) = target(page, &link.destination) else { continue };
        let label = text.get(link.label.clone()).unwrap_or_default();
        let new = if kept(&file) {
            let heading = heading.map(|heading| format!("#{heading}")).unwrap_or_default();
            let mark = if link.image { "!" } else { "" };
            format!("{mark}[{label}]({}{heading})", way(page, &in_book(&file)))
        } else {
            label.to_owned()
        };
        result.replace_range(link.range, &new);
    }
    result
}

/// The table of contents for mdBook, whose paths start at the top.
fn contents(summary: &str) -> String {
    let mut result = summary.to_owned();
    for link in links(summary).into_iter().rev() {
        if let Some((file, _)) = target(Path::new(SUMMARY), &link.destination) {
            let label = summary.get(link.label.clone()).unwrap_or_default();
            result.replace_range(link.range, &format!("[{label}]({})", in_book(&file).display()));
        }
    }
    result
}

/// Links of rendered pages whose file or place is missing.
fn broken_in_html(out: &Path) -> Result<Vec<String>> {
    let mut texts = HashMap::new();
    let mut folders = vec![out.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "html") {
                let text = fs::read_to_string(&path)?;
                texts.insert(path, text);
            }
        }
    }
    let mut broken = Vec::new();
    for (page, text) in &texts {
        // These are for print and search engines, and repeat other pages under their own paths.
        if page.file_name().is_some_and(|name| name == "print.html" || name == "404.html" || name == "toc.html") {
            continue;
        }
        for destination in text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let relative = page.strip_prefix(out).unwrap_or(page);
            let Some((file, place)) = target(relative, destination) else { continue };
            let file = out.join(file);
            let exists = match place.filter(|place| !place.is_empty()) {
                Some(place) => texts.get(&file).is_some_and(|text| text.contains(&format!("id=\"{place}\""))),
                None => file.exists(),
            };
            if !exists {
                broken.push(format!("{}: {destination}", relative.display()));
            }
        }
    }
    broken.sort();
    if texts.is_empty() {
        bail!("mdbook wrote no page");
    }
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    fn pages(root: &Path) -> BTreeMap<PathBuf, String> {
        let pages = files(root).unwrap().into_iter().filter(|path| is_page(path));
        pages.map(|path| (path.clone(), page(root, &path).unwrap())).collect()
    }

    /// The places of a page that a link may name: its headings, as GitHub and mdBook name them.
    fn headings(text: &str) -> HashSet<String> {
        let mut found = HashSet::new();
        let mut count: HashMap<String, usize> = HashMap::new();
        let mut heading: Option<String> = None;
        for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let Some(text) = heading.take() else { continue };
                    let name: String = text
                        .trim()
                        .chars()
                        .filter_map(|c| match c {
                            c if c.is_alphanumeric() => Some(c.to_lowercase().next().unwrap_or(c)),
                            '-' | '_' => Some(c),
                            c if c.is_whitespace() => Some('-'),
                            _ => None,
                        })
                        .collect();
                    let times = count.entry(name.clone()).or_default();
                    found.insert(if *times == 0 { name } else { format!("{name}-{times}") });
                    *times += 1;
                }
                Event::Text(part) | Event::Code(part) => {
                    if let Some(text) = &mut heading {
                        text.push_str(&part);
                    }
                }
                _ => {}
            }
        }
        found
    }

    #[test]
    fn every_link_leads_to_a_file_and_a_heading() {
        let root = library::workspace_root();
        let mut pages = pages(&root);
        pages.insert(SUMMARY.into(), fs::read_to_string(root.join(SUMMARY)).unwrap());
        let names: HashMap<&PathBuf, HashSet<String>> =
            pages.iter().map(|(path, text)| (path, headings(text))).collect();
        let mut broken = Vec::new();
        let mut count = 0;
        for (page, text) in &pages {
            for link in links(text) {
                let Some((file, heading)) = target(page, &link.destination) else { continue };
                count += 1;
                let found = root.join(&file).exists()
                    && heading.is_none_or(|heading| names.get(&file).is_some_and(|names| names.contains(&heading)));
                if !found {
                    broken.push(format!("{}: {}", page.display(), link.destination));
                }
            }
        }
        assert!(broken.is_empty(), "{}", broken.join("\n"));
        assert!(count > 300, "only {count} links were found");
    }

    #[test]
    fn every_page_is_in_the_book_once() {
        let root = library::workspace_root();
        let summary = fs::read_to_string(root.join(SUMMARY)).unwrap();
        let mut listed: Vec<PathBuf> =
            links(&summary).iter().filter_map(|link| Some(target(Path::new(SUMMARY), &link.destination)?.0)).collect();
        listed.sort();
        let pages: Vec<PathBuf> = pages(&root).into_keys().collect();
        assert_eq!(listed, pages);
    }

    #[test]
    fn links_are_rewritten_for_the_book() {
        let text = "See [a *b*](../README.md#x), [c](d.md), ![e](e.svg), [f](../src/lib.rs), <https://example.com>.";
        let rewritten = rewritten(Path::new("docs/page.md"), text, &|path| !path.starts_with("src"));
        assert_eq!(
            rewritten,
            "See [a *b*](../index.md#x), [c](../docs/d.md), ![e](../docs/e.svg), f, <https://example.com>."
        );
        assert_eq!(contents("- [a](../README.md)\n- [b](x/y.md)\n"), "- [a](index.md)\n- [b](docs/x/y.md)\n");
    }

    #[test]
    fn headings_have_the_names_of_github() {
        let names = headings("# `ai.if`: yes & no\n\n## Same\n\n## Same\n");
        assert_eq!(names, ["aiif-yes--no", "same", "same-1"].map(str::to_owned).into());
    }
}
