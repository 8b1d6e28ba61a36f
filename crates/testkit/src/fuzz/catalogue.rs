//! What there is to call: read from the scripts that make it.

use std::path::Path;

use anyhow::{ensure, Context as _, Result};

use crate::library::INSTALL_SCRIPTS;

/// A function or procedure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Routine {
    /// As it is called: with its schema, or without one for a loadable function.
    pub(super) name: String,
    /// Its parameters' names, as far as they are known.
    pub(super) parameters: Vec<String>,
}

/// All of them, by how they are called.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    pub(super) loadable: Vec<Routine>,
    pub(super) aggregates: Vec<Routine>,
    pub(super) functions: Vec<Routine>,
    pub(super) procedures: Vec<Routine>,
    pub(super) views: Vec<String>,
}

impl Catalogue {
    /// Reads the scripts in the folder of the workspace.
    pub(super) fn read(workspace: &Path) -> Result<Catalogue> {
        let mut text = String::new();
        for name in INSTALL_SCRIPTS {
            text.push_str(&std::fs::read_to_string(workspace.join(name)).with_context(|| format!("reading {name}"))?);
            text.push('\n');
        }
        let catalogue = Catalogue::parse(&text);
        ensure!(!catalogue.loadable.is_empty() && !catalogue.procedures.is_empty(), "the scripts make nothing to call");
        Ok(catalogue)
    }

    fn parse(scripts: &str) -> Catalogue {
        let mut all = Catalogue::default();
        let mut loadable = Vec::new();
        // Some stand in a comment behind what makes them in their place.
        for line in scripts.lines().filter_map(|line| line.find("CREATE ").and_then(|at| line.get(at..))) {
            let Some((before, after)) = line.split_once(" IF NOT EXISTS ") else {
                if let Some((_, view)) = line.split_once(" VIEW ") {
                    all.views.extend(view.split(' ').next().map(str::to_owned));
                }
                continue;
            };
            if line.contains(" SONAME ") {
                let name = after.split(' ').next().unwrap_or_default().to_owned();
                loadable.push((name, before.contains("AGGREGATE")));
            } else if before.ends_with(" FUNCTION") || before.ends_with(" PROCEDURE") {
                let (name, rest) = after.split_once('(').unwrap_or((after, ""));
                let routine = Routine { name: name.to_owned(), parameters: parameters(rest) };
                match before.ends_with(" FUNCTION") {
                    true => all.functions.push(routine),
                    false => all.procedures.push(routine),
                }
            }
        }
        // A loadable function has the parameters of the routine that wraps it.
        // It is CREATE FUNCTION in another form, which is left out.
        loadable.retain(|(name, _)| name != "mysql_ml_so_create_function");
        for (name, aggregate) in loadable {
            let wrapper =
                all.functions.iter().chain(&all.procedures).find(|r| bare(&r.name) == bare_of_loadable(&name));
            let parameters = match (wrapper, name.as_str()) {
                (Some(wrapper), _) => wrapper.parameters.clone(),
                (None, "ml_embedding_agg") => ["model_id", "key", "content"].map(str::to_owned).into(),
                (None, _) if name.contains("distance") || name == "dot_product" => ["a", "b"].map(str::to_owned).into(),
                (None, _) => Vec::new(),
            };
            let routine = Routine { name, parameters };
            match aggregate {
                true => all.aggregates.push(routine),
                false => all.loadable.push(routine),
            }
        }
        all
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.loadable.len() + self.aggregates.len() + self.functions.len() + self.procedures.len()
    }
}

/// A routine's name without its schema.
fn bare(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The name of a loadable function's routine: those of the schema `ai` lack the prefix, and wrappers have a second name.
fn bare_of_loadable(name: &str) -> &str {
    match name.trim_start_matches("mysql_ml_so_") {
        "ml_initialize_embeddings" => "initialize_embeddings",
        "ml_refresh_embeddings" => "refresh_embeddings",
        "ml_drop_embedding_config" => "drop_embedding_config",
        other => other,
    }
}

/// The names in a list of parameters, which may have types with parentheses in it.
fn parameters(list: &str) -> Vec<String> {
    let (mut depth, mut begins) = (0, true);
    let mut names = Vec::new();
    for part in list.split_inclusive([',', '(', ')']) {
        let word = part.split([' ', ',', '(', ')']).find(|word| !word.is_empty());
        names.extend(word.filter(|_| begins).map(str::to_owned));
        begins = depth == 0 && part.ends_with(',');
        match part.chars().last() {
            Some('(') => depth += 1,
            Some(')') if depth == 0 => break,
            Some(')') => depth -= 1,
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::workspace_root;

    #[test]
    fn reads_the_scripts() -> Result<()> {
        let all = Catalogue::read(&workspace_root())?;
        let find = |list: &[Routine], name: &str| list.iter().find(|r| r.name == name).map(|r| r.parameters.join(" "));
        assert_eq!(find(&all.loadable, "ml_embedding").as_deref(), Some("model_id content"));
        assert_eq!(find(&all.loadable, "vector_distance").as_deref(), Some("a b"));
        assert_eq!(
            find(&all.loadable, "ml_refresh_embeddings").as_deref(),
            Some("table_name embedding_column batch_size")
        );
        assert_eq!(find(&all.functions, "mysql.ml_version").as_deref(), Some(""));
        assert_eq!(find(&all.aggregates, "ml_embedding_agg").as_deref(), Some("model_id key content"));
        assert!(
            find(&all.procedures, "ai.initialize_embeddings").is_some_and(|p| p.ends_with("incremental_refresh_mode"))
        );
        assert!(all.views.contains(&"mysql.ml_model_providers".to_owned()));
        Ok(())
    }

    #[test]
    fn reads_parameters_with_types() {
        let list = "a VARCHAR(100) CHARACTER SET utf8mb4, b DECIMAL(4, 1), c JSON) RETURNS VECTOR(16383)";
        assert_eq!(parameters(list), ["a", "b", "c"]);
        assert_eq!(parameters(") RETURNS JSON"), Vec::<String>::new());
    }
}
